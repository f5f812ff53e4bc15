"""Trains the stacked generator of the paper against one discriminator a picture size (StackGAN-v2).

Command: `speech2image train stackgan-v2 --preset cpu --data SHARDS --out RUN`. The conditions are embeddings
of a frozen speech encoder, made beforehand and stored in the data set, so no gradient can reach it.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from speech2image.data.joined import TrainingArrays
from speech2image.losses.adversarial import (
    discriminator_triplet_loss,
    generator_triplet_loss,
    kl_to_standard_normal,
)
from speech2image.models.stackgan_v2 import Architecture, Discriminators, TreeGenerator
from speech2image.training.batches import PictureBatches, to_unit_range
from speech2image.training.collapse import CollapseCheck
from speech2image.training.ema import Ema
from speech2image.training.run import Run, make_fabric, step_rng, step_torch_rng

KIND = "stackgan_v2"
COLUMNS = 8
"""Conditions on a sample sheet."""


@dataclass(frozen=True)
class Settings:
    """Every setting of this recipe; the defaults are the paper's for CUB.

    Attributes:
        networks: sizes of generator and discriminators.
        steps: optimiser steps of generator and discriminators each.
        minutes: stop after so many minutes of training over all sessions; None for no limit.
        batch_size: pictures a step and process.
        learning_rate: Adam's, generator.
        discriminator_rate: Adam's, discriminators.
        betas: Adam's.
        kl_weight: of the conditioning augmentation's distance from N(0, 1).
        ema_decay: upper bound of the decay of the generator's average.
        mismatched_unconditional_real: count the mismatched picture as real in the unconditional loss, as the
            authors' code does; the paper's equations leave it out.
        speech_fraction: how often a picture's condition is the embedding of one of its utterances (1: always,
            as in the paper) rather than the teacher's feature of the picture itself.
        standardise_condition: subtract the conditions' mean and divide by their spread. The paper does not;
            a short training gains by it, for most of a teacher feature is its mean.
        seed: of everything random.
        precision: "auto" (bfloat16 where the processor has it), "32-true" or "bf16-mixed".
        log_every, grid_every: steps between two log rows and two sample sheets.
        checkpoint_minutes: between two checkpoints.
    """

    networks: Architecture = field(default_factory=Architecture)
    steps: int = 220_000
    minutes: float | None = None
    batch_size: int = 24
    learning_rate: float = 2e-4
    discriminator_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    kl_weight: float = 2.0
    ema_decay: float = 0.999
    mismatched_unconditional_real: bool = True
    speech_fraction: float = 1.0
    standardise_condition: bool = False
    seed: int = 0
    precision: str = "auto"
    log_every: int = 20
    grid_every: int = 1000
    checkpoint_minutes: float = 10.0


PAPER = Settings()
_CPU = replace(
    PAPER,
    networks=Architecture(branches=2, generator_width=32, discriminator_width=32),
    steps=40_000,
    batch_size=16,
    standardise_condition=True,
    grid_every=500,
    checkpoint_minutes=4.0,
)
PRESETS: dict[str, Settings] = {
    "paper": PAPER,
    "paper-oxford102": replace(PAPER, steps=100_000),
    "cpu": _CPU,
    # one size of networks and one number of steps for every row of Tables IV and V (there with more branches)
    "ablation": replace(_CPU, networks=replace(_CPU.networks, branches=1), steps=4_000),
    "toy": replace(
        PAPER,
        networks=Architecture(branches=1, generator_width=8, discriminator_width=16, noise=8, code=32),
        steps=800,
        batch_size=16,
        learning_rate=6e-4,
        discriminator_rate=4e-4,
        betas=(0.0, 0.99),
        kl_weight=0.003,
        ema_decay=0.99,
        standardise_condition=True,
        grid_every=100,
        checkpoint_minutes=1.0,
    ),
}


class StackSizes(Protocol):
    """What both versions' architectures say: lengths of noise and code, sides of the pictures."""

    @property
    def noise(self) -> int: ...
    @property
    def code(self) -> int: ...
    @property
    def sizes(self) -> tuple[int, ...]: ...


class StackSettings(Protocol):
    """What batches, noise and sample sheets read of either version's settings."""

    @property
    def networks(self) -> StackSizes: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def speech_fraction(self) -> float: ...
    @property
    def seed(self) -> int: ...


