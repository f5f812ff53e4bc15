"""Trains speech encoder and generator on a machine with a GPU that is lent for minutes, from a pack.

    python scripts/train_on_gpu.py unpack pack/part-00.zip --data DATA        (once a part, any order)
    python scripts/train_on_gpu.py train --data DATA --runs RUNS --out OUT --call-minutes 9
    python scripts/train_on_gpu.py join OUT/*.part --out RUNS                  (anywhere, afterwards)

`train` does the stages that are not done yet, goes on where an earlier call stopped, ends in time, and leaves
in OUT what travels back: parts of checkpoints, and `reports.zip` with logs and sample sheets. Run it from the
repository's root with PYTHONPATH=. unless speech2image is installed. It needs torch, numpy, Pillow,
safetensors, jaxtyping, tensorboard, rich and lightning-fabric (or pytorch-lightning, which holds it); to
read pictures, webdataset and braceexpand. Where some are missing and nothing can be installed, bring
their wheels:

    pip download --no-deps -d .whl lightning-fabric webdataset braceexpand     (here; pure Python, 0.4 MB)
    pip install --no-index --no-deps --target SITE .whl/*.whl                  (there; then PYTHONPATH=SITE:.)
"""

import argparse
import os
import sys
import time
from pathlib import Path

import gpu_data

from speech2image.data.arrays import PairArrays
from speech2image.errors import Speech2ImageError

STAGES = ("teacher", "speech", "embeddings", "gan64", "gan128", "gan256")
PIECES = ("average", "weights", "moments")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    started = time.monotonic()
    options = _parser().parse_args(arguments)
    options.started = started
    try:
        options.function(options)
    except Speech2ImageError as error:
        print(f"train_on_gpu: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    unpack = commands.add_parser("unpack", help="put parts of a pack into a data folder")
    unpack.add_argument("parts", type=Path, nargs="+", help="part-*.zip, with pack.json beside them")
    unpack.add_argument("--data", type=Path, required=True, help="shards folder to fill")
    unpack.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    unpack.add_argument(
        "--sizes", type=int, nargs="*", default=[], help="build picture arrays once all is there"
    )
    unpack.set_defaults(function=_unpack)
    train = commands.add_parser("train", help="do the stages that are not done yet")
    train.add_argument(
        "--data",
        type=Path,
        required=True,
        nargs="+",
        help="folders that unpack filled, or any shards folders; several are trained on as one",
    )
    train.add_argument("--runs", type=Path, required=True, help="folder of the trainings' folders")
    train.add_argument(
        "--out", type=Path, required=True, help="takes what shall travel back; is emptied of it"
    )
    train.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    train.add_argument("--call-minutes", type=float, default=9.0, help="end so many minutes after the start")
    train.add_argument("--minutes", nargs="*", default=[], metavar="STAGE=MINUTES", help="budgets")
    train.add_argument(
        "--set", nargs="*", default=[], metavar="STAGE.NAME=VALUE", help="settings; stage gan is all three"
    )
    train.add_argument("--start-from", type=Path, help="checkpoint that the first generator starts from")
    train.add_argument("--teacher", type=Path, help="the teacher's weights; default: those of the pack")
    train.add_argument("--compile", action="store_true", help="torch.compile generator, heads and teacher")
    train.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count() or 1), help="threads that read ahead"
    )
    train.set_defaults(function=_train)
    split = commands.add_parser("split", help="cut a checkpoint into parts")
    split.add_argument("checkpoint", type=Path)
    split.add_argument("--name", required=True, help="of the run: the folder join puts it into")
    split.add_argument("--out", type=Path, required=True)
    split.add_argument("--pieces", nargs="+", choices=PIECES, default=PIECES)
    split.set_defaults(function=_split)
    join = commands.add_parser("join", help="make ordinary checkpoints of parts")
    join.add_argument("parts", type=Path, nargs="+", help="*.part")
    join.add_argument("--out", type=Path, required=True, help="folder of the trainings' folders")
    join.set_defaults(function=_join)
    return parser


def _unpack(options: argparse.Namespace) -> None:
    missing = gpu_data.unpack(options.parts, options.data, options.workers)
    if missing:
        print(f"still missing: {', '.join(missing)}")
        return
    arrays = PairArrays.open(options.data, workers=options.workers)
    print(f"complete: {len(arrays.ids)} pictures, {len(arrays.utterance_sample)} utterances")
    for size in options.sizes:
        arrays.pictures(size)


def _split(options: argparse.Namespace) -> None:
    import gpu_checkpoints

    for path in gpu_checkpoints.split(options.checkpoint, options.out, options.name, pieces=options.pieces):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


def _join(options: argparse.Namespace) -> None:
    import gpu_checkpoints

    for path in gpu_checkpoints.join(options.parts, options.out):
        print(path)


def _train(options: argparse.Namespace) -> None:
    import gpu_training  # torch and the trainers, which the processes of unpack need not import

    gpu_training.train(options, options.started + 60 * options.call_minutes)


if __name__ == "__main__":
    sys.exit(main())
