"""Speech batches of clips of similar length: with the teacher's features, or with transcripts.

Clips are padded to the longest of their batch, so each is taken from a pool that was sorted by length. Step
`t` of rank `r` is a pure function of (seed, r, t): a resumed training sees what an uninterrupted one would
have seen.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speech2image.asr.text import END, Vocabulary
from speech2image.audio.front_ends import PAPER, FrontEnd
from speech2image.data.augment.log_mel import Backgrounds, LogMelAugmentation, augment
from speech2image.data.shards.recordings import TranscribedSpeech
from speech2image.errors import DataError, SettingsError
from speech2image.metrics.retrieval import picture_features

POOL_BATCHES = 32
"""Batches of `SpeechBatches` sorted by length together: much less padding, still well mixed."""
POOL_UTTERANCES = 2000
"""Likewise utterances of `TranscribedBatches`, whose batches differ in size."""


class Clips(Protocol):
    """Utterances as frames of a front end."""

    def log_mel(self, u: int) -> NDArray[np.float32]: ...

    def n_frames(self) -> NDArray[np.int64]: ...


class PictureArrays(Protocol):
    """What a training reads of the pictures in `speech2image.data.shards.arrays.PairArrays`."""

    labels: NDArray[np.int64]

    @property
    def teacher(self) -> NDArray[np.floating]: ...

    def samples_of(self, split: str) -> NDArray[np.int64]: ...


class SpeechArrays(PictureArrays, Clips, Protocol):
    """What a speech encoder's training reads of `speech2image.data.shards.arrays.PairArrays`."""

    utterance_sample: NDArray[np.int64]
    utterance_voice: NDArray[np.str_]

    def utterances_of(
        self, split: str, voices: Collection[str] | None = None, exclude_voices: Collection[str] = ()
    ) -> NDArray[np.int64]: ...


