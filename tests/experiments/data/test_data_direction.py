"""Speech forward and backward: what is cut out of which recording, and which are of the test."""

import numpy as np
import pytest

from experiments import speech_direction
from experiments.data import DataCorrupt, load
from experiments.data.sound.speech_direction import both_directions, of_test, seconds_of
from safjax.data import read_wav
from tests.experiments.data.test_data_sound import RATE, write

NAMES = [f"{folder}word-{number}.wav" for folder in ("", "digits/") for number in range(9)]


def rising(number, seconds):
    """A tone whose pitch rises: falling when it is played backward."""
    time = np.arange(int(seconds * RATE)) / RATE
    return 9000 * np.sin(2 * np.pi * (300 + 50 * number + 500 * time) * time)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for language in ("en_US_f_Allison", "ru_RU_f_IvrvoiceRU"):
        for number, name in enumerate(NAMES):
            write(root / "asterisk-sounds" / language / name, rising(number, 1.6))
        write(root / "asterisk-sounds" / language / "short.wav", rising(0, 1.3))
    (root / "asterisk-sounds" / "en").symlink_to("en_US_f_Allison")
    return root


def test_both_directions_of_all_that_are_long_enough(data_dir):
    parts = load("speech_direction", data_dir).parts(speech_direction.CONFIG.data)
    tested = sum(map(of_test, NAMES))
    assert 0 < tested < 9 and parts.test.size == 4 * tested and parts.train.size == 4 * (len(NAMES) - tested)
    assert parts.shape[:2] == ((64,), 2) and "in 2 languages" in parts.about[0] and parts.shown[0].paired
    (forward, first), (backward, second) = (parts.train.read(index, None, (0,)) for index in (0, 1))
    assert (first, second) == (0, 1) and forward.shape == (100, 64)
    # Both directions of what is said are held out together, in both languages.
    groups = parts.plain.groups
    assert all(len(set(groups[i : i + 2])) == 1 for i in range(0, parts.plain.size, 2))
    assert np.bincount(groups).tolist() == [4] * (len(NAMES) - tested) and parts.train.groups is groups
    # What begins after the first step tells the direction: upwards or downwards through the bands.
    for events, sign in ((forward, 1), (backward, -1)):
        on = events[2:].reshape(98, 32, 2)[..., 1]
        steps, bands = np.nonzero(on)
        assert sign * np.corrcoef(steps, bands)[0, 1] > 0.9


def test_the_middle_is_cut_out(data_dir):
    path = data_dir / "asterisk-sounds" / "en_US_f_Allison" / NAMES[0]
    forward, backward = both_directions(path, 100)
    assert forward.shape == (100, 32) and seconds_of(100) == pytest.approx(1.022)
    samples = read_wav(path).samples[:, 0]
    begin = (len(samples) - 8176) // 2
    assert begin > 0.2 * RATE
    backwards = write(path.parent.parent.parent / "backwards.wav", 32768 * samples[::-1])
    again = both_directions(backwards, 100)
    np.testing.assert_allclose(again[::-1], [forward, backward], rtol=1e-10)


def test_who_is_of_the_test_depends_on_the_name_alone():
    """And is the same in every version, or figures could not be compared."""
    assert [number for number in range(20) if of_test(f"word-{number}.wav")] == [17]
    assert 0.14 < np.mean([of_test(f"word-{number}.wav") for number in range(3000)]) < 0.19


def test_recordings_that_do_not_do(tmp_path):
    path = write(tmp_path / "asterisk-sounds" / "en" / "a.wav", rising(0, 1.6))
    with pytest.raises(DataCorrupt, match="expected some of both. Install all of asterisk"):
        load("speech_direction", tmp_path).parts(speech_direction.CONFIG.data)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataCorrupt, match=r"a.wav.*ends before sample"):
        load("speech_direction", tmp_path).parts(speech_direction.CONFIG.data)
