"""What one prepared data set and several joined ones answer alike: which samples and utterances there are."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray


class Rows:
    """Samples and utterances by split and voice.

    Attributes:
        splits: "train", "val" or "test" [N].
        utterance_sample: index of the sample spoken of, int64 [U].
        utterance_voice: voice names [U].
    """

    splits: NDArray[np.str_]
    utterance_sample: NDArray[np.int64]
    utterance_voice: NDArray[np.str_]

    @property
    def voices(self) -> list[str]:
        """Names of all voices, sorted."""
        return sorted(set(self.utterance_voice.tolist()))

    def samples_of(self, split: str) -> NDArray[np.int64]:
        """Indices of the samples of a split ("train", "val" or "test"), int64 [n]."""
        return np.flatnonzero(self.splits == split)

    def utterances_of(
        self, split: str, voices: Collection[str] | None = None, exclude_voices: Collection[str] = ()
    ) -> NDArray[np.int64]:
        """Indices of a split's utterances, int64 [n]: of `voices` alone, if given; not `exclude_voices`."""
        keep = self.splits[self.utterance_sample] == split
        if voices is not None:
            keep &= np.isin(self.utterance_voice, list(voices))
        keep &= ~np.isin(self.utterance_voice, list(exclude_voices))
        return np.flatnonzero(keep)
