"""Trains the models of the paper's tables, every row of a table under one budget, for `paper_tables.py`.

    python scripts/train_paper_tables.py --data shards/flowers shards/birds --out models --seeds 0 1

`OUT/seed-<seed>/<row>` then holds each row's model, `OUT/common` what several rows share: the classifier's
encoder, which Table IV's encoders start from, since it hears and knows no teacher; the text encoder; Stage I;
the speech encoder of Tables II and V. The shards need teacher features (`prepare teacher`).
The same command goes on after an interruption, and with more tables or seeds. Each step's output lies in
`OUT/logs`. Table II is trained from the first seed alone.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from paper_trainings import BUDGETS, Step, TrainingPlan

from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError, Speech2ImageError
from speech2image.evaluation.experiments import TABLES
from speech2image.models.gan.layers import SIZES


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without ending the trainings
    try:
        for data in options.data:
            if not (data / "manifest.jsonl").is_file():
                raise DataError(f"{data} is no shards folder; make one with `speech2image prepare`")
        plan = TrainingPlan(
            tuple(options.data), options.out, BUDGETS[options.budget], options.encoder, options.recognizer
        )
        steps = plan.steps(options.tables, options.seeds)
        build_arrays(options.data, steps, options.out, options.parallel)
        run(steps, options.out, options.parallel)
    except Speech2ImageError as error:
        print(f"train_paper_tables: {error}", file=sys.stderr)
        return 1
    return 0


def build_arrays(data: Sequence[Path], steps: Sequence[Step], out: Path, workers: int) -> None:
    """Let the arrays beside the shards be made once, before several processes want them."""
    if all(_done(out, step).exists() for step in steps):
        return
    for folder in data:
        arrays = PairArrays.open(folder, workers=workers)
        arrays.n_frames()
        for size in SIZES:
            arrays.pictures(size)


def run(steps: Sequence[Step], out: Path, parallel: int) -> None:
    """Do all steps that are not done, `parallel` at a time, each on its share of the cores.

    Raises:
        DataError: a step failed; what does not wait for it was done all the same.
    """
    todo = [step for step in steps if not _done(out, step).exists()]
    running: list[tuple[Step, subprocess.Popen[bytes]]] = []
    failed: list[str] = []
    threads = str(max(1, (os.cpu_count() or 1) // parallel))
    try:
        while todo or running:
            for step, process in [pair for pair in running if pair[1].poll() is not None]:
                running.remove((step, process))
                print(f"{step.name}: {'failed' if process.returncode else 'done'}", flush=True)
                if process.returncode:
                    failed.append(f"{step.name} (see {_log(out, step)})")
                else:
                    _done(out, step).parent.mkdir(parents=True, exist_ok=True)
                    _done(out, step).touch()
            ready = [step for step in todo if all((out / "done" / name).exists() for name in step.needs)]
            for step in ready[: parallel - len(running)]:
                todo.remove(step)
                step.before()
                running.append((step, _start(step, out, threads)))
                print(f"{step.name}: begun", flush=True)
            if not running:
                break
            time.sleep(0.5)
    finally:
        for _, process in running:
            process.terminate()
        for _, process in running:
            process.wait()  # for its checkpoint
    if failed:
        raise DataError(f"failed: {', '.join(failed)}; not begun: {[step.name for step in todo]}")


def _start(step: Step, out: Path, threads: str) -> "subprocess.Popen[bytes]":
    """All commands of a step as one process, so that it can be stopped as one."""
    _log(out, step).parent.mkdir(parents=True, exist_ok=True)
    program = "import sys\nfrom speech2image.cli import main\n" + "".join(
        f"if main({command!r}): sys.exit(1)\n" for command in step.commands
    )
    with _log(out, step).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads),
        )


def _done(out: Path, step: Step) -> Path:
    return out / "done" / step.name


def _log(out: Path, step: Step) -> Path:
    return out / "logs" / f"{step.name}.log"


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="shards folders, trained on as one"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    numbers = [number for number in TABLES if number != 3]
    parser.add_argument("--tables", type=int, nargs="+", choices=numbers, default=numbers, help="which")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of Tables IV and V")
    parser.add_argument("--budget", choices=tuple(BUDGETS), default="cpu", help="flags of the trainings")
    parser.add_argument("--encoder", type=Path, help="speech encoder's checkpoint for Tables II and V")
    parser.add_argument("--recognizer", type=Path, help="recognizer's folder for Table II")
    parser.add_argument("--parallel", type=int, default=1, help="trainings at a time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
