"""Shard plan: which shards there will be and from what each is made, so that interrupted work goes on.

A plan states each shard's digest beforehand. Shards on disk with that digest are skipped; a shard made from
something else is never silently replaced.
"""

import multiprocessing
import os
import re
import signal
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

from speech2image.data.pairs import is_intact, is_whole
from speech2image.data.progress import Progress, progress
from speech2image.data.shards.header import Header, read_header
from speech2image.errors import DataError, SettingsError, Speech2ImageError

Item = TypeVar("Item")
Task = TypeVar("Task")
Result = TypeVar("Result")


class TaskRunner(Protocol):
    """Another place for tasks than the processes of this machine (`ray_tasks.RayCluster`)."""

    def run(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Generator[Any, None, None]:
        """Results of `function(task)`, in order."""
        ...


Workers = int | TaskRunner
"""A number of processes of this machine, or another place."""

ALL = slice(None)
"""Every shard of a plan."""


def shard_range(text: str | None) -> slice:
    """The shards that --shards START:STOP names, counted from 0; all of them without it.

    >>> shard_range("50:100")
    slice(50, 100, None)

    Raises:
        SettingsError: it is no such range.
    """
    if text is None:
        return ALL
    found = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
    if not found or int(found[1]) >= int(found[2]):
        raise SettingsError(f"--shards is {text!r}; give START:STOP, as 0:50 for the first fifty shards")
    return slice(int(found[1]), int(found[2]))


@dataclass(frozen=True)
class ShardPlan(Generic[Item]):
    """One shard to come: where it lies, the digest of what it is made from, and that itself."""

    path: Path
    digest: str
    items: Sequence[Item]


def plan_shards(
    items: Sequence[Item],
    per_shard: int,
    path_of: Callable[[int], Path],
    digest_of: Callable[[Sequence[Item]], str],
) -> list[ShardPlan[Item]]:
    """Cut `items` into shards of `per_shard`."""
    chunks = [items[i : i + per_shard] for i in range(0, len(items), per_shard)]
    return [ShardPlan(path_of(i), digest_of(chunk), chunk) for i, chunk in enumerate(chunks)]


def unfinished(
    plans: Sequence[ShardPlan[Item]],
    present: Sequence[Path],
    *,
    overwrite: bool,
    sources_of: Callable[[Sequence[Item]], str] | None = None,
    companion_of: Callable[[ShardPlan[Item]], Path | None] = lambda plan: None,
) -> list[ShardPlan[Item]]:
    """Those shards of a plan that are still to be made.

    Args:
        plans: the whole plan.
        present: shards of this kind on disk.
        overwrite: remake shards made from something else, or of which checksums do not show that they are as
            they were written, and delete those the plan does not name.
        sources_of: digest of the bytes that items are made from, see `Header.sources`.
        companion_of: a second shard that is made together with the plan's, if there is one.

    Raises:
        DataError: a shard on disk is not of this plan, and `overwrite` is off.

    Warns:
        UserWarning: a shard of this plan is cut short, or its sources were replaced: it is made anew.
    """
    wanted = {plan.path: plan for plan in plans}
    finished = set()
    for path in present:
        plan, header = wanted.get(path), _header(path, overwrite)
        if plan and header and header.digest == plan.digest:
            reason = _stale(plan, header, companion_of(plan), sources_of, overwrite)
            if not reason:
                finished.add(path)
            elif not overwrite:
                warnings.warn(f"{path.name} is made anew: {reason}", stacklevel=2)
        elif not overwrite and path.stat().st_size:  # an empty file holds nothing to lose
            raise DataError(
                f"{path} was made from other data or with other settings; choose another --out "
                f"(or, for speech, another --part), or remake it with --overwrite"
            )
        elif plan is None:
            path.unlink()
    return [plan for plan in plans if plan.path not in finished]


def _header(path: Path, overwrite: bool) -> Header | None:
    """The header of a shard; None for an empty file, and for a damaged one that may be overwritten."""
    try:
        return read_header(path) if path.stat().st_size else None
    except DataError:
        if overwrite:
            return None
        raise


def _stale(
    plan: ShardPlan[Item],
    header: Header,
    companion: Path | None,
    sources_of: Callable[[Sequence[Item]], str] | None,
    overwrite: bool,
) -> str:
    """Why a shard that was made from this plan has to be made again, "" if it has not."""
    # From cheap to dear: sizes of members, then bytes of the sources, then bytes of the shard itself.
    if not is_whole(plan.path):
        return "it is cut short or damaged"
    if header.sources and sources_of and header.sources != sources_of(plan.items):
        return "a picture or recording it was made from was replaced"
    if companion and not (header.skipped and not companion.exists()) and not is_whole(companion):
        return f"{companion.name} is missing, cut short or damaged"
    if overwrite and not all(map(is_intact, filter(None, (plan.path, companion)))):
        return "checksums do not show that it is as it was written"
    return ""


def make_shards(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    sizes: Sequence[int],
    description: str,
    workers: Workers,
) -> list[Result]:
    """Results of `function(task)` for every task, while a bar counts `sizes` and shows the time left.

    Args:
        function: makes one shard; importable by name when `workers` is above 1.
        tasks: one a shard.
        sizes: how many samples or utterances each makes.
        description: what the bar says.
        workers: processes, or where else the tasks run.
    """
    results: list[Result] = []
    if not tasks:
        return results
    with (
        progress(description, sum(sizes)) as shown,
        counting(shown) as count,
        closing(run_tasks(function, tasks, workers)) as made,
    ):
        for size, result in zip(sizes, made, strict=True):
            count.finish(size)
            results.append(result)
    return results


class Count:
    """Items of shards done so far, in this process and in its workers.

    Args:
        shown: what shows them.
    """

    def __init__(self, shown: Progress) -> None:
        self._shown, self._lock = shown, threading.Lock()
        self._told = self._finished = 0
        self.items = multiprocessing.get_context("spawn").Value("q", 0)

    def finish(self, size: int) -> None:
        """A shard of `size` items is done, whether or not its function counted them."""
        self._finished += size
        self.show()

    def show(self) -> None:
        """Show what has been counted since the last time."""
        with self._lock:
            done = max(self._finished, self.items.value)
            if done > self._told:
                self._shown.advance(done - self._told)
                self._told = done


_count: Any = None
"""Where functions that make shards count, in this process: a shared number."""


@contextmanager
def counting(shown: Progress) -> Iterator[Count]:
    """Let `counted` count, and show it every now and then."""
    global _count
    count, over = Count(shown), threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            count.show()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    before, _count = _count, count.items
    try:
        yield count
    finally:
        _count = before
        over.set()
        watcher.join()


def counted(items: Iterable[Item]) -> Iterator[Item]:
    """Pass on the pictures, recordings or utterances of the shard that is being made, and count them for the
    bar once they are done."""
    for item in items:
        yield item
        if _count is not None:
            with _count.get_lock():
                _count.value += 1


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: Workers
) -> Generator[Result, None, None]:
    """Results of `function(task)` in order, made in this process, in `workers` fresh ones, or elsewhere.

    The workers end with this process, however it ends.

    Raises:
        Speech2ImageError: a worker was killed.
    """
    if not isinstance(workers, int):
        yield from workers.run(function, tasks)
        return
    if workers <= 1 or len(tasks) <= 1:
        yield from map(function, tasks)
        return
    # Not "fork": a forked copy of a process with threads (torch, ONNX Runtime) may wait for a lock for ever.
    context = multiprocessing.get_context("spawn")
    others = multiprocessing.active_children()  # of the caller: they are not ours to end
    with ProcessPoolExecutor(min(workers, len(tasks)), context, _prepare_worker, (_count,)) as pool:
        try:
            yield from pool.map(partial(_run_task, function), tasks)
        except BrokenProcessPool as error:
            raise Speech2ImageError(
                "a worker process was killed, perhaps for want of memory; the same command goes on from what "
                "is finished (with fewer --workers it takes less memory)"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()).difference(others):
                process.terminate()
            raise


def _prepare_worker(count: Any) -> None:
    """Leave Ctrl-C, which reaches all processes of a terminal, to the parent, and end when it is gone.

    Args:
        count: where `counted` counts.
    """
    global _count
    _count = count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_worker)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_worker(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: what is unfinished is being deleted
    raise SystemExit(128 + number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _run_task(function: Callable[[Task], Result], task: Task) -> Result:
    try:
        return function(task)
    except SystemExit as stop:  # the pool would only take it for this task's result
        os._exit(int(stop.code or 0))
