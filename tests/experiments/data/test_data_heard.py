"""Events of sound changed at random: what moves and what is covered, and that only training sees it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.config import ConfigError, Data
from experiments.data import Binned, Recordings, Sequences
from experiments.data.events.heard import cover_bands, cover_time, shift_bands, sound
from experiments.data.images.augment import compose
from safjax.data import Split

STEPS, BANDS, COPIES = 20, 16, 64
EVENTS = np.random.default_rng(0).integers(1, 4, (STEPS, 2 * BANDS)).astype(np.uint8)
COPIED = np.broadcast_to(EVENTS, (COPIES, STEPS, 2 * BANDS))
SOUND = Data(dataset="spoken_digits", augmentation="sound", steps=None)


def changed(transform, seed=0):
    """[64, steps, bands, (OFF, ON)] of one recording, changed 64 times."""
    after = jax.jit(compose(transform))(jax.random.key(seed), jnp.asarray(COPIED))
    assert after.dtype == np.uint8 and after.shape == COPIED.shape
    return np.asarray(after).reshape(COPIES, STEPS, BANDS, 2)


def test_all_bands_move_together():
    pairs, seen = EVENTS.reshape(STEPS, BANDS, 2), set()
    lower, higher = np.zeros_like(pairs), np.zeros_like(pairs)
    lower[:, :-1], higher[:, 1:] = pairs[:, 1:], pairs[:, :-1]
    for after in changed(shift_bands(1)):
        (found,) = [by for by, moved in ((-1, lower), (0, pairs), (1, higher)) if np.array_equal(after, moved)]
        seen.add(found)
    assert seen == {-1, 0, 1}


@pytest.mark.parametrize(("cover", "axis", "most"), [(cover_bands(0.25), 1, 4), (cover_time(0.25), 0, 5)])
def test_what_is_covered_is_in_one_piece(cover, axis, most):
    pairs, lengths, places = EVENTS.reshape(STEPS, BANDS, 2), set(), set()
    for after in changed(cover):
        hidden = np.flatnonzero((after == 0).all((1 - axis, 2)))
        np.testing.assert_array_equal(
            after,
            np.where(
                np.isin(np.arange(pairs.shape[axis]), hidden).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1)), 0, pairs
            ),
        )
        assert len(hidden) == 0 or hidden[-1] - hidden[0] + 1 == len(hidden)
        lengths.add(len(hidden))
        places |= set(hidden.tolist())
    assert lengths == set(range(most + 1)) and len(places) == pairs.shape[axis]


def test_it_depends_on_the_key_alone():
    def all_of(seed):
        return np.asarray(jax.jit(sound())(jax.random.key(seed), jnp.asarray(COPIED)))

    first = all_of(0)
    np.testing.assert_array_equal(first, all_of(0))
    assert not np.array_equal(first, all_of(1))
    assert len({one.tobytes() for one in first}) > COPIES / 2, "each example is changed in a way of its own"


def batch(examples, indices, steps=None, seed=0):
    rows = [examples.read(index, steps, (0,)) for index in indices]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
    return jax.jit(examples.make)(jax.random.key(seed), examples.held, stacked)


def binned(units=2 * BANDS, paired=True):
    split = Split(np.array(COPIED[:8, :, :units]), np.arange(8, dtype=np.int32) % 2, 0)
    return Binned("heard", split, split, ("a", "b"), paired=paired)


def sequences(paired=True):
    lengths = np.array([12, 20, 7, 20, 15, 20])
    values = np.concatenate([EVENTS[:length] for length in lengths])
    recordings = Recordings(values, lengths, np.arange(6, dtype=np.int32) % 2)
    return Sequences("heard", recordings, recordings, 2, paired=paired)


def test_only_training_is_changed():
    for parts in (binned().parts(SOUND), sequences().parts(SOUND)):
        trained, plain, tested = (
            np.asarray(batch(examples, range(6), STEPS).inputs) for examples in (parts.train, parts.plain, parts.test)
        )
        np.testing.assert_array_equal(plain, tested)
        np.testing.assert_array_equal(plain[:, 1], EVENTS)
        assert trained.shape == plain.shape and not np.array_equal(trained, plain)
    for dataset in (binned(), sequences()):
        parts = dataset.parts(Data(dataset="spoken_digits", augmentation="none", steps=None))
        np.testing.assert_array_equal(batch(parts.train, range(6), STEPS).inputs[:, 1], EVENTS)


def test_lengths_stay_and_padding_stays_silent():
    parts = sequences().parts(SOUND)
    for seed in range(5):
        made = batch(parts.train, range(6), STEPS, seed)
        assert made.lengths.tolist() == parts.plain.lengths.tolist() == [12, 20, 7, 20, 15, 20]
        for member, length in enumerate(made.lengths):
            assert not np.asarray(made.inputs)[length:, member].any()
            assert np.asarray(made.inputs)[:length, member].any()


@pytest.mark.parametrize(
    ("dataset", "augmentation", "message"),
    [
        (binned(), "crop", "--augmentation=crop is not for the events of heard. Give sound or none"),
        (binned(paired=False), "sound", "--augmentation=sound is not for the events of heard. Give none"),
        (sequences(), "crop_flip", "--augmentation=crop_flip is not for .* heard. Give --augmentation=sound or --au"),
        (sequences(False), "sound", "--augmentation=sound is not for .* heard. Give --augmentation=none"),
    ],
)
def test_what_it_is_not_for(dataset, augmentation, message):
    with pytest.raises(ConfigError, match=message):
        dataset.parts(Data(dataset="spoken_digits", augmentation=augmentation, steps=None))
