"""Streamed data sets: training shards from a folder or from elsewhere, some of which are held at a time.

A `Stream` knows all of a set that a training has to know at once (sizes, voices, classes, the teacher's mean)
from the shards' headers; `load` brings the samples of a few shards into memory, as `StreamedArrays`, which
read like `PairArrays`. Nothing here grows with the number of samples but one small record a shard.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image.audio.front_ends import PAPER, FrontEnd, stated_front_end
from speech2image.data.pictures import central_square
from speech2image.data.processes import gathered, share
from speech2image.data.shards.arrays import stored_side
from speech2image.data.shards.rows import Rows
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
        samples: list[TrainingSample] = []
        for place in places:
            shard = self.shards[place]
            found = read_training_shard(shard.url, pictures=pictures, frames=frames)
            if len(found) != sum(shard.samples.values()):
                raise DataError(f"{shard.url} changed while it was trained on; start again")
            samples += found
        return StreamedArrays(samples, self.class_numbers, self.front_end)


def _urls(name: str) -> list[str]:
    if is_address(name):
        return expand(name)
    return [str(path) for path in training_shards(Path(name))]


class StreamedArrays(Rows):
    """Samples of some shards as trainings read them; attributes as of `PairArrays`.

    Args:
        samples: in order.
        class_numbers: see `Stream`.
        front_end: of the frames.
    """

    def __init__(
        self,
        samples: Sequence[TrainingSample],
        class_numbers: dict[tuple[int, str], int],
        front_end: FrontEnd,
    ) -> None:
        self.front_end = front_end
        self.ids = [sample.id for sample in samples]
        self.captions = [sample.captions for sample in samples]
        self.splits = np.array([sample.split for sample in samples], dtype=np.str_)
        self.labels = np.array([class_numbers[s.label, s.class_name] for s in samples], dtype=np.int64)
        self.class_names = {number: name for (_, name), number in class_numbers.items()}
        counts = [len(sample.spoken) for sample in samples]
        self.utterance_sample = np.repeat(np.arange(len(samples)), counts).astype(np.int64)
        spoken = [one for sample in samples for one in sample.spoken]
        self.utterance_caption = np.array([caption for caption, _ in spoken], dtype=np.int64)
        self.utterance_voice = np.array([voice for _, voice in spoken], dtype=np.str_)
        self.teacher: NDArray[np.float16] = np.stack([sample.teacher for sample in samples])
        frames = [clip for sample in samples for clip in sample.frames]
        self._lengths = np.array([len(clip) for clip in frames], dtype=np.int64)
        self._starts = np.cumsum(self._lengths) - self._lengths
        # One array of all: thousands of small ones would leave the memory in crumbs.
        self._frames = np.concatenate(frames) if frames else np.zeros((0, 1), np.float16)
        self._embeddings = [s.embeddings for s in samples if s.embeddings is not None]
        self._images = [sample.image for sample in samples]
        self._squares: dict[int, NDArray[np.uint8]] = {}

    @cached_property
    def embeddings(self) -> NDArray[np.float16]:
        """Speech embedding of every utterance, float16 [U, 1024].

        Raises:
            DataError: the shards hold none.
        """
        found = np.concatenate(self._embeddings) if self._embeddings else np.zeros((0, 1), np.float16)
        if len(found) != len(self.utterance_sample):
            raise DataError(
                "the stream holds no speech embeddings; put them in with: speech2image train embeddings "
                "--data ADDRESSES --encoder CHECKPOINT --out FOLDER"
            )
        return found

    def log_mel(self, u: int) -> NDArray[np.float32]:
        """Frames of utterance `u`, float32 [40, n_frames]."""
        start = self._starts[u]
        return np.ascontiguousarray(self._frames[start : start + self._lengths[u]].T, dtype=np.float32)

    def n_frames(self) -> NDArray[np.int64]:
        """Number of frames of every utterance, int64 [U]."""
        return self._lengths

    def pictures(self, size: int) -> NDArray[np.uint8]:
        """All pictures for training at `size` x `size`, uint8 [N, S, S, 3], see `PairArrays.pictures`."""
        if size not in self._squares:
            side = stored_side(size)
            squares = np.empty((len(self.ids), side, side, 3), np.uint8)
            for row, image, name in zip(squares, self._images, self.ids, strict=True):
                row[...] = central_square(image, side, name)
            self._squares[size] = squares
            self._images = [b""] * len(self.ids)
        return self._squares[size]
