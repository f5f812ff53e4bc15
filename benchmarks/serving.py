"""Load test of `speech2image serve` in a process of its own: rate, latency, processor time, memory.

python benchmarks/serving.py              # 1, 8 and 64 clients, 64 live streams, then memory
python benchmarks/serving.py --seconds 3 --soak 200 --model FOLDER
python benchmarks/serving.py --clients --soak 0 --streams 1 8 64
python benchmarks/serving.py --beside OLDER-CHECKOUT --clients 1 8 --streams --soak 0

Clients are threads of this process that ask for one picture again and again over kept connections, so they
take processor time from the server. Live streams speak the clip once, as fast as a microphone gives it, all
at the same time. The load goes to 127.0.0.1 and nowhere else, and ends by itself: every level after --seconds
or --most requests, the soak after --soak requests. With --beside, the server of another checkout takes turns
with this one's at every level of clients.
"""

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from speech2image import audio

PIECE = 3_200
"""Bytes of a tenth of a second."""
EXAMPLE = Path(__file__).parents[1] / "examples" / "recordings" / "red-cluster-kal16.opus"


@dataclass
class Outcome:
    """What the clients of one level saw."""

    seconds: float = 0.0
    processor: float = 0.0
    memory: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.statuses[200] / self.seconds

    def quantile(self, share: float) -> float:
        """Milliseconds within which that share of the pictures came."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def main() -> None:
    """Print a row for each level, and how memory went."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", type=Path, default=EXAMPLE)
    parser.add_argument("--model", help="model folder; by default the shipped ones")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--streams", type=int, nargs="*", default=[64], help="live streams at once")
    parser.add_argument("--seconds", type=float, default=20, help="of each level, at most")
    parser.add_argument("--most", type=int, default=2000, help="requests of each level, at most")
    parser.add_argument("--repeats", type=int, default=2, help="times each level runs")
    parser.add_argument("--beside", type=Path, help="another checkout of this project, measured in turns")
    parser.add_argument("--soak", type=int, default=5000, help="requests over which memory is watched")
    options = parser.parse_args()
    checkouts = [options.beside, None] if options.beside else [None]
    if options.clients:
        print("| clients | requests a second | p50 ms | p95 ms | p99 ms | processor ms | MB | 200 | others |")
        print("|---|---|---|---|---|---|---|---|---|")
    for clients in options.clients:
        for checkout in checkouts * options.repeats:
            with served(options.model, clients, checkout) as port:
                load(port, options.clip, clients, 1.0, 4 * clients)  # warm up
                before = measured(port, "process_cpu_seconds_total")
                outcome = load(port, options.clip, clients, options.seconds, options.most)
                outcome.processor = measured(port, "process_cpu_seconds_total") - before
                outcome.memory = measured(port, "process_resident_memory_bytes")
            print(_row(f"{clients}, {checkout}" if checkout else str(clients), outcome), flush=True)
    if options.streams:
        print("\n| live streams | first picture p50, p95 s | pictures | dropped | final | failed "
              "| end to final p50, p95 s | processor s | MB |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|---|")
    for streams in options.streams:
        with served(options.model, streams) as port:
            follow(port, pcm(options.clip), 1)  # warm up
            print(follow(port, pcm(options.clip), streams), flush=True)
    if options.soak:
        soak(options.model, options.clip, options.soak)


def _row(clients: str, outcome: Outcome) -> str:
    others = {status: n for status, n in sorted(outcome.statuses.items()) if status != 200} or "none"
    times = " | ".join(f"{outcome.quantile(share):.0f}" for share in (0.5, 0.95, 0.99))
    work = 1000 * outcome.processor / max(1, outcome.statuses[200])
    done = outcome.statuses[200]
    memory = outcome.memory / 1e6
    return f"| {clients} | {outcome.rate:.1f} | {times} | {work:.0f} | {memory:.0f} | {done} | {others} |"


