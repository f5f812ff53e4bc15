"""Log-mel spectrogram of a 16 kHz waveform, after Li et al. (2020).

One NumPy implementation serves training and the torch-free runtime.
"""

from functools import cache

import numpy as np
from numpy.fft import rfft  # here: on first use by several threads at once, numpy fails to load it
from numpy.typing import NDArray

from speech2image.errors import SpeechError

SAMPLE_RATE = 16_000
N_MELS = 40
WINDOW = 400
HOP = 160
N_FFT = 512
MIN_FREQUENCY = 20.0
MAX_FREQUENCY = 8_000.0
PRE_EMPHASIS = 0.97
FLOOR_DB = -80.0
MIN_FRAMES = 64
MIN_SAMPLES = WINDOW + (MIN_FRAMES - 1) * HOP
SILENCE_PEAK = 1e-3
"""Largest deviation from the mean below which nothing counts as heard: -60 dB of full scale."""


def log_mel(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-mel spectrogram of 16 kHz speech, after section III-A of Li et al. (2020).

    Mean removed, pre-emphasis 0.97, 25 ms Hamming windows every 10 ms without padding at the ends,
    squared magnitude, 40 triangular bands equally spaced on the mel scale from 20 Hz to 8 kHz,
    natural logarithm relative to the clip's loudest value, floored at -80 dB. The result depends on
    neither the level nor a constant offset of the recording.

    Args:
        waveform: 16 kHz samples, shape [n], n >= `MIN_SAMPLES`.

    Returns:
        float32 in [-18.42, 0], shape [40, n_frames], n_frames = 1 + (n - 400) // 160.

    Raises:
        SpeechError: the speech is too short or silent.
    """
    check_heard(waveform)
    centred = (waveform - waveform.mean(dtype=np.float64)).astype(np.float32)
    emphasised = np.append(centred[:1], centred[1:] - np.float32(PRE_EMPHASIS) * centred[:-1])
    frames = np.lib.stride_tricks.sliding_window_view(emphasised, WINDOW)[::HOP]
    spectrum = rfft(frames * _window(), n=N_FFT)
    mel = (spectrum.real**2 + spectrum.imag**2) @ mel_filterbank().T
    loudest = mel.max()
    floor = loudest * np.float32(10.0 ** (FLOOR_DB / 10))
    return np.ascontiguousarray(np.log(np.maximum(mel, floor) / loudest).T)


@cache
def mel_filterbank() -> NDArray[np.float32]:
    """Triangular filters of height 1 on the mel scale 2595 log10(1 + f / 700).

    Returns:
        float32 [40, 257]: weight of each of the 257 frequencies k * 16000 / 512 Hz in each band.
    """
    low, high = (2595.0 * np.log10(1.0 + f / 700.0) for f in (MIN_FREQUENCY, MAX_FREQUENCY))
    corners = 700.0 * (10.0 ** (np.linspace(low, high, N_MELS + 2) / 2595.0) - 1.0)
    frequencies = np.arange(N_FFT // 2 + 1) * (SAMPLE_RATE / N_FFT)
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    filters.setflags(write=False)
    return filters


def check_heard(waveform: NDArray[np.float32]) -> None:
    """Check that a 16 kHz waveform is long enough for a spectrogram and not silent.

    Raises:
        SpeechError: the speech is too short or silent.
    """
    n = len(waveform)
    if n < MIN_SAMPLES:
        raise SpeechError(
            f"speech is too short: {n} samples ({1000 * n / SAMPLE_RATE:.0f} ms at {SAMPLE_RATE} Hz), "
            f"need at least {MIN_SAMPLES} ({MIN_SAMPLES / SAMPLE_RATE:.2f} s)",
            "too_short",
        )
    if np.abs(waveform - waveform.mean(dtype=np.float64)).max() < SILENCE_PEAK:
        raise SpeechError(
            "no speech heard: the recording is silent (it never reaches -60 dB of full scale); "
            "check the microphone and its level",
            "no_speech",
        )


@cache
def _window() -> NDArray[np.float32]:
    return np.hamming(WINDOW).astype(np.float32)
