"""A cache is whole or not there: after kills, beside other starts, with files that cannot be read; other settings,
other cache."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from safjax.data import BadFile, Grid, by_duration
from safjax.data.cache import MARKER, BuildError, bytes_of, cached
from safjax.data.datasets import Sample, Samples, fsdd, nmnist
from safjax.data.frames import Frames
from safjax.data.recipes import EventFrames, SoundFrames, SpikeFrames
from tests.data import writers
from tests.data.slow_frames import Slow, numbered, whole
from tests.data.test_golden_events import GOLDEN, needs

ROOT = Path(__file__).parent.parent.parent
RECIPE = EventFrames(Grid((34, 34), clip=4), steps=6, duration=50_000)
pytestmark = pytest.mark.filterwarnings("ignore::safjax.data.datasets.Incomplete")
QUIET = {"say": lambda line: None}


def test_a_cache_holds_the_frames_of_every_sample(tmp_path):
    samples, lines = nmnist(GOLDEN / "nmnist"), []
    found = cached(tmp_path, samples, RECIPE, say=lines.append)
    for name, split in found.items():
        assert split.frames.dtype == np.uint8 and not split.frames.flags.writeable
        assert split.labels.tolist() == [0, 5] and split.labels.dtype == np.int32
        for sample, frames in zip(samples.splits[name], split.frames, strict=True):
            from safjax.data import open_bin

            want = by_duration(open_bin(sample.path).read(), 50_000, Grid((34, 34), clip=4), 6, 0)
            np.testing.assert_array_equal(frames, want.counts)
    assert found["train"].dropped == sum(
        by_duration(open_bin(s.path).read(), 50_000, RECIPE.grid, 6, 0).dropped for s in samples.splits["train"]
    )
    assert sum(split.frames.nbytes for split in found.values()) == bytes_of(samples, RECIPE)
    assert "6 bins of 50 ms, 0.3 s in all" in lines[1] and "MB in" in lines[1] and "events in no frame" in lines[2]
    lines.clear()
    again = cached(tmp_path, samples, RECIPE, say=lines.append)
    assert lines == [] and np.array_equal(again["test"].frames, found["test"].frames)


def test_a_recording_of_many_trials_is_read_once(tmp_path):
    from safjax.data.datasets import gesture

    samples = gesture(GOLDEN / "dvsgesture/DvsGesture")
    by_count = EventFrames(Grid((128, 128), clip=255), steps=4, mode="count")
    found = cached(tmp_path, samples, by_count, **QUIET)
    want = json.loads((GOLDEN / "expected.json").read_text())["files"]["dvsgesture/DvsGesture/user24_lab.aedat"][
        "trials"
    ]
    assert found["test"].labels.tolist() == [trial["label"] for trial in want]
    totals = [trial["frames"]["by_number_4"]["events_per_frame_off_on"] for trial in want]
    assert found["test"].frames.sum((2, 3), dtype=int).tolist() == totals
    timed = cached(tmp_path, samples, EventFrames(Grid((128, 128), clip=255), 4, 20_000), **QUIET)
    assert timed["test"].frames[0].sum() + timed["test"].frames[1].sum() + timed["test"].dropped == sum(
        t["n"] for t in want
    )


def test_samples_that_lie_in_one_file(tmp_path):
    needs("hsd")
    from safjax.data.datasets import samples_of, shd

    files = shd(GOLDEN / "shd")
    found = cached(tmp_path, samples_of(files, "SHD"), SpikeFrames(100, 10_000, pool=5), **QUIET)
    assert {name: split.frames.shape for name, split in found.items()} == {
        "train": (7, 100, 140),
        "test": (4, 100, 140),
    }
    for i, spikes in enumerate(files["train"].samples()):
        assert found["train"].frames[i].sum(dtype=int) == (spikes.times < 1).sum()
    assert found["train"].dropped > 0 and np.array_equal(found["train"].labels, files["train"].labels)


def test_sounds(tmp_path):
    """A short sound is filled up with silence behind or in front, a long one cut."""
    rng = np.random.default_rng(0)
    for name, samples in (("0_a_0", 2400), ("1_a_5", 16_000)):
        with wave.open(str(tmp_path / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, samples, "NONE", ""))
            file.writeframes((rng.standard_normal(samples) * 5000).astype("<i2").tobytes())
    samples = fsdd(tmp_path)
    found = cached(tmp_path / "c", samples, SoundFrames(steps=50), **QUIET)
    late = cached(tmp_path / "c", samples, SoundFrames(steps=50, at_end=True), **QUIET)
    assert found["test"].frames.shape == (1, 50, 32, 2) and found["train"].dropped > 0 == found["test"].dropped
    steps = 1 + (2400 - 256) // 80
    assert found["test"].frames[0, 0].sum() > 32, "the first step tells the first levels"
    assert not found["test"].frames[0, steps:].any() and found["test"].frames[0, :steps].any((1, 2)).mean() > 0.9
    np.testing.assert_array_equal(late["test"].frames[0, -steps:], found["test"].frames[0, :steps])
    np.testing.assert_array_equal(late["train"].frames, found["train"].frames)


def test_other_settings_make_another_cache(tmp_path):
    samples, grid = nmnist(GOLDEN / "nmnist"), RECIPE.grid
    recipes = [
        RECIPE,
        dataclasses.replace(RECIPE, steps=5),
        dataclasses.replace(RECIPE, duration=40_000),
        dataclasses.replace(RECIPE, duration=None, mode="count"),
        dataclasses.replace(RECIPE, duration=None, mode="parts"),
        dataclasses.replace(RECIPE, start=None),
        *(dataclasses.replace(RECIPE, grid=dataclasses.replace(grid, **c)) for c in
          ({"clip": 1}, {"pool": 2}, {"merged": True}, {"sensor": (34, 40)})),
    ]  # fmt: skip
    for recipe in recipes:
        cached(tmp_path, samples, recipe, **QUIET)
    assert len(list(tmp_path.glob(f"*/{MARKER}"))) == len(recipes)
    cached(tmp_path, dataclasses.replace(samples, rule="another"), RECIPE, **QUIET)
    assert len(list(tmp_path.glob(f"*/{MARKER}"))) == len(recipes) + 1


def test_files_of_other_sizes_make_another_cache(tmp_path):
    samples = numbered(tmp_path / "raw")
    cached(tmp_path / "c", samples, Slow(), **QUIET)
    samples.splits["train"][4].path.write_bytes(b"1234567890")
    cached(tmp_path / "c", samples, Slow(), **QUIET)
    assert len(list((tmp_path / "c").glob(f"*/{MARKER}"))) == 2


@pytest.mark.parametrize("workers", [1, 4])
def test_an_error_names_the_file_and_leaves_nothing(tmp_path, workers):
    samples = numbered(tmp_path / "raw")
    with pytest.raises(BuildError, match=r"raw/7\.bin: ZeroDivisionError: no such thing"):
        cached(tmp_path / "c", samples, Slow(0.001, "7.bin"), workers=workers, **QUIET)
    assert [path.suffix for path in (tmp_path / "c").iterdir()] == [".lock"]
    broken = Samples("broken", "", ("a",), None, {"all": [Sample(GOLDEN / "broken/nmnist_truncated.bin", 0)]})
    with pytest.raises(BadFile, match=r"nmnist_truncated\.bin, byte 1,495"):
        cached(tmp_path / "c", broken, RECIPE, workers=workers, **QUIET)
    whole(cached(tmp_path / "c", samples, Slow(0.001), workers=workers, **QUIET))


def test_a_cache_that_was_cut_is_told(tmp_path):
    samples = numbered(tmp_path / "raw")
    cached(tmp_path, samples, Slow(), **QUIET)
    (path,) = tmp_path.glob("*/train.npy")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadFile, match=r"train\.npy has \d+ bytes, and \d+ were written.*Delete"):
        cached(tmp_path, samples, Slow(), **QUIET)


def test_what_cannot_be_built(tmp_path, monkeypatch):
    samples = numbered(tmp_path / "raw")
    with pytest.raises(TypeError, match="no data class"):
        cached(tmp_path, samples, lambda path, samples: [], **QUIET)

    @dataclasses.dataclass(frozen=True)
    class Wrong(Slow):
        def __call__(self, path, samples):
            yield Frames(np.zeros((2, 4), np.uint8), 0)

    with pytest.raises(BuildError, match=r"0\.bin: the recipe made 1 samples of 1, one of \(\(2, 4\)"):
        cached(tmp_path, samples, Wrong(), **QUIET)
    with pytest.raises(ValueError, match="expected a duration with mode 'duration'"):
        EventFrames(RECIPE.grid, 6)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(OSError, match="1,000 are free"):
        cached(tmp_path, samples, Slow(), **QUIET)
    monkeypatch.undo()
    wrong = Samples("x", "", ("a",), None, {"all": [Sample(GOLDEN / "cifar10dvs/cat/cifar10_cat_250.aedat", 0)]})
    with pytest.raises(BuildError, match=r"cifar10_cat_250\.aedat: ValueError: .*height 34 and width 34"):
        cached(tmp_path, wrong, EventFrames(Grid((34, 34)), 2, 1000), **QUIET)


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_start_that_fails_at_any_step_leaves_nothing(tmp_path, monkeypatch, call):
    """Each time that the disk is told to keep something, it does not; then the next start makes a whole cache."""
    samples, genuine, fails = numbered(tmp_path / "raw"), getattr(os, call), True
    for step in range(100):
        calls = iter(range(1000))

        def failing(*arguments, step=step, calls=calls, **named):
            if next(calls) == step:
                raise OSError("the disk is gone")
            return genuine(*arguments, **named)

        monkeypatch.setattr(os, call, failing)
        folder = tmp_path / f"{step}"
        try:
            whole(cached(folder, samples, Slow(), **QUIET))
            fails = False
        except OSError as error:
            assert "the disk is gone" in str(error)
        monkeypatch.undo()
        left = [path for path in folder.iterdir() if path.suffix != ".lock"]
        assert len(left) <= 1 and all((path / MARKER).is_file() for path in left)
        whole(cached(folder, samples, Slow(), **QUIET))
        if not fails:
            break
    assert 1 <= step < 100


PROGRAM = """
import sys, types
sys.path.insert(0, sys.argv[4])
# Without the package's first file, which loads JAX.
sys.modules["safjax"] = types.ModuleType("safjax")
sys.modules["safjax"].__path__ = [sys.argv[4] + "/safjax"]
from pathlib import Path
from safjax.data.cache import cached
from tests.data.slow_frames import Slow, numbered, whole
samples = numbered(Path(sys.argv[1]))
print("started", flush=True)
whole(cached(sys.argv[2], samples, Slow(float(sys.argv[3])), workers=1, say=lambda line: print(line, flush=True)))
print("whole", flush=True)
"""


def started(tmp_path, seconds):
    command = [sys.executable, "-c", PROGRAM, tmp_path / "raw", tmp_path / "c", seconds, ROOT]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)


def kill_some(tmp_path, times, seed):
    """Kills a start at random moments of its building; the folder then holds a whole cache or none."""
    rng, complete = random.Random(seed), 0
    samples = numbered(tmp_path / "raw")
    for _ in range(times):
        process = started(tmp_path, 0.02)
        assert process.stdout.readline() == "started\n"
        time.sleep(rng.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        markers = list((tmp_path / "c").glob(f"*/{MARKER}"))
        for marker in markers:
            complete += 1
            assert {path.name for path in marker.parent.iterdir()} == {MARKER, "train.npy", "test.npy"}
            whole(cached(tmp_path / "c", samples, Slow(0.02), **QUIET))
            for path in [*marker.parent.iterdir()]:
                path.unlink()
            marker.parent.rmdir()
    whole(cached(tmp_path / "c", samples, Slow(0.02), **QUIET))
    assert not list((tmp_path / "c").glob("*.tmp")), "what killed starts left is cleared away"
    return complete


def test_a_killed_start_leaves_a_whole_cache_or_none(tmp_path):
    kill_some(tmp_path, 3, seed=0)


@pytest.mark.slow
def test_twenty_killed_starts_leave_whole_caches_or_none(tmp_path):
    assert 0 < kill_some(tmp_path, 20, seed=1) < 20, "some were killed early and some late"


def test_of_two_starts_at_once_one_builds_and_the_other_waits(tmp_path):
    numbered(tmp_path / "raw")
    processes = [started(tmp_path, 0.05) for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert all(output.endswith("whole\n") for output in outputs)
    assert sum("events in no frame" in output for output in outputs) == 1, "only one built"
    assert len(list((tmp_path / "c").iterdir())) == 2, "a cache and its lock"


def test_two_threads_at_once(tmp_path):
    samples, found = numbered(tmp_path / "raw"), []
    threads = [
        threading.Thread(target=lambda: found.append(cached(tmp_path / "c", samples, Slow(0.005), **QUIET)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    for made in found:
        whole(made)


def test_events_before_a_part_are_no_matter(tmp_path):
    """Times of a part count from its beginning."""
    rows = [(5, 0, 0, 1), (105, 1, 0, 1), (130, 2, 0, 1), (200, 3, 0, 1)]
    path = tmp_path / "x.bin"
    path.write_bytes(writers.bits40(rows))
    samples = [Sample(path, 0, 100, 200), Sample(path, 0, 0, 50)]
    grid = Grid((34, 34))
    found = list(EventFrames(grid, 2, 20)(path, samples))
    assert [frames.counts.sum((1, 2, 3)).tolist() for frames in found] == [[1, 1], [1, 0]]
