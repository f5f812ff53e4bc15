"""Pauses, silence at the ends, telephone lines, low bit rates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import tone

from speech2image import audio
from speech2image.data.augment.effects import add_edges, add_pauses, low_bit_rate, mu_law, telephone
from speech2image.data.augment.sounds import make_noise, noise_recordings
from speech2image.data.augment.waveform import STRONG_EFFECTS, WaveformAugmentation, augment
from speech2image.errors import DataError, SettingsError


def two_words() -> np.ndarray:
    """Half a second of tone, 0.2 s of silence, half a second of tone."""
    return np.concatenate([tone(300, 0.5), np.zeros(3_200), tone(300, 0.5)]).astype(np.float32)


def power(waveform: np.ndarray, hertz: float) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))) ** 2
    middle = round(hertz * len(waveform) / 16_000)
    return float(spectrum[middle - 5 : middle + 6].sum())


def test_edges_are_silent_and_as_long_as_asked() -> None:
    longer = add_edges(tone(200, 0.7), 0.25, 1.0)
    assert len(longer) == 11_200 + 4_000 + 16_000
    assert not longer[:4_000].any() and not longer[-16_000:].any()
    np.testing.assert_array_equal(longer[4_000:-16_000], tone(200, 0.7))


@given(st.integers(0, 1_000))
@settings(max_examples=20, deadline=None)
def test_a_pause_goes_between_the_words(seed: int) -> None:
    paused = add_pauses(two_words(), np.random.default_rng(seed), [0.5])
    assert len(paused) == len(two_words()) + 8_000
    loud = np.flatnonzero(np.abs(paused) > 0.05)
    gap = np.diff(loud).max()
    assert 3_000 + 8_000 <= gap <= 3_400 + 8_000
    assert np.sum(paused**2) == pytest.approx(np.sum(two_words() ** 2), rel=0.01)


def test_two_pauses_lie_apart_and_a_short_clip_has_no_place_for_any() -> None:
    noise = np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    paused = add_pauses(noise, np.random.default_rng(1), [0.3, 0.4])
    assert len(paused) == 32_000 + 4_800 + 6_400
    short = tone(200, 0.2)
    np.testing.assert_array_equal(add_pauses(short, np.random.default_rng(0), [0.5]), short)


@pytest.mark.parametrize("mu", [None, 255.0])
def test_a_telephone_keeps_300_to_3400_hz(mu: float | None) -> None:
    clip = sum(tone(hertz, 1.0) for hertz in (100.0, 1_000.0, 3_000.0, 6_000.0)) / 4
    heard = telephone(clip, mu=mu)
    assert heard.shape == clip.shape and heard.dtype == np.float32
    kept = {
        hertz: 10 * np.log10(power(heard, hertz) / power(clip, hertz)) for hertz in (100, 1000, 3000, 6000)
    }
    assert abs(kept[1000]) < 1 and abs(kept[3000]) < 2
    assert kept[100] < -25 and kept[6000] < -30


def test_mu_law_rounds_quiet_sounds_finely() -> None:
    ramp = np.linspace(-0.5, 0.5, 100_001, dtype=np.float32)
    rounded = mu_law(ramp)
    assert len(np.unique(rounded)) == 255
    error = np.abs(rounded - ramp)
    assert error[49_900:50_101].max() < 1e-4 < 0.005 < error.max() < 0.02
    assert not mu_law(np.zeros(10, np.float32)).any()


def test_a_low_bit_rate_is_worse_than_a_high_one() -> None:
    rng = np.random.default_rng(0)
    buzz = sum(tone(140 * k, 1.0) / k for k in range(1, 20)) / 4
    clip = (buzz * np.repeat(rng.uniform(0.2, 1, 20), 800)).astype(np.float32)

    def error(bit_rate: int) -> float:
        heard = low_bit_rate(clip, bit_rate)
        spectra = [np.abs(np.fft.rfft(x[1_600:14_400])) for x in (heard, clip)]
        return float(np.linalg.norm(spectra[0] - spectra[1]) / np.linalg.norm(spectra[1]))

    assert error(64_000) < error(6_000)
    assert len(low_bit_rate(clip, 8_000)) == pytest.approx(len(clip), abs=1_600)


def test_what_cannot_be_encoded_comes_back_as_it_is() -> None:
    for clip in (np.zeros(16_000, np.float32), tone(200, 0.1)):
        assert low_bit_rate(clip, 8_000) is clip
    with pytest.raises(SettingsError, match="bit_rate is 500"):
        low_bit_rate(tone(), 500)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_strongly_changed_clips_are_repeatable_and_fit_the_encoder(seed: int) -> None:
    one, done = augment(two_words(), seed, STRONG_EFFECTS)
    two, _ = augment(two_words(), seed, STRONG_EFFECTS)
    np.testing.assert_array_equal(one, two)
    assert np.isfinite(one).all() and np.abs(one).max() <= 1.0
    audio.log_mel(one)
    longest = len(two_words()) / done["rate"] + 16_000 * (
        sum(done.get("pauses", [])) + sum(done.get("edges", []))
    )
    assert len(one) <= longest + 1_600


def test_shares_of_strong_effects() -> None:
    done = [augment(tone(200, 0.3), seed, STRONG_EFFECTS)[1] for seed in range(200)]
    for name, share in (("pauses", 0.3), ("edges", 0.5), ("telephone", 0.15), ("bit_rate", 0.15)):
        assert share - 0.12 < sum(name in one for one in done) / 200 < share + 0.12
    assert all(0 <= side <= 1 for one in done for side in one.get("edges", ()))
    assert all(1 <= len(one["pauses"]) <= 2 for one in done if "pauses" in one)


def test_new_effects_that_are_off_leave_older_draws_as_they_were() -> None:
    _, done = augment(tone(200, 0.8), 5)
    _, strong = augment(tone(200, 0.8), 5, WaveformAugmentation(edge_share=1.0))
    assert {name: strong[name] for name in done} == done


def test_recorded_noise(tmp_path) -> None:
    with pytest.raises(DataError, match=r"no recordings in .*\.flac"):
        noise_recordings(tmp_path)
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "a.flac").write_bytes(audio.encode_flac(tone(700, 1.0)))
    (noise,) = noise_recordings(tmp_path)
    made = make_noise("recorded", 24_000, np.random.default_rng(0), [noise])
    assert made.shape == (24_000,)
    assert power(made, 700) > 0.9 * np.sum(np.abs(np.fft.rfft(made * np.hanning(24_000))) ** 2)
    with pytest.raises(SettingsError, match="recorded noise needs recordings"):
        make_noise("recorded", 100, np.random.default_rng(0))
    (tmp_path / "b.wav").write_bytes(b"no sound")
    noise_recordings.cache_clear()
    with pytest.raises(DataError, match="noise recordings in"):
        noise_recordings(tmp_path)


def test_seconds_below_zero_are_refused() -> None:
    with pytest.raises(SettingsError, match="must not be negative"):
        WaveformAugmentation(pause_seconds=(-0.1, 0.2))


def test_a_seed_gives_the_clip_that_version_0_1_gave() -> None:
    time = np.arange(32_000)
    clip = (0.1 * np.sin(2 * np.pi * 220 * time / 16_000) * (1 + np.sin(time / 900))).astype(np.float32)
    rng = np.random.default_rng(0)
    others = [0.1 * rng.standard_normal(20_000).astype(np.float32) for _ in range(6)]
    changed, done = augment(clip, 7, STRONG_EFFECTS, others, others)
    assert done == {
        "rate": 1.0837,
        "voice": 1.1188,
        "level_db": -6.3835,
        "room_seconds": 0.2501,
        "room_db": 10.4826,
        "noise": "pink",
        "noise_db": 24.7238,
        "edges": (0.2784, 0.2549),
    }
    assert len(changed) == 38_060 and np.abs(changed).mean() == pytest.approx(0.126826, rel=1e-3)
