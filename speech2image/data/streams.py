"""Streamed data sets: training shards from a folder or from elsewhere, some of which are held at a time.

A `Stream` knows all of a set that a training has to know at once (sizes, voices, classes, the teacher's mean)
from the shards' headers; `load` brings the samples of a few shards into memory, as `StreamedArrays`, which
read like `PairArrays`. Nothing here grows with the number of samples but one small record a shard.
"""

import mmap
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.audio.front_ends import PAPER, FrontEnd, stated_front_end
from speech2image.data.pictures import central_square
from speech2image.data.processes import gathered, share
from speech2image.data.shards.arrays import stored_side
from speech2image.data.shards.rows import EndToEnd, Rows
from speech2image.data.shards.training_shards import (
    TrainingSample,
    read_training_header,
    read_training_shard,
    training_shards,
)
from speech2image.data.shards.urls import expand, is_address
from speech2image.errors import DataError

_READERS = 16
"""Headers read at once: each waits for its server more than it reads."""


def is_stream(name: str) -> bool:
    """Whether --data names a stream: addresses of training shards, or a folder of them."""
    return is_address(name) or bool(training_shards(Path(name)))


@dataclass(frozen=True)
class StreamedShard:
    """What is kept of a shard's header.

    Attributes:
        url: where it lies.
        samples: of each split.
        utterances: split -> voice -> number.
    """

    url: str
    samples: dict[str, int]
    utterances: dict[str, dict[str, int]]


class Stream:
    """Training shards; make one with `Stream.open`.

    Attributes:
        shards: of all, in order.
        class_numbers: (label, name) -> number; sets whose numbers mean different classes are told apart.
        front_end: what made the frames.
        embeddings: whether speech embeddings are in all of them.
        teacher_mean: mean teacher feature of the training pictures, float32 [1024].
    """

    def __init__(
        self,
        shards: Sequence[StreamedShard],
        class_numbers: dict[tuple[int, str], int],
        front_end: FrontEnd,
        embeddings: bool,
        teacher_mean: NDArray[np.float32],
    ) -> None:
        self.shards, self.class_numbers, self.front_end = list(shards), class_numbers, front_end
        self.embeddings, self.teacher_mean = embeddings, teacher_mean

    @classmethod
    def open(cls, names: Sequence[str], *, front_end: FrontEnd = PAPER) -> "Stream":
        """Read the headers of all shards; processes of one training share the reading.

        Args:
            names: addresses with or without braces, and folders of training shards.
            front_end: what the training takes frames of.

        Raises:
            DataError: a shard is missing or no training shard, they hold frames of another front end or
                different numbers of crops, or there is no sample for training.
            SettingsError: braces do not match.
        """
        urls = [url for name in names for url in _urls(name)]
        if len(set(urls)) < len(urls):
            raise DataError(f"a shard is named twice: {', '.join(names)}")
        with ThreadPoolExecutor(_READERS) as pool:
            headers = gathered(list(pool.map(read_training_header, share(urls))))
        if len({header.crops for header in headers}) > 1 or len({h.embeddings for h in headers}) > 1:
            raise DataError(
                "the shards were packed with different numbers of crops, or some of them with speech "
                "embeddings and some without; pack them alike (prepare stream)"
            )
        for url, header in zip(urls, headers, strict=True):
            if stated_front_end(header.front_end, url) != front_end:
                raise DataError(
                    f"{url} holds frames of {header.front_end['name']}, this training takes "
                    f"{front_end.name}; pack them with: speech2image prepare stream --front-end "
                    f"{front_end.name}"
                )
        classes = sorted({place for header in headers for place in header.classes})
        number = sum(header.samples.get("train", 0) for header in headers)
        if not number:
            raise DataError(f"no sample for training in {', '.join(names)}")
        total = np.sum([np.broadcast_to(h.sum_of("train"), 1024) for h in headers], axis=0)
        return cls(
            [StreamedShard(u, h.samples, h.utterances) for u, h in zip(urls, headers, strict=True)],
            {place: number for number, place in enumerate(classes)},
            front_end,
            headers[0].embeddings,
            (total / number).astype(np.float32),
        )

    def load(self, places: Sequence[int], *, pictures: bool, frames: bool) -> "StreamedArrays":
        """The samples of some shards, in memory.

        Args:
            places: which of `shards`.
            pictures: keep the pictures.
            frames: keep the frames.

        Raises:
            DataError: a shard cannot be read, is cut short, or changed since its header was read.
        """
        read = (self._read(self.shards[place], pictures, frames) for place in places)
        return StreamedArrays(read, self.class_numbers, self.front_end)

    def _read(self, shard: StreamedShard, pictures: bool, frames: bool) -> list[TrainingSample]:
        found = read_training_shard(shard.url, pictures=pictures, frames=frames)
        if len(found) != sum(shard.samples.values()):
            raise DataError(f"{shard.url} changed while it was trained on; start again")
        return found


def _urls(name: str) -> list[str]:
    if is_address(name):
        return expand(name)
    return [str(path) for path in training_shards(Path(name))]


