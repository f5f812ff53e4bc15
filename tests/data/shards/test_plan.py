"""Worker processes end with the one that began them, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import speech2image
from speech2image.data.shards.plan import run_tasks
from speech2image.errors import DataError, Speech2ImageError

PARENT = """
import signal, sys
from test_plan import begin_and_wait
from speech2image.data.shards.plan import run_tasks
if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    list(run_tasks(begin_and_wait, [(sys.argv[1], i) for i in range(4)], 2))
"""


def begin_and_wait(task: tuple[str, int]) -> None:
    from speech2image.files import writing

    folder, number = task
    with writing(Path(folder) / "out" / str(number)) as temporary:
        temporary.mkdir()
        (Path(folder) / f"{os.getpid()}.pid").touch()
        time.sleep(600)


def wait_until(condition) -> None:
    """Bounded against hangs alone."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_workers_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    places = [str(Path(speech2image.__file__).parents[1]), str(Path(__file__).parent)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path)]
    parent = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2 or parent.poll() is not None)
    workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(workers) == 2
    parent.send_signal(number)
    _, told = parent.communicate(timeout=120)
    wait_until(lambda: not any(map(alive, workers)))
    assert told.count("Traceback") == (0 if number == signal.SIGKILL else 1)  # of the parent
    assert list((tmp_path / "out").iterdir()) == []


def die(task: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(task: int) -> int:
    if task == 1:
        raise DataError("shard 1 is damaged")
    return task


def test_a_worker_that_is_killed_is_named() -> None:
    with pytest.raises(Speech2ImageError, match="a worker process was killed"):
        list(run_tasks(die, range(2), 2))


def test_results_and_errors_of_workers() -> None:
    results = run_tasks(refuse, [0, 2, 1], 2)
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(DataError, match="shard 1 is damaged"):
        next(results)
