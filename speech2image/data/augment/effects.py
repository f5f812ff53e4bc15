"""Effects of what carries the sound: a telephone line, a codec that saves bits."""

import numpy as np
import scipy.fft
import scipy.signal
from numpy.typing import NDArray

from speech2image import audio
from speech2image.audio import SAMPLE_RATE
from speech2image.errors import SettingsError

Waveform = NDArray[np.float32]
TELEPHONE_BAND = (300.0, 3400.0)


def telephone(waveform: Waveform, *, mu: float | None = None) -> Waveform:
    """Send a clip through a telephone line: 300 to 3400 Hz, 8,000 samples a second.

    Args:
        waveform: 16 kHz samples, shape [n].
        mu: also store the 8 kHz samples in 8 bits by the mu law (255 in ITU-T G.711).

    Returns:
        16 kHz samples, shape [n]; nothing is left above 4 kHz.
    """
    low, high = TELEPHONE_BAND
    sections = scipy.signal.butter(4, [low, high], "bandpass", fs=SAMPLE_RATE, output="sos")
    narrow = scipy.signal.sosfilt(sections, waveform).astype(np.float32)
    half = scipy.signal.resample_poly(narrow, 1, 2)
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
