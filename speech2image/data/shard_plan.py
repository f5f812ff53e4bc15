"""Making shards one after another so that interrupted work goes on where it stopped.

A plan says beforehand which shards there will be and from what each is made (its digest). Shards on disk with
that digest are skipped; a shard made from something else is never silently replaced.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Generic, TypeVar

from speech2image.data.pairs import read_header
from speech2image.data.progress import progress_bar
from speech2image.errors import DataError, Speech2ImageError

Item = TypeVar("Item")
Task = TypeVar("Task")
Result = TypeVar("Result")


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
    plans: Sequence[ShardPlan[Item]], present: Sequence[Path], *, overwrite: bool
) -> list[ShardPlan[Item]]:
    """Those shards of a plan that are still to be made.

    Args:
        plans: the whole plan.
        present: shards of this kind on disk.
        overwrite: remake shards made from something else, and delete those the plan does not name.

    Raises:
        DataError: a shard on disk is not of this plan, and `overwrite` is off.
    """
    wanted = {plan.path: plan.digest for plan in plans}
    finished = set()
    for path in present:
        if wanted.get(path) == _digest_of(path, overwrite):
            finished.add(path)
        elif not overwrite:
            raise DataError(
                f"{path} was made from other data or with other settings; choose another --out "
                f"(or, for speech, another --part), or remake it with --overwrite"
            )
        elif path not in wanted:
            path.unlink()
    return [plan for plan in plans if plan.path not in finished]


def _digest_of(path: Path, overwrite: bool) -> str:
    """Digest of the shard at `path`; "" for a damaged one that may be overwritten."""
    try:
        return read_header(path).digest
    except DataError:
        if overwrite:
            return ""
        raise


def make_shards(
    function: Callable[[Task], None],
    tasks: Sequence[Task],
    sizes: Sequence[int],
    description: str,
    workers: int,
) -> None:
    """Call `function(task)` for every task, if any, while a bar counts `sizes` and shows the time left.

    Args:
        function: makes one shard; importable by name when `workers` is above 1.
        tasks: one a shard.
        sizes: how many samples or utterances each makes.
        description: what the bar says.
        workers: processes.
    """
    if not tasks:
        return
    with progress_bar() as progress, closing(run_tasks(function, tasks, workers)) as results:
        bar = progress.add_task(description, total=sum(sizes))
        for size, _ in zip(sizes, results, strict=True):
            progress.advance(bar, size)


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int
) -> Generator[Result, None, None]:
    """Results of `function(task)` in order, made in this process or in `workers` fresh ones.

    The workers end with this process, however it ends.

    Raises:
        Speech2ImageError: a worker was killed.
    """
    if workers <= 1 or len(tasks) <= 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")
    others = multiprocessing.active_children()
    with ProcessPoolExecutor(min(workers, len(tasks)), context, _prepare_worker) as pool:
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


def _prepare_worker() -> None:
    """Leave Ctrl-C, which reaches all processes of a terminal, to the parent, and end when it is gone."""
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
