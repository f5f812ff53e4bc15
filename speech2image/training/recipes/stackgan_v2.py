"""StackGAN-v2 training: the paper's stacked generator against one discriminator a picture size.

Presets: `paper` (the loss as printed) and `released-code` (the authors' program: logarithms, and mismatched
pictures that count as real where the condition does not), for CUB, -oxford102 and -places; `cpu`; `ablation`.

Command: `speech2image train stackgan-v2 --preset cpu --data SHARDS --out RUN`. The conditions are embeddings
of a frozen speech encoder, computed beforehand and stored beside the shards, so no gradient can reach it.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from speech2image.data.training_sets import TrainingArrays
from speech2image.losses.adversarial import (
    discriminator_triplet_loss,
    generator_triplet_loss,
    kl_to_standard_normal,
)
from speech2image.models.gan.stackgan_v2 import Architecture, Discriminators, TreeGenerator
from speech2image.training.core.gan import Adversaries
from speech2image.training.core.networks import STACKGAN_V2
from speech2image.training.core.picture_batches import PictureBatch
from speech2image.training.core.run import Run, belonging, make_fabric
from speech2image.training.recipes.stackgan import (
    Progress,
    StackSettings,
    draw_noise,
    fitted,
    picture_batches,
    spread_of_conditions,
)


@dataclass(frozen=True)
class StackGanV2Training(StackSettings):
    """Every setting of this recipe; the defaults are the released code's for CUB.

    Attributes:
        networks: sizes of generator and discriminators.
        steps: optimiser steps of generator and discriminators each.
        mismatched_unconditional_real: count the mismatched picture as real in the unconditional loss, as the
            authors' code does; the paper's eq. (12) leaves it out.
        logarithm: cross-entropy, as in the authors' code; else the terms of eq. (11)-(14) as printed, linear
            in the discriminators' probabilities.
    """

    networks: Architecture = field(default_factory=Architecture)
    steps: int = 220_000
    mismatched_unconditional_real: bool = True
    logarithm: bool = True


# The paper and its released code differ in the loss alone: `paper` has it as printed, `released-code` as the
# authors' program, which the published figures came of, computes it. Both in float32 and without clipping.
RELEASED_CODE = StackGanV2Training(precision="32-true")
PAPER = replace(RELEASED_CODE, mismatched_unconditional_real=False, logarithm=False)
OXFORD102_STEPS = 100_000
_CPU = replace(
    RELEASED_CODE,
    networks=Architecture(branches=2, generator_width=32, discriminator_width=32),
    steps=40_000,
    batch_size=16,
    standardise_condition=True,
    grid_every=500,
    checkpoint_minutes=4.0,
    precision="auto",
)
PRESETS: dict[str, StackGanV2Training] = {
    # CUB; the paper trains one model a data set
    "paper": PAPER,
    "paper-oxford102": replace(PAPER, steps=OXFORD102_STEPS),
    # Places at 128 pixels; the paper names no number of steps for it
    "paper-places": replace(PAPER, networks=Architecture(branches=2)),
    "released-code": RELEASED_CODE,
    "released-code-oxford102": replace(RELEASED_CODE, steps=OXFORD102_STEPS),
    "released-code-places": replace(RELEASED_CODE, networks=Architecture(branches=2)),
    "cpu": _CPU,
    # one size of networks and one number of steps for every row of a table; more branches in Tables III and V
    "ablation": replace(_CPU, networks=replace(_CPU.networks, branches=1), steps=4_000),
    "toy": replace(
        _CPU,
        networks=Architecture(branches=1, generator_width=8, discriminator_width=16, noise=8, code=32),
        steps=800,
        batch_size=16,
        learning_rate=6e-4,
        discriminator_rate=4e-4,
        betas=(0.0, 0.99),
        kl_weight=0.003,
        ema_decay=0.99,
        grid_every=100,
        checkpoint_minutes=1.0,
    ),
}


def train(
    settings: StackGanV2Training,
    arrays: TrainingArrays,
    folder: str | os.PathLike[str],
    utterances: NDArray[np.int64] | None = None,
) -> Path:
    """Train until `steps` or `minutes`, going on from the folder's checkpoint if there is one.

    Args:
        settings: see `StackGanV2Training`.
        arrays: prepared data with speech embeddings, and with teacher features if `speech_fraction` < 1.
        folder: of the run: checkpoint, log, sample sheets (first row real, then one row a noise).
        utterances: those to take conditions from, e.g. of the training voices; default all.

    Returns:
        Path of the checkpoint; `ema/module` in it is the generator to use.

    Raises:
        DataError: the data lacks what the settings need.
        SettingsError: a setting out of range, or not that of the training to go on with.
        CheckpointError, OutputError: the checkpoint cannot be read or written.
    """
    settings = fitted(settings, arrays)
    fabric = make_fabric(settings.precision, settings.seed)
    run = Run(
        folder, STACKGAN_V2, settings, fabric, belonging(arrays, embeddings=settings.speech_fraction > 0)
    )
    batches = picture_batches(settings, arrays, utterances, fabric)
    generator, discriminators = TreeGenerator(settings.networks), Discriminators(settings.networks)
    if settings.standardise_condition:
        generator.augmentation.standardise(*spread_of_conditions(batches, settings.seed))
    gan = Adversaries(generator, discriminators, settings.ema_decay)
    rates = (settings.learning_rate, settings.discriminator_rate)
    step = gan.begin(fabric, run.restore(), rates, settings.betas, settings)
    progress = Progress(run, gan, settings, arrays, utterances, batches, fabric, terms=terms(settings))

    def inputs(batch: PictureBatch, number: int) -> tuple[Tensor, Tensor, Tensor]:
        condition = torch.from_numpy(batch.conditions).to(fabric.device)
        return condition, *draw_noise(settings, number, fabric)

    next_batch = run.read_ahead(batches)
    while not run.finished(step):
        numbers = run.batches_of(step)
        batches_now = {number: next_batch(number) for number in numbers}
        for number in numbers:
            batch = batches_now[number]
            assert batch.mismatched_pictures is not None
            real = pyramid(torch.from_numpy(batch.pictures).to(fabric.device), settings.networks.branches)
            mismatched = pyramid(torch.from_numpy(batch.mismatched_pictures).to(fabric.device), len(real))
            # one batch's graph is held at a time: the generator's step makes the others' pictures anew
            with torch.set_grad_enabled(number == numbers[-1]):
                made = gan.make(*inputs(batch, number))
            fakes = [picture.detach() for picture in made.pictures]
            # one call of three batches: the convolutions of small maps read their many weights once
            of_real, of_mismatched, of_fake = gan.judge([real, mismatched, fakes], made.mean.detach())
            d_loss = discriminator_triplet_loss(
                of_real,
                of_mismatched,
                of_fake,
                mismatched_unconditional_real=settings.mismatched_unconditional_real,
                logarithm=settings.logarithm,
            )
            gan.improve_discriminator(d_loss, last=number == numbers[-1])

        for number in reversed(numbers):
            if number != numbers[-1]:
                made = gan.make(*inputs(batches_now[number], number))
            # Bare and frozen: no gradients of its weights, nothing exchanged between processes. The code
            # keeps its graph here, since the generator learns its codes, too.
            with fabric.autocast():
                (of_fake,) = discriminators([made.pictures], made.mean)
            g_loss = generator_triplet_loss(of_fake, logarithm=settings.logarithm)
            kl = kl_to_standard_normal(made.mean, made.log_variance)
            gan.improve_generator(g_loss + settings.kl_weight * kl, last=number == numbers[0])
        step += 1
        progress.after_step(step, d_loss, g_loss, kl)
    return progress.end(step)


def pyramid(pictures: Tensor, branches: int) -> list[Tensor]:
    """Pictures [batch, 3, s, s] at `branches` sizes, each half the next, smallest first."""
    sizes = [pictures]
    while len(sizes) < branches:
        sizes.insert(0, F.avg_pool2d(sizes[0], 2))
    return sizes


def terms(settings: StackGanV2Training) -> int:
    """Number of terms in the discriminators' loss."""
    return settings.networks.branches * (6 if settings.mismatched_unconditional_real else 5)
