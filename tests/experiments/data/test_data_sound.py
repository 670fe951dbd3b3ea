"""From WAV files to events, and the spoken digits among them."""

import wave

import numpy as np
import pytest

from experiments.config import ConfigError
from experiments.data import DataCorrupt, DataUnavailable, Recordings, load
from experiments.data.counts import accuracy_of_counts
from experiments.data.sound import spoken_digits, waves
from experiments.data.sound.cochlea import FLOOR, events, level_crossings, log_energies, mel_filters
from experiments.data.sound.spoken_digits import SPEAKERS, SpokenDigits, Take
from experiments.spoken_digits import CONFIG

RATE = 8000


def write(path, samples, rate=RATE, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, "<i2").tobytes())
    return path


def tone(hertz, seconds=0.2, loudness=0.5):
    return loudness * np.sin(2 * np.pi * hertz * np.arange(int(RATE * seconds)) / RATE)


def test_samples_are_those_written(tmp_path):
    samples = np.array([0, 1, -1, 2**15 - 1, -(2**15)])
    np.testing.assert_array_equal(waves.read(write(tmp_path / "a.wav", samples), RATE), samples / 2**15)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-10]), "holds 95 samples of 100: it is cut short"),
        (lambda path: path.write_bytes(path.read_bytes()[:20]), "not a complete WAV file"),
        (lambda path: path.write_bytes(b"RIFF"), "not a complete WAV file"),
        (lambda path: path.unlink(), "not a complete WAV file"),
        (lambda path: write(path, np.zeros(100), rate=16000), "at 16000 Hz, expected one of 16 bits at 8000 Hz"),
        (lambda path: write(path, np.zeros(100), channels=2), "has 2 channels"),
        (lambda path: write(path, []), "holds 0 samples"),
    ],
)
def test_other_files_are_refused(spoil, words, tmp_path):
    path = write(tmp_path / "a.wav", np.zeros(100))
    spoil(path)
    with pytest.raises(DataCorrupt, match=words):
        waves.read(path, RATE)


def test_a_tone_sounds_in_its_band():
    """The loudest band is that whose triangle is highest there, and twice as high a tone has another."""
    filters, frequencies = mel_filters(32, 256, RATE), np.arange(129) * RATE / 256
    loudest = [log_energies(tone(hertz), RATE, 32).mean(0).argmax() for hertz in (500, 1000, 2000)]
    assert loudest == [filters[:, np.searchsorted(frequencies, hertz)].argmax() for hertz in (500, 1000, 2000)]
    assert loudest[0] < loudest[1] < loudest[2]


def test_filters_overlap_to_one_and_end_at_the_ends():
    filters = mel_filters(24, 4096, RATE)
    frequencies = np.arange(2049) * RATE / 4096
    peaks = frequencies[filters.argmax(1)]
    assert (np.diff(peaks) > 0).all() and not filters[:, (frequencies < 80) | (frequencies > 3800)].any()
    between = (frequencies > peaks[0] + 2) & (frequencies < peaks[-1] - 2)
    np.testing.assert_allclose(filters.sum(0)[between], 1, atol=1e-9)
    with pytest.raises(ValueError, match="200 bands are too many"):
        mel_filters(200, 256, RATE)


def test_loudness_does_not_matter_and_silence_is_the_floor():
    np.testing.assert_allclose(log_energies(tone(700), RATE, 32), log_energies(tone(700, loudness=0.01), RATE, 32))
    np.testing.assert_array_equal(log_energies(np.zeros(1000), RATE, 32), np.log(FLOOR))
    assert not events(np.zeros(1000), RATE, 32).any()


@pytest.mark.parametrize(("samples", "steps"), [(1, 1), (256, 1), (257, 2), (336, 2), (337, 3), (8000, 98)])
def test_a_step_is_ten_milliseconds(samples, steps):
    assert events(np.ones(samples), RATE, 32).shape == (steps, 64)


def test_levels_are_counted_where_they_are_crossed():
    """By hand: two levels up at once, then none, then one down; a level reached exactly is crossed."""
    values = np.array([[0.4], [2.5], [2.9], [1.0], [3.0]])
    np.testing.assert_array_equal(level_crossings(values, 0.0), [[0, 0], [2, 0], [0, 0], [0, 1], [2, 0]])
    np.testing.assert_array_equal(level_crossings(values, 0.0, 0.5)[:2], [[0, 0], [5, 0]])
    with pytest.raises(ValueError, match="300 events at once"):
        level_crossings(np.array([[300.0]]), 0.0)


