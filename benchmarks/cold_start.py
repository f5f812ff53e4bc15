"""Wall time and peak memory of `speech2image translate` in a fresh process, from start to the PNG on disk.

python benchmarks/cold_start.py clip.wav [--model NAME] [-n 1] [--repeats 7] [--imports]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Time several fresh processes and print the median, the fastest, and where the time goes inside."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="flowers-and-birds")
    parser.add_argument("-n", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--imports", action="store_true", help="also list the ten slowest imports")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        words = ["translate", str(options.clip), "--model", options.model, "-n", str(options.n), "--json"]
        words += ["-o", f"{folder}/picture.png"]
        seconds, reports = zip(*(_once(words) for _ in range(options.repeats)), strict=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        slowest = _imports(words) if options.imports else []
    print(f"wall time: median {statistics.median(seconds):.2f} s, fastest {min(seconds):.2f} s")
    print(f"processor time: mean {(used.ru_utime + used.ru_stime) / options.repeats:.2f} s")
    print(f"peak memory: {used.ru_maxrss / 1024:.0f} MB")
    for step in reports[0]["timings"]:
        print(f"  {step}: {statistics.median(report['timings'][step] for report in reports):.3f} s")
    for line in slowest:
        print(line)


def _once(words: list[str]) -> tuple[float, dict]:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "speech2image", *words], check=True, capture_output=True, text=True
    )
    return time.perf_counter() - start, json.loads(done.stdout)


def _imports(words: list[str]) -> list[str]:
    """The ten imports that take longest, those they cause included."""
    command = [sys.executable, "-X", "importtime", "-m", "speech2image", *words]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stderr.splitlines()
    rows = [line.split("|") for line in lines if line.startswith("import time:") and "cumulative" not in line]
    slowest = sorted(rows, key=lambda row: -int(row[1]))[:10]
    return [f"  {int(row[1]) / 1000:6.0f} ms  {row[2].strip()}" for row in slowest]


if __name__ == "__main__":
    main()
