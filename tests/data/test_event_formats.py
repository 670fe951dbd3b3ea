"""Readers against writers of the tests' own: any events, any block size, any cut, any damage."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safjax import data
from safjax.data.formats.files import Clock
from tests.data import writers

GOLDEN = Path(__file__).parent.parent / "golden" / "events"
FORMATS = {
    "bits40": (writers.bits40, data.open_bin, (120, 128), 1 << 25),
    "aedat2": (writers.aedat2, data.open_aedat2, (128, 128), 1 << 34),
    "aedat3": (writers.aedat3, data.open_aedat3, (128, 128), 1 << 34),
    "dat": (writers.dat, data.open_dat, (720, 1280), 1 << 34),
    "evt2": (writers.evt2, data.open_evt2, (720, 1280), 1 << 36),
    "evt3": (writers.evt3, data.open_evt3, (720, 1280), 1 << 27),
    "records": (writers.records, data.open_npy, (128, 128), 1 << 30),
    "milliseconds": (writers.milliseconds, data.open_npy, (128, 128), 1 << 40),
    "matlab": (writers.matlab, data.open_mat, (180, 240), 1 << 30),
    "compressed": (lambda rows: writers.matlab(rows, True, 2), data.open_mat, (180, 240), 1 << 30),
}
"""Writer, reader, sensor, and time that none may reach."""

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rows(sensor, end, least=0):
    """Lists of events by time; few times and places, so that many coincide. A clock of 32 bits may be full on the
    way."""
    height, width = sensor
    gap = st.one_of(st.integers(0, 3), st.integers(0, 5000), st.integers(0, min(end // 40, 1 << 30)))
    place = st.tuples(gap, st.integers(0, width - 1), st.integers(0, height - 1), st.integers(0, 1))
    near = st.tuples(st.just(0), st.integers(0, 40), st.just(5), st.just(1))

    def ordered(steps):
        times = np.cumsum([step[0] for step in steps])
        return [(int(t), *step[1:]) for t, step in zip(times, steps, strict=True)]

    return st.lists(st.one_of(place, near), min_size=least, max_size=30).map(ordered)


def equal(found, want):
    np.testing.assert_array_equal(
        np.array([*found], np.int64).T.reshape(-1, 4), np.array(want, np.int64).reshape(-1, 4)
    )


@pytest.mark.parametrize("name", FORMATS)
@QUICK
@given(choose=st.data())
def test_what_is_written_is_read(tmp_path, name, choose):
    write, read, sensor, end = FORMATS[name]
    want = choose.draw(rows(sensor, end))
    if name == "matlab" and want:
        want[0] = (*want[0][:3], 0)  # ones alone could be either code
    if name == "compressed" and want:
        want[0] = (*want[0][:3], 1)
    path = tmp_path / "file"
    path.write_bytes(write(want))
    equal(data.joined(read(path, block=choose.draw(st.integers(1, 40)))), want)
    equal(read(path).read(), want)


@pytest.mark.parametrize("name", FORMATS)
def test_any_cut_is_refused_or_leaves_whole_events(tmp_path, name):
    write, read, _, _ = FORMATS[name]
    want = [(5000 * i, 3 + 2 * (i % 5), 100 - i, i % 2) for i in range(8)]
    whole, path = write(want), tmp_path / "file"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        try:
            found = read(path).read()
        except data.BadFile as error:
            assert error.path == path and 0 <= error.offset <= size
            assert not (size and error.offset == 0 and name == "bits40" and size >= 5)
        else:
            equal(found, want[: found.t.size])
            assert name not in ("records", "milliseconds", "matlab", "compressed"), "these say how long they are"


def damaged(path, tries, rng):
    """Copies of a file in which some bytes are others."""
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(tries):
        copy = whole.copy()
        places = rng.integers(0, min(len(copy), rng.choice([300, 10**9])), rng.integers(1, 6))
        copy[places] = rng.integers(0, 256, len(places))
        yield copy.tobytes()


@pytest.mark.parametrize(
    "name",
    [
        "nmnist/Train/5/00001.bin", "dvsgesture/DvsGesture/user02_led.aedat", "cifar10dvs/cat/cifar10_cat_250.aedat",
        "aedat4/a.aedat4", "prophesee/td.dat", "prophesee/evt2.raw", "prophesee/evt3.raw", "asldvs/b/b_0001.mat",
        "dvslip/DVS-Lip/train/accused/0.npy", "tonic_gesture/ibmGestureTrain/user01_led/4.npy",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::safjax.data.OutOfOrder")
def test_damage_is_refused_or_gives_events_of_the_sensor(tmp_path, name):
    """Nothing else happens: no other error, no event beyond the sensor, no time out of order."""
    if name.endswith("aedat4"):
        pytest.importorskip("aedat")
    path = tmp_path / Path(name).name
    for content in damaged(GOLDEN / name, 60, np.random.default_rng(0)):
        path.write_bytes(content)
        try:
            opened = data.open_events(path)
            found = opened.read()
        except data.BadFile as error:
            assert error.path == path and 0 <= error.offset <= len(content)
            continue
        height, width = opened.sensor or (1 << 31, 1 << 31)
        assert (found.x < width).all() and (found.y < height).all() and (np.diff(found.t) >= 0).all()
        assert np.isin(found.p, (0, 1)).all() and min(found.x.min(), found.y.min()) >= 0


def test_a_clock_that_is_full_goes_on():
    clock = Clock(8)
    assert clock(np.array([250, 255, 3])).tolist() == [250, 255, 259]
    assert clock(np.array([254, 4, 130])).tolist() == [254, 260, 386]  # one straggler from before the moment
    assert clock(np.array([], np.uint8)).tolist() == []
    assert clock(np.array([1, 1], np.uint8)).tolist() == [513, 513], "the round goes on from block to block"
    assert Clock(8)(np.array([0, 200])).tolist() == [0, 200], "nothing lies before the first round"
    steady = Clock(8, straddles=False)
    assert steady(np.array([250, 2, 200])).tolist() == [250, 258, 456], "a long silence, not the round before"


def test_times_out_of_order_are_sorted_and_said(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(writers.bits40([(50, 1, 1, 1), (20, 2, 2, 0), (50, 3, 3, 1), (20, 4, 4, 0)]))
    with pytest.warns(data.OutOfOrder, match=r"file\.bin: times go back 2 times") as said:
        found = data.open_bin(path, block=1).read()
    assert len(said) == 1
    equal(found, [(20, 2, 2, 0), (20, 4, 4, 0), (50, 1, 1, 1), (50, 3, 3, 1)])
