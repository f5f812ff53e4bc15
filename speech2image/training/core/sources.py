"""Sources of batches: a prepared data set of which any row can be read, or a stream of which some can.

A recipe says how batches are made from arrays, and how many items a shard gives; the source decides which
arrays: all there are, or one window of a stream after the other.
"""

import gc
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from speech2image.data.streams import Stream, StreamedArrays, StreamedShard
from speech2image.errors import DataError
from speech2image.training.core.run import RunSettings
from speech2image.training.core.speech_batches import mean_teacher_feature

Batch = TypeVar("Batch")
Batch_co = TypeVar("Batch_co", covariant=True)


class Part(NamedTuple):
    """This process's place among those that share the arrays its batches are made from.

    Attributes:
        rank: number of the process; draws depend on it.
        processes: how many share the arrays: all of the training, or in a stream this one alone.
        first_number: added to numbers of pictures, so that those of other processes' arrays differ.
    """

    rank: int = 0
    processes: int = 1
    first_number: int = 0


class Batches(Protocol[Batch_co]):
    """Batches of the same arrays over and over, every time in another order."""

    def __call__(self, step: int) -> Batch_co:
        """The batch of `step` (0, 1, ...)."""
        ...

    def of(self, order: int, place: int, step: int) -> Batch_co:
        """The batch at `place` of the order number `order`, with the draws of `step`."""
        ...


@dataclass(frozen=True)
class Reading(Generic[Batch]):
    """How a recipe makes its batches.

    Attributes:
        make: arrays, and this process's part of them, -> batches.
        items: a streamed shard's items (utterances, pictures) for training.
        batch_size: items a step and process.
        pictures: whether the pictures are read.
        frames: whether the frames of speech are.
    """

    make: Callable[[Any, Part], Batches[Batch]]
    items: Callable[[StreamedShard], int]
    batch_size: int
    pictures: bool
    frames: bool


class Source(Protocol):
    """What a recipe asks of its data.

    Attributes:
        arrays: all of the data; None of a stream, on which nothing is measured.
        sample: rows to look at once, before the first step: all, or a stream's first window.
        teacher_mean: mean teacher feature of the training pictures, float32 [1024].
    """

    @property
    def arrays(self) -> Any: ...

    @property
    def sample(self) -> Any: ...

    @property
    def teacher_mean(self) -> NDArray[np.float32]: ...

    def batches(self, reading: Reading[Batch]) -> Callable[[int], Batch]:
        """Step (0, 1, ...) -> this process's batch, a pure function of seed, process and step."""
        ...


def source_of(data: Any, settings: RunSettings, fabric: Fabric) -> Source:
    """The source of what --data named.

    Args:
        data: arrays of a prepared data set, or a `Stream`.
        settings: of the training; a stream is read by its `seed` and `buffer`.
        fabric: says which process this is.
    """
    rank, count = fabric.global_rank, fabric.world_size
    return Streamed(data, settings, rank, count) if isinstance(data, Stream) else Whole(data, rank, count)


class Whole:
    """A prepared data set; see `Source`."""

    def __init__(self, arrays: Any, rank: int = 0, count: int = 1) -> None:
        self.arrays = self.sample = arrays
        self._part = Part(rank, count)

    @property
    def teacher_mean(self) -> NDArray[np.float32]:
        return mean_teacher_feature(self.arrays)

    def batches(self, reading: Reading[Batch]) -> Callable[[int], Batch]:
        return reading.make(self.arrays, self._part)


class Streamed:
    """A stream; see `Source`.

    Args:
        stream: the shards.
        settings: `seed` decides the order of the shards, `buffer` how many pictures are held.
        rank, count: this process's place among those that share the shards.
    """

    arrays = None

    def __init__(self, stream: Stream, settings: RunSettings, rank: int = 0, count: int = 1) -> None:
        if len(stream.shards) < count:
            raise DataError(
                f"{len(stream.shards)} shards for {count} processes: each needs one at least; pack smaller "
                "ones (prepare stream --samples-per-shard)"
            )
        self.stream, self.settings, self.rank, self.count = stream, settings, rank, count

    @property
    def sample(self) -> StreamedArrays:
        # every process looks at the same: what is fitted to it has to be the same
        first = _windows(self.stream, self.settings, 0, 0, self.count)[0]
        return self.stream.load(first, pictures=True, frames=False)

    @property
    def teacher_mean(self) -> NDArray[np.float32]:
        return self.stream.teacher_mean

    def batches(self, reading: Reading[Batch]) -> Callable[[int], Batch]:
        return StreamedBatches(self.stream, reading, self.settings, self.rank, self.count)


