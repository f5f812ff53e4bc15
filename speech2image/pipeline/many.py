"""Many recordings: a function over a list in threads, in order, with results as they come."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from speech2image.pipeline.noise import check_whole
from speech2image.pipeline.onnx import default_threads

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_THREADS = 64
AHEAD = 2
"""Items that wait or are done for each thread, so that a slow reader of the results fills no memory."""


def check_threads(threads: int | None) -> int:
    """How many recordings to work on at once; None stands for the cores this process may use.

    Raises:
        SettingsError: not a whole number from 1 to 64.
    """
    if threads is None:
        return min(default_threads(), MAX_THREADS)
    return check_whole(threads, "threads", MAX_THREADS)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield `function(item)` of every item, in their order, made by `threads` at once.

    Items are taken as they are needed, `AHEAD` times `threads` at most before their results are read. An
    error in one is raised where its result would come; what has not begun by then never does.
    """
    if threads == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
