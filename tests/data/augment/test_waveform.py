"""WaveformAugmentation: each effect does what its number says, and nothing else."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from speech2image.data.augment.effects import (
    add_noise,
    add_room,
    change_voice,
    play_faster,
    set_level,
    stretch,
)
from speech2image.data.augment.sounds import NOISES
from speech2image.data.augment.waveform import WaveformAugmentation, augment, make_noise
from speech2image.errors import SettingsError

RATE = 16_000


def vowel(seconds: float = 2.0, pitch: float = 120.0, formant: float = 800.0) -> np.ndarray:
    """Harmonics of `pitch` under one broad resonance, swelling three times a second."""
    t = np.arange(round(seconds * RATE)) / RATE
    harmonics = pitch * np.arange(1, int(7000 / pitch))
    weights = np.exp(-(((harmonics - formant) / 500.0) ** 2)) + 0.01
    speech = (weights[:, None] * np.sin(2 * np.pi * harmonics[:, None] * t)).sum(axis=0)
    speech *= 1 + 0.5 * np.sin(2 * np.pi * 3 * t)
    return (0.5 * speech / np.abs(speech).max()).astype(np.float32)


def pitch_of(speech: np.ndarray) -> float:
    """Hz, from the autocorrelation of the middle: the shortest period that is nearly as good as the best."""
    middle = speech[len(speech) // 4 : len(speech) // 4 + 8000].astype(np.float64)
    correlation = scipy.signal.correlate(middle, middle)[len(middle) - 1 :]
    peaks, _ = scipy.signal.find_peaks(correlation[:240])
    peaks = peaks[peaks >= 60]
    lag = int(peaks[correlation[peaks] > 0.85 * correlation[peaks].max()][0])
    low, here, high = correlation[lag - 1 : lag + 2]
    return RATE / (lag + 0.5 * (low - high) / (low - 2 * here + high))


def centroid_of(speech: np.ndarray) -> float:
    """Hz: mean frequency weighted with power."""
    frequencies, power = scipy.signal.welch(speech, RATE, nperseg=2048)
    return float((frequencies * power).sum() / power.sum())


@pytest.mark.parametrize("rate", [0.5, 0.8, 1.0, 1.15, 2.0])
def test_stretch_changes_the_length_and_not_the_sound(rate: float) -> None:
    speech = vowel()
    stretched = stretch(speech, rate)
    assert len(stretched) == round(len(speech) / rate)
    assert stretched.dtype == np.float32
    assert pitch_of(stretched) == pytest.approx(120.0, rel=0.02)
    assert centroid_of(stretched) == pytest.approx(centroid_of(speech), rel=0.05)
    middle = slice(2000, -2000)
    assert stretched[middle].std() == pytest.approx(speech[middle].std(), rel=0.15)


def test_stretch_keeps_the_order_of_events() -> None:
    speech = np.concatenate(
        [vowel(1.0, formant=600.0), np.zeros(RATE, np.float32), vowel(1.0, formant=2500.0)]
    )
    third = len(stretched := stretch(speech, 1.2)) // 3
    assert np.abs(stretched[third + 1000 : 2 * third - 1000]).max() < 0.01
    assert centroid_of(stretched[:third]) < 1000 < 2000 < centroid_of(stretched[2 * third :])


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_playing_faster_moves_everything(factor: float) -> None:
    speech = vowel()
    faster = play_faster(speech, factor)
    assert len(faster) == pytest.approx(len(speech) / factor, rel=0.01)
    assert pitch_of(faster) == pytest.approx(120.0 * factor, rel=0.02)
    assert centroid_of(faster) == pytest.approx(factor * centroid_of(speech), rel=0.05)


@given(rate=st.floats(0.8, 1.25), voice=st.floats(0.85, 1.2))
@settings(max_examples=15, deadline=None)
def test_rate_and_voice_are_independent(rate: float, voice: float) -> None:
    speech = vowel()
    changed = change_voice(speech, rate=rate, voice=voice)
    assert len(changed) == pytest.approx(len(speech) / rate, rel=0.01)
    assert pitch_of(changed) == pytest.approx(120.0 * voice, rel=0.03)
    assert centroid_of(changed) == pytest.approx(voice * centroid_of(speech), rel=0.06)


@given(snr=st.floats(-5, 40), kind=st.sampled_from(NOISES), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_noise_lies_as_far_below_as_asked(snr: float, kind: str, seed: int) -> None:
    speech = vowel()
    babble = [vowel(1.3, 200.0), vowel(0.7, 90.0, 1500.0)]
    noise = make_noise(kind, len(speech), np.random.default_rng(seed), babble)
    assert noise.shape == speech.shape and noise.dtype == np.float32
    added = (add_noise(speech, noise, snr) - speech).astype(np.float64)
    measured = 10 * np.log10(np.mean(speech.astype(np.float64) ** 2) / np.mean(added**2))
    assert measured == pytest.approx(snr, abs=0.05)


def test_the_colour_of_noise() -> None:
    rng = np.random.default_rng(0)
    for kind, slope in (("white", 0.0), ("pink", -3.0)):
        frequencies, power = scipy.signal.welch(make_noise(kind, 160_000, rng), RATE, nperseg=4096)
        octaves = [power[(frequencies >= f) & (frequencies < 2 * f)].mean() for f in (250, 500, 1000, 2000)]
        steps = np.diff(10 * np.log10(octaves))
        assert np.abs(steps - slope).max() < 0.7


def test_silent_noise_changes_nothing() -> None:
    np.testing.assert_array_equal(add_noise(vowel(), np.zeros(32_000, np.float32), 10.0), vowel())


@pytest.mark.parametrize("seconds", [0.2, 0.5])
def test_room_rings_as_long_and_as_loud_as_asked(seconds: float) -> None:
    click = np.zeros(16_000, np.float32)
    click[0] = 1.0
    response = add_room(click, np.random.default_rng(0), seconds=seconds, direct_db=6.0).astype(np.float64)
    assert len(response) == len(click) and response[0] == pytest.approx(1.0, abs=1e-4)
    echo = response[1:] ** 2
    assert 10 * np.log10(1.0 / echo.sum()) == pytest.approx(6.0, abs=0.01)
    remaining = 10 * np.log10(np.cumsum(echo[::-1])[::-1] / echo.sum() + 1e-12)  # Schroeder's curve
    fall = np.argmax(remaining < -25) - np.argmax(remaining < -5)
    assert 3 * fall / RATE == pytest.approx(seconds, rel=0.15)


@pytest.mark.parametrize("peak_db", [-30.0, -6.0, 0.0])
def test_level(peak_db: float) -> None:
    assert 20 * np.log10(np.abs(set_level(vowel(), peak_db)).max()) == pytest.approx(peak_db, abs=0.01)
    assert not set_level(np.zeros(10, np.float32), peak_db).any()


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_same_seed_gives_the_same_clip(seed: int) -> None:
    one, done = augment(vowel(0.8), seed)
    two, also_done = augment(vowel(0.8), np.random.default_rng(seed))
    np.testing.assert_array_equal(one, two)
    assert done == also_done
    assert one.dtype == np.float32 and np.isfinite(one).all() and np.abs(one).max() <= 1.0
    assert len(one) == pytest.approx(12_800 / done["rate"], rel=0.01)


def test_draws_stay_in_their_ranges_and_are_as_frequent_as_asked() -> None:
    ranges = WaveformAugmentation(
        rate=(0.9, 1.1), voice=(1.0, 1.0), room_share=0.25, noise_share=1.0, noise_db=(20.0, 21.0)
    )
    done = [augment(vowel(0.2), seed, ranges, [vowel(0.5)], [vowel(0.4)])[1] for seed in range(120)]
    assert all(0.9 <= one["rate"] <= 1.1 and one["voice"] == 1.0 for one in done)
    assert all(20.0 <= one["noise_db"] <= 21.0 for one in done)
    assert {one["noise"] for one in done} == set(NOISES)
    assert 12 <= sum("room_seconds" in one for one in done) <= 50
    assert len({one["rate"] for one in done}) > 100


def test_everything_off_changes_only_the_level() -> None:
    off = WaveformAugmentation(
        rate=(1.0, 1.0), voice=(1.0, 1.0), level_db=(-6.0, -6.0), room_share=0.0, noise_share=0.0
    )
    changed, done = augment(vowel(), 0, off)
    assert done == {"rate": 1.0, "voice": 1.0, "level_db": -6.0}
    np.testing.assert_allclose(changed, vowel() * 10 ** (-6 / 20) / np.abs(vowel()).max(), atol=1e-6)


def test_the_input_is_left_as_it_was() -> None:
    speech, babble = vowel(), [vowel(0.5)]
    speech.setflags(write=False)
    babble[0].setflags(write=False)
    for seed in range(8):
        augment(speech, seed, WaveformAugmentation(room_share=1.0, noise_share=1.0), babble)


@pytest.mark.parametrize(
    "wrong",
    [{"rate": (1.2, 0.8)}, {"voice": (0.1, 1.0)}, {"noise_share": 1.5}, {"noise_db": (30.0, 10.0)}],
)
def test_settings_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        WaveformAugmentation(**wrong)  # type: ignore[arg-type]


def test_noise_that_cannot_be_made() -> None:
    with pytest.raises(SettingsError, match="babble noise needs recordings"):
        make_noise("babble", 100, np.random.default_rng(0))
    with pytest.raises(SettingsError, match="no noise 'brown'; there are: white, pink, babble, recorded"):
        make_noise("brown", 100, np.random.default_rng(0))
