"""Job queue: how many requests are accepted, how many are worked on at once, and for how long."""

import asyncio
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from speech2image.web.errors import RequestRejected

Result = TypeVar("Result")

_MEMORY = 0.1  # share of the newest job in the running mean of their durations


class JobQueue:
    """Runs jobs in threads, a bounded number at once, behind a queue of bounded length.

    A job that takes too long is given up: whoever waits gets an answer, and its place is free again. Nothing
    can stop a thread from outside, so that of a job given up runs on until the job ends. There may be as many
    of these as there are workers; beyond, jobs wait for one of them to end.

    All methods but the jobs run in the event loop's thread, so nothing needs a lock. When the process
    ends, jobs are left as they are: who waits for one was answered, or its connection is gone.

    Args:
        workers: jobs that run at once.
        queue: jobs accepted and not finished, those running included.
        per_client: of these, jobs of one client.
        seconds: longest time of one job, its time in the queue left out; None for no bound.
    """

    def __init__(self, workers: int, queue: int, per_client: int, seconds: float | None = None) -> None:
        self._workers, self._seconds = workers, seconds
        self._slots = Slots(queue, per_client)
        self._turns, self._threads = asyncio.Semaphore(workers), asyncio.Semaphore(2 * workers)
        self._at_work: set[Future[Any]] = set()
        self._mean_seconds = 0.0

    @property
    def accepted(self) -> int:
        """Jobs accepted and not finished."""
        return self._slots.taken

    async def do(self, job: Callable[[], Result], client: str) -> Result:
        """Run `job` in a thread when its turn comes. Cancelled before its turn, it never runs.

        Raises:
            RequestRejected: 503, the queue is full or the job took too long; 429, this client has too many.
        """
        self._slots.enter(client, self.seconds_to_wait())
        begun = asyncio.Event()
        turn = asyncio.ensure_future(self._in_turn(job, begun))
        turn.add_done_callback(lambda done: self._leave(client, done))
        try:
            return await asyncio.shield(turn)
        except asyncio.CancelledError:
            if (
                not begun.is_set()
            ):  # one that runs keeps its place: clients that cut the line get no further one
                turn.cancel()
            raise

    @property
    def is_full(self) -> bool:
        """Whether the next job would be refused whoever asks."""
        return self._slots.is_full

    @property
    def is_at_work(self) -> bool:
        """Whether a job runs for which somebody waits or waited."""
        return bool(self._at_work)

    def seconds_to_wait(self) -> int:
        """After how many seconds a place may be free: 1 to 60."""
        return min(60, max(1, math.ceil(self._mean_seconds * self.accepted / self._workers)))

    async def _in_turn(self, job: Callable[[], Result], begun: asyncio.Event) -> Result:
        async with self._turns:
            await self._threads.acquire()
            begun.set()
            return await self._run(job)

    async def _run(self, job: Callable[[], Result]) -> Result:
        running = _in_thread(lambda: self._timed(job))
        self._at_work.add(running)
        running.add_done_callback(self._at_work.discard)
        ended = asyncio.wrap_future(running)
        ended.add_done_callback(self._end)
        await asyncio.wait({ended}, timeout=self._seconds)
        if not ended.done():
            raise timed_out(self._seconds or math.inf, self.seconds_to_wait())
        return ended.result()

    def _end(self, ended: "asyncio.Future[Any]") -> None:
        self._threads.release()
        _look_at(ended)

    def _leave(self, client: str, turn: "asyncio.Future[Any]") -> None:
        self._slots.leave(client)
        _look_at(turn)

    def _timed(self, job: Callable[[], Result]) -> Result:
        start = time.perf_counter()
        try:
            return job()
        finally:
            self._mean_seconds += _MEMORY * (time.perf_counter() - start - self._mean_seconds)


def _in_thread(job: Callable[[], Result]) -> "Future[Result]":
    """Run `job` in a thread of its own, which keeps no process from ending."""
    answer: Future[Result] = Future()

    def run() -> None:
        try:
            answer.set_result(job())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="job", daemon=True).start()
    return answer


def _look_at(future: "asyncio.Future[Any]") -> None:
    """Take note of an error, so that asyncio does not report it when nobody awaits it any more."""
    if not future.cancelled():
        future.exception()


# ---- slots ---------------------------------------------------------------------------------------


class Slots:
    """A bounded number of places; all methods run in the event loop's thread, so nothing needs a lock.

    Args:
        most: places in all.
        per_client: of these, places of one client.
    """

    def __init__(self, most: int, per_client: int) -> None:
        self._most, self._per_client = most, per_client
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Slots taken."""
        return self._taken.total()

    @property
    def is_full(self) -> bool:
        """Whether all slots are taken."""
        return self.taken >= self._most

    def enter(self, client: str, wait: int) -> None:
        """Take a place.

        Args:
            client: who takes it.
            wait: seconds after which a place may be free.

        Raises:
            RequestRejected: 503, all are taken; 429, this client has taken all that one may have.
        """
        if self.is_full:
            raise RequestRejected(
                503, f"the server is busy: {self._most} requests wait; try again in {wait} s", wait
            )
        if self._taken[client] >= self._per_client:
            raise RequestRejected(
                429, f"{self._per_client} requests of yours are not finished; try again in {wait} s", wait
            )
        self._taken[client] += 1

    def leave(self, client: str) -> None:
        """Free a place of this client."""
        self._taken[client] -= 1
        if self._taken[client] == 0:
            del self._taken[client]


# ---- deadlines -----------------------------------------------------------------------------------


class Deadline:
    """From now on, so many seconds.

    The queue answers a request that takes longer, but cannot stop its thread; this makes the thread stop by
    itself between two steps, and between two reads of a recording.

    Args:
        seconds: of the whole work.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._end = seconds, time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self._end

    def check(self) -> None:
        """Stop when the time is over.

        Raises:
            RequestRejected: 503.
        """
        if self.is_over:
            raise timed_out(self._seconds)

    def watch(self, recording: Any) -> Any:
        """A recording that seems to end when the time is over; what is no open file stays as it is."""
        return _Watched(recording, self) if hasattr(recording, "read") else recording


class _Watched:
    """An open file that seems to end when the time is over, or when its request has ended and closed it.

    It raises nothing: FFmpeg calls it, drops exceptions and prints their tracebacks.
    """

    def __init__(self, file: Any, deadline: Deadline) -> None:
        self._file, self._deadline = file, deadline

    def read(self, size: int = -1) -> bytes:
        return self._unless_over(lambda: self._file.read(size), b"")

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._unless_over(lambda: self._file.seek(offset, whence), 0)

    def tell(self) -> int:
        return self._unless_over(self._file.tell, 0)

    def seekable(self) -> bool:
        return True

    def _unless_over(self, act: Callable[[], Result], otherwise: Result) -> Result:
        if self._deadline.is_over or self._file.closed:
            return otherwise
        try:
            return act()
        except ValueError:
            if self._file.closed:  # since it was looked at
                return otherwise
            raise


def timed_out(seconds: float, wait: int = 1) -> RequestRejected:
    """The refusal of a request whose work took too long."""
    return RequestRejected(
        503,
        f"the request took longer than {seconds:g} s and was given up; send a shorter recording or ask for "
        "fewer pictures, or try again when the server is less busy",
        wait,
        "took_too_long",
    )
