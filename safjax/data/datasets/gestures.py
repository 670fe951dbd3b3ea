"""DVS128 Gesture (A. Amir et al., CVPR 2017; CC BY 4.0): 11 gestures of 29 people in three kinds of light.

Two test sets go under one name: here `gesture` has every row of the tables, 1,176 and 288 trials, and `gesture_cut` the
release that was cut in advance, 1,077 and 264.
"""

from pathlib import Path

from safjax.data.datasets.samples import Sample, Samples, by_number, split_folders
from safjax.data.formats.gesture import read_list, read_trials

CLASSES = (
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter-clockwise",
    "left arm clockwise", "left arm counter-clockwise", "arm roll", "air drums", "air guitar", "other",
)  # fmt: skip
SENSOR = (128, 128)
MIRRORED = (0, 2, 1, 6, 5, 4, 3, 7, 8, 9, 10)
"""Left is right, clockwise is counter-clockwise."""
CUT = ("ibmGestureTrain", "ibmGestureTest")


def gesture(folder: Path | str) -> Samples:
    """The recordings with their tables: *.aedat, *_labels.csv, trials_to_train.txt and trials_to_test.txt.

    Raises:
      BadFile: a table or a list has a row that cannot be.
      FileNotFoundError: a file is missing.
    """
    folder, splits = Path(folder), {}
    for split in ("train", "test"):
        splits[split] = [
            Sample(folder / f"{name}.aedat", *trial)
            for name in read_list(folder / f"trials_to_{split}.txt")
            for trial in read_trials(folder / f"{name}_labels.csv")
        ]
    missing = [sample.path for samples in splits.values() for sample in samples if not sample.path.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]}: listed among the trials, but not there.")
    rule, published = "every row of the tables, people apart", {"train": 1176, "test": 288}
    return Samples("DVS128 Gesture", rule, CLASSES, SENSOR, splits, MIRRORED, published)


def gesture_cut(folder: Path | str) -> Samples:
    """The release as one file a trial, ibmGestureTrain/userNN_light/C.npy and ibmGestureTest/....

    Raises:
      FileNotFoundError: a folder is missing.
    """
    splits = {}
    for split, parent in zip(("train", "test"), split_folders(folder, CUT, "DVS128 Gesture, cut"), strict=True):
        paths = [path for user in by_number(parent.iterdir()) for path in by_number(user.glob("*.npy"))]
        splits[split] = [Sample(path, int(path.stem)) for path in paths if path.stem.isdecimal()]
    rule, published = "as released, people apart", {"train": 1077, "test": 264}
    return Samples("DVS128 Gesture, cut", rule, CLASSES, SENSOR, splits, MIRRORED, published)
