"""The desk: nothing beyond its bounds is taken, all that is taken gets done."""

import asyncio
import threading

import pytest

from speech2image.web.desk import Desk
from speech2image.web.refusals import Refused


def run(desk: Desk, scenario) -> None:
    try:
        asyncio.run(scenario())
    finally:
        desk.close()


async def ended(desk: Desk, accepted: int = 0) -> None:
    while desk.accepted > accepted:
        await asyncio.sleep(0)


def test_all_accepted_jobs_are_done_in_bounded_company() -> None:
    desk, lock = Desk(workers=3, queue=50, per_client=50), threading.Lock()
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
        results = await asyncio.gather(*(desk.do(lambda k=k: job(k), "me") for k in range(48)))
        assert results == list(range(48))
        await ended(desk)

    run(desk, scenario)
    assert most == 3


def test_full_queue_and_greedy_client() -> None:
    desk, go = Desk(workers=1, queue=3, per_client=2), threading.Event()

    async def scenario() -> None:
        jobs = [asyncio.ensure_future(desk.do(go.wait, client)) for client in ("a", "a", "b")]
        await asyncio.sleep(0)
        assert desk.accepted == 3
        with pytest.raises(Refused) as full:
            await desk.do(go.wait, "c")
        assert (full.value.status, full.value.retry_after) == (503, 1)
        assert full.value.headers == {"Retry-After": "1"}
        go.set()
        assert await asyncio.gather(*jobs) == [True] * 3
        await ended(desk)
        assert await desk.do(lambda: "again", "c") == "again"

    run(desk, scenario)


def test_a_greedy_client_leaves_room_for_others() -> None:
    desk, go = Desk(workers=1, queue=10, per_client=2), threading.Event()

    async def scenario() -> None:
        jobs = [asyncio.ensure_future(desk.do(go.wait, "greedy")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as greedy:
            await desk.do(go.wait, "greedy")
        assert greedy.value.status == 429
        other = asyncio.ensure_future(desk.do(go.wait, "other"))
        go.set()
        assert await asyncio.gather(*jobs, other) == [True] * 3

    run(desk, scenario)


def test_a_job_given_up_before_its_turn_never_runs() -> None:
    desk, go, ran = Desk(workers=1, queue=10, per_client=10), threading.Event(), []

    async def scenario() -> None:
        first = asyncio.ensure_future(desk.do(go.wait, "a"))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(desk.do(lambda: ran.append("second"), "b"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        await ended(desk, accepted=1)
        go.set()
        await first
        await desk.do(lambda: ran.append("third"), "c")

    run(desk, scenario)
    assert ran == ["third"]


def test_a_failing_job_fails_alone() -> None:
    desk = Desk(workers=1, queue=2, per_client=2)

    async def scenario() -> None:
        with pytest.raises(ZeroDivisionError):
            await desk.do(lambda: 1 // 0, "a")
        await ended(desk)
        assert await desk.do(lambda: 1, "a") == 1

    run(desk, scenario)


def test_waiting_time_grows_with_the_queue() -> None:
    desk = Desk(workers=2, queue=100, per_client=100)
    assert desk.seconds_to_wait() == 1
    desk._mean_seconds = 3.0
    for client in range(8):
        desk._places.enter(str(client), 1)
    assert desk.seconds_to_wait() == 12
    for client in range(72):
        desk._places.enter(str(client), 1)
    assert desk.seconds_to_wait() == 60
