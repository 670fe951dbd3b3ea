"""Files of SHD's and SSC's kind that cannot be, or are damaged."""

import numpy as np
import pytest

from safjax import data
from tests.data.test_event_formats import GOLDEN, damaged

h5py = pytest.importorskip("h5py")


def spike_file(path, labels, times, units, **extra):
    with h5py.File(path, "w") as file:
        for name, rows, kind in (("times", times, "f2"), ("units", units, "u2")):
            made = file.create_dataset(f"spikes/{name}", (len(rows),), h5py.vlen_dtype(np.dtype(kind)))
            for i, row in enumerate(rows):
                made[i] = np.array(row, kind)
        file["labels"] = np.array(labels)
        for name, value in extra.items():
            file[f"extra/{name}"] = value
    return path


def test_spike_files_that_cannot_be(tmp_path):
    path = tmp_path / "x.h5"
    good = spike_file(path, [1, 0], [[0.5, 0.25], []], [[1, 2], []])
    found = data.open_hdf5(good)
    assert (found.classes, found.speakers, found[0].times.tolist(), found[0].units.tolist()) == (
        (),
        None,
        [0.25, 0.5],
        [2, 1],
    )
    assert found[1].times.size == 0 and found[-1].units.dtype == np.int32
    with pytest.raises(IndexError):
        found[2]
    for match, arguments in {
        "expected \\[samples\\] each": ([1], [[0.5], []], [[1], []]),
        "expected 0 .. 1": ([2], [[0.5]], [[1]], [b"a", b"b"]),
        "expected as many": ([0, 0], [[0.5], []], [[1], []], [b"a"], [1]),
    }.items():
        extra = dict(zip(("keys", "speaker"), arguments[3:], strict=False))
        with pytest.raises(data.BadFile, match=match):
            data.open_hdf5(spike_file(path, *arguments[:3], **extra))
    for match, times, units in (("seconds", [np.inf], [1]), ("seconds", [-0.5], [1]),
                                ("channels 700 .. 700", [0.5], [700]),
                                ("expected as many", [0.5, 1], [1])):  # fmt: skip
        with pytest.raises(data.BadFile, match=f"sample 1.*{match}"):
            list(data.open_hdf5(spike_file(path, [0, 1], [[0.5], times], [[1], units])).samples())


def test_damaged_spike_files_are_refused_or_read(tmp_path):
    path = tmp_path / "x.h5"
    for content in damaged(GOLDEN / "shd/shd_train.h5", 60, np.random.default_rng(0)):
        path.write_bytes(content)
        try:
            found = data.open_hdf5(path)
            for spikes in found.samples():
                assert spikes.times.shape == spikes.units.shape and (np.diff(spikes.times) >= 0).all()
        except data.BadFile as error:
            assert error.path == path
