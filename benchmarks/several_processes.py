"""Several processes: preparation by a local Ray's workers, one of them killed; fresh starts of torchrun.

    python benchmarks/several_processes.py FOLDER --captions 480 --starts 10

Speaks the same made-up captions (flite) by this process alone, by Ray with one worker, with two, and with two
of which one is killed in the middle, and compares checksums of all shards. Then starts `train direct` of a
small toy set under torchrun in two processes, each time on fresh data. Needs Linux and '.[train,ray]'; a part
with the number 0 is left out.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from PIL import Image

from speech2image.data.prepare import PrepareSettings, prepare
from speech2image.data.shards.header import read_header

COLOURS = ("red", "yellow", "white", "blue", "purple", "orange", "pink", "green")
PER_SHARD = 40
"""Utterances a shard, which is a task."""


def main() -> None:
    """Measure both and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="is emptied")
    parser.add_argument("--captions", type=int, default=480)
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--kill", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.workers is not None:
        print(json.dumps(speak(options.folder, options.workers, options.kill)))
        return
    shutil.rmtree(options.folder, ignore_errors=True)
    if options.captions:
        compare_workers(options.folder, options.captions)
    if options.starts:
        count_starts(options.folder, options.starts)


def compare_workers(folder: Path, captions: int) -> None:
    """Print a row for each number of workers."""
    make_corpus(folder / "corpus", captions)
    expected = None
    for name, workers, kill in (
        ("this process", 0, False),
        ("Ray, 1 worker", 1, False),
        ("Ray, 2 workers", 2, False),
        ("Ray, 2 workers, one killed", 2, True),
    ):
        command = [sys.executable, __file__, str(folder), "--workers", str(workers), *["--kill"] * kill]
        written = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        row = json.loads(written.splitlines()[-1])  # Ray may say something before
        expected = expected or row["checksums"]
        same = "same checksums" if row["checksums"] == expected else "OTHER CHECKSUMS"
        print(
            f"{name:28} {captions / row['seconds']:6.2f} utterances/s  {len(row['checksums'])} shards, "
            f"{same}, {row['killed']} killed",
            flush=True,
        )


def make_corpus(folder: Path, captions: int) -> None:
    """A manifest of plain pictures, ten captions each."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(captions // 10):
        colour, other = COLOURS[number % 8], COLOURS[(number // 8 + 3) % 8]
        Image.new("RGB", (64, 64), colour).save(folder / f"{number}.png")
        texts = [f"a {colour} flower with {n} {other} petals" for n in range(2, 12)]
        rows.append({"image": f"{number}.png", "class": colour, "captions": texts})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def speak(folder: Path, workers: int, kill: bool) -> dict[str, object]:
    """Prepare the corpus; seconds without Ray's start, checksums of the shards, workers killed."""
    out = folder / f"shards-{workers}{'-killed' * kill}"
    settings = PrepareSettings(
        "folder",
        out,
        root=folder / "corpus",
        voices=("flite/slt", "flite/rms"),
        utterances_per_shard=PER_SHARD,
        ray="local" if workers else None,
    )
    if workers:
        import ray

        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    killed: list[int] = []
    if kill:
        threading.Thread(target=kill_a_worker, args=(out, killed), daemon=True).start()
    start = time.monotonic()
    prepare(settings)
    seconds = time.monotonic() - start
    checksums = {path.name: read_header(path).digest for path in sorted(out.glob("*.tar"))}
    return {"seconds": seconds, "checksums": checksums, "killed": len(killed)}


def kill_a_worker(out: Path, killed: list[int]) -> None:
    """Once a shard of speech is there, kill a worker of this process's Ray that makes another."""
    while not killed:
        time.sleep(0.05)
        working = [pid for pid in descendants() if _command(pid).startswith("ray::Map")]
        if working and any(out.glob("speech-*.tar")):
            os.kill(working[0], signal.SIGKILL)
            killed.append(working[0])


def descendants() -> set[int]:
    """Processes that this one started, and those that they did."""
    parents = {int(path.parent.name): _parent(path) for path in Path("/proc").glob("[0-9]*/stat")}
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def count_starts(folder: Path, starts: int) -> None:
    """Print how many trainings on fresh data ended well in two processes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = []
    for number in range(starts):
        shards, run = folder / f"toy-{number}", folder / f"run-{number}"
        prepare(PrepareSettings("toy", shards, limit=60, seed=number))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command += ["-m", "speech2image", "train", "direct", "--preset", "toy", "--data", str(shards)]
        command += ["--out", str(run), "--encoder.steps", "4", "--generator.steps", "4"]
        start = time.monotonic()
        code = subprocess.run(command, env=environment, capture_output=True).returncode
        ended.append(code == 0 and (run / "model" / "model.json").is_file())
        print(
            f"torchrun, fresh start {number + 1}: {ended[-1]}, {time.monotonic() - start:.0f} s", flush=True
        )
    print(f"torchrun: {sum(ended)} of {starts} fresh starts in two processes ended with a model")


if __name__ == "__main__":
    main()
