"""Samples that are already in memory -> mono 16 kHz."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from speech2image.audio.mel import SAMPLE_RATE
from speech2image.audio.mixing import Mix
from speech2image.errors import SpeechError

MIN_RATE, MAX_RATE = 1_000, 768_000
MAX_CHANNELS = 32


class Tensor(Protocol):
    """A torch tensor, which is told by its methods: torch need not be there."""

    def detach(self) -> Any: ...

    def cpu(self) -> Any: ...

    def numpy(self) -> Any: ...


def in_memory(source: Any) -> tuple[Any, Any] | None:
    """(samples, rate) of a source that is in memory, in whichever form it came; None for any other source.

    Forms: (samples, rate), (rate, samples), {"array": samples, "sampling_rate": rate}. Samples may be an
    array, a torch tensor or a list of numbers.

    Raises:
        SpeechError: bare samples without a rate, a pair without samples, or a dict of something else.
    """
    if isinstance(source, dict):
        if not {"array", "sampling_rate"} <= set(source):
            raise SpeechError(
                f"a dict of samples has the keys 'array' and 'sampling_rate', this one has "
                f"{', '.join(map(repr, source)) or 'none'}"[:300]
            )
        return source["array"], source["sampling_rate"]
    if isinstance(source, tuple):
        if len(source) == 2 and _is_number(source[0]) and is_samples(source[1]):
            return source[1], source[0]
        if len(source) == 2 and is_samples(source[0]):
            return source[0], source[1]
        kinds = ", ".join(type(part).__name__ for part in source)
        raise SpeechError(f"expected the pair (samples, rate) or (rate, samples), got ({kinds})")
    if is_samples(source):
        raise SpeechError(
            "samples came without their sample rate; give it, too: rate=16000, or the pair (samples, rate)"
        )
    return None


def with_rate(source: Any, rate: int | None) -> Any:
    """A source as it is, or samples with their rate beside them as the pair (samples, rate).

    Raises:
        SpeechError: a rate beside something that has its own.
    """
    if rate is None:
        return source
    if not is_samples(source):
        raise SpeechError(
            "rate= belongs to samples without one (an array, a tensor, a list), "
            f"not to {type(source).__name__}"
        )
    return source, rate


def is_samples(value: Any) -> bool:
    """Whether this is an array, a torch tensor or a list: what may hold samples."""
    return isinstance(value, np.ndarray | list) or _is_tensor(value)


def _is_tensor(value: Any) -> bool:
    """A torch tensor, told without importing torch."""
    return all(hasattr(value, name) for name in ("detach", "cpu", "numpy"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _array(samples: Any) -> NDArray[Any]:
    if _is_tensor(samples):
        plain = samples.detach().cpu()
        try:
            return np.asarray(plain.numpy())
        except TypeError:  # bfloat16, which NumPy has not
            return np.asarray(plain.float().numpy())
    if isinstance(samples, list):
        try:
            return np.asarray(samples)
        except ValueError as error:  # rows of several lengths
            raise SpeechError(f"the list holds no samples: {error}") from error
    return np.asanyarray(samples)


def from_samples(pair: tuple[Any, ...], max_seconds: float) -> NDArray[np.float32]:
    """Mono 16 kHz samples of a pair (samples, rate), as `in_memory` gives it.

    Raises:
        SpeechError: samples or rate are of another type, shape or size than `audio.load` names.
    """
    given = _array(pair[0])
    samples, rate = _plain(given), checked_rate(pair[1])
    if not samples.size:
        raise SpeechError(f"there are no samples (shape {list(given.shape)})", "empty")
    if samples.ndim == 1:
        samples = samples[:, None]
    if samples.ndim == 2 and len(samples) < samples.shape[1]:  # channels first, as torchaudio has them
        samples = samples.T
    if samples.ndim != 2 or not 1 <= samples.shape[1] <= MAX_CHANNELS or len(samples) < samples.shape[1]:
        raise SpeechError(
            f"samples must have shape [n], [n, channels] or [channels, n], got {list(given.shape)}"
        )
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
    if np.any(getattr(samples, "mask", False)):  # without numpy.ma, which would take 15 ms to load
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
