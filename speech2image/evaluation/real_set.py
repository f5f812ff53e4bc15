"""The real set every figure is compared with: photographs of unseen classes, at the model's picture size.

One protocol for all models: of each photograph of split "test" the central square, scaled as trainings store
it (304 / 256 of the picture size), and of that the middle, which is what trainings crop at random. Features
are kept beside the shards under the digest of all they depend on, so every model finds them again.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speech2image.data.arrays import PairArrays
from speech2image.data.pairs import picture_shards, read_header
from speech2image.data.progress import track
from speech2image.errors import DataError
from speech2image.evaluation.drawing import BLOCK
from speech2image.evaluation.stored_rows import StoredRows
from speech2image.metrics.feature_network import FeatureNetwork

HALVES_SEED = 0
"""The halves are part of the protocol: the same for every model and every `--seed`."""


class Photographs:
    """Real photographs at a model's picture size.

    Args:
        arrays: the prepared data.
        size: side in pixels.
    """

    def __init__(self, arrays: PairArrays, size: int) -> None:
        self.arrays, self.size = arrays, size
        stored = arrays.pictures(size)
        self.stored_side = int(stored.shape[1])
        edge = (self.stored_side - size) // 2
        self.squares = stored[:, edge : edge + size, edge : edge + size]

    @property
    def crop(self) -> str:
        """The crop in words."""
        stored, size = self.stored_side, self.size
        return f"central square at {stored} x {stored}, of it the middle {size} x {size}"

    def of(self, split: str) -> tuple[NDArray[np.int64], list[NDArray[np.uint8]], list[tuple[str, ...]]]:
        """Indices, views of the pictures on disk, and captions of a split."""
        indices = self.arrays.samples_of(split)
        return indices, [self.squares[i] for i in indices], [self.arrays.captions[i] for i in indices]


@dataclass(frozen=True)
class RealSet:
    """Features of the test photographs, and the protocol's two halves of them.

    Attributes:
        features: memory-mapped float32 [n, dim].
        samples: which pictures they are, [n].
        labels: their classes, [n].
        first, second: places of the halves, stratified by class, sorted.
    """

    features: NDArray[np.float32]
    samples: NDArray[np.int64]
    labels: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]


def real_set(photographs: Photographs, network: FeatureNetwork) -> RealSet:
    """Features of all test photographs, from `arrays/` of the data set where they lie already.

    Raises:
        DataError: there are fewer than four test photographs.
        OutputError: the data folder cannot be written.
    """
    arrays = photographs.arrays
    samples = arrays.samples_of("test")
    if len(samples) < 4:
        raise DataError(f"{arrays.folder} has {len(samples)} test photographs; two halves need at least 4")
    path = arrays.folder / "arrays" / f"features-{_digest(photographs, network)}.npy"
    rows = StoredRows(path, len(samples), network.dim, np.float32)
    starts = range(rows.done, len(samples), BLOCK)
    for start in track(starts, "features of photographs", len(starts)):
        block = np.stack([photographs.squares[i] for i in samples[start : start + BLOCK]])
        rows.write(start, network(block))
    labels = arrays.labels[samples]
    return RealSet(rows.array, samples, labels, *halves(labels))


def halves(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of two halves of a set, stratified by class: of each class every other place at random.

    Whose turn it is runs on from class to class, so that the halves differ by at most one.
    """
    order = np.random.default_rng(HALVES_SEED).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(order[::2]), np.sort(order[1::2])


def pictures_digest(arrays: PairArrays) -> str:
    """One checksum of all picture shards' names, digests and rows."""
    digest = hashlib.sha256()
    for path in picture_shards(arrays.folder):
        header = read_header(path)
        digest.update(repr((path.name, header.digest, header.rows)).encode())
    return digest.hexdigest()


def _digest(photographs: Photographs, network: FeatureNetwork) -> str:
    parts = (pictures_digest(photographs.arrays), photographs.crop, network.name, network.checksum, "test")
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
