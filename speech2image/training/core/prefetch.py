"""Prefetching: threads make the next batches, so that a GPU does not wait for the disk."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class ReadAhead(Generic[Batch]):
    """The same batches, of which the next ones are made while the training uses the present one.

    A batch is a pure function of its step, so it does not matter which thread makes it, or when.

    Args:
        batches: step (0, 1, ...) -> batch; called from several threads at once.
        threads: which make batches, two each ahead of the step last asked for.
    """

    def __init__(self, batches: Callable[[int], Batch], threads: int) -> None:
        self._batches, self._depth = batches, 2 * threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
        self._coming: dict[int, Future[Batch]] = {}

    def __call__(self, step: int) -> Batch:
        """The batch of `step`; an error in making it is raised here."""
        for later in range(step, step + self._depth):
            if later not in self._coming:
                self._coming[later] = self._pool.submit(self._batches, later)
        return self._coming.pop(step).result()

    def close(self) -> None:
        """End the threads; batches not taken are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
