"""Beside the peers, on one core in one run: the paper's networks, Whisper, pytorch-fid, StackGAN's training.

    python benchmarks/peers.py clip.wav
    python benchmarks/peers.py clip.wav --whisper FASTER-WHISPER-BASE --pictures FOLDER --inception WEIGHTS

The paper's networks (`models/`, presets `paper`) run in eager PyTorch with random weights, which take as long
as trained ones; ours are the shipped ONNX files. Each comparison takes turns in this process; times are
processor time, and ratios medians of each turn's own, so that they hold on a machine that does other things,
too. What is not given or not installed is left out with a sentence. One thread; nothing is downloaded.
"""

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import speech2image
from speech2image import audio
from speech2image.asr.backends import Whisper
from speech2image.losses.adversarial import (
    contrast_with_condition,
    discriminator_triplet_loss,
    generator_triplet_loss,
    hinge_discriminator,
    hinge_generator,
    kl_to_standard_normal,
)
from speech2image.models.gan.one_stage import OneStageGenerator, ProjectedDiscriminator
from speech2image.models.gan.stackgan_v2 import Discriminators, PictureGenerator, TreeGenerator
from speech2image.models.speech_encoder import PRESETS as ENCODERS
from speech2image.models.speech_encoder import SpeechEncoder
from speech2image.models.teacher.googlenet import GoogLeNet
from speech2image.training.recipes import one_stage_gan, stackgan_v2
from speech2image.training.recipes.one_stage_gan import see, side_by_side, views_of
from speech2image.training.recipes.stackgan_v2 import pyramid

OURS = "flowers-and-birds"
TEXTFREE = "flowers-and-birds-textfree"


def main() -> None:
    """Print a table for each peer."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--whisper", help="folder of a faster-whisper model, such as base")
    parser.add_argument("--pictures", type=Path, help="folder of pictures for FID beside pytorch-fid")
    parser.add_argument("--inception", type=Path, help="Inception's weights for it")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--batch", type=int, default=3, help="pictures of a training step")
    parser.add_argument("--training-turns", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sound = audio.load(options.clip), audio.SAMPLE_RATE
    print(f"{len(sound[0]) / audio.SAMPLE_RATE:.1f} s of speech, one thread")
    with torch.inference_mode():
        draw(sound, options.turns)
        hear(sound, options.turns)
    cascade(sound, options.whisper, options.turns)
    fid(options.pictures, options.inception)
    train(options.batch, options.training_turns)


def draw(sound: tuple[np.ndarray, int], turns: int) -> None:
    """A picture of 256 x 256: StackGAN-v2's generator and ours with its condition prior."""
    peer = PictureGenerator(TreeGenerator(stackgan_v2.PRESETS["paper"].networks)).eval()
    condition, noise = torch.rand(1, 1024), torch.randn(1, stackgan_v2.PRESETS["paper"].networks.noise)
    route = speech2image.load(OURS, threads=1)
    embedding, z = route.embed(sound), route.generator.noise(1, 0)[0]
    ways = {
        "ours: condition prior and generator, ONNX": partial(route.generator.draw, embedding, z),
        "the paper's StackGAN-v2, eager PyTorch": partial(peer, condition, noise),
    }
    compare("draws one picture of 256 x 256", ways, turns)


def hear(sound: tuple[np.ndarray, int], turns: int) -> None:
    """From samples to the embedding: the paper's CNN and GRU, and our encoders."""
    peer = SpeechEncoder(ENCODERS["paper"]).eval()

    def listen() -> Tensor:
        frames = torch.from_numpy(audio.log_mel(sound[0]))[None]
        return peer(frames, torch.tensor([frames.shape[2]]))

    textfree, ours = (speech2image.load(name, threads=1) for name in (TEXTFREE, OURS))
    ways: dict[str, Callable[[], object]] = {
        f"{TEXTFREE}, ONNX": partial(textfree.embed, sound),
        f"{OURS}, ONNX, words left out": partial(ours.encode, sound, quick=True),
        f"{OURS}, ONNX, with its decoder's words": partial(ours.embed, sound),
        "the paper's encoder, eager PyTorch": listen,
    }
    compare("hears it", ways, turns)


def cascade(sound: tuple[np.ndarray, int], folder: str | None, turns: int) -> None:
    """From samples to a picture: directly, and through Whisper's words."""
    if folder is None:
        print("\nWhisper is left out: give the folder of a faster-whisper model, --whisper FOLDER")
        return
    if importlib.util.find_spec("faster_whisper") is None:
        print("\nWhisper is left out: faster-whisper is not installed (pip install '.[asr]')")
        return
    whisper = Whisper(folder, threads=1)
    through = speech2image.load(OURS, route="cascade", recognizer=whisper, threads=1)
    ways: dict[str, Callable[[], object]] = {
        f"{OURS}, direct, words left out": partial(
            speech2image.load(OURS, threads=1).translate, sound, quick=True
        ),
        f"{OURS}, direct, with its words": partial(speech2image.load(OURS, threads=1).translate, sound),
        f"{OURS}-cascade, its own recognizer": partial(
            speech2image.load(OURS, route="cascade", threads=1).translate, sound
        ),
        f"{whisper.name} and the cascade": partial(through.translate, sound),
    }
    compare("turns it into one picture", ways, turns)