def _windows(stream: Stream, settings: RunSettings, epoch: int, rank: int, count: int) -> list[list[int]]:
    """The shards that a process holds together, one group after the other, in an epoch.

    The shards come in another order every epoch, dealt out to the processes in turn. A window is what may be
    held while the next one is read: with further threads that read ahead, a third of the buffer, else half.
    """
    held = 3 if settings.read_ahead else 2
    order = np.random.default_rng((settings.seed, epoch)).permutation(len(stream.shards))[rank::count]
    windows: list[list[int]] = []
    room = 0
    for place in order.tolist():
        size = sum(stream.shards[place].samples.values())
        if size > room or not windows:
            windows.append([])
            room = max(size, settings.buffer // held)
        windows[-1].append(place)
        room -= size
    return [sorted(window) for window in windows]


class _Epoch(NamedTuple):
    """One pass over the shards: this process's windows, their steps, all steps that every process has."""

    windows: list[list[int]]
    ends: NDArray[np.int64]
    steps: int


class StreamedBatches(Generic[Batch]):
    """Batches of a stream for step 0, 1, 2, ...

    Step `t` is a pure function of seed, process, buffer and t, as for data that lie here: to go on from a
    checkpoint, the window of its step is read anew. A thread reads the next window meanwhile. Each window's
    last items that fill no batch are left out, and of an epoch what one process has more than another.

    Args:
        stream: the shards.
        reading: how batches are made.
        settings: `seed`, `buffer` and `read_ahead`.
        rank, count: this process's place.

    Raises:
        DataError: there is nothing to train on.
    """

    def __init__(
        self, stream: Stream, reading: Reading[Batch], settings: RunSettings, rank: int = 0, count: int = 1
    ) -> None:
        self.stream, self.reading, self.settings = stream, reading, settings
        self.rank, self.count = rank, count
        self._items = [reading.items(shard) for shard in stream.shards]
        self._plan = lru_cache(maxsize=3)(self._epoch)
        if not self._plan(0).steps:
            raise DataError(
                "no utterance to train on in the stream (or, with several processes, in the shards of one of "
                "them); are all voices held out?"
            )
        self._first_steps = [0]
        self._lock = threading.Lock()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="stream")
        self._held: dict[tuple[int, int], Future[Batches[Batch]]] = {}

    def __call__(self, step: int) -> Batch:
        """The batch of `step` (0, 1, ...).

        Raises:
            DataError: a shard cannot be read or is cut short.
        """
        with self._lock:
            epoch, window, place = self._locate(step)
            batches = self._window(epoch, window)
        order = epoch * len(self._plan(epoch).windows) + window
        return batches.result().of(order, place, step)

    def _locate(self, step: int) -> tuple[int, int, int]:
        """Epoch and window of a step, and its place there."""
        while self._first_steps[-1] <= step:
            epoch = len(self._first_steps) - 1
            self._first_steps.append(self._first_steps[-1] + self._plan(epoch).steps)
        epoch = int(np.searchsorted(self._first_steps, step, side="right")) - 1
        within = step - self._first_steps[epoch]
        ends = self._plan(epoch).ends
        window = int(np.searchsorted(ends, within, side="right"))
        return epoch, window, within - (int(ends[window - 1]) if window else 0)

    def _window(self, epoch: int, window: int) -> Future[Batches[Batch]]:
        """A window being read or there; the one after it is then read, too."""
        plan = self._plan(epoch)
        last = window + 1 == len(plan.windows) or plan.ends[window] >= plan.steps
        following = (epoch + 1, 0) if last else (epoch, window + 1)
        for key in ((epoch, window), following):
            if key not in self._held:
                self._held[key] = self._reader.submit(self._read, *key)
        # Steps that are made ahead may still ask for the window before.
        oldest = 3 if self.settings.read_ahead else 2
        for key in sorted(self._held)[:-oldest]:
            del self._held[key]
        return self._held[epoch, window]

    def _read(self, epoch: int, window: int) -> Batches[Batch]:
        gc.collect()  # batches that cache their orders refer to themselves, and hold their window
        shards = self._plan(epoch).windows[window]
        arrays = self.stream.load(shards, pictures=self.reading.pictures, frames=self.reading.frames)
        return self.reading.make(arrays, Part(self.rank, 1, self.rank << 32))

    def _epoch(self, epoch: int) -> _Epoch:
        own, steps = [], []
        for rank in range(self.count):
            windows = _windows(self.stream, self.settings, epoch, rank, self.count)
            windows = [window for window in windows if self._steps(window)]
            steps.append(sum(map(self._steps, windows)))
            if rank == self.rank:
                own = windows
        return _Epoch(own, np.cumsum([self._steps(window) for window in own]), min(steps))

    def _steps(self, window: Sequence[int]) -> int:
        items = sum(self._items[place] for place in window)
        return max(1, items // self.reading.batch_size) if items else 0
