"""Dynamic batching: calls of one network from several threads run as one call on all their rows."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import CheckpointError

Network = Callable[..., NDArray[np.float32]]
_Arrays = dict[str, NDArray[Any]]


class Batched:
    """A network whose waiting calls are run together; used like the network itself, from any thread.

    Nothing waits for company: a call that comes alone runs at once, and those that come while it runs form
    the next batch.

    Args:
        network: what to call; each input and the output have one row a sample.
        most: most calls in one batch.
        observe: told the number of calls of each batch.
    """

    def __init__(self, network: Any, most: int, observe: Callable[[int], None] = lambda size: None) -> None:
        self.name: str = getattr(network, "name", "the network")
        self._network: Network = network
        self._most, self._observe = most, observe
        self._waiting: queue.SimpleQueue[tuple[_Arrays, Future] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="batching", daemon=True)
        self._thread.start()

    def __call__(self, **inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Run the network on named arrays; returns this call's rows of the result."""
        answer: Future = Future()
        self._waiting.put((inputs, answer))
        return answer.result()

    def close(self) -> None:
        """Finish what waits, then stop."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while calls := self._next_batch():
            self._observe(len(calls))
            _answer(self._network, calls)

    def _next_batch(self) -> list[tuple[_Arrays, Future]]:
        """At least one call, with all that wait already, up to `most`; empty when closed."""
        calls: list[tuple[_Arrays, Future]] = []
        first = self._waiting.get()
        while first is not None:
            calls.append(first)
            if len(calls) == self._most or self._waiting.empty():
                return calls
            first = self._waiting.get()
        if calls:
            self._waiting.put(None)
        return calls


def _answer(network: Network, calls: list[tuple[_Arrays, Future]]) -> None:
    """Run the calls as one; if that fails, each alone, so that one bad call fails alone."""
    try:
        results = _together(network, [inputs for inputs, _ in calls])
        for (_, answer), rows in zip(calls, results, strict=True):
            answer.set_result(rows)
    except Exception as error:
        if len(calls) == 1:
            calls[0][1].set_exception(error)
            return
        for call in calls:
            _answer(network, [call])


def _together(network: Network, calls: list[_Arrays]) -> list[NDArray[np.float32]]:
    if len(calls) == 1:
        return [network(**calls[0])]
    rows = [len(next(iter(inputs.values()))) for inputs in calls]
    result = network(**{name: np.concatenate([inputs[name] for inputs in calls]) for name in calls[0]})
    if len(result) != sum(rows):
        raise CheckpointError(f"the network gave {len(result)} rows for {sum(rows)}")
    return np.split(result, np.cumsum(rows)[:-1])
