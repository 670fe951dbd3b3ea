"""The spoken digits: which recording is where, as what, and where they are to be had."""

import wave

import numpy as np
import pytest

from experiments.config import ConfigError
from experiments.data import DataCorrupt, DataUnavailable, Recordings, load
from experiments.data.counts import accuracy_of_counts
from experiments.data.sound.spoken_digits import events_of
from experiments.spoken_digits import CONFIG
from safjax.data import BadFile

RATE, TAKES = 8000, 50
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.asarray(samples, "<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """3,000 recordings, each of a tone that tells the digit, as long as the take tells, beginning softly."""
    root = tmp_path_factory.mktemp("data")
    for digit in range(10):
        for number in range(TAKES):
            time = np.arange(400 + 80 * (number % 7)) / RATE
            samples = 9000 * np.sin(2 * np.pi * (300 + 300 * digit) * time) * np.minimum(1, 30 * time)
            for speaker in SPEAKERS:
                write(root / f"free-spoken-digit-dataset/recordings/{digit}_{speaker}_{number}.wav", samples)
    return root


@pytest.fixture(scope="module")
def spoken(data_dir):
    return load("spoken_digits", data_dir)


def test_published_split(spoken, data_dir):
    parts = spoken.parts(CONFIG.data)
    assert (parts.train.size, parts.test.size, parts.shape[:2]) == (2700, 300, ((64,), 10))
    folder = data_dir / "free-spoken-digit-dataset" / "recordings"
    for part, numbers in ((parts.train, range(5, TAKES)), (parts.test, range(5))):
        events, label, length = part.read(len(numbers) * len(SPEAKERS) * 3, 40, (0,))
        expected = events_of(folder / f"3_george_{numbers[0]}.wav")
        assert label == 3 and events.shape == (40, 64) and not events[length:].any()
        np.testing.assert_array_equal(events[:length], expected)


def test_a_tone_that_grows_louder_is_on_in_its_band(data_dir):
    folder = data_dir / "free-spoken-digit-dataset" / "recordings"
    loudest = []
    for digit in (0, 4, 9):
        off, on = np.moveaxis(events_of(folder / f"{digit}_theo_6.wav").reshape(-1, 32, 2), 2, 0)
        assert on.sum() > 0 and off.sum() < on.sum()
        loudest.append(on.sum(0).argmax())
    assert loudest[0] < loudest[1] < loudest[2]


def test_a_speaker_is_left_out(spoken):
    parts = spoken.parts(CONFIG.changed(leave_out="theo").data)
    assert (parts.train.size, parts.test.size) == (2500, 500)
    with pytest.raises(ConfigError, match="--leave-out='nobody' is no speaker. Give one of george, .*yweweler"):
        spoken.parts(CONFIG.changed(leave_out="nobody").data)
    with pytest.raises(ConfigError, match="--leave-out='theo' names a speaker of spoken_digits, but digits has none"):
        load("digits", "").parts(CONFIG.changed(leave_out="theo", steps=3).data)


def test_where_it_is_to_be_had(tmp_path):
    with pytest.raises(DataUnavailable, match=r"git clone https://github.com/Jakobovski/free-spoken-digit-dataset .*"):
        load("spoken_digits", tmp_path)
    folder = tmp_path / "free-spoken-digit-dataset" / "recordings"
    folder.mkdir(parents=True)
    with pytest.raises(DataCorrupt, match="no sample is in the folder"):
        load("spoken_digits", tmp_path)
    write(folder / "0_george_0.wav", np.zeros(800))
    with pytest.raises(DataCorrupt, match=r"not complete: .* 0 of 2,700 train, 1 of 300 test"):
        load("spoken_digits", tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    path = write(tmp_path / "0_george_0.wav", np.zeros(800))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BadFile, match="0_george_0.wav.*ends before sample 800"):
        events_of(path)


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
