"""Effects on when something is said: silence before and after, pauses within."""

import numpy as np
from numpy.typing import NDArray

from speech2image.audio import SAMPLE_RATE

Waveform = NDArray[np.float32]
_PIECE = 160


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
    power = np.convolve(np.mean(np.square(pieces), axis=1), np.ones(6) / 6, mode="same")
    inner = np.arange(15, len(power) - 15)
    quiet = inner[power[inner] <= np.quantile(power[inner], 0.2)] if len(inner) else inner
    chosen: list[int] = []
    for place in rng.permutation(quiet).tolist():
        if len(chosen) < number and all(abs(place - other) >= 15 for other in chosen):
            chosen.append(place)
    return [place * _PIECE for place in sorted(chosen)]
