"""Made-up transcribed speech: every letter is a loud band for a while, so a small recognizer can learn it."""

import numpy as np
from numpy.typing import NDArray

FRAMES_PER_LETTER = 12
BANDS = {letter: 1 + 4 * i for i, letter in enumerate("abcdefg h")}


def spoken(text: str, seed: int = 0) -> NDArray[np.float32]:
    """Log-mel of a text of a to h and blanks, [40, at least 64 frames]."""
    frames = max(64, FRAMES_PER_LETTER * len(text) + 8)
    clip = np.random.default_rng(seed).normal(-8, 1, (40, frames)).astype(np.float32)
    for i, letter in enumerate(text):
        start = FRAMES_PER_LETTER * i + 4
        clip[BANDS[letter], start : start + FRAMES_PER_LETTER - 4] += 8
    return clip


class FakeSpeech:
    """`shards.recordings.TranscribedSpeech` of random words, or of given ones."""

    def __init__(self, number: int = 8, seed: int = 0, texts: list[str] | None = None) -> None:
        rng = np.random.default_rng(seed)
        letters = np.array(list("abcdefgh"))
        words = [["".join(rng.choice(letters, rng.integers(2, 4))) for _ in range(2)] for _ in range(number)]
        self.texts = texts or [" ".join(pair) for pair in words]
        self.speakers = np.array([f"s{i % 2}" for i in range(len(self.texts))])
        self._clips = [spoken(text, i) for i, text in enumerate(self.texts)]

    def log_mel(self, u: int) -> NDArray[np.float32]:
        return self._clips[u]

    def n_frames(self) -> NDArray[np.int64]:
        return np.array([clip.shape[1] for clip in self._clips])
