"""Tasks on a cluster: the function that makes a shard here makes it there, as a map stage of Ray Data.

The machines of the cluster see the same files under the same paths. A worker that dies is replaced, and its
shard made again, as often as Ray allows (without end, unless its settings say otherwise); shards appear whole
or not at all, so nothing is left of the first attempt.
"""

import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from speech2image.errors import Speech2ImageError, require

Task = TypeVar("Task")
Result = TypeVar("Result")

LOCAL = "local"
"""The address that starts Ray on this machine."""


@dataclass(frozen=True)
class RayCluster:
    """Where tasks run; takes the place of a number of processes.

    Attributes:
        address: "local" for this machine, "auto" for the cluster that this machine is part of, or HOST:PORT.
        cpus: processor cores that a task takes.
        gpus: GPUs that a task takes; a part of one lets several tasks share it.
    """

    address: str
    cpus: float = 1.0
    gpus: float = 0.0

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Generator[Result, None, None]:
        """Results of `function(task)` in the tasks' order, as they come.

        Raises:
            Speech2ImageError: the function raised one, the cluster cannot be reached, or Ray gave up.
            MissingExtraError: Ray is not installed.
        """
        data = _joined(self.address)
        rows = [{"number": number, "task": task} for number, task in enumerate(tasks)]
        made = data.from_items(rows, override_num_blocks=len(rows)).map(
            partial(_run, function=function),
            num_cpus=self.cpus,
            num_gpus=self.gpus or None,
        )
        waiting: dict[int, Result] = {}
        following = 0
        try:
            for row in made.iter_rows():
                if row["error"] is not None:
                    raise row["error"]
                waiting[row["number"]] = row["result"]
                while following in waiting:
                    yield waiting.pop(following)
                    following += 1
        except Speech2ImageError:
            raise
        except require("ray", "ray").exceptions.RayError as error:
            raise Speech2ImageError(
                f"the work on Ray ended ({_first_line(error)}); the same command goes on from what is "
                "finished"
            ) from error


def _joined(address: str) -> Any:
    """`ray.data` of the cluster at an address."""
    ray, data = require("ray", "ray"), require("ray.data", "ray")
    if not ray.is_initialized():
        where = None if address == LOCAL else address
        try:
            ray.init(address=where, log_to_driver=False, include_dashboard=False if where is None else None)
        except (ConnectionError, ValueError, OSError) as error:
            raise Speech2ImageError(
                f"there is no Ray cluster at {address!r} ({_first_line(error)}); start one with ray start "
                "--head, or give local"
            ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # a bar shows how far the work is
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    return data


def _run(row: dict[str, Any], function: Callable[[Any], Any]) -> dict[str, Any]:
    """One task; an error comes back as a value, in its own words and not in those of Ray's stack."""
    try:
        return {"number": row["number"], "result": function(row["task"]), "error": None}
    except Speech2ImageError as error:
        return {"number": row["number"], "result": None, "error": error}
    except Exception as error:
        told = Speech2ImageError(f"a task on Ray failed: {type(error).__name__}: {error}")
        return {"number": row["number"], "result": None, "error": told}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
