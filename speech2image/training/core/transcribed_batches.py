"""Batches of transcribed speech, each of about the same number of frames.

Step `t` of rank `r` is a pure function of (seed, r, t): a resumed training sees what an uninterrupted one
would have seen.
"""

from functools import lru_cache
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speech2image.audio.front_ends import PAPER, FrontEnd
from speech2image.data.recordings import TranscribedSpeech
from speech2image.errors import DataError, SettingsError
from speech2image.text import END, Vocabulary
from speech2image.training.core.speech_batches import padded
from speech2image.training.speech_augmentation import SpeechAugmentation, augment

POOL = 2000
"""Utterances sorted by length together: little padding, still well mixed."""


class TranscribedBatch(NamedTuple):
    """One step's material; `b` utterances.

    Attributes:
        log_mel: [b, 40, frames], padded on the right.
        n_frames: valid frames [b].
        tokens: what is said, [b, length], padded with END.
        n_tokens: valid tokens [b].
    """

    log_mel: Tensor
    n_frames: Tensor
    tokens: Tensor
    n_tokens: Tensor

    def to(self, device: torch.device) -> "TranscribedBatch":
        """The same on another device."""
        return TranscribedBatch(*(tensor.to(device) for tensor in self))


class TranscribedBatches:
    """Batches for step 0, 1, 2, ...

    Args:
        speech: the utterances to train on; those longer than `longest_frames` or without words are left out.
        vocabulary: turns their words into tokens.
        frames: the most frames a batch holds, padding counted (one longer utterance is a batch alone).
        seed: of order and augmentation.
        longest_frames: longest utterance used.
        augmentation: None for clean speech.
        ramp: steps over which the augmentation grows to its full strength; 0 for full from the start.
        rank, world_size: this process's place among those that share every step.
        front_end: whose frames `speech.log_mel` gives.

    Raises:
        DataError: there is nothing to train on.
        SettingsError: `frames` is below 1.
    """

    def __init__(
        self,
        speech: TranscribedSpeech,
        vocabulary: Vocabulary,
        frames: int,
        seed: int,
        *,
        longest_frames: int = 2000,
        augmentation: SpeechAugmentation | None = None,
        ramp: int = 0,
        rank: int = 0,
        world_size: int = 1,
        front_end: FrontEnd = PAPER,
    ) -> None:
        if frames < 1:
            raise SettingsError(f"frames is {frames}; a batch needs at least one")
        self.speech, self.frames, self.seed = speech, frames, seed
        self.augmentation, self.ramp, self.rank, self.world_size = augmentation, ramp, rank, world_size
        self.lengths, self.front_end = speech.n_frames(), front_end
        spoken = np.array([bool(text) for text in speech.texts], dtype=np.bool_)
        self.utterances = np.flatnonzero(spoken & (self.lengths <= longest_frames))
        if not len(self.utterances):
            raise DataError(
                f"no transcribed utterance of at most {longest_frames} frames to train on; speak the "
                "captions of the training split or give recordings (prepare, prepare recordings)"
            )
        self.vocabulary = vocabulary
        self._first_steps = [0]
        self._counting = Lock()
        self._plan = lru_cache(maxsize=2)(self._epoch_plan)

    def __call__(self, step: int) -> TranscribedBatch:
        """The batch of `step` (0, 1, ...)."""
        epoch = self.epoch_of(step)
        place = (step - self._first_steps[epoch]) * self.world_size + self.rank
        chosen = self._plan(epoch)[place]
        rng = np.random.default_rng((self.seed, self.rank, step))
        log_mel, n_frames = padded([self.speech.log_mel(int(u)) for u in chosen])
        if self.augmentation is not None:
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            changes = self.augmentation.scaled(min(1.0, step / self.ramp) if self.ramp else 1.0)
            log_mel, n_frames = augment(log_mel, n_frames, changes, generator, front_end=self.front_end)
        return TranscribedBatch(log_mel, n_frames, *self._tokens(chosen))

    def epoch_of(self, step: int) -> int:
        """The pass over the utterances that `step` belongs to."""
        with self._counting:  # batches may be read ahead by several threads
            while self._first_steps[-1] <= step:
                plan = self._plan(len(self._first_steps) - 1)
                self._first_steps.append(self._first_steps[-1] + len(plan) // self.world_size)
        return int(np.searchsorted(self._first_steps, step, side="right")) - 1

    def _tokens(self, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        rows = [self.vocabulary.encode(self.speech.texts[u]) for u in chosen]
        n_tokens = torch.tensor([len(row) for row in rows])
        tokens = torch.full((len(rows), int(n_tokens.max())), END)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
        return tokens, n_tokens

    def _epoch_plan(self, epoch: int) -> list[NDArray[np.int64]]:
        """Batches of one epoch, in random order; every utterance once, but for what ranks cannot share."""
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(self.utterances)
        pools = np.split(order, range(POOL, len(order), POOL))
        batches = [batch for pool in pools for batch in self._cut(pool)]
        while len(batches) < self.world_size:
            batches += batches
        return [batches[i] for i in rng.permutation(len(batches))]

    def _cut(self, pool: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Cuts a pool, by length, into batches of at most `frames` frames, padding counted."""
        pool = pool[np.argsort(self.lengths[pool], kind="stable")]
        starts = [0]
        for i, length in enumerate(self.lengths[pool]):
            if i > starts[-1] and length * (i + 1 - starts[-1]) > self.frames:
                starts.append(i)
        return np.split(pool, starts[1:])