def test_events_tell_the_signal_to_within_a_level():
    values = np.cumsum(np.random.default_rng(0).normal(size=(200, 5)), axis=0)
    counted = level_crossings(values, 0.0).astype(int)
    told = np.cumsum(counted[:, :5] - counted[:, 5:], axis=0)
    assert np.abs(told - values).max() < 1 and not (counted[:, :5] * counted[:, 5:]).any()


@pytest.fixture(scope="module")
def spoken():
    """Two digits, all speakers, seven takes."""
    takes = [Take(digit, speaker, number) for digit in range(2) for speaker in SPEAKERS for number in range(7)]
    random = np.random.default_rng(0)
    return SpokenDigits(takes, [random.integers(0, 3, (10 + take.number, 64), np.uint8) for take in takes])


def test_published_split(spoken):
    parts = spoken.parts(CONFIG.data)
    assert (parts.train.size, parts.test.size, parts.shape.input_shape) == (2 * 6 * 2, 2 * 6 * 5, (64,))
    assert set(parts.train.lengths) == {15, 16} and set(parts.test.lengths) == {10, 11, 12, 13, 14}
    events, label, length = parts.train.read(3, 20, (0,))
    assert events.shape == (20, 64) and not events[length:].any() and label == 0


def test_a_speaker_is_left_out(spoken):
    parts = spoken.parts(CONFIG.changed(leave_out="theo").data)
    assert (parts.train.size, parts.test.size) == (2 * 5 * 7, 2 * 7)
    with pytest.raises(ConfigError, match="--leave-out='nobody' is no speaker. Give one of george, "):
        spoken.parts(CONFIG.changed(leave_out="nobody").data)
    with pytest.raises(ConfigError, match="--leave-out='theo' names a speaker of spoken_digits, but digits has none"):
        load("digits", "").parts(CONFIG.changed(leave_out="theo", steps=3).data)


def test_where_it_is_to_be_had(tmp_path):
    with pytest.raises(DataUnavailable, match=r"git clone https://github.com/Jakobovski/free-spoken-digit-dataset .*"):
        load("spoken_digits", tmp_path)
    folder = tmp_path / "free-spoken-digit-dataset" / "recordings"
    write(folder / "0_george_0.wav", np.zeros(800))
    with pytest.raises(DataCorrupt, match="lacks 2999 of the 3000 recordings, such as 0_george_1.wav"):
        load("spoken_digits", tmp_path)


def test_files_are_read_by_their_names(tmp_path, monkeypatch):
    monkeypatch.setattr(spoken_digits, "TAKES", 6)
    folder, expected = tmp_path / "free-spoken-digit-dataset" / "recordings", []
    random = np.random.default_rng(0)
    for digit in range(10):
        for speaker in SPEAKERS:
            for number in range(6):
                samples = random.integers(-900, 900, 400 + 80 * digit)
                write(folder / f"{digit}_{speaker}_{number}.wav", samples)
                expected.append((digit, events(samples / 2**15, RATE, 32)))
    parts = load("spoken_digits", tmp_path).parts(CONFIG.data)
    tested = expected[5::6]
    for index, (digit, counted) in enumerate(tested):
        got, label, _ = parts.train.read(index, None, (0,))
        assert label == digit
        np.testing.assert_array_equal(got, counted)


def test_counts_alone_know_nothing_of_time():
    """Two classes told apart by how much there is, and two by when it is."""
    random = np.random.default_rng(0)

    def recordings(when):
        lengths, labels = random.integers(5, 9, 60), np.arange(60, dtype=np.int32) % 2
        rows = []
        for length, label in zip(lengths, labels, strict=True):
            row = np.zeros((length, 3), np.uint8)
            row[(0 if label else -1) if when else 0, :] = random.integers(1, 3, 3) + (0 if when else 3 * label)
            rows.append(row)
        return Recordings(np.concatenate(rows), lengths, labels)

    assert accuracy_of_counts(recordings(False), recordings(False)) == 1
    assert accuracy_of_counts(recordings(True), recordings(True)) < 0.75
