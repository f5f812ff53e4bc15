"""The queue: nothing beyond its bounds is taken, all that is taken gets done."""

import asyncio
import io
import threading
import time

import pytest

from speech2image.web.errors import RequestRejected
from speech2image.web.jobs import Deadline, JobQueue


def run(queue: JobQueue, scenario) -> None:
    asyncio.run(scenario())
    while queue.is_at_work:  # so that no thread of one test runs on in the next
        time.sleep(0.01)


async def ended(queue: JobQueue, accepted: int = 0) -> None:
    while queue.accepted > accepted:
        await asyncio.sleep(0)


def test_all_accepted_jobs_are_done_in_bounded_company() -> None:
    queue, lock = JobQueue(workers=3, queue=50, per_client=50), threading.Lock()
    running, most = 0, 0

    def job(k: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait()  # three run at once: with fewer this would never end
        with lock:
            running -= 1
        return k

    barrier = threading.Barrier(3, timeout=60)

    async def scenario() -> None:
        results = await asyncio.gather(*(queue.do(lambda k=k: job(k), "me") for k in range(48)))
        assert results == list(range(48))
        await ended(queue)

    run(queue, scenario)
    assert most == 3


def test_full_queue_and_greedy_client() -> None:
    queue, go = JobQueue(workers=1, queue=3, per_client=2), threading.Event()

    async def scenario() -> None:
        jobs = [asyncio.ensure_future(queue.do(go.wait, client)) for client in ("a", "a", "b")]
        await asyncio.sleep(0)
        assert queue.accepted == 3
        with pytest.raises(RequestRejected) as full:
            await queue.do(go.wait, "c")
        assert (full.value.status, full.value.retry_after) == (503, 1)
        assert full.value.headers == {"Retry-After": "1"}
        go.set()
        assert await asyncio.gather(*jobs) == [True] * 3
        await ended(queue)
        assert await queue.do(lambda: "again", "c") == "again"

    run(queue, scenario)


def test_a_greedy_client_leaves_room_for_others() -> None:
    queue, go = JobQueue(workers=1, queue=10, per_client=2), threading.Event()

    async def scenario() -> None:
        jobs = [asyncio.ensure_future(queue.do(go.wait, "greedy")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(RequestRejected) as greedy:
            await queue.do(go.wait, "greedy")
        assert greedy.value.status == 429
        other = asyncio.ensure_future(queue.do(go.wait, "other"))
        go.set()
        assert await asyncio.gather(*jobs, other) == [True] * 3

    run(queue, scenario)


def test_a_job_given_up_before_its_turn_never_runs() -> None:
    queue, go, ran = JobQueue(workers=1, queue=10, per_client=10), threading.Event(), []

    async def scenario() -> None:
        first = asyncio.ensure_future(queue.do(go.wait, "a"))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(queue.do(lambda: ran.append("second"), "b"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        await ended(queue, accepted=1)
        go.set()
        await first
        await queue.do(lambda: ran.append("third"), "c")

    run(queue, scenario)
    assert ran == ["third"]


def test_a_failing_job_fails_alone() -> None:
    queue = JobQueue(workers=1, queue=2, per_client=2)

    async def scenario() -> None:
        with pytest.raises(ZeroDivisionError):
            await queue.do(lambda: 1 // 0, "a")
        await ended(queue)
        assert await queue.do(lambda: 1, "a") == 1

    run(queue, scenario)


def test_waiting_time_grows_with_the_queue() -> None:
    queue = JobQueue(workers=2, queue=100, per_client=100)
    assert queue.seconds_to_wait() == 1
    queue._mean_seconds = 3.0
    for client in range(8):
        queue._slots.enter(str(client), 1)
    assert queue.seconds_to_wait() == 12
    for client in range(72):
        queue._slots.enter(str(client), 1)
    assert queue.seconds_to_wait() == 60


# ---- jobs that take too long ---------------------------------------------------------------------


def test_a_job_that_takes_too_long_is_given_up_and_its_place_is_free() -> None:
    queue, go = JobQueue(workers=1, queue=1, per_client=1, seconds=0.5), threading.Event()

    async def scenario() -> None:
        with pytest.raises(RequestRejected, match=r"longer than 0\.5 s and was given up") as late:
            await queue.do(go.wait, "a")
        assert late.value.status == 503
        await ended(queue)
        assert await queue.do(lambda: "next", "a") == "next"
        go.set()

    run(queue, scenario)


def test_jobs_given_up_do_not_pile_up() -> None:
    """As many as there are workers run on; with them, the next job waits until one has ended."""
    queue, go, begun = JobQueue(workers=2, queue=9, per_client=9, seconds=0.5), threading.Event(), []

    def job() -> None:
        begun.append(None)
        go.wait()

    async def scenario() -> None:
        for _ in range(2):
            late = await asyncio.gather(*(queue.do(job, "a") for _ in range(2)), return_exceptions=True)
            assert all(isinstance(answer, RequestRejected) for answer in late)
        waiting = asyncio.ensure_future(queue.do(lambda: "turn", "a"))
        await asyncio.sleep(0.2)
        assert len(begun) == 4 and not waiting.done()
        go.set()
        assert await waiting == "turn"

    run(queue, scenario)


def test_cutting_the_line_gives_no_further_place() -> None:
    """A client that cuts the connection while its job runs keeps the place until the job has ended."""
    queue, go, begun = JobQueue(workers=4, queue=9, per_client=1), threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        go.wait()

    async def scenario() -> None:
        cut = asyncio.ensure_future(queue.do(job, "a"))
        while not begun.is_set():
            await asyncio.sleep(0)
        cut.cancel()
        await asyncio.gather(cut, return_exceptions=True)
        with pytest.raises(RequestRejected) as greedy:
            await queue.do(lambda: None, "a")
        assert greedy.value.status == 429
        go.set()
        await ended(queue)

    run(queue, scenario)


def test_a_recording_seems_to_end_when_the_time_is_over_or_its_request_has_gone() -> None:
    file = io.BytesIO(b"sound")
    in_time = Deadline(60).watch(file)
    assert (in_time.read(2), in_time.tell(), in_time.seek(0), in_time.read()) == (b"so", 2, 0, b"sound")
    with pytest.raises(ValueError):
        in_time.seek(-1)
    late = Deadline(-1)
    assert (late.watch(file).read(), late.watch(file).tell()) == (b"", 0)
    with pytest.raises(RequestRejected):
        late.check()
    file.close()
    assert (in_time.read(), in_time.seek(3)) == (b"", 0)
    assert late.watch(b"sound") == b"sound"
