"""Event data: readers, frames, encoders, augmentations, a cache and a simulated event camera. NumPy only.

    recording = open_events("Train/5/00001.bin", sensor=(34, 34))
    frames = by_duration(recording.read(), 25_000, Grid((34, 34), clip=4), steps=12, start=0)
    frames.counts   # uint8 [12, 34, 34, (OFF, ON)]

HDF5 and AEDAT 4 need the extra `events` (`pip install 'safjax[events]'`).
"""

from safjax.data import augment, datasets
from safjax.data.cache import BuildError, Recipe, Split, bytes_of, cached
from safjax.data.camera import Camera, enlarged
from safjax.data.encoders import delta, latency, level_crossing, poisson
from safjax.data.events import BadFile, EventFile, Events, OutOfOrder, as_events, in_order, joined
from safjax.data.formats.aedat2 import open_aedat2
from safjax.data.formats.aedat3 import open_aedat3
from safjax.data.formats.aedat4 import open_aedat4
from safjax.data.formats.bits40 import open_bin
from safjax.data.formats.dat import open_dat
from safjax.data.formats.detect import open_events
from safjax.data.formats.evt2 import open_evt2
from safjax.data.formats.evt3 import open_evt3
from safjax.data.formats.gesture import Trial, cut, read_list, read_trials
from safjax.data.formats.hdf5 import SpikeFile, Spikes, open_hdf5
from safjax.data.formats.mat import open_mat
from safjax.data.formats.npy import open_npy
from safjax.data.frames import Frames, by_count, by_duration, by_parts, pool_time, raster
from safjax.data.grid import Grid
from safjax.data.recipes import EventFrames, SoundFrames, SpikeFrames
from safjax.data.sound import Sound, log_mel, read_wav
from safjax.data.stream import FrameStream

__all__ = [
    "BadFile",
    "BuildError",
    "Camera",
    "EventFile",
    "EventFrames",
    "Events",
    "FrameStream",
    "Frames",
    "Grid",
    "OutOfOrder",
    "Recipe",
    "Sound",
    "SoundFrames",
    "SpikeFile",
    "SpikeFrames",
    "Spikes",
    "Split",
    "Trial",
    "as_events",
    "augment",
    "by_count",
    "by_duration",
    "by_parts",
    "bytes_of",
    "cached",
    "cut",
    "datasets",
    "delta",
    "enlarged",
    "in_order",
    "joined",
    "latency",
    "level_crossing",
    "log_mel",
    "open_aedat2",
    "open_aedat3",
    "open_aedat4",
    "open_bin",
    "open_dat",
    "open_events",
    "open_evt2",
    "open_evt3",
    "open_hdf5",
    "open_mat",
    "open_npy",
    "poisson",
    "pool_time",
    "raster",
    "read_list",
    "read_trials",
    "read_wav",
]