def train(
    settings: Settings,
    arrays: TrainingArrays,
    folder: str | os.PathLike[str],
    utterances: NDArray[np.int64] | None = None,
) -> Path:
    """Train until `steps` or `minutes`, going on from the folder's checkpoint if there is one.

    Args:
        settings: see `Settings`.
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
    fabric = make_fabric(settings.precision, settings.seed)
    run = Run(folder, KIND, settings, fabric)
    batches = picture_batches(settings, arrays, utterances, fabric)
    generator, discriminators = TreeGenerator(settings.networks), Discriminators(settings.networks)
    if settings.standardise_condition:
        generator.augmentation.standardise(*spread_of_conditions(batches, settings.seed))
    ema = Ema(generator, settings.ema_decay)
    state = run.restore()
    if state is not None:
        generator.load_state_dict(state["generator"])
        discriminators.load_state_dict(state["discriminators"])
        ema.load_state_dict(state["ema"])
    g_optimizer = torch.optim.Adam(generator.parameters(), settings.learning_rate, settings.betas)
    d_optimizer = torch.optim.Adam(discriminators.parameters(), settings.discriminator_rate, settings.betas)
    make, g_optimizer = fabric.setup(generator, g_optimizer)
    judge, d_optimizer = fabric.setup(discriminators, d_optimizer)
    ema.module.to(fabric.device)
    if state is not None:
        g_optimizer.load_state_dict(state["g_optimizer"])
        d_optimizer.load_state_dict(state["d_optimizer"])
    step = state["step"] if state else 0
    sheet = SampleSheet(settings, arrays, utterances, fabric)
    recent: list[Tensor] = []

    def snapshot() -> dict[str, Any]:
        return {
            "step": step,
            "generator": generator.state_dict(),
            "discriminators": discriminators.state_dict(),
            "ema": ema.state_dict(),
            "g_optimizer": g_optimizer.state_dict(),
            "d_optimizer": d_optimizer.state_dict(),
        }

    while not run.finished(step):
        batch = batches(step)
        assert batch.mismatched_pictures is not None
        real = pyramid(torch.from_numpy(batch.pictures).to(fabric.device), settings.networks.branches)
        mismatched = pyramid(torch.from_numpy(batch.mismatched_pictures).to(fabric.device), len(real))
        condition = torch.from_numpy(batch.conditions).to(fabric.device)
        noise, epsilon = draw_noise(settings, step, fabric)
        made = make(condition, noise, epsilon)

        fakes = [picture.detach() for picture in made.pictures]
        of_real, of_mismatched, of_fake = judge([real, mismatched, fakes], made.mean.detach())
        d_loss = discriminator_triplet_loss(
            of_real,
            of_mismatched,
            of_fake,
            mismatched_unconditional_real=settings.mismatched_unconditional_real,
        )
        d_optimizer.zero_grad()
        fabric.backward(d_loss)
        d_optimizer.step()

        # The bare module, frozen: no gradients to compute, or to exchange, for the discriminators.
        discriminators.requires_grad_(False)
        with fabric.autocast():
            (of_fake,) = discriminators([made.pictures], made.mean)
        g_loss = generator_triplet_loss(of_fake)
        kl = kl_to_standard_normal(made.mean, made.log_variance)
        g_optimizer.zero_grad()
        fabric.backward(g_loss + settings.kl_weight * kl)
        g_optimizer.step()
        discriminators.requires_grad_(True)
        ema.update(generator)
        step += 1

        run.log(step, {"discriminator": d_loss, "generator": g_loss, "kl": kl})
        recent.append(d_loss.detach())
        if step % settings.grid_every == 0:
            warning = sheet(run, step, ema, torch.stack(recent).mean().item() / terms(settings))
            recent.clear()
            if warning:
                run.warn("collapse", warning)
        if run.checkpoint_due():
            run.save(snapshot())
    run.save(snapshot())
    sheet(run, step, ema)
    run.close()
    return run.checkpoint


def picture_batches(
    settings: StackSettings, arrays: TrainingArrays, utterances: NDArray[np.int64] | None, fabric: Fabric
) -> PictureBatches:
    """Training pictures at the largest size, mismatched ones and conditions, in this process's share."""
    return PictureBatches(
        arrays,
        arrays.samples_of("train"),
        settings.networks.sizes[-1],
        settings.batch_size,
        settings.seed,
        speech_fraction=settings.speech_fraction,
        utterances=utterances,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )


