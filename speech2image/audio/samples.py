"""Samples that are already in memory -> mono 16 kHz."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.audio.mel import SAMPLE_RATE
from speech2image.audio.mixing import Mix
from speech2image.errors import SpeechError

MIN_RATE, MAX_RATE = 1_000, 768_000
MAX_CHANNELS = 32


def from_samples(pair: tuple[Any, ...], max_seconds: float) -> NDArray[np.float32]:
    """Mono 16 kHz samples of a pair (samples, rate), as `audio.load` takes it.

    Raises:
        SpeechError: samples or rate are of another type, shape or size than `audio.load` names.
    """
    if len(pair) != 2 or not isinstance(pair[0], np.ndarray):
        kinds = ", ".join(type(part).__name__ for part in pair)
        raise SpeechError(f"expected the pair (samples, rate) with a NumPy array first, got ({kinds})")
    samples, rate = _plain(pair[0]), checked_rate(pair[1])
    if samples.ndim == 1:
        samples = samples[:, None]
    if samples.ndim != 2 or not 1 <= samples.shape[1] <= MAX_CHANNELS or len(samples) < samples.shape[1]:
        raise SpeechError(f"samples must have shape [n] or [n, channels], got {list(pair[0].shape)}")
    if len(samples) / rate > max_seconds:
        raise too_long(len(samples) / rate, max_seconds)
    mono = _mono(_as_float(samples))
    return mono if rate == SAMPLE_RATE else _resampled(mono, rate)


def checked_rate(rate: object) -> int:
    """A sample rate in Hz, if it is a whole number within what can be resampled.

    Raises:
        SpeechError: it is not.
    """
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.integer | np.floating):
        raise SpeechError(f"the sample rate must be a whole number of Hz, got {rate!r}")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise SpeechError(f"the sample rate must lie between {MIN_RATE} and {MAX_RATE} Hz, got {rate!s:.40}")
    if int(rate) != rate:
        raise SpeechError(f"the sample rate must be a whole number of Hz, got {rate!r}")
    return int(rate)


def too_long(seconds: float | None, max_seconds: float) -> SpeechError:
    """The error about a recording of so many seconds (None: unknown)."""
    length = f"more than {max_seconds:g} s" if seconds is None else f"{seconds:.1f} s"
    sentence = f"speech is too long: {length}, at most {max_seconds:g} s; cut it or pass max_seconds"
    return SpeechError(sentence, "too_long")


def _plain(samples: NDArray[Any]) -> NDArray[Any]:
    """A plain array (np.matrix has shapes of its own) in this machine's byte order."""
    if np.ma.isMaskedArray(samples) and np.ma.is_masked(samples):
        raise SpeechError("some samples are masked; fill them (samples.filled(0)) or leave them out")
    plain = np.asarray(samples)
    return plain if plain.dtype.isnative else plain.astype(plain.dtype.newbyteorder("="))


def _as_float(samples: NDArray[Any]) -> NDArray[Any]:
    if np.issubdtype(samples.dtype, np.floating):
        return samples
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128.0) / 128.0
    if samples.dtype in (np.int16, np.int32):
        return samples / -float(np.iinfo(samples.dtype).min)
    raise SpeechError(f"samples must be float in [-1, 1], int16, int32 or uint8, got {samples.dtype!s:.60}")


def _mono(samples: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused afterwards
        mix = Mix()
        mix.add(samples)
        strongest = mix.strongest()
        return mix.waveform() if strongest is None else samples[:, strongest].astype(np.float32)


def _resampled(mono: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    import av

    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono[None]), format="fltp", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="flt", rate=SAMPLE_RATE)
    parts = [
        part.to_ndarray().reshape(-1) for part in (*resampler.resample(frame), *resampler.resample(None))
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
