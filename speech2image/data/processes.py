"""Processes of one training (`torchrun`): who makes what is made once, and waiting for it.

Without `torchrun`, or before `training.core.run.make_fabric` has joined the processes, there is one process,
and nothing here waits. All processes have to call these functions in the same order. They see one file
system.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import zip_longest
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_LONGEST_WAIT = timedelta(days=7)
_NONE = object()
_groups: dict[Any, Any] = {}
"""The group to wait in, for the process group it was made from."""


def rank_and_count() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are."""
    distributed = _joined()
    return (distributed.get_rank(), distributed.get_world_size()) if distributed else (0, 1)


def gpu() -> str:
    """The device of this process where there are GPUs: each process of a machine has its own."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def wait() -> None:
    """Return once every process has come here."""
    distributed = _joined()
    if distributed:
        distributed.barrier(group=_group(distributed))


def share(items: Sequence[Item]) -> list[Item]:
    """Those of `items` that fall to this process; which ones there are is what process 0 says."""
    distributed = _joined()
    if not distributed:
        return list(items)
    listed = [list(items)]
    distributed.broadcast_object_list(listed, src=0, group=_group(distributed))
    rank, count = rank_and_count()
    return listed[0][rank::count]


def gathered(made: Sequence[Result]) -> list[Result]:
    """What all processes made of their `share` of items, in the items' order."""
    distributed = _joined()
    if not distributed:
        return list(made)
    parts: list[Any] = [None] * rank_and_count()[1]
    distributed.all_gather_object(parts, list(made), group=_group(distributed))
    return [one for turn in zip_longest(*parts, fillvalue=_NONE) for one in turn if one is not _NONE]


@contextmanager
def first_alone() -> Iterator[bool]:
    """Process 0 goes through the block (it is given True) while the others wait; then these do, and find what
    it made."""
    rank, _ = rank_and_count()
    if rank:
        wait()
    yield rank == 0
    if not rank:
        wait()


def _joined() -> Any:
    """`torch.distributed` where several processes have been joined; else None, without importing torch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return None
    return torch.distributed if torch.distributed.get_world_size() > 1 else None


def _group(distributed: Any) -> Any:
    """All processes, in a group of its own: preparing may take hours, and the training's own group takes
    minutes of silence for a process that died (NCCL ten). If one does die, `torchrun` ends the others."""
    world = distributed.group.WORLD
    if world not in _groups:
        _groups.clear()
        _groups[world] = distributed.new_group(backend="gloo", timeout=_LONGEST_WAIT)
    return _groups[world]


def leave() -> None:
    """Forget the group, whose threads may not outlive the process group."""
    _groups.clear()
