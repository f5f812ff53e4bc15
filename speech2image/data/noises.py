"""Noise to lay under speech: made, out of voices, or recorded."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from speech2image import audio
from speech2image.data.augment.sounds import sound_files
from speech2image.errors import DataError, SettingsError, SpeechError

Waveform = NDArray[np.float32]
NOISES = ("white", "pink", "babble", "recorded")


def make_noise(
    kind: str, length: int, rng: np.random.Generator, recordings: Sequence[Waveform] = ()
) -> Waveform:
    """Noise of shape [length]: "white", "pink" (power falls by 3 dB an octave) or "babble".

    Babble is the sum of up to five of the recordings, each from a random place on, repeated as needed;
    "recorded" is one of them.
    """
    if kind in ("babble", "recorded"):
        if not recordings:
            raise SettingsError(f"{kind} noise needs recordings to take it from")
        number = min(5, len(recordings)) if kind == "babble" else 1
        chosen = rng.choice(len(recordings), size=number, replace=False)
        voices = [
            np.resize(np.roll(r, -rng.integers(len(r))), length) for r in (recordings[i] for i in chosen)
        ]
        return np.sum(voices, axis=0, dtype=np.float32)
    white = rng.standard_normal(length, dtype=np.float32)
    if kind == "white":
        return white
    if kind != "pink":
        raise SettingsError(f"no noise {kind!r}; there are: {', '.join(NOISES)}")
    n = scipy.fft.next_fast_len(length, real=True)
    spectrum = scipy.fft.rfft(white, n)
    spectrum /= np.sqrt(np.arange(1, len(spectrum) + 1, dtype=np.float32))
    return scipy.fft.irfft(spectrum, n)[:length]


@lru_cache(maxsize=4)
def noise_recordings(folder: Path, *, max_seconds: float = 30.0) -> tuple[Waveform, ...]:
    """The recordings of noise or music below a folder, by name, at 16 kHz.

    Raises:
        DataError: there is none, or one cannot be read or is longer than `max_seconds`.
    """
    try:
        return tuple(audio.load(path, max_seconds=max_seconds) for path in sound_files([folder]))
    except SpeechError as error:
        raise DataError(f"noise recordings in {folder}: {error}") from error
