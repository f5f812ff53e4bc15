"""Effects on waveforms, each with a known strength: voice, timing, room, noise, level, line, codec.

Preparation (`waveform`), the speech detector's scenes and the evaluation's `acoustic_conditions` draw the
strengths and call these. Waveforms are float32 [n] at 16 kHz; all randomness comes from the generator given.
"""

import numpy as np
import scipy.fft
import scipy.signal
from numpy.typing import NDArray

from speech2image import audio
from speech2image.audio import SAMPLE_RATE
from speech2image.errors import SettingsError

Waveform = NDArray[np.float32]
TELEPHONE_BAND = (300.0, 3400.0)
"""Hertz that a telephone line carries."""
_PIECE = 160
"""Samples of the pieces of 10 ms in which pauses are placed."""


# ---- the speaker -------------------------------------------------------------------------------


def change_voice(waveform: Waveform, *, rate: float = 1.0, voice: float = 1.0) -> Waveform:
    """Speak `rate` times as fast, and `voice` times as high (pitch and formants together).

    Returns:
        The changed clip, shape [about n / rate].
    """
    return play_faster(stretch(waveform, rate / voice), voice)


def play_faster(waveform: Waveform, factor: float) -> Waveform:
    """Play a clip faster: rate, pitch and formants rise together (resampling in the frequency domain)."""
    if factor == 1.0:
        return waveform
    # The FFT is slow at lengths with large prime factors: pad to a fast one and cut afterwards.
    target = scipy.fft.next_fast_len(round(len(waveform) / factor), real=True)
    n = max(len(waveform), round(target * factor))
    resampled = scipy.signal.resample(np.pad(waveform, (0, n - len(waveform))), target)
    return resampled[: round(len(waveform) / factor)].astype(np.float32)


def stretch(waveform: Waveform, rate: float) -> Waveform:
    """Change the rate alone, by overlapping 40 ms pieces where they fit best.

    WSOLA, Verhelst and Roelands (1993): each piece is moved by up to 10 ms to where it continues the
    piece before most alike.

    Returns:
        shape [round(n / rate)].
    """
    if rate == 1.0:
        return waveform
    piece, hop, reach = 640, 320, 160
    length = round(len(waveform) / rate)
    n_pieces = length // hop + 2
    padding = 2 * reach + 2 * piece + 2 * hop * int(np.ceil(rate))
    source = np.pad(waveform, (reach, padding))
    window = np.hanning(piece + 1)[:-1].astype(np.float32)
    output = np.zeros((n_pieces + 1) * hop, np.float32)
    position = reach
    for i in range(n_pieces):
        if i:  # every second sample is enough to tell where the piece continues the last one best
            expected = source[position + hop : position + hop + piece : 2]
            start = round(i * hop * rate)
            around = source[start : start + piece + 2 * reach : 2]
            position = start + 2 * int(np.correlate(around, expected, "valid").argmax())
        output[i * hop : i * hop + piece] += window * source[position : position + piece]
    return output[:length]


# ---- timing ------------------------------------------------------------------------------------


def add_edges(waveform: Waveform, before: float, after: float) -> Waveform:
    """Put `before` and `after` seconds of silence around a clip; shape [n + 16000 (before + after)]."""
    return np.pad(waveform, (round(before * SAMPLE_RATE), round(after * SAMPLE_RATE)))


def add_pauses(waveform: Waveform, rng: np.random.Generator, seconds: list[float]) -> Waveform:
    """Put silences of these lengths where the clip is quietest between words.

    Each goes to one of the quietest fifth of the places (60 ms long, at least 0.15 s from the ends and from
    each other), drawn by `rng`. The clip fades over 10 ms at either side.

    Returns:
        shape [n + 16000 times the pauses that found a place].
    """
    places = _quiet_places(waveform, rng, len(seconds))
    fade = np.linspace(1, 0, _PIECE, dtype=np.float32)
    parts, last = [], 0
    for place, length in zip(places, seconds, strict=False):
        part, rest = waveform[last:place].copy(), round(length * SAMPLE_RATE)
        part[-_PIECE:] *= fade
        parts += [part, np.zeros(rest, np.float32)]
        last = place
    parts.append(waveform[last:].copy())
    for part in parts[2::2]:
        part[:_PIECE] *= fade[::-1]
    return np.concatenate(parts)


