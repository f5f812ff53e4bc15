"""Real set: the test photographs that every figure is compared with, of one size for all models.

Of each photograph of split "test" the central square, scaled as trainings store it (304 / 256 of the size),
and of that the middle, which is what trainings crop at random. A model of smaller pictures is compared with
the same photographs: what it lacks in detail counts. Features are kept beside the shards under the digest of
all they depend on, so every model finds them again.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from speech2image.data.pairs import picture_shards, stream_pictures
from speech2image.data.pictures import central_square, picture_size
from speech2image.data.progress import track
from speech2image.data.shards.array_files import ResumableArray
from speech2image.data.shards.arrays import PairArrays, stored_side
from speech2image.data.shards.header import read_header
from speech2image.errors import DataError
from speech2image.evaluation.drawing import BLOCK
from speech2image.evaluation.utterances import evenly
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
        self.squares = _middle(arrays.pictures(size), size)

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


def real_set(arrays: PairArrays, size: int, network: FeatureNetwork) -> RealSet:
    """Features of all test photographs, from `arrays/` of the data set where they lie already.

    Args:
        arrays: the prepared data.
        size: side of the photographs in pixels.
        network: reads them.

    Raises:
        DataError: there are fewer than four test photographs.
        OutputError: the data folder cannot be written.
    """
    samples = arrays.samples_of("test")
    labels = arrays.labels[samples]
    if len(samples) < 4:
        raise DataError(f"{arrays.folder} has {len(samples)} test photographs; two halves need at least 4")
    return RealSet(_features(arrays, samples, size, network, "test"), samples, labels, *halves(labels))


def training_photographs(
    arrays: PairArrays, size: int, network: FeatureNetwork, most: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features [n, dim] and labels [n] of about `most` training photographs, as many of each class.

    They are cropped and kept as those of `real_set`; none of them is a test photograph.

    Raises:
        OutputError: the data folder cannot be written.
    """
    train = arrays.samples_of("train")
    labels = arrays.labels[train]
    each = max(5, most // max(1, len(np.unique(labels))))
    chosen = np.sort(np.concatenate([evenly(train[labels == label], each) for label in np.unique(labels)]))
    return _features(arrays, chosen, size, network, f"train, {each} a class"), arrays.labels[chosen]


def smaller_than(arrays: PairArrays, size: int) -> int:
    """How many test photographs have a side of fewer than `size` pixels, so that they are enlarged."""
    wanted = {arrays.ids[i] for i in arrays.samples_of("test")}
    sizes = (
        picture_size(sample.image, sample.id)
        for sample in stream_pictures(picture_shards(arrays.folder))
        if sample.id in wanted
    )
    return sum(min(sides) < size for sides in sizes)


def _features(
    arrays: PairArrays, samples: NDArray[np.int64], size: int, network: FeatureNetwork, kind: str
) -> NDArray[np.float32]:
    """Features of some photographs (indices sorted), kept in `arrays/` of the data set."""
    path = arrays.folder / "arrays" / f"features-{_digest(arrays, size, network, kind)}.npy"
    rows = ResumableArray(path, (len(samples), network.dim))
    blocks = range(rows.done, len(samples), BLOCK)
    squares = _squares(arrays, samples[rows.done :], size)
    for start in track(blocks, f"features of photographs ({kind})", len(blocks)):
        rows.write(start, network(np.stack(list(islice(squares, BLOCK)))))
    return rows.array


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


def crop(size: int) -> str:
    """How photographs are cropped, in words."""
    stored = stored_side(size)
    return f"central square at {stored} x {stored}, of it the middle {size} x {size}"


def _squares(arrays: PairArrays, samples: NDArray[np.int64], size: int) -> Iterator[NDArray[np.uint8]]:
    """Cropped photographs, in the order of the shards, which is that of `samples`."""
    wanted = {arrays.ids[i] for i in samples}
    if wanted:
        for sample in stream_pictures(picture_shards(arrays.folder)):
            if sample.id in wanted:
                yield _middle(central_square(sample.image, stored_side(size), sample.id)[None], size)[0]


def _middle(stored: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The middle of squares [n, S, S, 3]: a view [n, size, size, 3]."""
    edge = (stored.shape[1] - size) // 2
    return stored[:, edge : edge + size, edge : edge + size]


def _digest(arrays: PairArrays, size: int, network: FeatureNetwork, kind: str) -> str:
    parts = (pictures_digest(arrays), crop(size), network.name, network.checksum, kind)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
