"""Events in bins: what each example holds, chains whose order is the label, and the simulated camera."""

import jax
import numpy as np
import pytest

from experiments import saccades
from experiments.config import ConfigError
from experiments.data import Binned, load
from experiments.data.events.chains import chains
from safjax.data import Split

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
    assert len(chains(LABELS, NAMES, 3, seed=0).classes) == 6
    with pytest.raises(ValueError, match="none of the class 'b'"):
        chains(np.array([0, 0]), NAMES, 2, seed=0)
    whole = chains(LABELS, NAMES, 1, seed=0)
    assert whole.labels.tolist() == LABELS.tolist() and whole.members[:, 0].tolist() == list(range(6))


def test_chains_of_recordings():
    dataset = binned(9)
    parts = dataset.parts(saccades.CONFIG.changed(chain=2).data)
    members = chains(LABELS, NAMES, 2, seed=0).members
    counts, label = parts.train.read(3, None, (0,))
    np.testing.assert_array_equal(counts, np.concatenate([dataset.train.frames[i] for i in members[3]]))
    assert label == 1 and parts.shape.num_classes == 2
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
