"""Memory and speed of reading a stream of training shards, from few samples to many.

    python benchmarks/streaming.py FOLDER --samples 10000 100000 1000000

Makes up training shards in FOLDER (random frames and features of stated sizes), reads one epoch of each size
in a fresh process, batch by batch, as `train speech-encoder` does, and prints the peak memory of it.
Of a large set so many shards are made, and the others are further names of these (hard links): all are read.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from speech2image.audio.front_ends import PAPER
from speech2image.data.shards.training_shards import TrainingSample, training_shard, write_training_shard

PER_SHARD = 1000


def main() -> None:
    """Make the shards that are missing, measure each size, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--distinct", type=int, default=20, help="shards that differ")
    parser.add_argument("--frames", type=int, default=64, help="frames of an utterance, one a sample")
    parser.add_argument("--crops", type=int, default=1)
    parser.add_argument("--picture-bytes", type=int, default=500)
    parser.add_argument("--buffer", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.buffer, options.batch_size)))
        return
    print(f"{'samples':>10} {'shards':>7} {'GB read':>8} {'peak MB':>8} {'samples/s':>10}")
    for samples in options.samples:
        folder = options.folder / str(samples)
        make_up(folder, samples, options)
        command = [sys.executable, __file__, str(folder), "--measure", str(folder)]
        command += ["--buffer", str(options.buffer), "--batch-size", str(options.batch_size)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"{samples:>10} {row['shards']:>7} {row['bytes'] / 1e9:>8.2f} {row['peak_mb']:>8.0f} "
            f"{row['samples'] / row['seconds']:>10.0f}",
            flush=True,
        )


def make_up(folder: Path, samples: int, options: argparse.Namespace) -> None:
    """Write the shards of a made-up set that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = samples // PER_SHARD
    for number in range(shards):
        path = training_shard(folder, number)
        if path.exists():
            continue
        if number >= options.distinct:
            os.link(training_shard(folder, number % options.distinct), path)
            continue
        rng = np.random.default_rng(number)
        made = [made_up(number * PER_SHARD + i, rng, options) for i in range(PER_SHARD)]
        write_training_shard(path, made, PAPER.describe(), f"made-up-{number}")


def made_up(number: int, rng: np.random.Generator, options: argparse.Namespace) -> TrainingSample:
    """A sample of random numbers."""
    frames = rng.standard_normal((options.frames, PAPER.n_features), np.float32).astype(np.float16)
    return TrainingSample(
        id=f"made/{number:08d}",
        label=number % 100,
        class_name=f"class {number % 100}",
        split="train",
        captions=("a thing",),
        image=rng.bytes(options.picture_bytes),
        suffix="webp",
        teacher=rng.random((options.crops, 1024), np.float32).astype(np.float16),
        spoken=((0, f"voice {number % 7}"),),
        frames=(frames,),
    )


def measure(folder: Path, buffer: int, batch_size: int) -> dict[str, float]:
    """Read one epoch in this process: batches of utterances with the teacher's features."""
    from speech2image.data.streams import Stream
    from speech2image.training.core.run import keep_freed_memory
    from speech2image.training.core.sources import StreamedBatches
    from speech2image.training.recipes.speech_encoder import PRESETS, reading

    keep_freed_memory()  # as every training does
    settings = dataclasses.replace(PRESETS["cpu"], augmentation=None, batch_size=batch_size, buffer=buffer)
    start, read = time.monotonic(), 0
    stream = Stream.open([str(folder)])
    batches = StreamedBatches(stream, reading(settings), settings)
    for step in range(batches._plan(0).steps):
        read += len(batches(step).log_mel)
    seconds = time.monotonic() - start
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {
        "shards": len(stream.shards),
        "bytes": sum(Path(shard.url).stat().st_size for shard in stream.shards),
        "peak_mb": peak / 1024,
        "samples": read,
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
