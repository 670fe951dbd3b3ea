"""What readers of events are known to get wrong, one test each."""

import struct
from pathlib import Path

import numpy as np
import pytest

from safjax import data
from tests.data import writers
from tests.data.test_event_formats import GOLDEN, equal

ROWS = [(10, 1, 2, 1), (20, 3, 4, 0), (40, 5, 6, 1)]


@pytest.fixture
def put(tmp_path):
    """Writes bytes to a file and returns its path."""

    def write(content, name="file"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def refused(call, offset, match):
    with pytest.raises(data.BadFile, match=match) as error:
        call()
    assert error.value.offset == offset
    assert f"byte {offset:,}:" in str(error.value)


def test_an_event_beyond_the_sensor_is_refused_at_its_byte(put):
    path = put(writers.bits40([*ROWS, (50, 34, 0, 1), (60, 40, 0, 1)]))
    refused(data.open_bin(path, (34, 34)).read, 15, r"x = 34, y = 0, expected a sensor of 34 × 34")
    refused(data.open_bin(path, (34, 34), block=2).read, 15, "x = 34")
    assert data.open_bin(path).read().x.tolist() == [1, 3, 5, 34, 40]
    path = put(writers.bits40([(0, 9, 9, 1), (1 << 23, 40, 1, 1)]))
    refused(data.open_bin(path, (34, 34)).read, 10, "x = 40")  # the record of overflow counts too


def test_rows_beyond_the_marker_of_overflow_are_no_events_of_the_camera(put):
    refused(data.open_bin(put(writers.bits40([(1, 7, 241, 0)])), (240, 304)).read, 0, "y = 241")


def test_aedat2_of_another_camera_is_refused(put):
    davis = put(writers.aedat2(ROWS) + struct.pack(">2I", 1 << 22 | 5, 50))
    refused(data.open_aedat2(davis).read, davis.stat().st_size - 8, "0x00400005, expected at most 15 bits")
    special = put(writers.aedat2(ROWS) + struct.pack(">2I", 1 << 15, 50))
    equal(data.open_aedat2(special).read(), ROWS)


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_headers_with_either_line_end(put, ends):
    equal(
        data.open_aedat2(put(writers.aedat2(ROWS, ends.join([b"#!AER-DAT2.0", b"# \tx", b"# caf\xe9", b""])))).read(),
        ROWS,
    )
    head = ends.join([b"#!AER-DAT3.1", b"#Source 1: DVS128", b"#!END-HEADER", b""])
    equal(data.open_aedat3(put(writers.aedat3(ROWS, head=head))).read(), ROWS)


def test_a_packet_is_no_line_of_the_header(put):
    """Type 0x0A23 would begin like a comment; the header has an end of its own."""
    packet = writers.packet3(ROWS[:1], kind=0x2123)
    head = b"#!AER-DAT3.1\n#!END-HEADER\n"
    equal(data.open_aedat3(put(head + packet + writers.packet3(ROWS))).read(), ROWS)


def test_packets_that_cannot_be_are_refused(put):
    head = b"#!AER-DAT3.1\n#!END-HEADER\n"
    wrong = bytearray(writers.packet3(ROWS))
    wrong[4] = 9  # bytes an event
    refused(lambda: data.open_aedat3(put(head + bytes(wrong))), len(head), "events of 9 bytes")
    refused(lambda: data.open_aedat3(put(head[:13])), 13, "without the line")
    negative = writers.packet3(ROWS)[:-4] + struct.pack("<i", -1)
    refused(data.open_aedat3(put(head + negative)).read, len(head) + 28 + 16, "time is negative")


def test_the_sensor_is_that_of_the_header(put):
    def opened(source):
        return data.open_aedat3(put(writers.aedat3(ROWS, head=b"#!AER-DAT3.1\n" + source + b"#!END-HEADER\n")))

    assert opened(b"#Source 1: DVS128\n").sensor == (128, 128)
    assert opened(b"#Source 0: DAVIS240C\n").sensor == (180, 240)
    assert opened(b"").sensor is None and opened(b"#Source 1: DVS128\n#Source 2: DAVIS346\n").sensor is None
    for head in (b"% evt 3.0\n% geometry 640x480\n", b"% evt 3.0\n% format EVT3;height=480;width=640\n"):
        path = put(writers.evt3([*ROWS, (50, 640, 1, 1)], head))
        assert data.open_evt3(path).sensor == (480, 640)
        refused(data.open_evt3(path).read, path.stat().st_size - 2, "x = 640")
    assert data.open_dat(put(writers.dat(ROWS, b"% Width 304\n% Height 240\n"))).sensor == (240, 304)


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_evt3_time_goes_round_at_any_word(put, block):
    """The upper bits are full every 16.8 seconds, also where a block ends; the lower ones stay meanwhile."""
    want = [(t, 1 + i % 7, 3, i % 2) for i, t in enumerate(range(5, 60_000_000, 7_340_033))]
    equal(data.joined(data.open_evt3(put(writers.evt3(want)), block=block)), want)
    words = struct.pack("<8H", 0x8FFE, 0x6123, 0x0005, 0x2009, 0x8FFF, 0x200A, 0x8000, 0x280B)
    found = data.open_evt3(put(b"% evt 3.0\n" + words), block=block).read()
    assert found.t.tolist() == [0xFFE123, 0xFFF123, 0x1000123]
    # Ten seconds of silence in the second round are not a step back to the first.
    silence = struct.pack("<4H", 0x8001, 0x2001, 0x8FA0, 0x2001)
    found = data.open_evt3(put(b"% evt 3.0\n" + words + silence), block=block).read()
    assert found.t.tolist()[-2:] == [0x1001123, 0x1FA0123]


def test_events_before_the_first_time_are_left_out(put):
    words = struct.pack("<4I", 0x10000801, 0x80000001, 0x10001002, 0x00001803)
    equal(data.open_evt2(put(b"% evt 2.0\n" + words)).read(), [(64, 2, 2, 1), (64, 3, 3, 0)])
    words = struct.pack("<9H", 0x0001, 0x2001, 0x8000, 0x2002, 0x6007, 0x2803, 0x3804, 0x4801, 0x5081)
    found = data.open_evt3(put(b"% evt 3.0\n" + words)).read()
    equal(found, [(7, 3, 1, 1), (7, 4, 1, 1), (7, 15, 1, 1), (7, 16, 1, 1), (7, 23, 1, 1)])
    words = struct.pack("<7H", 0x0001, 0x8000, 0x6007, 0x4001, 0x5003, 0x3809, 0x4001)
    for block in (1, 99):
        equal(data.open_evt3(put(b"% evt 3.0\n" + words), block=block).read(), [(7, 9, 1, 1)])


def test_data_that_begins_like_a_header_is_data(put):
    """A word may begin with the byte of %, and an event may hold a line end."""
    word = struct.pack("<3I", 0x80000025, 0x10000A25, 0x1000000A)
    found = data.open_evt2(put(b"% evt 2.0\n" + word)).read()
    equal(found, [(0x25 << 6, 1, 0x225, 1), (0x25 << 6, 0, 10, 1)])
    found = data.open_evt2(put(b"% evt 2.0\n% end\n" + b"% \x00\x80" + word[4:])).read()
    assert found.t.tolist() == [0x2025 << 6] * 2


def test_versions_that_are_not_read(put):
    for name, open_it in (("2.1", data.open_evt2), ("2.0", data.open_evt3), ("3.0", data.open_evt2)):
        refused(lambda n=name, o=open_it: o(put(f"% evt {n}\n".encode())), 0, f"EVT {name}, expected")
    refused(lambda: data.open_events(put(b"% format EVT21;height=720;width=1280\n")), 0, "version 2.1")
    refused(lambda: data.open_events(put(b"#!AER-DAT1.0\n")), 0, "AEDAT of the version")
    refused(lambda: data.open_dat(put(b"% Version 1\n\x0c\x08")), 0, "version 1, expected version 2")
    refused(lambda: data.open_dat(put(b"% Version 2\n\x0e\x08")), 12, "type 0x0e")
    refused(lambda: data.open_mat(put(b"MATLAB 7.3 MAT-file, HDF5")), 0, "7.3")
    refused(lambda: data.open_evt2(put(struct.pack("<I", 0x80000000))), 0, "no line that begins with %")


def test_a_word_of_no_type_is_refused_at_its_byte(put):
    refused(data.open_evt2(put(b"% evt 2.0\n" + struct.pack("<2I", 0x80000000, 0x50000000))).read, 14, "type 0x5")
    refused(data.open_evt3(put(b"% evt 3.0\n" + struct.pack("<2H", 0x8000, 0x9000)), block=1).read, 12, "type 0x9")


@pytest.mark.parametrize("content, match", [
    (b"\x1f\x8b\x08\x00rest", "compressed by gzip"), (b"PK\x03\x04", "compressed by zip"), (b"", "no known format"),
    (b"class,startTime_usec,endTime_usec\n1,2,3\n" * 9, "no known format"), (b"hello", "no known format"),
    (np.random.default_rng(0).bytes(5000), "no known format"),
])  # fmt: skip
def test_what_is_no_recording(put, content, match):
    refused(lambda: data.open_events(put(content)), 0, match)


def test_the_format_is_found_without_the_name(put):
    path = put((GOLDEN / "nmnist/Train/5/00001.bin").read_bytes(), "x.dat")
    assert data.open_events(path, (34, 34)).format == "40-bit events" and data.open_events(path).sensor is None
    path = put((GOLDEN / "broken/nmnist_truncated.bin").read_bytes(), "y")
    refused(lambda: data.open_events(path), 1495, "ends inside an event of 5 bytes")


def test_columns_of_numpy_files(put):
    def saved(array):
        with (path := put(b"")).open("wb") as file:
            np.save(file, array)
        return path

    kinds = [("x", "u2"), ("extra", "f4"), ("y", "u2"), ("p", "?"), ("t", "u8")]
    path = saved(np.array([(3, 0.5, 4, True, 9)], kinds))
    equal(data.open_npy(path).read(), [(9, 3, 4, 1)])
    path = saved(np.array([(1, 2, 1, 0.0123)]))
    equal(data.open_npy(path).read(), [(12, 1, 2, 1)])
    assert data.open_npy(saved(np.zeros((0, 4)))).read().t.size == 0
    first = 128
    for wrong, match in (((1.5, 2, 1, 3), "whole"), ((1, 2, 1, np.nan), "finite"), ((1, 2, 2, 3), "polarity 2"),
                         ((-1, 2, 1, 3), "x = -1"), ((128, 2, 1, 3), "x = 128"),
                         ((1, 2, 1, 1e300), "finite")):  # fmt: skip
        refused(data.open_npy(saved(np.array([(1, 1, 1, 1), wrong], float))).read, first + 32, match)
    rows = np.array([(1, 2, 1, 3.0), (4, 5, 0, 6.0), (7, 8, 1, 9.0)])
    for block in (1, 2, 9):
        found = data.joined(data.open_npy(saved(np.asfortranarray(rows)), block=block))
        equal(found, [(3000, 1, 2, 1), (6000, 4, 5, 0), (9000, 7, 8, 1)])
    refused(data.open_npy(saved(np.asfortranarray(rows * [1, 1, 1, np.inf]))).read, first, "finite")
    for other in (np.zeros((4, 3)), np.zeros(4), np.zeros(3, [("t", "f8"), ("x", "i4")])):
        refused(lambda other=other: data.open_npy(saved(other)), 6, "expected records with the fields t, x, y")


def test_variables_of_matlab_files(put):
    from scipy.io import savemat

    def saved(**changes):
        columns = {"ts": [1, 2], "x": [3, 4], "y": [5, 6], "pol": [1, 0], **changes}
        path = put(b"")
        savemat(path, {name: np.array(c)[:, None] for name, c in columns.items() if c is not None}, appendmat=False)
        return path

    equal(data.open_mat(saved()).read(), [(1, 3, 174, 1), (2, 4, 173, 0)])
    equal(data.open_mat(saved(pol=[True, False], x=[3.0, 4.0])).read(), [(1, 3, 174, 1), (2, 4, 173, 0)])
    equal(data.open_mat(saved(pol=[2, 1])).read(), [(1, 3, 174, 1), (2, 4, 173, 0)])
    refused(data.open_mat(saved(pol=None)).read, 128, "no variable pol")
    for changes, match in (({"pol": [3, 0]}, "polarities"), ({"x": [1]}, "x has 1 values and ts 2"),
                           ({"x": [0.5, 1]}, "no whole numbers"), ({"y": [180, 0]}, "y = -1")):  # fmt: skip
        with pytest.raises(data.BadFile, match=match):
            data.open_mat(saved(**changes)).read()


def test_tables_of_trials(put):
    head = b"class,startTime_usec,endTime_usec"

    def table(*lines, end=b"\n"):
        return put(end.join([head, *lines, b""]))

    want = [(0, 5, 9), (10, 7, 20), (0, 30, 31)]
    for end in (b"\n", b"\r\n"):
        assert data.read_trials(table(b"1,5,9", b"", b"11, 7,20 ", b"  ", b"1,30,31", end=end)) == want
    assert data.read_trials(put(b"\xef\xbb\xbf" + head + b"\r\n1,5,9")) == want[:1]
    assert data.read_trials(put(head)) == []
    at = len(head) + 1
    for row in (b"0,5,9", b"12,5,9"):
        refused(lambda row=row: data.read_trials(table(b"1,5,9", row)), at + 6, "is of class")
    refused(lambda: data.read_trials(table(b"1,9,5")), at, "ends before it begins")
    for row in (b"1,5", b"1,5,9,", b"a,5,9", b"1,5.5,9"):
        refused(lambda row=row: data.read_trials(table(row)), at, "three whole numbers")
    for content in (b"", b"1,5,9\n", b"\xff\xfe"):
        with pytest.raises(data.BadFile):
            data.read_trials(put(content))


def test_lists_of_recordings(put):
    assert data.read_list(put(b"user01_led.aedat\r\n\r\n user02_lab \n")) == ["user01_led", "user02_lab"]
    refused(lambda: data.read_list(put(b"a.aedat\nb\na\n")), 10, "second time")
    refused(lambda: data.read_list(put(b"../a.aedat\n")), 0, "another folder")


@pytest.mark.parametrize("library, name", [("h5py", "shd/shd_train.h5"), ("aedat", "aedat4/a.aedat4")])
def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch, library, name):
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(ImportError, match=rf"{Path(name).name}.*pip install 'safjax\[events\]'"):
        data.open_events(GOLDEN / name)


def test_events_of_arrays():
    made = data.as_events([1], [2], [3], [True])
    assert [field.dtype for field in made] == [np.int64, np.int32, np.int32, np.uint8]
    with pytest.raises(ValueError, match="other values than 0"):
        data.as_events([1], [2], [3], [-1])
    with pytest.raises(ValueError, match="one axis of the same length"):
        data.as_events([1, 2], [2], [3], [1])
    assert data.joined([]).t.dtype == np.int64
