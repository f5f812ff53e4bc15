"""Picture batches for GAN trainings: real pictures, conditions that describe them, and mismatched ones.

Step `t` of rank `r` is a pure function of (seed, r, t): a resumed training sees what an uninterrupted one
would have seen.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from speech2image.data.training_sets import TrainingArrays
from speech2image.errors import DataError, SettingsError
from speech2image.pipeline.images import from_uint8


@dataclass(frozen=True)
class PictureBatch:
    """Real pictures and conditions of one step; `b` items, pictures RGB in [-1, 1].

    Attributes:
        pictures: real pictures, float32 [b, 3, size, size].
        conditions: an embedding of each picture, float32 [b, 1024].
        mismatched_pictures: real pictures of other classes than `pictures`, float32 [b, 3, size, size]
            (None when the batches were asked to leave them out).
        mismatched_conditions: an embedding of each mismatched picture, float32 [b, 1024].
        indices: which items of the arrays the pictures are, [b].
    """

    pictures: NDArray[np.float32]
    conditions: NDArray[np.float32]
    mismatched_pictures: NDArray[np.float32] | None
    mismatched_conditions: NDArray[np.float32]
    indices: NDArray[np.int64]


class PictureBatches:
    """Batches of real pictures for step 0, 1, 2, ...; every picture comes once an epoch.

    Args:
        arrays: the data set.
        indices: the items to train on, e.g. `arrays.samples_of("train")`.
        size: side of the pictures in pixels; a random crop of this size is cut from the stored picture.
        batch_size: pictures a step and rank.
        seed: of the order, the crops, the flips and the draws of conditions.
        speech_fraction: how often (0..1) an item's condition is the embedding of one of its utterances, drawn
            at random (1 is the paper's recipe); otherwise it is the teacher's feature of one of its crops.
            With a fraction below 1, items that have no utterance take the teacher's feature always.
        utterances: the utterances conditions may come from, e.g. those of the training voices; default all.
        mismatched_pictures: whether to read mismatched pictures too; their conditions always come.
        flip: whether half of the pictures are mirrored.
        rank, world_size: this process's place among those that share `arrays`; 1 if they are its own.

    Raises:
        DataError: fewer than two classes (a mismatched picture must be of another class), no picture at all,
            pictures stored smaller than `size`, or `speech_fraction` 1 and an item without an utterance.
        SettingsError: a number out of range.
    """

    def __init__(
        self,
        arrays: TrainingArrays,
        indices: NDArray[np.int64],
        size: int,
        batch_size: int,
        seed: int,
        *,
        speech_fraction: float = 1.0,
        utterances: NDArray[np.int64] | None = None,
        mismatched_pictures: bool = True,
        flip: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        alone = world_size == 1  # with arrays of its own, whichever process it is
        if batch_size < 1 or rank < 0 or not (alone or rank < world_size):
            got = f"{batch_size}, {rank}, {world_size}"
            raise SettingsError(f"need batch_size >= 1 and 0 <= rank < world_size, got {got}")
        if not 0.0 <= speech_fraction <= 1.0:
            raise SettingsError(f"speech_fraction is {speech_fraction}, allowed is 0 to 1")
        self.size, self.batch_size, self.seed, self.flip = size, batch_size, seed, flip
        self.rank, self.world_size, self.with_mismatched = rank, world_size, mismatched_pictures
        self.indices = np.asarray(indices, dtype=np.int64)
        self.labels = np.asarray(arrays.labels, dtype=np.int64)
        self.stored = arrays.pictures(size)
        if min(self.stored.shape[1:3]) < size:
            raise DataError(
                f"pictures are stored at {self.stored.shape[1:3]}, smaller than the crop of {size}"
            )
        self.conditions = ConditionSampler(arrays, self.indices, speech_fraction, utterances)
        self.others = OtherClassSampler(self.indices, self.labels)
        self._order = lru_cache(maxsize=2)(self._epoch_order)

    def __call__(self, step: int) -> PictureBatch:
        """The batch of `step` (0, 1, ...)."""
        return self._batch(self._chosen(step), step)

    def of(self, order: int, place: int, step: int) -> PictureBatch:
        """The batch at `place` of the order number `order` of all pictures, with the draws of `step`."""
        items = self._order(order)
        return self._batch(np.resize(np.roll(items, -place * self.batch_size), self.batch_size), step)

    def _batch(self, chosen: NDArray[np.int64], step: int) -> PictureBatch:
        rng = np.random.default_rng((self.seed, self.rank, step))
        other = self.others.draw(chosen, rng)
        return PictureBatch(
            pictures=self._crops(chosen, rng),
            conditions=self.conditions.draw(chosen, rng)[0],
            mismatched_conditions=self.conditions.draw(other, rng)[0],
            mismatched_pictures=self._crops(other, rng) if self.with_mismatched else None,
            indices=chosen,
        )

    @property
    def steps_per_epoch(self) -> float:
        """Steps that show every picture once."""
        return len(self.indices) / (self.batch_size * self.world_size)

    def _chosen(self, step: int) -> NDArray[np.int64]:
        """Items of this rank's part of `step`: the permuted epochs laid end to end, cut into batches."""
        first = (step * self.world_size + self.rank % self.world_size) * self.batch_size
        epochs, places = np.divmod(np.arange(first, first + self.batch_size), len(self.indices))
        return np.array([self._order(int(e))[p] for e, p in zip(epochs, places, strict=True)], dtype=np.int64)

    def _epoch_order(self, epoch: int) -> NDArray[np.int64]:
        order: NDArray[np.int64] = np.random.default_rng((self.seed, epoch)).permutation(self.indices)
        return order

    def _crops(self, items: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float32]:
        """Random crops, mirrored half of the time, float32 [b, 3, size, size] in [-1, 1]."""
        height, width = self.stored.shape[1:3]
        tops = rng.integers(0, height - self.size + 1, len(items))
        lefts = rng.integers(0, width - self.size + 1, len(items))
        mirrored = rng.random(len(items)) < (0.5 if self.flip else 0.0)
        crops = np.empty((len(items), self.size, self.size, 3), dtype=np.uint8)
        for i, (item, top, left) in enumerate(zip(items, tops, lefts, strict=True)):
            crop = self.stored[item, top : top + self.size, left : left + self.size]
            crops[i] = crop[:, ::-1] if mirrored[i] else crop
        return from_uint8(crops)


def central_squares(arrays: TrainingArrays, items: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Central crops of stored pictures, uint8 [n, size, size, 3]."""
    stored = arrays.pictures(size)
    edge = (stored.shape[1] - size) // 2
    return np.stack([stored[i, edge : edge + size, edge : edge + size] for i in items])


class ConditionSampler:
    """Draws an embedding for an item: of one of its utterances, or the teacher's of one of its crops."""

    def __init__(
        self,
        arrays: TrainingArrays,
        indices: NDArray[np.int64],
        speech_fraction: float,
        utterances: NDArray[np.int64] | None = None,
    ) -> None:
        self.speech_fraction = speech_fraction
        self.teacher = arrays.teacher if speech_fraction < 1.0 else None
        self.speech = arrays.embeddings if speech_fraction > 0.0 else None
        owner = np.asarray(arrays.utterance_sample, dtype=np.int64)
        allowed = np.arange(len(owner)) if utterances is None else np.asarray(utterances, dtype=np.int64)
        self.by_item = allowed[np.argsort(owner[allowed], kind="stable")]
        n_items = len(arrays.labels)
        self.counts = np.bincount(owner[allowed], minlength=n_items)
        self.firsts = np.cumsum(self.counts) - self.counts
        silent = int((self.counts[indices] == 0).sum())
        if speech_fraction == 1.0 and silent:
            raise DataError(
                f"{silent} of {len(indices)} training pictures have no utterance: speak their captions first "
                "(prepare), or set speech_fraction below 1 so that the teacher's features stand in"
            )

    def draw(
        self, items: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """One embedding an item, float32 [b, 1024], and whether it is of speech, [b]."""
        spoken = (rng.random(len(items)) < self.speech_fraction) & (self.counts[items] > 0)
        position = rng.random(len(items))
        rows = [self._one(int(i), bool(s), float(p)) for i, s, p in zip(items, spoken, position, strict=True)]
        return np.stack(rows).astype(np.float32), spoken

    def _one(self, item: int, spoken: bool, position: float) -> NDArray[np.floating]:
        if spoken and self.speech is not None:
            utterance = self.by_item[self.firsts[item] + int(position * self.counts[item])]
            return np.asarray(self.speech[utterance])
        assert self.teacher is not None
        return np.asarray(self.teacher[item, int(position * self.teacher.shape[1])])


class OtherClassSampler:
    """Draws, for an item, another item of another class, uniformly over all such items.

    Raises:
        DataError: the items are of fewer than two classes.
    """

    def __init__(self, indices: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        classes, sizes = np.unique(labels[indices], return_counts=True)
        if len(classes) < 2:
            raise DataError(
                f"the training set has {len(classes)} class ({len(indices)} pictures); a mismatched picture "
                "must be of another class, so at least 2 classes are needed: label what differs differently"
            )
        self.labels = labels
        self.by_class = indices[np.argsort(labels[indices], kind="stable")]
        self.classes, self.sizes, self.firsts = classes, sizes, np.cumsum(sizes) - sizes

    def draw(self, items: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """One item of another class for each of `items`, [b]."""
        place = np.searchsorted(self.classes, self.labels[items])
        own, first = self.sizes[place], self.firsts[place]
        # The items are sorted by class. A place among all but one's own class becomes a place among all by
        # skipping that class, so that one draw is uniform over every other item.
        position = rng.integers(0, len(self.by_class) - own)
        drawn: NDArray[np.int64] = self.by_class[np.where(position < first, position, position + own)]
        return drawn
