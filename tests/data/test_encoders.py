"""Numbers and sound as spikes."""

import struct
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from safjax import data
from safjax.data import sound

QUICK = settings(max_examples=40, deadline=None)


@QUICK
@given(arrays.arrays(float, (3, 4), elements=st.floats(0, 1)), st.integers(1, 9))
def test_latency(values, steps):
    spikes = data.latency(values, steps, threshold=0.1)
    assert spikes.shape == (steps, 3, 4) and (spikes.sum(0) == (values >= 0.1)).all()
    for index in np.argwhere(spikes):
        assert index[0] == min(int((1 - values[tuple(index[1:])]) * steps), steps - 1)
    assert data.latency(np.array([1.0, 0.0]), 4).tolist() == [[True, False], [False] * 2, [False] * 2, [False] * 2]


def test_poisson():
    values = np.array([0.0, 0.1, 0.5, 1.0])
    spikes = data.poisson(values, 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(spikes.mean(0), values, atol=0.01)
    assert spikes.dtype == bool and spikes[:, 3].all() and not spikes[:, 0].any()
    assert abs(np.corrcoef(spikes[1:, 2], spikes[:-1, 2])[0, 1]) < 0.03, "steps are independent"


def test_delta():
    values = np.array([5.0, 5.5, 4.5, 4.6, 4.7, 4.8])[:, None]
    assert data.delta(values, 0.5)[:, 0].tolist() == [[0, 0], [0, 1], [1, 0], [0, 0], [0, 0], [0, 0]]


def test_level_crossing_counts_levels():
    values = np.array([0.0, 0.9, 1.0, 3.5, 3.1, 0.6, 0.0])[:, None]
    sent = data.level_crossing(values, 1.0)[:, 0]
    assert sent.tolist() == [[0, 0], [0, 0], [0, 1], [0, 2], [0, 0], [2, 0], [1, 0]]
    assert data.level_crossing(values + 7, 1.0, start=7.0)[:, 0].tolist() == sent.tolist()
    assert data.level_crossing(values[:1] + 7, 1.0)[0, 0].tolist() == [0, 7], "the first value is told too"


@QUICK
@given(arrays.arrays(float, (12, 2), elements=st.floats(-20, 20)), st.floats(0.2, 5), st.floats(-9, 9))
def test_level_crossing_tells_the_value(values, threshold, start):
    sent = data.level_crossing(values, threshold, start).astype(int)
    level = np.cumsum(sent[..., 1] - sent[..., 0], 0)
    assert np.abs(values - start - threshold * level).max() <= threshold * (1 + 1e-9)
    assert (np.minimum(sent[..., 0], sent[..., 1]) == 0).all()


def write(path, samples, width, rate=8000, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples)
    return path


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav(tmp_path, width):
    full = 1 << (8 * width - 1)
    numbers = [0, full // 2, -full // 2, full - 1, -full, 1]
    raw = [(n + 128).to_bytes(1, "little") if width == 1 else n.to_bytes(width, "little", signed=True) for n in numbers]
    path = write(tmp_path / "x.wav", b"".join(raw), width, 16_000, 2)
    found = data.read_wav(path)
    np.testing.assert_array_equal(found.samples, np.array(numbers).reshape(3, 2) / full)
    assert found.rate == 16_000
    path.write_bytes(path.read_bytes()[: -width - 1])
    with pytest.raises(data.BadFile, match="ends before sample 3") as error:
        data.read_wav(path)
    assert error.value.offset == 44 + 2 * 2 * width


def test_what_is_no_wav(tmp_path):
    path = tmp_path / "x.wav"
    for content in (b"", b"RIFF", b"not a sound at all", b"RIFF" + struct.pack("<I", 4) + b"WAVE"):
        path.write_bytes(content)
        with pytest.raises(data.BadFile, match=r"x\.wav.*no WAV file"):
            data.read_wav(path)


def test_a_tone_is_heard_in_its_band():
    t = np.arange(8000) / 8000
    for hertz in (200, 1000, 3000):
        heard = data.log_mel(np.sin(2 * np.pi * hertz * t), 8000, bands=24)
        corners = np.linspace(*sound.mel(np.array([80, 3800])), 26)
        assert abs(np.bincount(heard.argmax(1)).argmax() - np.abs(corners[1:-1] - sound.mel(hertz)).argmin()) <= 1
    assert heard.shape == (1 + (8000 - 256) // 80, 24)


def test_loudness_does_not_matter_and_silence_is_the_floor():
    noise = np.random.default_rng(0).standard_normal(4000)
    np.testing.assert_allclose(data.log_mel(noise, 8000), data.log_mel(100 * noise, 8000))
    np.testing.assert_allclose(data.log_mel(np.zeros(4000), 8000), np.log(1e-2))
    assert data.log_mel(np.zeros(0), 8000).shape == (1, 32)
    noise[1000:] = 0
    assert np.allclose(data.log_mel(noise, 8000)[13:], np.log(1e-2))


def test_power_is_that_of_each_frequency():
    """White noise of variance 1 has a power of 1; a band adds up the weights of its triangle."""
    noise = np.random.default_rng(0).standard_normal(80_000)
    noise /= np.abs(noise).max()
    heard = np.exp(data.log_mel(noise, 8000, bands=24)) - 1e-2
    weights = sound.filters(24, 256, 8000, 80.0, 3800.0).sum(1)
    np.testing.assert_allclose(heard.mean(0), weights * noise.var(), rtol=0.1)


def test_no_band_is_deaf():
    """Of 64 bands some lie between two frequencies of a window of 32 ms."""
    weights = sound.filters(64, 256, 8000, 80.0, 3800.0)
    assert (weights.sum(1) > 0).all() and weights.shape == (64, 129)


@pytest.mark.parametrize("call, match", [
    (lambda: data.latency([2.0], 3), "from 2.0 to 2.0, expected 0 to 1"), (lambda: data.latency([0.5], 0), "steps=0"),
    (lambda: data.poisson([np.nan], 3, None), "expected 0 to 1"), (lambda: data.delta(np.zeros(3), 0), "threshold=0"),
    (lambda: data.level_crossing(np.array([np.nan]), 1), "not finite"),
    (lambda: data.level_crossing(np.array([0.0, 999.0]), 1), "999 levels in step 1"),
    (lambda: data.log_mel(np.zeros((9, 2)), 8000), "shape \\(9, 2\\)"),
    (lambda: data.log_mel(np.zeros(9), 4000), "low < high ≤ 2000"),
    (lambda: data.log_mel(np.zeros(9), 8000, 0), "0 bands"),
])  # fmt: skip
def test_what_cannot_be(call, match):
    with pytest.raises(ValueError, match=match):
        call()
