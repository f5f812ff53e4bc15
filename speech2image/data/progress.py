"""Progress: a bar with the time left on a terminal, else a line every half minute; on standard error."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

Item = TypeVar("Item")

LINE_EVERY = 30.0
"""Seconds between two lines where there is no terminal (in a log file); shorter work writes none."""


class Progress(Protocol):
    """How far some long work is."""

    def advance(self, n: float = 1) -> None:
        """Count `n` more as done."""


class Lines:
    """Progress as lines, for a log file.

    The time left follows from what was done since the first item was counted, so that what came before it
    (reading lists, loading networks) does not count.

    Args:
        description: what is done.
        total: how many items there are.
        clock: seconds; replaced in tests.
    """

    def __init__(self, description: str, total: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._description, self._total, self._clock = description, total, clock
        self._done = 0.0
        self._last_line = clock()
        self._first: tuple[float, float] | None = None

    def advance(self, n: float = 1) -> None:
        """Count `n` more as done; write a line if half a minute has passed since the last."""
        now = self._clock()
        self._done += n
        if self._first is None:
            self._first = now, self._done
        if now - self._last_line < LINE_EVERY:
            return
        self._last_line = now
        print(
            f"{self._description}: {self._done:g} of {self._total:g}{self._left(now)}",
            file=sys.stderr,
            flush=True,
        )

    def _left(self, now: float) -> str:
        if self._first is None or self._done <= self._first[1]:
            return ""
        seconds = (now - self._first[0]) * (self._total - self._done) / (self._done - self._first[1])
        return f", {shown_time(seconds)} left"


def shown_time(seconds: float) -> str:
    """Minutes and seconds, with hours where there are some.

    >>> shown_time(75), shown_time(3700)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Pass `items` on while it is shown how many of `total` are done and how long the rest will take."""
    with progress(description, total) as shown:
        for item in items:
            yield item
            shown.advance()


@contextmanager
def progress(description: str, total: float) -> Iterator[Progress]:
    """Show how far some work of `total` items is; all long work of this package does."""
    if not sys.stderr.isatty():
        yield Lines(description, total)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    with Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:
        yield _Bar(bars, bars.add_task(description, total=total))


class _Bar:
    def __init__(self, bars: "Bars", task: "TaskID") -> None:
        self._bars, self._task = bars, task

    def advance(self, n: float = 1) -> None:
        self._bars.advance(self._task, n)
