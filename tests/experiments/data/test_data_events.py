"""Events in bins: what each example holds, chains whose order is the label, and the simulated camera."""

import jax
import numpy as np
import pytest

from experiments import saccades
from experiments.config import ConfigError
from experiments.data import Binned, load
from experiments.data.events.chains import chains
from experiments.data.events.resized import Resized, resized
from safjax.data import Camera, EventFrames, Grid, Split, by_duration

LABELS = np.array([0, 1, 2, 0, 1, 0], np.int32)
NAMES = ("a", "b", "c")


def binned(*shape, name="some"):
    """Recordings whose counts tell which one it is, and when: 7 · number + step, somewhere."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 3, (len(LABELS), 4, *shape)).astype(np.uint8)
    return Binned(name, Split(counts, LABELS, 0), Split(counts[:3], LABELS[:3], 0), NAMES)


def batch(part, chosen, seed=0):
    rows = [part.read(index, None, (0,)) for index in chosen]
    return part.make(jax.random.key(seed), part.held, jax.tree.map(lambda *leaves: np.stack(leaves), *rows))


def test_an_example_is_its_recording_time_first():
    dataset = binned(5, 6, 2)
    parts = dataset.parts(saccades.CONFIG.changed(steps=4).data)
    made = batch(parts.train, [4, 2])
    scale = np.sqrt(np.mean(dataset.train.frames.astype(float) ** 2))
    np.testing.assert_allclose(made.inputs * scale, dataset.train.frames[[4, 2]].swapaxes(0, 1), rtol=1e-6)
    assert made.labels.tolist() == [1, 2] and made.lengths is None and parts.shape[:2] == ((5, 6, 2), 3)


def test_channels_stay_counts():
    dataset = binned(9)
    parts = dataset.parts(saccades.CONFIG.data)
    np.testing.assert_array_equal(batch(parts.test, [0, 1]).inputs, dataset.test.frames[:2].swapaxes(0, 1))
    assert 0.8 < parts.shape.input_rate <= 1


def test_all_steps_are_shifted_alike():
    """A dot that stands still does so after the crop, which only training has."""
    frames = np.zeros((6, 4, 24, 24, 2), np.uint8)
    frames[:, :, 12, 10, 1] = 1
    dataset = Binned("dot", Split(frames, LABELS, 0), Split(frames[:3], LABELS[:3], 0), NAMES)
    parts = dataset.parts(saccades.CONFIG.changed(augmentation="crop").data)
    places = set()
    for seed in range(5):
        seen = np.argwhere(np.asarray(batch(parts.train, range(6), seed).inputs))
        for example in range(6):
            of_steps = {tuple(row[2:]) for row in seen if row[1] == example}
            assert len(of_steps) == 1
            places |= of_steps
    rows, columns, polarities = zip(*places, strict=True)
    assert set(rows) == {10, 11, 12, 13, 14} and set(columns) == {8, 9, 10, 11, 12} and set(polarities) == {1}
    assert {tuple(row[2:]) for row in np.argwhere(np.asarray(batch(parts.plain, range(6)).inputs))} == {(12, 10, 1)}


@pytest.mark.parametrize(
    ("shape", "flags", "message"),
    [
        ((5, 6, 2), {"augmentation": "crop_flip"}, "--augmentation=crop_flip is not for the events of some. Give crop"),
        ((9,), {"augmentation": "crop"}, "--augmentation=crop is not for the events of some. Give none"),
        ((9,), {"image_size": 8}, "give --pool"),
        ((9,), {"chain": 4}, "--chain=4 is not possible with some: .* there are 3 classes"),
    ],
)
def test_what_is_not_possible(shape, flags, message):
    with pytest.raises(ConfigError, match=message):
        binned(*shape).parts(saccades.CONFIG.changed(**flags).data)


def test_flags_that_say_nothing():
    for flags, why in (({"chain": 2}, "joins"), ({"pool": 2}, "adds up"), ({"bins": "count"}, "divides")):
        with pytest.raises(ConfigError, match=f"{why}.* digits"):
            load("digits", "").parts(saccades.CONFIG.changed(**flags).data)
    with pytest.raises(ConfigError, match="--steps=5 cannot be divided"):
        load("saccades", "").parts(saccades.CONFIG.changed(chain=2, steps=5).data)


def test_a_chain_has_one_of_each_class_in_every_order():
    made = chains(LABELS, NAMES, 2, seed=0)
    assert made.classes == ("a then b", "b then a") and made.labels.tolist() == [0, 0, 1, 1]
    assert LABELS[made.members].tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]
    np.testing.assert_array_equal(made.members[:2], made.members[2:, ::-1])
    assert made.groups.tolist() == [0, 1, 0, 1], "both orders of two recordings are held out together"
    assert len(chains(LABELS, NAMES, 3, seed=0).classes) == 6
    with pytest.raises(ValueError, match="none of the class 'b'"):
        chains(np.array([0, 0]), NAMES, 2, seed=0)
    whole = chains(LABELS, NAMES, 1, seed=0)
    assert (
        whole.groups is None
        and whole.labels.tolist() == LABELS.tolist()
        and whole.members[:, 0].tolist() == list(range(6))
    )


def test_chains_of_recordings():
    dataset = binned(9)
    parts = dataset.parts(saccades.CONFIG.changed(chain=2).data)
    members = chains(LABELS, NAMES, 2, seed=0).members
    counts, label = parts.train.read(3, None, (0,))
    np.testing.assert_array_equal(counts, np.concatenate([dataset.train.frames[i] for i in members[3]]))
    assert label == 1 and parts.shape.num_classes == 2 and parts.train.groups.tolist() == [0, 1, 0, 1]
    assert parts.baseline() == 0.5


@pytest.fixture(scope="module")
def digits_seen():
    return load("saccades", "").parts(saccades.CONFIG.data)


def test_digits_before_a_camera(digits_seen):
    parts = digits_seen
    assert (parts.train.size, parts.test.size, parts.shape[:2]) == (1437, 360, ((20, 20, 2), 10))
    counts = np.stack([parts.train.read(i, None, (0,))[0] for i in range(100)])
    assert counts.shape[1:] == (12, 20, 20, 2) and counts.max() == 4
    # Each saccade begins and ends slowly, with few events.
    course = counts.sum((0, 2, 3, 4)).reshape(3, 4)
    assert (course[:, [0, 3]] < course[:, [1, 2]].min(1, keepdims=True)).all()
    assert "12 bins of 26.25 ms, 0.315 s" in parts.about[0] and parts.shown[0].counts.shape == (12, 20, 20, 2)


def test_no_recording_depends_on_another(digits_seen):
    images = np.stack([np.tri(16)[..., None] * 255] * 2).astype(np.uint8)
    from experiments.data.events.saccades import CAMERA, recorded
    from safjax.data import Grid

    grid, labels = Grid(CAMERA.sensor, clip=4), np.zeros(2, np.int32)
    both = recorded(images, labels, range(5, 7), grid, 6).frames
    alone = recorded(images[1:], labels[1:], range(6, 7), grid, 6).frames
    np.testing.assert_array_equal(both[1:], alone)
    assert (both[0] != both[1]).any()


def test_clothes_before_a_camera(tmp_path, monkeypatch):
    """Recorded once; the camera is that of N-MNIST, and other settings make other frames."""
    from experiments.data.events import saccades as recordings
    from experiments.data.images.images import Images

    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (7, 28, 28, 1), np.uint8), np.arange(7, dtype=np.int32)
    shown = Images("fashion_mnist", images, labels, images[:3], labels[:3], 10, (0.3,), (0.4,))
    monkeypatch.setattr(recordings, "load_fashion_mnist", lambda data_dir: shown)
    monkeypatch.setattr(recordings, "FASHION", (5, 2))
    config = saccades.CONFIG.changed(dataset="fashion_saccades", steps=3)
    parts = load("fashion_saccades", tmp_path).parts(config.data)
    assert parts.shape == ((36, 36, 2), 10, None) and (parts.train.size, parts.test.size) == (5, 2)
    counts, label = parts.test.read(1, None, (0,))
    grid = Grid((36, 36), clip=4)
    expected = by_duration(next(Camera().record(images[1:2, ..., 0], [6])), 105_000, grid, 3, start=0)
    np.testing.assert_array_equal(counts, expected.counts)
    assert label == 1 and counts.sum() > 500 and expected.dropped == 0
    monkeypatch.setattr(recordings, "recorded", None)
    again = load("fashion_saccades", tmp_path).parts(config.data)
    np.testing.assert_array_equal(again.test.read(1, None, (0,))[0], counts)
    with pytest.raises(TypeError):
        load("fashion_saccades", tmp_path).parts(config.changed(pool=2).data)


def test_frames_are_resized_as_published():
    """Bilinear weights of a triangle that is 128 / 48 pixels wide to each side, by hand."""
    presence = np.random.default_rng(0).random((2, 128, 128, 2)) < 0.1
    made = resized(presence.astype(np.uint8), 48)
    scale = 128 / 48
    centres = (np.arange(48) + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(128) + 0.5 - centres[:, None]) / scale)
    weights /= weights.sum(1, keepdims=True)
    expected = 255 * np.einsum("ih,thwc,jw->tijc", weights, presence, weights)
    assert made.dtype == np.uint8 and np.abs(made - expected).max() < 1.5
    frames = EventFrames(Grid((128, 128), clip=1), 3, mode="count")
    assert Resized(frames, 48).shape == (3, 48, 48, 2)
    with pytest.raises(ValueError, match="presence alone"):
        Resized(EventFrames(Grid((128, 128), clip=9), 3, mode="count"), 48)
