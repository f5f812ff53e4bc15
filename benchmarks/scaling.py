"""What a picture costs, part by part, and what so many pictures cost on so many cores and GPUs.

    python benchmarks/scaling.py --pictures 10_000_000 --gpus 64

Times are processor seconds of one core, measured on made-up photographs and spoken sentences. Networks are
counted in floating-point operations by torch; a GPU's time follows from its speed, which is an assumption
and stands in the output.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from speech2image.audio.front_ends import PAPER
from speech2image.data.augment.log_mel import LogMelAugmentation
from speech2image.data.pairs import picture_shards, read_header
from speech2image.data.pictures import central_square
from speech2image.data.prepare import PrepareSettings, prepare
from speech2image.data.shards.rows import frames_of
from speech2image.data.shards.training_shards import (
    TrainingSample,
    read_training_shard,
    write_training_shard,
)
from speech2image.data.speech.speaking import UtteranceSpec, speak_utterance
from speech2image.models.gan.one_stage import OneStageGenerator
from speech2image.models.speech_encoder import PRESETS as ENCODERS
from speech2image.models.speech_encoder import SpeechEncoder
from speech2image.models.teacher.googlenet import GoogLeNet, ten_crops
from speech2image.training.core.speech_batches import RampedAugmentation
from speech2image.training.recipes.one_stage_gan import PRESETS

SENTENCE = "this flower has bright yellow petals around a dark brown centre"
FRAMES = 450
"""Of a caption of 4.5 s."""


def main() -> None:
    """Measure the parts, then compute."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=10_000_000)
    parser.add_argument("--utterances", type=int, default=5, help="a picture")
    parser.add_argument("--crops", type=int, default=2, help="of a picture, for the teacher")
    parser.add_argument("--cores", type=int, default=2048, help="of the cluster that prepares")
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--gigabytes", type=float, default=20.0, help="a second, from the storage to all")
    parser.add_argument("--epochs", type=int, default=10, help="passes of each training")
    parser.add_argument("--teraflops", type=float, default=300.0, help="of a GPU, reached in bfloat16")
    parser.add_argument("--core-hour", type=float, default=0.04, help="dollars")
    parser.add_argument("--gpu-hour", type=float, default=3.0, help="dollars")
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        parts = measure(Path(folder), options)
    for name, value in parts.items():
        print(f"{name:44} {value:12.5g}")
    compute(parts, options)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of one core, bytes and operations of one picture, utterance or crop."""
    n, rng = options.repeats, np.random.default_rng(0)
    photographs = folder / "photographs"
    photographs.mkdir()
    rows = []
    for i in range(n):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        small.resize((640, 480), Image.Resampling.BICUBIC).save(photographs / f"{i}.jpg", quality=90)
        rows.append(
            f'{{"image": "{i}.jpg", "class": "{i % 2}", "split": "train", "captions": ["{SENTENCE}"]}}'
        )
    (photographs / "manifest.jsonl").write_text("\n".join(rows))
    shards = folder / "shards"
    parts: dict[str, float] = {}
    settings = PrepareSettings("folder", shards, root=photographs, speak=False)
    parts["picture shard, s a picture"] = seconds(lambda: prepare(settings), 1) / n
    stored = sum(path.stat().st_size for path in picture_shards(shards)) / n
    assert len(read_header(picture_shards(shards)[0]).rows) == n
    parts["picture shard, bytes a picture"] = stored
    if shutil.which("flite"):
        specs = [UtteranceSpec("a", 0, SENTENCE, "flite/slt", i, i % 2 == 0, "opus") for i in range(n)]
        spoken = speak_utterance(specs[0]).utterance.audio
        children = seconds(lambda: [speak_utterance(spec) for spec in specs], 1, children=True)
        parts["speaking (flite, half augmented), s an utterance"] = children / n
        parts["frames, s an utterance"] = seconds(lambda: frames_of(spoken, "x"), n)
    teacher = GoogLeNet().eval().requires_grad_(False)
    picture = np.asarray(Image.open(photographs / "0.jpg"))
    crops = ten_crops(picture)
    with torch.no_grad():
        parts["ten crops, s a picture"] = seconds(lambda: ten_crops(picture), n)
        parts["teacher on a core, float32, s a crop"] = seconds(lambda: teacher.features(crops), 2) / 10
        parts["teacher, GFLOP a crop"] = operations(lambda: teacher.features(crops)) / 10
    encoder = SpeechEncoder(ENCODERS["small"])
    clips, lengths = torch.randn(8, PAPER.n_features, FRAMES), torch.full((8,), FRAMES)
    step = operations(lambda: encoder(clips, lengths).square().mean().backward())
    parts["speech encoder (small), GFLOP an utterance and step"] = step / 8
    augment = RampedAugmentation(LogMelAugmentation(), 0, PAPER)
    batch, n_frames = torch.randn(64, PAPER.n_features, FRAMES), torch.full((64,), FRAMES)
    parts["augmentation, s an utterance"] = seconds(lambda: augment(batch, n_frames, 0, rng), 3) / 64
    gan = PRESETS["gpu"]
    generator = OneStageGenerator(gan.generator)
    conditions, noise = torch.randn(2, 1024), torch.randn(2, gan.generator.noise_size)
    real = torch.randn(2, 3, gan.feature_size, gan.feature_size)

    def gan_step() -> None:
        with torch.no_grad():
            teacher.stages(real)
        drawn = generator(conditions, noise)
        small = torch.nn.functional.interpolate(drawn, (gan.feature_size, gan.feature_size))
        sum(stage.square().mean() for stage in teacher.stages(small)).backward()  # type: ignore[union-attr]

    parts["generator and teacher, GFLOP a picture and step"] = operations(gan_step) / 2
    parts |= streaming(folder, options, stored, rng)
    data = (photographs / "0.jpg").read_bytes()
    parts["decoding a square of 152, s a picture"] = seconds(lambda: central_square(data, 152, "x"), n)
    return parts


def streaming(
    folder: Path, options: argparse.Namespace, stored: float, rng: np.random.Generator
) -> dict[str, float]:
    """Packing and reading a shard of 200 samples of realistic sizes."""
    samples = [
        TrainingSample(
            id=f"{i}",
            label=0,
            class_name="a",
            split="train",
            captions=(SENTENCE,) * options.utterances,
            image=rng.bytes(int(stored)),
            suffix="webp",
            teacher=rng.random((options.crops, 1024)).astype(np.float16),
            spoken=((0, "voice"),) * options.utterances,
            frames=tuple(
                rng.standard_normal((FRAMES, PAPER.n_features)).astype(np.float16)
                for _ in range(options.utterances)
            ),
            embeddings=rng.standard_normal((options.utterances, 1024)).astype(np.float16),
        )
        for i in range(200)
    ]
    path = folder / "training-000000.tar"
    write = seconds(lambda: write_training_shard(path, samples, PAPER.describe(), "x"), 1) / len(samples)
    read = seconds(lambda: read_training_shard(str(path)), 3) / len(samples)
    return {
        "training shard, s of packing a picture": write,
        "training shard, s of reading a picture": read,
        "training shard, bytes a picture": path.stat().st_size / len(samples),
    }


def seconds(function: Callable[[], Any], times: int, children: bool = False) -> float:
    """Processor seconds of one call, those of programs it starts included if wanted."""
    import resource

    def used() -> float:
        own = time.process_time()
        other = resource.getrusage(resource.RUSAGE_CHILDREN)
        return own + (other.ru_utime + other.ru_stime if children else 0.0)

    if times > 1:
        function()  # what is made once does not count
    start = used()
    for _ in range(times):
        function()
    return (used() - start) / times


def operations(function: Callable[[], Any]) -> float:
    """Floating-point operations of one call, in thousands of millions."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops() / 1e9