def _pages(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array of zeros in memory of its own, which goes back to the system when it is let go.

    Trainings keep freed memory (`run.keep_freed_memory`), and windows come and go: taken from the heap, they
    would leave it in crumbs, and a process would grow for hours.
    """
    size = int(np.prod(shape))
    pages = mmap.mmap(-1, max(1, size * dtype.itemsize))
    return np.frombuffer(pages, dtype, size).reshape(shape)


def _held(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Arrays end to end in such memory."""
    whole = _pages((sum(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
    np.concatenate(arrays, out=whole)
    return whole


class _Shard:
    """The large parts of a shard's samples, without the many small objects they came as."""

    def __init__(self, samples: Sequence[TrainingSample]) -> None:
        self.teacher = _held([sample.teacher[None] for sample in samples])
        frames = [clip for sample in samples for clip in sample.frames]
        self.lengths = np.array([len(clip) for clip in frames], dtype=np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.frames = _held(frames) if frames else np.zeros((0, 1), np.float16)
        embeddings = [sample.embeddings for sample in samples if sample.embeddings is not None]
        self.embeddings = _held(embeddings) if embeddings else None
        self.images = _held([np.frombuffer(sample.image, np.uint8) for sample in samples])
        self.image_ends = np.cumsum([len(sample.image) for sample in samples])


class StreamedArrays(Rows):
    """Samples of some shards as trainings read them; attributes as of `PairArrays`.

    Args:
        shards: the samples of each, in order; taken one after the other.
        class_numbers: see `Stream`.
        front_end: of the frames.
    """

    def __init__(
        self,
        shards: Iterable[Sequence[TrainingSample]],
        class_numbers: dict[tuple[int, str], int],
        front_end: FrontEnd,
    ) -> None:
        self.front_end = front_end
        self.ids: list[str] = []
        self.captions: list[tuple[str, ...]] = []
        splits, labels, counts, spoken = [], [], [], []
        self._shards: list[_Shard] = []
        for samples in shards:
            self.ids += [sample.id for sample in samples]
            self.captions += [sample.captions for sample in samples]
            splits += [sample.split for sample in samples]
            labels += [class_numbers[sample.label, sample.class_name] for sample in samples]
            counts += [len(sample.spoken) for sample in samples]
            spoken += [one for sample in samples for one in sample.spoken]
            self._shards.append(_Shard(samples))
        self.splits = np.array(splits, dtype=np.str_)
        self.labels = np.array(labels, dtype=np.int64)
        self.class_names = {number: name for (_, name), number in class_numbers.items()}
        self.utterance_sample = np.repeat(np.arange(len(self.ids)), counts).astype(np.int64)
        self.utterance_caption = np.array([caption for caption, _ in spoken], dtype=np.int64)
        self.utterance_voice = np.array([voice for _, voice in spoken], dtype=np.str_)
        self.teacher: NDArray[np.float16] = _held([shard.teacher for shard in self._shards])
        for shard in self._shards:
            shard.teacher = shard.teacher[:0].copy()
        self._place = EndToEnd(len(shard.lengths) for shard in self._shards)
        self._squares: dict[int, NDArray[np.uint8]] = {}

    @cached_property
    def embeddings(self) -> NDArray[np.float16]:
        """Speech embedding of every utterance, float16 [U, 1024].

        Raises:
            DataError: the shards hold none.
        """
        parts = [shard.embeddings for shard in self._shards if shard.embeddings is not None]
        found = _held(parts) if parts else np.zeros((0, 1), np.float16)
        if len(found) != len(self.utterance_sample):
            raise DataError(
                "the stream holds no speech embeddings; put them in with: speech2image train embeddings "
                "--data ADDRESSES --encoder CHECKPOINT --out FOLDER"
            )
        return found

    def log_mel(self, u: int) -> NDArray[np.float32]:
        """Frames of utterance `u`, float32 [40, n_frames]."""
        place, i = self._place(u)
        shard = self._shards[place]
        start = shard.starts[i]
        return np.ascontiguousarray(shard.frames[start : start + shard.lengths[i]].T, dtype=np.float32)

    def n_frames(self) -> NDArray[np.int64]:
        """Number of frames of every utterance, int64 [U]."""
        return np.concatenate([np.zeros(0, np.int64), *(shard.lengths for shard in self._shards)])

    def pictures(self, size: int) -> NDArray[np.uint8]:
        """All pictures for training at `size` x `size`, uint8 [N, S, S, 3], see `PairArrays.pictures`."""
        if size not in self._squares:
            side = stored_side(size)
            squares = _pages((len(self.ids), side, side, 3), np.dtype(np.uint8))
            for row, image, name in zip(squares, self._images(), self.ids, strict=True):
                row[...] = central_square(image, side, name)
            self._squares[size] = squares
        return self._squares[size]

    def _images(self) -> Iterator[bytes]:
        """The pictures' files."""
        for shard in self._shards:
            for image in np.split(shard.images, shard.image_ends[:-1]):
                yield image.tobytes()
