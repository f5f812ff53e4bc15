"""The desk where requests queue: how many are accepted, in all and of one client, and worked on at once."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from speech2image.web.refusals import Refused

Result = TypeVar("Result")

_MEMORY = 0.1  # share of the newest job in the running mean of their durations


class Desk:
    """Runs jobs in threads, a bounded number at once, behind a queue of bounded length.

    All methods but the jobs run in the event loop's thread, so nothing needs a lock.

    Args:
        workers: jobs that run at once.
        queue: jobs accepted and not finished, those running included.
        per_client: of these, jobs of one client.
    """

    def __init__(self, workers: int, queue: int, per_client: int) -> None:
        self._workers, self._queue, self._per_client = workers, queue, per_client
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="desk")
        self._open: Counter[str] = Counter()
        self._mean_seconds = 0.0

    @property
    def accepted(self) -> int:
        """Jobs accepted and not finished."""
        return self._open.total()

    async def do(self, job: Callable[[], Result], client: str) -> Result:
        """Run `job` in a thread when its turn comes. Cancelled before its turn, it never runs.

        Raises:
            Refused: 503, the queue is full; 429, this client has too many jobs already.
        """
        self._admit(client)
        self._open[client] += 1
        future = asyncio.wrap_future(self._pool.submit(self._timed, job))
        future.add_done_callback(lambda done: self._leave(client, done))
        return await future

    def close(self) -> None:
        """Finish the jobs that were accepted, then stop."""
        self._pool.shutdown(wait=True)

    def seconds_to_wait(self) -> int:
        """After how many seconds a place may be free: 1 to 60."""
        return min(60, max(1, math.ceil(self._mean_seconds * self.accepted / self._workers)))

    def _admit(self, client: str) -> None:
        wait = self.seconds_to_wait()
        if self.accepted >= self._queue:
            raise Refused(
                503, f"the server is busy: {self._queue} requests wait; try again in {wait} s", wait
            )
        if self._open[client] >= self._per_client:
            raise Refused(
                429,
                f"{self._per_client} requests of yours are not finished; try again in {wait} s",
                wait,
            )

    def _leave(self, client: str, done: "asyncio.Future[Result]") -> None:
        self._open[client] -= 1
        if self._open[client] == 0:
            del self._open[client]
        if not done.cancelled():
            done.exception()  # looked at, so that one nobody awaits any more is not reported

    def _timed(self, job: Callable[[], Result]) -> Result:
        start = time.perf_counter()
        try:
            return job()
        finally:
            self._mean_seconds += _MEMORY * (time.perf_counter() - start - self._mean_seconds)
