"""Sets of drawn pictures: drawn in batches; features and colours read off them are kept, pictures are not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speech2image.data.progress import progress_bar
from speech2image.data.shards.array_files import ResumableArray
from speech2image.data.shards.arrays import PairArrays
from speech2image.evaluation.embeddings import Embeddings
from speech2image.pipeline.base import Route

BLOCK = 16
"""Pictures held at once."""
NAMES = {
    "kept out": "drawn from voices kept out",
    "kept out, natural voices": "drawn from natural voices kept out",
    "kept out, people": "drawn from people kept out",
    "heard": "drawn from voices heard in training",
    "heard, natural voices": "drawn from natural voices heard in training",
    "heard, people": "drawn from people heard in training",
    "noise": "drawn from noise (floor)",
}
"""Sets of pictures, of each of `utterances.VOICES` and of noise -> what the tables call them."""

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class DrawnSet:
    """Pictures to draw: `per_utterance` of each of n utterances.

    Attributes:
        name: one of `NAMES`, or of an experiment.
        utterances: [n]; each names the caption, and with it the noise.
        condition: rows of utterances -> their conditions [rows, size].
        per_utterance: pictures of each.
        seed: of the noise.
    """

    name: str
    utterances: NDArray[np.int64]
    condition: Callable[[slice], NDArray[np.float32]]
    per_utterance: int
    seed: int

    def __len__(self) -> int:
        return len(self.utterances) * self.per_utterance

    @property
    def owners(self) -> NDArray[np.int64]:
        """The utterance of each picture, [n * per_utterance]."""
        return np.repeat(self.utterances, self.per_utterance)


@dataclass(frozen=True)
class Reading:
    """Something read off pictures [b, h, w, 3], and where its rows [b, width] are kept."""

    rows: ResumableArray
    read: Callable[[Pictures], NDArray]


def spoken_set(name: str, speech: Embeddings, utterances: NDArray[np.int64], per: int, seed: int) -> DrawnSet:
    """Pictures of what was said."""
    return DrawnSet(name, utterances, lambda rows: speech.of(utterances[rows]), per, seed)


def noise_set(speech: Embeddings, utterances: NDArray[np.int64], per: int, seed: int) -> DrawnSet:
    """Pictures of nothing that was said: conditions are normal numbers with the embeddings' mean and spread.

    The mean and the spread are taken over all numbers of all embeddings, so that no direction that means
    something is left.
    """
    vectors = speech.of(utterances)
    mean, spread, size = float(vectors.mean()), float(vectors.std()), vectors.shape[1]

    def condition(rows: slice) -> NDArray[np.float32]:
        drawn = [np.random.default_rng([seed, 11, row]).normal(mean, spread, size) for row in _rows(rows)]
        return np.array(drawn, dtype=np.float32)

    return DrawnSet("noise", utterances, condition, per, seed)


def _rows(rows: slice) -> range:
    return range(rows.start, rows.stop)


def draw(route: Route, arrays: PairArrays, pictures: DrawnSet, readings: Sequence[Reading]) -> None:
    """Draw what is not yet read, and read it; goes on where an earlier call was interrupted."""
    per = pictures.per_utterance
    first = min((reading.rows.done for reading in readings), default=len(pictures)) // per
    step, total = max(1, BLOCK // per), len(pictures.utterances)
    with progress_bar() as bar:
        task = bar.add_task(f"drawing: {pictures.name}", total=(total - first) * per)
        for start in range(first, total, step):
            rows = slice(start, min(start + step, total))
            _read(draw_block(route, arrays, pictures, rows), start * per, readings)
            bar.advance(task, (rows.stop - rows.start) * per)


def draw_block(route: Route, arrays: PairArrays, pictures: DrawnSet, rows: slice) -> Pictures:
    """The pictures of some utterances, uint8 [rows * per_utterance, size, size, 3]."""
    drawn = []
    for u, condition in zip(pictures.utterances[rows].tolist(), pictures.condition(rows), strict=True):
        images = route.generate(condition, pictures.per_utterance, noise_seed(arrays, u, pictures.seed))
        drawn += [np.asarray(image) for image in images]
    return np.stack(drawn)


def _read(block: Pictures, start: int, readings: Sequence[Reading]) -> None:
    for reading in readings:
        if reading.rows.done < start + len(block):
            reading.rows.write(start, reading.read(block))


def noise_seed(arrays: PairArrays, u: int, seed: int) -> int:
    """Where the noise of an utterance comes from: the same in every voice that speaks its caption."""
    key = [seed, int(arrays.utterance_sample[u]), int(arrays.utterance_caption[u]) + 1]
    return int(np.random.SeedSequence(key).generate_state(1)[0])
