"""Every reader against files whose content is known, written and read back by other libraries."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from safjax import data
from safjax.data.formats import detect

GOLDEN = Path(__file__).parent.parent / "golden" / "events"
FILES = json.loads((GOLDEN / "expected.json").read_text())["files"]
LISTS = {name: want for name, want in FILES.items() if "t" in want}
SPIKES = {name: want for name, want in FILES.items() if want["kind"] == "hsd" and "expect" not in want}
REFUSED = {name: want for name, want in FILES.items() if want.get("expect") == "error"}
REAL = {name: want for name, want in FILES.items() if want.get("real")}
OPENERS = {
    "nmnist": data.open_bin, "aedat2": data.open_aedat2, "aedat3": data.open_aedat3, "aedat4": data.open_aedat4,
    "dat": data.open_dat, "evt2": data.open_evt2, "evt3": data.open_evt3, "dvslip": data.open_npy,
    "tonic_gesture": data.open_npy, "asldvs": data.open_mat, "hsd": data.open_hdf5,
}  # fmt: skip


def needs(kind):
    """The library that a format is read by, if any."""
    library = {"aedat4": "aedat", "hsd": "h5py"}.get(kind)
    if library:
        pytest.importorskip(library)


def equal(found, want):
    assert found.t.dtype == np.int64 and found.x.dtype == found.y.dtype == np.int32 and found.p.dtype == np.uint8
    for field in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(getattr(found, field), want[field], err_msg=field)


def test_the_files_are_known():
    assert len(LISTS) == 17 and len(SPIKES) == 5 and len(REFUSED) == 6 and len(REAL) == 10
    assert {want["kind"] for want in LISTS.values()} | {"hsd"} == set(OPENERS)


@pytest.mark.parametrize("name", LISTS)
def test_events(name):
    want = LISTS[name]
    needs(want["kind"])
    opened = OPENERS[want["kind"]](GOLDEN / name)
    equal(opened.read(), want)
    if "sensor_h_w" in want and opened.sensor is not None:
        assert opened.sensor == tuple(want["sensor_h_w"])
    assert detect.find(GOLDEN / name) is OPENERS[want["kind"]]


@pytest.mark.parametrize("block", [1, 7, 64])
@pytest.mark.parametrize("name", LISTS)
def test_blocks_of_any_size_are_the_whole(name, block):
    """A block's border may lie between the words that make one event."""
    want = LISTS[name]
    needs(want["kind"])
    opened = OPENERS[want["kind"]](GOLDEN / name, block=block)
    equal(data.joined(opened), want)
    if want["kind"] not in ("aedat4", "evt3"):  # packets stay whole; one word may be twelve events
        assert max(part.t.size for part in opened) <= block


@pytest.mark.parametrize("name", REFUSED)
def test_malformed_files_are_refused(name):
    want = REFUSED[name]
    needs(want["kind"])
    with pytest.raises(data.BadFile) as error:
        OPENERS[want["kind"]](GOLDEN / name)
    assert isinstance(error.value, ValueError) and str(GOLDEN / name) in str(error.value)
    assert error.value.offset == want.get("offset", (GOLDEN / name).stat().st_size)


def test_an_empty_file_has_no_events():
    opened = data.open_events(GOLDEN / "broken/empty.bin")
    assert opened.read().t.size == 0 and list(opened) == []


@pytest.mark.parametrize("name", SPIKES)
def test_spikes(name):
    needs("hsd")
    want, found = SPIKES[name], data.open_events(GOLDEN / name)
    assert (found.classes, found.channels, len(found)) == (tuple(want["keys"]), want["units"], len(want["samples"]))
    assert found.labels.dtype == np.int32
    np.testing.assert_array_equal(found.labels, [sample["label"] for sample in want["samples"]])
    np.testing.assert_array_equal(found.speakers, [sample["speaker"] for sample in want["samples"]])
    for block in (2, 256):
        for sample, spikes in zip(want["samples"], found.samples(block=block), strict=True):
            np.testing.assert_array_equal(spikes.times, sample["times"])
            np.testing.assert_array_equal(spikes.units, sample["units"])
            assert spikes.times.dtype == np.float64
    np.testing.assert_array_equal(found[-1].times, want["samples"][-1]["times"])


@pytest.mark.parametrize("name", [name for name, want in LISTS.items() if want["kind"] == "aedat3"])
def test_trials(name):
    path = GOLDEN / name
    trials = data.read_trials(path.with_name(f"{path.stem}_labels.csv"))
    opened = data.open_aedat3(path, block=50)
    assert len(trials) == len(LISTS[name]["trials"])
    for want, (trial, events) in zip(LISTS[name]["trials"], data.cut(opened, trials), strict=True):
        assert trial == (want["label"], want["start"], want["end"])
        assert [events.t.size, *([field[i] for field in events] for i in (0, -1))] == [
            want["n"], want["first"], want["last"]
        ]  # fmt: skip


@pytest.mark.parametrize("name", [name for name, want in FILES.items() if want["kind"] == "list"])
def test_lists(name):
    assert data.read_list(GOLDEN / name) == FILES[name]["files"]


@pytest.mark.parametrize("name", REAL)
def test_real_recordings(name):
    """Ten of N-MNIST's, which are not part of the repository: SAFJAX_REAL_NMNIST is their folder."""
    folder = os.environ.get("SAFJAX_REAL_NMNIST")
    if not folder:
        pytest.skip("SAFJAX_REAL_NMNIST names no folder of real recordings")
    want = REAL[name]
    path = Path(folder) / Path(name).name
    assert detect.find(path) is data.open_bin
    found = data.open_bin(path, (34, 34)).read()
    assert (found.t.size, int(found.p.sum())) == (want["n"], want["on"])
    rows = np.stack([found.t, found.x, found.y, found.p], 1).astype("<i8")
    assert rows[0].tolist() == want["first_t_x_y_p"] and rows[-1].tolist() == want["last_t_x_y_p"]
    assert hashlib.sha256(rows.tobytes()).hexdigest() == want["sha256_of_int64_le_rows_t_x_y_p"]
