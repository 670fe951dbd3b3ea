"""Memory while a recording is read and binned, and what the readers load: NumPy and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SAFJAX = Path(__file__).parent.parent.parent / "safjax"

PROGRAM = """
import json, re, sys, time, types
# The package without its first file, which loads JAX: what the data need shows.
sys.modules["safjax"] = types.ModuleType("safjax")
sys.modules["safjax"].__path__ = [sys.argv[1]]
import safjax.data as data
# Unlike ru_maxrss, this does not begin with what the process that started this one had.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before, begin = peak(), time.process_time()
stream = data.FrameStream(data.open_bin(sys.argv[2]), 25_000, data.Grid((34, 34)), start=0)
total = sum(int(frame.sum(dtype="int64")) for frame in stream)
seconds = time.process_time() - begin
loaded = [name for name in ("jax", "flax", "scipy", "h5py", "aedat", "matplotlib") if name in sys.modules]
print(json.dumps(dict(total=total, frames=stream.handed, before=before, peak=peak(), seconds=seconds, loaded=loaded)))
"""


pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by /proc")


def recording(path, events):
    """A .bin file of events that are as many in every µs; written in pieces."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for begin in range(0, events, 1 << 21):
            index = np.arange(begin, min(begin + (1 << 21), events))
            t = (index * 8_300_000 // events).astype(">u4").view(np.uint8).reshape(-1, 4)
            place = rng.integers(0, 34, (index.size, 2), np.uint8)
            polarity = rng.integers(0, 2, index.size, np.uint8) << 7
            file.write(np.column_stack([place, t[:, 1] | polarity, t[:, 2:]]).tobytes())


def binned(path):
    result = subprocess.run([sys.executable, "-c", PROGRAM, SAFJAX, path], capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_data_load_numpy_only_and_little_memory(tmp_path):
    recording(tmp_path / "x.bin", 4 << 20)
    found = binned(tmp_path / "x.bin")
    assert (found["total"], found["frames"]) == (4 << 20, 332)
    assert found["loaded"] == [] and found["peak"] < 100


@pytest.mark.slow
def test_a_recording_of_a_gigabyte_is_binned_in_little_memory(tmp_path):
    recording(tmp_path / "x.bin", 200_000_000)
    assert (tmp_path / "x.bin").stat().st_size == 10**9
    found = binned(tmp_path / "x.bin")
    assert (found["total"], found["frames"]) == (200_000_000, 332)
    assert found["peak"] < 100
    print(found, f"{200 / found['seconds']:.0f} million events a CPU second")