def draw_noise(settings: StackSettings, step: int, fabric: Fabric, codes: int = 1) -> tuple[Tensor, Tensor]:
    """Noise [batch, noise] of a step, and the conditioning augmentations' epsilon [batch, codes * code]."""
    rng = step_torch_rng(settings.seed, step, fabric.global_rank)
    noise = torch.randn(settings.batch_size, settings.networks.noise, generator=rng)
    epsilon = torch.randn(settings.batch_size, codes * settings.networks.code, generator=rng)
    return noise.to(fabric.device), epsilon.to(fabric.device)


def pyramid(pictures: Tensor, branches: int) -> list[Tensor]:
    """Pictures [batch, 3, s, s] at `branches` sizes, each half the next, smallest first."""
    sizes = [pictures]
    while len(sizes) < branches:
        sizes.insert(0, functional.avg_pool2d(sizes[0], 2))
    return sizes


def terms(settings: Settings) -> int:
    """Number of cross-entropies in the discriminators' loss."""
    return settings.networks.branches * (6 if settings.mismatched_unconditional_real else 5)


def spread_of_conditions(batches: PictureBatches, seed: int) -> tuple[Tensor, float]:
    """Mean [1024] of up to 4096 drawn conditions and the root mean square of their differences from it."""
    rng = step_rng(seed, 0)
    items = rng.permutation(batches.indices)[:4096]
    conditions, _ = batches.conditions.draw(items, rng)
    centre = conditions.mean(axis=0)
    return torch.from_numpy(centre), max(float((conditions - centre).std()), 1e-6)


class SampleSheet:
    """Draws the same conditions and noises again and again, and looks for collapse.

    Args:
        settings: of the training.
        arrays: eight pictures of other classes than the trained ones if there are any, else of the trained.
        utterances: those conditions of trained pictures may come from.
        fabric: device and precision.
    """

    def __init__(
        self,
        settings: StackSettings,
        arrays: TrainingArrays,
        utterances: NDArray[np.int64] | None,
        fabric: Fabric,
    ) -> None:
        rng = step_rng(settings.seed, 0)
        size = settings.networks.sizes[-1]
        unseen = arrays.utterances_of("test")
        if settings.speech_fraction > 0:
            pool = (
                unseen if len(unseen) else arrays.utterances_of("train") if utterances is None else utterances
            )
            chosen = rng.choice(pool, COLUMNS)
            items, rows = arrays.utterance_sample[chosen], [arrays.speech_embeddings[u] for u in chosen]
        else:
            test = arrays.samples_of("test")
            items = rng.choice(test if len(test) else arrays.samples_of("train"), COLUMNS)
            rows = [arrays.teacher[item].mean(axis=0) for item in items]
        self.fabric = fabric
        self.real = torch.from_numpy(central_crops(arrays, items, size))
        condition = torch.from_numpy(np.stack(rows).astype(np.float32)).repeat(4, 1)
        noise = torch.from_numpy(rng.standard_normal((4, settings.networks.noise), np.float32))
        self.condition = condition.to(fabric.device)
        self.noise = noise.repeat_interleave(COLUMNS, 0).to(fabric.device)
        some = arrays.samples_of("train")[:: max(1, len(arrays.samples_of("train")) // 64)]
        self.collapse = CollapseCheck(torch.from_numpy(central_crops(arrays, some, size)))

    @torch.no_grad()
    def __call__(self, run: Run, step: int, ema: Ema, discriminator_loss: float | None = None) -> str | None:
        """Write the sheet of `step`; returns a warning if the training seems to collapse."""
        with self.fabric.autocast():
            pictures = ema.module(self.condition, self.noise).pictures[-1].float().cpu()
        run.grid(step, torch.cat([self.real, pictures]), columns=COLUMNS)
        return self.collapse(pictures, COLUMNS, discriminator_loss)


def central_crops(arrays: TrainingArrays, items: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Central crops of stored pictures, float32 [n, 3, size, size] in [-1, 1]."""
    stored = arrays.pictures(size)
    edge = (stored.shape[1] - size) // 2
    return to_unit_range(np.stack([stored[i, edge : edge + size, edge : edge + size] for i in items]))
