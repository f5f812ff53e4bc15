"""What lets the ordinary trainings keep a GPU busy, without a change in them."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from lightning_fabric import Fabric

from speech2image.training.run import make_fabric


class Ahead:
    """Batches made by threads before they are asked for; a batch depends on nothing but its step."""

    def __init__(self, batches: Callable[[int], Any], workers: int) -> None:
        self._batches, self._depth = batches, 2 * workers
        self._pool = ThreadPoolExecutor(workers)
        self._coming: dict[int, Future[Any]] = {}

    def __call__(self, step: int) -> Any:
        """The batch of `step`."""
        for later in range(step, step + self._depth):
            if later not in self._coming:
                self._coming[later] = self._pool.submit(self._batches, later)
        return self._coming.pop(step).result()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def reading_ahead(trainer: ModuleType, name: str, workers: int) -> Iterator[None]:
    """Within this, the batches that a trainer's function `name` makes come from threads."""
    original, opened = getattr(trainer, name), []

    def make(*arguments: Any) -> Ahead:
        opened.append(Ahead(original(*arguments), workers))
        return opened[-1]

    setattr(trainer, name, make)
    try:
        yield
    finally:
        setattr(trainer, name, original)
        for ahead in opened:
            ahead.close()


def quick_fabric(precision: str, seed: int, compiled: bool) -> Fabric:
    """A fabric that puts networks' channels together on a GPU, and compiles them if wanted."""
    fabric = make_fabric(precision, seed)
    setup = fabric.setup

    def quick_setup(module: torch.nn.Module, *optimizers: Any) -> Any:
        if fabric.device.type == "cuda":
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if compiled:
            module.compile()
        return setup(module, *optimizers)

    fabric.setup = quick_setup  # type: ignore[method-assign,assignment]
    return fabric
