"""Progress: lines in a log, what they say of the time left, items of shards counted in every process."""

import threading

import pytest

from speech2image.data import progress
from speech2image.data.progress import Lines, track
from speech2image.data.shards.plan import counted, make_shards


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_half_minute_and_none_for_short_work(capsys) -> None:
    clock = Clock()
    lines = Lines("speech", 100, clock)
    shown = []
    for _ in range(100):
        clock.now += 1.0
        lines.advance()
        shown += capsys.readouterr().err.splitlines()
    assert shown == [
        "speech: 30 of 100, 1:10 left",
        "speech: 60 of 100, 0:40 left",
        "speech: 90 of 100, 0:10 left",
    ]
    list(track(range(1000), "quick", 1000))
    assert capsys.readouterr().err == ""


def test_what_came_before_the_first_item_does_not_count(capsys) -> None:
    clock = Clock()
    lines = Lines("pictures", 100, clock)
    clock.now = 1000.0  # opening something
    lines.advance()
    assert capsys.readouterr().err == "pictures: 1 of 100\n"
    for _ in range(30):
        clock.now += 1.0
        lines.advance()
    assert capsys.readouterr().err == "pictures: 31 of 100, 1:09 left\n"


def slow_shard(items: range) -> int:
    return sum(counted(items))


@pytest.mark.parametrize("workers", [1, 2])
def test_items_of_a_shard_are_counted_as_they_are_made(workers: int, monkeypatch) -> None:
    told: list[float] = []

    class Shown(Lines):
        def advance(self, n: float = 1) -> None:
            told.append(n)

    monkeypatch.setattr(progress, "Lines", Shown)
    found = make_shards(slow_shard, [range(5), range(7)], [5, 7], "numbers", workers)
    assert found == [10, 21]
    assert sum(told) == 12


def test_the_bar_moves_within_a_shard(monkeypatch) -> None:
    moved, told = threading.Event(), []

    class Shown(Lines):
        def advance(self, n: float = 1) -> None:
            told.append(n)
            moved.set()

    def shard(items: range) -> bool:
        first = next(counted_items := counted(items)) == 0 and next(counted_items) == 1
        return first and moved.wait(30)  # nothing else of this shard is done before the bar has moved

    monkeypatch.setattr(progress, "Lines", Shown)
    assert make_shards(shard, [range(5)], [5], "numbers", 1) == [True]
    assert told[0] == 1 and sum(told) == 5