def compute(parts: dict[str, float], options: argparse.Namespace) -> None:
    """Print hours and dollars of the whole, and what each training waits for."""
    n, u, c = options.pictures, options.utterances, options.crops
    core_seconds = {
        "pictures": parts["picture shard, s a picture"] * n,
        "speaking": parts.get("speaking (flite, half augmented), s an utterance", 0.065) * n * u,
        "frames": parts.get("frames, s an utterance", 0.02) * n * u,
        "packing": parts["training shard, s of packing a picture"] * n,
    }
    print(f"\n{n:,} pictures, {u} utterances and {c} crops each, {options.epochs} passes a training")
    for name, used in core_seconds.items():
        hours = used / 3600
        cost = hours * options.core_hour
        print(f"{name:15} {hours:9,.0f} core hours {hours / options.cores:7.2f} h  ${cost:,.0f}")
    flops = options.teraflops * 1e12
    size, read = parts["training shard, bytes a picture"], parts["training shard, s of reading a picture"]
    passes = n * options.epochs / options.gpus  # pictures that each process sees
    bandwidth = options.gigabytes * 1e9 / options.gpus
    waits = {
        "teacher": {
            "GPU": parts["teacher, GFLOP a crop"] * 1e9 * c * n / options.gpus / flops,
            "decoding, one core": parts["ten crops, s a picture"] * n / options.gpus,
        },
        "speech encoder": {
            "GPU": parts["speech encoder (small), GFLOP an utterance and step"] * 1e9 * u * passes / flops,
            "reading, one thread": read * passes,
            "augmentation, four threads": parts["augmentation, s an utterance"] * u * passes / 4,
            "network": size * passes / bandwidth,
        },
        "generator": {
            "GPU": parts["generator and teacher, GFLOP a picture and step"] * 1e9 * passes / flops,
            "reading and decoding, one thread": (read + parts["decoding a square of 152, s a picture"])
            * passes,
            "network": size * passes / bandwidth,
        },
    }
    for name, items in waits.items():
        longest = max(items.values()) / 3600
        told = ", ".join(f"{what} {used / 3600:.2f} h" for what, used in items.items())
        cost = longest * options.gpus * options.gpu_hour
        print(f"{name:15} {longest:9.2f} h on {options.gpus} GPUs  ${cost:,.0f}")
        print(f"{'':15} {told}")
    print(f"training shards: {size * n / 1e12:.2f} TB in {n / 1000:,.0f} shards")


if __name__ == "__main__":
    main()
