"""StackGAN-v1 training: Stage I, then Stage II (the generator of the two-step system).

Command: `speech2image train stackgan-v1 --conditions text --data SHARDS --out RUN/stage1`, then `... --out
RUN/stage2 --preset paper-stage2 --stage-one RUN/stage1/checkpoint.safetensors`. Zhang et al., "StackGAN"
(ICCV 2017).
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speech2image.data.training_sets import TrainingArrays
from speech2image.errors import SettingsError
from speech2image.losses.adversarial import cross_entropy, kl_to_standard_normal
from speech2image.models.gan.stackgan_v1 import Architecture, Discriminator, StageOne, StageTwo
from speech2image.training.core.gan import Adversaries
from speech2image.training.core.networks import STACKGAN_V1, load_stage
from speech2image.training.core.picture_batches import PictureBatch
from speech2image.training.core.run import Run, belonging, make_fabric
from speech2image.training.core.schedules import halving
from speech2image.training.recipes.stackgan import (
    Progress,
    StackSettings,
    draw_noise,
    fitted,
    picture_batches,
    spread_of_conditions,
)


@dataclass(frozen=True)
class StackGanV1Training(StackSettings):
    """Every setting of this recipe; the defaults are the paper's for CUB, Stage I.

    Attributes:
        networks: which stage, and sizes.
        steps: optimiser steps of generator and discriminator each.
        halve_every: steps after which both rates are halved, again and again; 0 for never.
    """

    networks: Architecture = field(default_factory=Architecture)
    steps: int = 83_000
    batch_size: int = 64
    halve_every: int = 13_800
    ema_decay: float = 0.0


PAPER = StackGanV1Training(precision="32-true")
_OXFORD102 = replace(PAPER, steps=65_900, halve_every=11_000)
_SMALL = Architecture(size=128, generator_width=32, discriminator_width=32)
_CPU = replace(
    PAPER,
    networks=_SMALL,
    steps=20_000,
    batch_size=24,
    halve_every=8_000,
    ema_decay=0.999,
    standardise_condition=True,
    grid_every=500,
    checkpoint_minutes=4.0,
    precision="auto",
)
_TOY = replace(
    _CPU,
    networks=Architecture(
        size=64, generator_width=8, discriminator_width=8, noise=8, code=16, residual_blocks=1
    ),
    steps=600,
    batch_size=16,
    grid_every=100,
)
# 83,000 steps: 600 epochs of CUB's 8,855 training pictures in batches of 64; halved every 100 epochs. 65,900:
# of Oxford-102's 7,034.
PRESETS: dict[str, StackGanV1Training] = {
    "paper": PAPER,
    "paper-stage2": replace(PAPER, networks=Architecture(stage=2)),
    "paper-oxford102": _OXFORD102,
    "paper-oxford102-stage2": replace(_OXFORD102, networks=Architecture(stage=2)),
    "cpu": _CPU,
    "cpu-stage2": replace(_CPU, networks=replace(_SMALL, stage=2), batch_size=16),
    "toy": _TOY,
    "toy-stage2": replace(_TOY, networks=replace(_TOY.networks, stage=2)),
}


def train(
    settings: StackGanV1Training,
    arrays: TrainingArrays,
    folder: str | os.PathLike[str],
    stage_one: str | os.PathLike[str] | None = None,
    utterances: NDArray[np.int64] | None = None,
) -> Path:
    """Train one stage until `steps` or `minutes`, going on from the folder's checkpoint if there is one.

    Args:
        settings: see `StackGanV1Training`.
        arrays: prepared data with embeddings; `condition_pairs.open_conditions(..., "text")` for the text
            route.
        folder: of the run: checkpoint, log, sample sheets (first row real, then one row a noise).
        stage_one: checkpoint of Stage I, for Stage II.
        utterances: those to take conditions from; default all.

    Returns:
        Path of the checkpoint; `core.networks.load_generator` reads it.

    Raises:
        SettingsError: Stage II without Stage I or the other way round, or a setting out of range.
        DataError, CheckpointError, OutputError: as for stackgan-v2.
    """
    settings = fitted(settings, arrays)
    a = settings.networks
    fabric = make_fabric(settings.precision, settings.seed)
    run = Run(
        folder, STACKGAN_V1, settings, fabric, belonging(arrays, embeddings=settings.speech_fraction > 0)
    )
    batches = picture_batches(settings, arrays, utterances, fabric)
    generator = make_generator(a, stage_one)
    if settings.standardise_condition:
        generator.augmentation.standardise(*spread_of_conditions(batches, settings.seed))
    discriminator = Discriminator(a.sizes[-1], a.discriminator_width, a.code)
    gan = Adversaries(generator, discriminator, settings.ema_decay)
    step = gan.begin(fabric, run.restore(), rates(settings, 0), settings.betas, settings)
    progress = Progress(run, gan, settings, arrays, utterances, batches, fabric, terms=2)

    def inputs(batch: PictureBatch, number: int) -> tuple[Tensor, Tensor, Tensor]:
        condition = torch.from_numpy(batch.conditions).to(fabric.device)
        return condition, *draw_noise(settings, number, fabric, a.stage)

    next_batch = run.read_ahead(batches)
    while not run.finished(step):
        gan.set_rates(*rates(settings, step))
        numbers = run.batches_of(step)
        batches_now = {number: next_batch(number) for number in numbers}
        for number in numbers:
            batch = batches_now[number]
            assert batch.mismatched_pictures is not None
            real = torch.from_numpy(batch.pictures).to(fabric.device)
            mismatched = torch.from_numpy(batch.mismatched_pictures).to(fabric.device)
            # one batch's graph is held at a time: the generator's step makes the others' pictures anew
            with torch.set_grad_enabled(number == numbers[-1]):
                made = gan.make(*inputs(batch, number))
            fake, code = made.pictures[-1].detach(), made.mean.detach()
            d_loss = discriminator_loss(*gan.judge([real, mismatched, fake], code))
            gan.improve_discriminator(d_loss, last=number == numbers[-1])

        for number in reversed(numbers):
            if number != numbers[-1]:
                made = gan.make(*inputs(batches_now[number], number))
            # Bare and frozen: no gradients of its weights, nothing exchanged between processes. The code
            # keeps its graph here, since the generator learns its codes, too.
            with fabric.autocast():
                (fooled,) = discriminator([made.pictures[-1]], made.mean)
            g_loss, kl = cross_entropy(fooled, True), kl_to_standard_normal(made.mean, made.log_variance)
            gan.improve_generator(g_loss + settings.kl_weight * kl, last=number == numbers[0])
        step += 1
        progress.after_step(step, d_loss, g_loss, kl)
    return progress.end(step)


def discriminator_loss(real: Tensor, mismatched: Tensor, fake: Tensor) -> Tensor:
    """real + (mismatched + fake) / 2, each a binary cross-entropy of logits [batch] (the authors' code)."""
    return cross_entropy(real, True) + (cross_entropy(mismatched, False) + cross_entropy(fake, False)) / 2


def rates(settings: StackGanV1Training, step: int) -> tuple[float, float]:
    """Learning rates of generator and discriminator at step 0, 1, ...: halved again and again."""
    share = halving(step, settings.halve_every)
    return settings.learning_rate * share, settings.discriminator_rate * share


def make_generator(
    architecture: Architecture, stage_one: str | os.PathLike[str] | None = None
) -> StageOne | StageTwo:
    """An untrained stage; Stage II holds the trained Stage I of the checkpoint `stage_one`.

    Raises:
        SettingsError: Stage II without Stage I, Stage I with one, or a Stage I of other noise or condition.
    """
    if architecture.stage == 1:
        if stage_one is not None:
            raise SettingsError("Stage I takes no Stage I; choose the preset of Stage II")
        return StageOne(architecture)
    if stage_one is None:
        raise SettingsError("Stage II draws from Stage I's pictures; give its checkpoint (--stage-one)")
    first = load_stage(stage_one)
    if not isinstance(first, StageOne):
        raise SettingsError(f"{stage_one} is a Stage II; give a Stage I")
    for name in ("noise", "code", "condition"):
        if getattr(first.architecture, name) != getattr(architecture, name):
            raise SettingsError(
                f"{name} is {getattr(architecture, name)}, but Stage I was trained with "
                f"{getattr(first.architecture, name)}"
            )
    return StageTwo(architecture, first)
