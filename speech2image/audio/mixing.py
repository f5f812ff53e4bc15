"""Channels -> one: their mean, or the strongest where they cancel each other out; clicks taken out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.audio.mel import HOP

CANCELLED = 0.1
"""Power of the mean, in proportion to the strongest channel's, below which that channel is taken instead.
The mean of two channels of which one is silent has a quarter, that of eight different ones an eighth."""

CLICK_BLOCKS = 10
"""Clicks last no longer than so many blocks of 10 ms, all of them together."""
CLICK_RATIO = 10.0
"""Peak of a click in proportion to the highest of everything else."""


class Mix:
    """Mixes blocks of one recording to mono.

    Args:
        channel: take this channel alone; None takes the mean.
    """

    def __init__(self, channel: int | None = None) -> None:
        self._channel = channel
        self._blocks: list[NDArray[np.float32]] = []
        self._moments: Any = 0.0  # length, sums and sums of squares by channel

    def add(self, block: NDArray[Any]) -> None:
        """Take in samples of shape [n, channels]."""
        if self._channel is not None and self._channel < block.shape[1]:
            self._blocks.append(block[:, self._channel].astype(np.float32))
            return
        self._blocks.append(block.mean(axis=1, dtype=np.float64).astype(np.float32))
        if block.shape[1] > 1:
            self._moments = self._moments + np.array([_moments(channel) for channel in block.T])

    def waveform(self) -> NDArray[np.float32]:
        """What was mixed so far, shape [n]."""
        return np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.float32)

    def strongest(self) -> int | None:
        """The channel to take because the mean cancels, None if it does not."""
        if np.ndim(self._moments) == 0:
            return None
        powers = _power(*self._moments.T)
        mean = _power(*_moments(self.waveform()))
        strongest = int(powers.argmax())
        return strongest if mean < CANCELLED * powers[strongest] else None


def _moments(samples: NDArray[Any]) -> NDArray[np.float64]:
    exact = samples.astype(np.float64)
    return np.array([exact.size, exact.sum(), exact @ exact])


def _power(n: Any, total: Any, squares: Any) -> Any:
    """Mean square about the mean: a constant offset is no sound."""
    return squares / n - (total / n) ** 2


def without_clicks(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """16 kHz samples [n] without clicks that tower above all the rest; the same array if there are none.

    A switch or a plug gives full scale for some milliseconds. The spectrogram is relative to its loudest
    value, so quiet speech would sink below its floor. Speech never falls by 20 dB within its loudest tenth
    of a second, so it has no such clicks.
    """
    n_blocks = -(-len(waveform) // HOP)
    if n_blocks <= 2 * CLICK_BLOCKS:
        return waveform
    level = np.zeros(n_blocks * HOP, np.float32)
    middle = np.partition(waveform, len(waveform) // 2)[len(waveform) // 2]  # np.median loads numpy.ma: 20 ms
    level[: len(waveform)] = np.abs(waveform - middle)
    peaks = level.reshape(n_blocks, HOP).max(axis=1)
    usual = np.partition(peaks, -CLICK_BLOCKS - 1)[-CLICK_BLOCKS - 1]
    is_click = peaks > CLICK_RATIO * usual
    if usual == 0 or not is_click.any():
        return waveform
    for _ in range(CLICK_BLOCKS):  # what rings on beside a click belongs to it
        beside = np.convolve(is_click, (1, 1, 1), "same") > 0
        is_click |= beside & (peaks > usual)
    kept: NDArray[np.bool_] = np.convolve(is_click, (1, 1, 1), "same") == 0
    return waveform * np.repeat(kept, HOP)[: len(waveform)]