def padded(clips: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """Clips [bands, frames] of different lengths as one batch with zeros on the right, and their lengths."""
    lengths = [clip.shape[1] for clip in clips]
    batch = np.zeros((len(clips), clips[0].shape[0], max(lengths)), dtype=np.float32)
    for row, clip in zip(batch, clips, strict=True):
        row[:, : clip.shape[1]] = clip
    return torch.from_numpy(batch), torch.tensor(lengths)


def by_length(
    clips: Clips, utterances: NDArray[np.int64], batch_size: int
) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
    """All of some utterances once, the shortest first, for evaluation.

    Yields:
        Places in `utterances` [b], their clips padded [b, bands, frames], and valid frames [b].
    """
    order = np.argsort(clips.n_frames()[utterances], kind="stable")
    for places in np.split(order, range(batch_size, len(order), batch_size)) if len(order) else ():
        yield places, *padded([clips.log_mel(int(u)) for u in utterances[places]])


def sorted_pools(
    order: NDArray[np.int64], size: int, lengths_of: Callable[[NDArray[np.int64]], NDArray[np.int64]]
) -> list[NDArray[np.int64]]:
    """Cuts a random order of utterances into pools and sorts each by length.

    Args:
        order: utterances of an epoch.
        size: of a pool; the larger, the less padding, and the less mixed are the batches.
        lengths_of: utterances of a pool -> their lengths.
    """
    pools = np.split(order, range(size, len(order), size))
    return [pool[np.argsort(lengths_of(pool), kind="stable")] for pool in pools]


@dataclass(frozen=True)
class RampedAugmentation:
    """Augmentation of a step's clips, which grows to its full strength.

    Attributes:
        changes: at full strength; None leaves the clips as they are.
        ramp: steps until then; 0 for full strength from the start.
        front_end: whose frames the clips are.
        backgrounds: sounds that may be put behind the speech.
    """

    changes: LogMelAugmentation | None
    ramp: int
    front_end: FrontEnd
    backgrounds: Backgrounds | None = None

    def __call__(
        self, log_mel: Tensor, n_frames: Tensor, step: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """The changed clips of `step` [b, bands, other frames], and their valid frames."""
        if self.changes is None:
            return log_mel, n_frames
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        changes = self.changes.scaled(min(1.0, step / self.ramp) if self.ramp else 1.0)
        return augment(log_mel, n_frames, changes, generator, self.backgrounds, self.front_end)


class SpeechBatch(NamedTuple):
    """One step's material; `b` utterances.

    Attributes:
        log_mel: [b, 40, frames], padded on the right.
        n_frames: valid frames [b].
        image: teacher features, float32 [b + extra, 1024]; the first b belong to the utterances.
        labels: class of each row of `image`.
        pictures: index of the picture of each row of `image`.
    """

    log_mel: Tensor
    n_frames: Tensor
    image: Tensor
    labels: Tensor
    pictures: Tensor

    def to(self, device: torch.device) -> "SpeechBatch":
        """The same on another device."""
        return SpeechBatch(*(tensor.to(device) for tensor in self))


class DescribedPictures:
    """The teacher's features of the pictures a step's utterances or captions describe, and of negatives.

    Args:
        arrays: the data set, with teacher features.
        extra_pictures: further training pictures that join every step as negatives; at most all there are.
    """

    def __init__(self, arrays: PictureArrays, extra_pictures: int = 0) -> None:
        self.labels, self.teacher = arrays.labels, arrays.teacher
        self.all = arrays.samples_of("train")
        self.extra_pictures = min(extra_pictures, len(self.all))

    def __call__(self, own: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A random crop's feature [b + extra, 1024], the class and the index of `own` [b] and the others."""
        extra = rng.choice(self.all, self.extra_pictures, replace=False)
        pictures = np.concatenate([own, extra])
        crops = rng.integers(0, self.teacher.shape[1], len(pictures))
        image = np.asarray(self.teacher[pictures, crops], dtype=np.float32)
        return torch.from_numpy(image), torch.from_numpy(self.labels[pictures]), torch.from_numpy(pictures)


class SpeechBatches:
    """Batches of one size, with the teacher's features, for step 0, 1, 2, ...

    Args:
        arrays: the data set.
        utterances: the utterances to train on.
        batch_size: utterances a step and rank.
        seed: of order, crops and augmentation.
        augmentation: None for clean speech.
        ramp: steps over which the augmentation grows to its full strength; 0 for full from the start.
        extra_pictures: further training pictures whose teacher features join each batch as negatives.
        rank, world_size: this process's place among those that share `arrays`; 1 if they are its own.
        first_number: added to the numbers of the pictures.
        backgrounds: sounds that augmentation may put behind the speech.
        together: so many utterances of one picture come in one batch, as far as it has them.
        front_end: whose frames `arrays.log_mel` gives.

    Raises:
        DataError: there are no utterances.
    """

    def __init__(
        self,
        arrays: SpeechArrays,
        utterances: NDArray[np.int64],
        batch_size: int,
        seed: int,
        augmentation: LogMelAugmentation | None = None,
        extra_pictures: int = 0,
        ramp: int = 0,
        rank: int = 0,
        world_size: int = 1,
        backgrounds: Backgrounds | None = None,
        together: int = 1,
        front_end: FrontEnd = PAPER,
        first_number: int = 0,
    ) -> None:
        if not len(utterances):
            raise DataError(
                "no utterance to train on; speak the captions of the training split first (prepare)"
            )
        self.arrays, self.utterances, self.lengths = arrays, utterances, arrays.n_frames()
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.augment = RampedAugmentation(augmentation, ramp, front_end, backgrounds)
        self.together, self.first_number = together, first_number
        self.pictures = DescribedPictures(arrays, extra_pictures)
        self._order = lru_cache(maxsize=2)(self._epoch_order)

    @property
    def steps_per_epoch(self) -> int:
        """Steps that take (nearly) every utterance once; the few left over change with every epoch."""
        return max(1, len(self.utterances) // (self.batch_size * self.world_size))

    def __call__(self, step: int) -> SpeechBatch:
        """The batch of `step` (0, 1, ...)."""
        return self.of(*divmod(step, self.steps_per_epoch), step)

    def of(self, order: int, place: int, step: int) -> SpeechBatch:
        """The batch at `place` of the order number `order` of all utterances, with the draws of `step`."""
        chosen = self._order(order)[place][self.rank % self.world_size :: self.world_size]
        rng = np.random.default_rng((self.seed, self.rank, step))
        clips = self.augment(*padded([self.arrays.log_mel(int(u)) for u in chosen]), step, rng)
        image, labels, pictures = self.pictures(self.arrays.utterance_sample[chosen], rng)
        return SpeechBatch(*clips, image, labels, pictures + self.first_number)

    def _epoch_order(self, epoch: int) -> NDArray[np.int64]:
        """All steps' utterances of one epoch, [steps, batch_size * world_size]: by length."""
        rng = np.random.default_rng((self.seed, epoch))
        size = self.batch_size * self.world_size
        order = np.resize(self._shuffled(rng), self.steps_per_epoch * size)
        pools = sorted_pools(order, POOL_BATCHES * size, self._lengths)
        shuffled: NDArray[np.int64] = rng.permutation(np.concatenate(pools).reshape(-1, size))
        return shuffled

    def _shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """All utterances in random order, those of one picture in runs of `together`."""
        order = rng.permutation(self.utterances)
        if self.together == 1:
            return order
        order = order[np.argsort(self.arrays.utterance_sample[order], kind="stable")]
        samples = self.arrays.utterance_sample[order]
        first = np.searchsorted(samples, samples)  # where each one's picture begins
        runs = np.stack([samples, (np.arange(len(order)) - first) // self.together], axis=1)
        _, run = np.unique(runs, axis=0, return_inverse=True)
        place = rng.permutation(int(run.max()) + 1)[run.reshape(-1)]
        shuffled: NDArray[np.int64] = order[np.argsort(place, kind="stable")]
        return shuffled

    def _lengths(self, pool: NDArray[np.int64]) -> NDArray[np.int64]:
        """Lengths of a pool's utterances; where those of one picture stay together, the longest of each run,
        so that sorting does not part them."""
        lengths: NDArray[np.int64] = self.lengths[pool]
        if self.together > 1:
            starts = np.flatnonzero(np.diff(self.arrays.utterance_sample[pool], prepend=-1))
            runs = np.diff(np.append(starts, len(pool)))
            lengths = np.repeat(np.maximum.reduceat(lengths, starts), runs)
        return lengths


def mean_teacher_feature(arrays: PictureArrays) -> NDArray[np.float32]:
    """Mean teacher feature of the training pictures, float32 [1024]; summed bit by bit, in float64, so that
    the features need not fit into memory."""
    training, total = arrays.samples_of("train"), np.zeros(arrays.teacher.shape[-1])
    for start in range(0, len(training), 1000):
        features = picture_features(arrays.teacher[training[start : start + 1000]])
        total += features.sum(axis=0, dtype=np.float64)
    mean: NDArray[np.float32] = (total / len(training)).astype(np.float32)
    return mean


class TranscribedBatch(NamedTuple):
    """One step's material; `b` utterances.

    Attributes:
        log_mel: [b, 40, frames], padded on the right.
        n_frames: valid frames [b].
        tokens: the transcripts, [b, length], padded with END.
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
    """Batches of about one number of frames, with transcripts, for step 0, 1, 2, ...

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
        augmentation: LogMelAugmentation | None = None,
        ramp: int = 0,
        rank: int = 0,
        world_size: int = 1,
        front_end: FrontEnd = PAPER,
    ) -> None:
        if frames < 1:
            raise SettingsError(f"frames is {frames}; a batch needs at least one")
        self.speech, self.frames, self.seed = speech, frames, seed
        self.augment = RampedAugmentation(augmentation, ramp, front_end)
        self.rank, self.world_size, self.lengths = rank, world_size, speech.n_frames()
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
        clips = self.augment(*padded([self.speech.log_mel(int(u)) for u in chosen]), step, rng)
        return TranscribedBatch(*clips, *self._tokens(chosen))

    def epoch_of(self, step: int) -> int:
        """The pass over the utterances that `step` belongs to."""
        # Epochs differ in their number of batches, which are cut by length: count epoch by epoch. The lock
        # is for the threads of `prefetch.ReadAhead`.
        with self._counting:
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
        pools = sorted_pools(order, POOL_UTTERANCES, lambda pool: self.lengths[pool])
        batches = [batch for pool in pools for batch in self._cut(pool)]
        while len(batches) < self.world_size:  # every process needs a batch at every step
            batches += batches
        return [batches[i] for i in rng.permutation(len(batches))]

    def _cut(self, pool: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Cuts a sorted pool into batches of at most `frames` frames, padding counted."""
        starts = [0]
        for i, length in enumerate(self.lengths[pool]):
            if i > starts[-1] and length * (i + 1 - starts[-1]) > self.frames:
                starts.append(i)
        return np.split(pool, starts[1:])