@contextmanager
def served(model: str | None, clients: int, checkout: Path | None = None) -> Iterator[int]:
    """A server, of another checkout if one is given, on a free port of the loopback; stopped at the end."""
    room = str(max(64, 2 * clients))
    command = [sys.executable, "-m", "speech2image", "serve", "--no-page", "--port", "0"]
    command += ["--queue", room, "--per-client", room, *(["--models", model] if model else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=checkout)
    assert process.stdout
    try:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert found, "the server did not start"
        yield int(found[1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def load(port: int, clip: Path, clients: int, seconds: float, most: int) -> Outcome:
    """Ask with so many clients at once until the time is up or so many requests are done."""
    content, outcome, lock = clip.read_bytes(), Outcome(), threading.Lock()
    start = time.perf_counter()
    left = iter(range(most))

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.perf_counter() - start < seconds:
            with lock:
                if next(left, None) is None:
                    break
            asked = time.perf_counter()
            try:
                connection.request("POST", f"/v1/images?seed={threading.get_ident() % 1000}", content)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                status = 0  # lost
                connection.close()
            with lock:
                outcome.statuses[status] += 1
                if status == 200:
                    outcome.latencies.append(time.perf_counter() - asked)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.seconds = time.perf_counter() - start
    return outcome


# ---- live streams --------------------------------------------------------------------------------


def pcm(clip: Path) -> bytes:
    """A recording as 16-bit samples at 16 kHz."""
    return (audio.load(clip) * 32767).astype("<i2").tobytes()


@dataclass
class Stream:
    """What one live stream saw; times in seconds."""

    first: float = float("nan")
    pictures: int = 0
    dropped: int = 0
    final: float = float("nan")
    failed: str = ""


def follow(port: int, samples: bytes, streams: int) -> str:
    """Speak the samples into so many live streams at once; a row of what came back."""
    before = measured(port, "process_cpu_seconds_total")
    with ThreadPoolExecutor(streams) as pool:
        seen = list(pool.map(lambda _: speak(port, samples), range(streams)))
    work = measured(port, "process_cpu_seconds_total") - before
    memory = measured(port, "process_resident_memory_bytes") / 1e6
    failed = Counter(stream.failed for stream in seen if stream.failed)
    pictures, dropped = (sum(getattr(stream, name) for stream in seen) for name in ("pictures", "dropped"))
    first, final = (_quantiles([getattr(stream, name) for stream in seen]) for name in ("first", "final"))
    good = streams - failed.total()
    return (
        f"| {streams} | {first} | {pictures} | {dropped} | {good} | {dict(failed) or 'none'} | {final} "
        f"| {work:.1f} | {memory:.0f} |"
    )


def speak(port: int, samples: bytes) -> Stream:
    """One stream: pieces of a tenth of a second, then the end; all events until the last."""
    seen, begun, ended = Stream(), time.perf_counter(), []
    try:
        with connect(
            f"ws://127.0.0.1:{port}/v1/live?audio=s16le&n=1", open_timeout=60, max_size=None
        ) as socket:

            def send() -> None:
                for start in range(0, len(samples), PIECE):
                    socket.send(samples[start : start + PIECE])
                    time.sleep(PIECE / 32_000)
                ended.append(time.perf_counter())
                socket.send('{"type": "end"}')

            threading.Thread(target=send, daemon=True).start()
            for message in socket:
                event = json.loads(message)
                if event["type"] == "partial":
                    seen.first = seen.first if seen.pictures else time.perf_counter() - begun
                    seen.pictures, seen.dropped = event["number"], event["dropped"]
                elif event["type"] == "final":
                    seen.final = time.perf_counter() - ended[0]
                elif event["type"] == "error":
                    seen.failed = event["code"]
    except (OSError, TimeoutError, WebSocketException) as error:
        seen.failed = type(error).__name__
    return seen


def _quantiles(values: list[float]) -> str:
    """The median and the 95th of a hundred of those that are there."""
    ordered = sorted(value for value in values if value == value)
    if not ordered:
        return "none"
    return f"{ordered[len(ordered) // 2]:.2f}, {ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]:.2f}"


# ---- memory --------------------------------------------------------------------------------------


def soak(model: str | None, clip: Path, requests: int) -> None:
    """Many requests of eight clients: how the server's memory goes, and whether any is lost."""
    parts = 10
    total: Counter[int] = Counter()
    with served(model, 8) as port:
        load(port, clip, 8, 600, max(50, requests // parts))  # arenas and caches grow to their size
        memory = [measured(port, "process_resident_memory_bytes")]
        for _ in range(parts):
            total += load(port, clip, 8, 600, requests // parts).statuses
            memory.append(measured(port, "process_resident_memory_bytes"))
    print(f"{total.total()} requests of 8 clients: {dict(total)}; resident MB after each tenth:")
    print("  " + ", ".join(f"{value / 1e6:.0f}" for value in memory))


def measured(port: int, name: str) -> float:
    """A figure of the server's own metrics."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