def _quiet_places(waveform: Waveform, rng: np.random.Generator, number: int) -> list[int]:
    """Up to `number` samples to break at, in order."""
    pieces = waveform[: len(waveform) // _PIECE * _PIECE].reshape(-1, _PIECE)
    # Mean over 60 ms: the closure of a plosive is as silent as a gap between words, but shorter.
    power = np.convolve(np.mean(np.square(pieces), axis=1), np.ones(6) / 6, mode="same")
    inner = np.arange(15, len(power) - 15)
    quiet = inner[power[inner] <= np.quantile(power[inner], 0.2)] if len(inner) else inner
    chosen: list[int] = []
    for place in rng.permutation(quiet).tolist():
        if len(chosen) < number and all(abs(place - other) >= 15 for other in chosen):
            chosen.append(place)
    return [place * _PIECE for place in sorted(chosen)]


# ---- the place ---------------------------------------------------------------------------------


def add_room(waveform: Waveform, rng: np.random.Generator, *, seconds: float, direct_db: float) -> Waveform:
    """Add an echo: the direct sound, then noise that decays by 60 dB in `seconds`.

    Args:
        waveform: speech, shape [n].
        rng: draws the echo.
        seconds: decay time (RT60), above 0.
        direct_db: energy of the direct sound above that of the echo.

    Returns:
        shape [n]; what rings on after the end is cut.
    """
    time = np.arange(1, max(2, round(seconds * SAMPLE_RATE))) / SAMPLE_RATE
    echo = rng.standard_normal(len(time)) * 10.0 ** (-3.0 * time / seconds)
    echo *= 10.0 ** (-direct_db / 20) / np.sqrt(np.sum(echo**2))
    impulse = np.concatenate([[1.0], echo]).astype(np.float32)  # the direct sound keeps its level
    return scipy.signal.oaconvolve(waveform, impulse)[: len(waveform)].astype(np.float32)


def add_noise(waveform: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """Add noise of the same shape so that the speech's mean power is `snr_db` above the noise's."""
    speech_power, noise_power = (float(np.mean(np.square(x, dtype=np.float64))) for x in (waveform, noise))
    if noise_power == 0.0:
        return waveform
    gain = np.sqrt(speech_power / noise_power) * 10.0 ** (-snr_db / 20)  # powers are squares: / 20, not / 10
    return waveform + np.float32(gain) * noise


def set_level(waveform: Waveform, peak_db: float) -> Waveform:
    """Scale a clip so that its peak lies at `peak_db` (at most 0) of full scale; silence stays silent."""
    peak = float(np.abs(waveform).max())
    return waveform * np.float32(10.0 ** (min(peak_db, 0.0) / 20) / peak) if peak else waveform


# ---- the line ----------------------------------------------------------------------------------


def limit_band(waveform: Waveform, low: float, high: float) -> Waveform:
    """Keep what lies between two frequencies in Hz, by a Butterworth filter of fourth order; shape [n]."""
    sections = scipy.signal.butter(4, [low, high], "bandpass", fs=SAMPLE_RATE, output="sos")
    return scipy.signal.sosfilt(sections, waveform).astype(np.float32)


def telephone(waveform: Waveform, *, mu: float | None = None) -> Waveform:
    """Send a clip through a telephone line: 300 to 3400 Hz, 8,000 samples a second.

    Args:
        waveform: 16 kHz samples, shape [n].
        mu: also store the 8 kHz samples in 8 bits by the mu law (255 in ITU-T G.711).

    Returns:
        16 kHz samples, shape [n]; nothing is left above 4 kHz.
    """
    half = scipy.signal.resample_poly(limit_band(waveform, *TELEPHONE_BAND), 1, 2)
    if mu is not None:
        half = mu_law(half, mu)
    return scipy.signal.resample_poly(half, 2, 1)[: len(waveform)].astype(np.float32)


def mu_law(waveform: Waveform, mu: float = 255.0) -> Waveform:
    """Round samples to 256 steps that are fine near zero and coarse far from it."""
    peak = max(float(np.abs(waveform).max()), 1e-9)
    scaled = waveform / peak
    squeezed = np.sign(scaled) * np.log1p(mu * np.abs(scaled)) / np.log1p(mu)
    rounded = np.round(squeezed * 127) / 127
    return (peak * np.sign(rounded) * np.expm1(np.abs(rounded) * np.log1p(mu)) / mu).astype(np.float32)


def low_bit_rate(waveform: Waveform, bit_rate: int) -> Waveform:
    """Encode a clip as Opus at `bit_rate` bits a second, 6,000 to 64,000, and decode it.

    Returns:
        shape [about n]; a clip too quiet or short to be read back comes back as it is.
    """
    if not 6_000 <= bit_rate <= 64_000:
        raise SettingsError(f"bit_rate is {bit_rate}, must lie between 6000 and 64000")
    peak = float(np.abs(waveform).max())
    if peak < audio.SILENCE_PEAK or len(waveform) < audio.MIN_SAMPLES:
        return waveform
    return audio.load(audio.encode_opus(waveform / peak, bit_rate=bit_rate)) * np.float32(peak)
