"""Making shards one after another so that interrupted work goes on where it stopped.

A plan says beforehand which shards there will be and from what each is made (its digest). Shards on disk with
that digest are skipped; a shard made from something else is never silently replaced.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from speech2image.data.pairs import read_header
from speech2image.data.progress import progress_bar
from speech2image.errors import DataError

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
    with progress_bar() as progress:
        bar = progress.add_task(description, total=sum(sizes))
        for size, _ in zip(sizes, run_tasks(function, tasks, workers), strict=True):
            progress.advance(bar, size)


def run_tasks(function: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> Iterator[Result]:
    """Results of `function(task)` in order, made in this process or in `workers` fresh ones."""
    if workers <= 1 or len(tasks) <= 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context) as pool:
        try:
            yield from pool.map(function, tasks)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