def fid(pictures: Path | None, weights: Path | None) -> None:
    """FID of a folder by pytorch-fid and by us: `fid_speed.py`."""
    if pictures is None or weights is None:
        print("\npytorch-fid is left out: give --pictures FOLDER and --inception WEIGHTS")
    elif importlib.util.find_spec("pytorch_fid") is None:
        print("\npytorch-fid is left out: it is not installed (pip install --no-deps pytorch-fid)")
    else:
        print(flush=True)
        beside = Path(__file__).with_name("fid_speed.py")
        subprocess.run([sys.executable, beside, pictures, weights, "--count", "100"], check=True)


# ---- a step of training --------------------------------------------------------------------------


def train(batch: int, turns: int) -> None:
    """A step of generator and discriminator on pictures of 256 x 256."""
    ways = {
        f"ours: one-stage-gan, cpu-256, batch of {batch}": our_step(batch),
        f"StackGAN-v2 as in the paper, batch of {batch}": stackgan_step(batch),
    }
    compare("trains one step", ways, turns)


def our_step(batch: int) -> Callable[[], None]:
    """`training/recipes/one_stage_gan.py`, its step in float32."""
    settings = one_stage_gan.PRESETS["cpu-256"]
    generator, judge = OneStageGenerator(settings.generator), ProjectedDiscriminator(settings.heads)
    teacher = GoogLeNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    real, rng = torch.rand(batch, 3, 256, 256) * 2 - 1, np.random.default_rng(0)
    conditions = torch.rand(batch, 1024)
    settings = replace(settings, batch_size=batch)
    whole, details = see(teacher.stages, views_of(real, settings, rng), settings)
    judge.calibrate(whole)
    if details is not None:
        judge.calibrate_details(details)
    steps = [torch.optim.Adam(network.parameters(), 2e-4) for network in (judge, generator)]

    def step() -> None:
        fake = generator(conditions, torch.randn(batch, settings.generator.noise_size))
        fake_whole, fake_details = see(teacher.stages, views_of(fake, settings, rng), settings)
        with torch.no_grad():
            real_whole, real_details = see(teacher.stages, views_of(real, settings, rng), settings)
        asked = generator.normalise(conditions)[: len(fake_whole[0])]
        both = torch.cat([asked, asked])
        free, match, mismatch, detail = judge(
            side_by_side(real_whole, fake_whole),
            both,
            both.flip(0),
            None if real_details is None else side_by_side(real_details, fake_details),
        )
        (of_real, of_fake), (match_real, match_fake) = free.chunk(2), match.chunk(2)
        loss = hinge_discriminator(of_real, of_fake)
        loss = loss + hinge_discriminator(match_real, match_fake, mismatch.chunk(2)[0])
        loss = loss + (hinge_discriminator(*detail.chunk(2)) if detail is not None else 0)
        loss.backward()
        _improve(steps[0])
        judge.requires_grad_(False)
        free, match, _, detail = judge(fake_whole, asked, None, fake_details)
        loss = hinge_generator(free) + hinge_generator(match)
        loss = loss + (hinge_generator(detail) if detail is not None else 0)
        loss = loss + contrast_with_condition(fake_whole[-1], asked, judge.centre, settings.temperature)
        loss.backward()
        _improve(steps[1])
        judge.requires_grad_(True)

    return step


def stackgan_step(batch: int) -> Callable[[], None]:
    """`training/recipes/stackgan_v2.py`, its step."""
    settings = stackgan_v2.PRESETS["paper"]
    sizes = settings.networks
    generator, judge = TreeGenerator(sizes), Discriminators(sizes)
    real = pyramid(torch.rand(batch, 3, 256, 256) * 2 - 1, sizes.branches)
    condition = torch.rand(batch, sizes.condition)
    steps = [torch.optim.Adam(network.parameters(), 2e-4, settings.betas) for network in (judge, generator)]

    def step() -> None:
        made = generator(condition, torch.randn(batch, sizes.noise), torch.randn(batch, sizes.code))
        fakes = [picture.detach() for picture in made.pictures]
        mismatched = [one.flip(0) for one in real]
        of_real, of_mismatched, of_fake = judge([real, mismatched, fakes], made.mean.detach())
        discriminator_triplet_loss(
            of_real,
            of_mismatched,
            of_fake,
            mismatched_unconditional_real=settings.mismatched_unconditional_real,
            logarithm=settings.logarithm,
        ).backward()
        _improve(steps[0])
        judge.requires_grad_(False)
        (of_fake,) = judge([made.pictures], made.mean)
        kl = kl_to_standard_normal(made.mean, made.log_variance)
        g_loss = generator_triplet_loss(of_fake, logarithm=settings.logarithm)
        (g_loss + settings.kl_weight * kl).backward()
        _improve(steps[1])
        judge.requires_grad_(True)

    return step


def _improve(optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()
    optimizer.zero_grad()


def compare(title: str, ways: Mapping[str, Callable[[], object]], turns: int) -> None:
    """A table of ways to do something, in turns: processor ms, and how many times as long as the first."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, do in ways.items():
            start = time.process_time()
            do()
            if turn:
                spent[name].append(time.process_time() - start)
    first = next(iter(spent.values()))
    print(f"\n| {title} | processor ms | times as long |\n|---|---|---|")
    for name, seconds in spent.items():
        ratio = statistics.median(own / of for own, of in zip(seconds, first, strict=True))
        print(f"| {name} | {1000 * statistics.median(seconds):.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
