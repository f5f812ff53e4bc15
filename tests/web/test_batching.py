"""Batching: same rows as alone, never more than allowed, together when they wait."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from speech2image.web.batching import Batched


class Doubling:
    """Twice the input; the first call waits until it is let go."""

    name = "doubling"

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go, self.started = threading.Event(), threading.Event()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.sizes.append(len(x))
        self.started.set()
        assert self.go.wait(60)
        if (x < 0).any():
            raise ValueError("negative")
        return 2 * x


def called_by_many(network: Doubling, batched: Batched, inputs: list[np.ndarray]) -> list:
    """Outcomes of calls by as many threads, all but the first waiting while the first runs."""

    def call(x: np.ndarray) -> object:
        try:
            return batched(x=x)
        except ValueError as error:
            return error

    with ThreadPoolExecutor(len(inputs)) as pool:
        first = pool.submit(call, inputs[0])
        assert network.started.wait(60)
        rest = [pool.submit(call, x) for x in inputs[1:]]
        while batched._waiting.qsize() < len(rest):
            pass
        network.go.set()
        return [future.result(60) for future in (first, *rest)]


def test_calls_that_wait_run_together_and_get_their_own_rows() -> None:
    network, seen = Doubling(), []
    batched = Batched(network, most=4, observe=seen.append)
    inputs = [np.full((1, 3), k, np.float32) for k in range(10)]
    results = called_by_many(network, batched, inputs)
    batched.close()
    assert all(np.array_equal(result, 2 * x) for result, x in zip(results, inputs, strict=True))
    assert network.sizes == seen == [1, 4, 4, 1]


def test_calls_of_several_rows() -> None:
    network = Doubling()
    batched = Batched(network, most=4)
    inputs = [np.full((rows, 2), rows, np.float32) for rows in (1, 3, 1, 2)]
    results = called_by_many(network, batched, inputs)
    batched.close()
    assert [len(result) for result in results] == [1, 3, 1, 2]
    assert network.sizes == [1, 6]


def test_a_bad_call_fails_alone() -> None:
    network = Doubling()
    batched = Batched(network, most=8)
    inputs = [np.full((1, 2), k, np.float32) for k in (1, 2, -3, 4)]
    results = called_by_many(network, batched, inputs)
    batched.close()
    assert [isinstance(result, ValueError) for result in results] == [False, False, True, False]
    assert np.array_equal(results[3], [[8, 8]])


@pytest.mark.parametrize("calls", [1, 5])
def test_closing_finishes_what_waits(calls: int) -> None:
    network = Doubling()
    batched = Batched(network, most=2)
    inputs = [np.ones((1, 1), np.float32)] * calls
    results = called_by_many(network, batched, inputs)
    batched.close()
    assert len(results) == calls
    assert not batched._thread.is_alive()


def test_no_thread_stays() -> None:
    before = threading.active_count()
    Batched(Doubling(), most=2).close()
    assert threading.active_count() == before
