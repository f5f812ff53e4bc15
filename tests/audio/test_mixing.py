"""Channels become one without cancelling each other; clicks do not drown speech."""

import numpy as np
import pytest
from spoken import encoded, likeness, sentence

from speech2image import audio
from speech2image.audio.mixing import without_clicks


def channels(*gains: float, noise: float = 0.0) -> np.ndarray:
    hiss = noise * np.random.default_rng(0).standard_normal((len(sentence()), len(gains)))
    return (sentence()[:, None] * np.array(gains) + hiss).astype(np.float32)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "opus", "webm", "mp4", "aac", "aiff", "mkv"])
@pytest.mark.parametrize("gains", [(1, -1), (0.8, -1), (1, 0)], ids=str)
def test_two_channels(kind: str, gains: tuple[float, float]) -> None:
    assert likeness(audio.load(encoded(channels(*gains), kind=kind))) > 0.97


@pytest.mark.parametrize(
    "gains", [(1,) * 8, (1, -1) * 4, (0, 0, 0, 0, 0, 1, 0, 0)], ids=["alike", "inverted", "one"]
)
@pytest.mark.parametrize("kind", ["wav", "flac", "caf", "w64", "mkv"])
def test_eight_channels(kind: str, gains: tuple[float, ...]) -> None:
    """CAF names its channels in an order of its own; reading that twice crashes PyAV 18."""
    data = encoded(0.5 * channels(*gains), kind=kind)
    for _ in range(3):
        assert likeness(audio.load(data)) > 0.97


def test_quiet_speech_in_one_of_eight_channels_is_not_silence() -> None:
    one = 0.004 * channels(0, 0, 0, 1, 0, 0, 0, 0)
    assert likeness(audio.load((one, 16_000))) > 0.97
    assert likeness(audio.load((channels(0, 0, 0, 1, 0, 0, 0, 0, noise=0.01), 16_000))) > 0.97


def test_arrays_mix_as_files_do() -> None:
    np.testing.assert_allclose(audio.load((channels(1, -1), 16_000)), sentence(), atol=1e-6)
    offset = channels(1, -1) + np.array([0.3, 0.0], np.float32)
    assert likeness(audio.load((offset, 16_000))) > 0.97


def test_ordinary_stereo_is_the_mean() -> None:
    both = channels(0.9, 0.4, noise=0.01)
    expected = both.astype(np.float64).mean(axis=1).astype(np.float32)
    np.testing.assert_array_equal(audio.load((both, 16_000)), expected)
    np.testing.assert_array_equal(audio.load(encoded(both, kind="mkv")).shape, expected.shape)


def with_click(places: tuple[float, ...], n: int) -> np.ndarray:
    """The sentence at -40 dB with clicks of full scale, n samples long."""
    quiet = np.pad(0.01 * sentence() / np.abs(sentence()).max(), (4_000, 1_600))
    for place in places:
        start = int(place * (len(quiet) - n))
        quiet[start : start + n] = np.random.default_rng(0).uniform(-1, 1, n)
    return quiet


@pytest.mark.parametrize("n", [1, 16, 160, 480])
@pytest.mark.parametrize("places", [(0.02,), (0.02, 0.99), (0.5,)], ids=["before", "both ends", "within"])
def test_clicks_before_quiet_speech(places: tuple[float, ...], n: int) -> None:
    assert likeness(audio.load((with_click(places, n), 16_000))) > 0.96


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "opus", "mp4"])
def test_clicks_in_files(kind: str) -> None:
    assert likeness(audio.load(encoded(with_click((0.02,), 80), kind=kind))) > 0.96


def test_speech_has_no_clicks() -> None:
    speech = sentence()
    assert without_clicks(speech) is speech
    word = np.concatenate([np.zeros(16_000, np.float32), speech[8_000:11_200], np.zeros(16_000, np.float32)])
    assert without_clicks(word) is word
