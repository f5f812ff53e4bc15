"""One-stage GAN training against projected discriminators: the recipe of the shipped generator.

Command: `speech2image train one-stage-gan --preset cpu --data SHARDS --teacher WEIGHTS --out RUN`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from speech2image.data.streams import Stream, StreamedShard
from speech2image.data.training_sets import TrainingArrays
from speech2image.errors import SettingsError
from speech2image.losses.adversarial import contrast_with_condition, hinge_discriminator, hinge_generator
from speech2image.models.condition_prior import ConditionPrior
from speech2image.models.flow_prior import FlowPrior, prior_from_state
from speech2image.models.gan.one_stage import (
    TEACHER_MAPS,
    DiscriminatorSettings,
    GeneratorSettings,
    OneStageGenerator,
    ProjectedDiscriminator,
)
from speech2image.models.teacher import efficientnet_lite
from speech2image.models.teacher.efficientnet_lite import EfficientNetLite, load_efficientnet_lite
from speech2image.models.teacher.googlenet import GoogLeNet
from speech2image.training.core.checkpoint import State
from speech2image.training.core.fid import FidWatch, described
from speech2image.training.core.gan import Adversaries, GanSettings, augment_pictures, collapse_signs
from speech2image.training.core.networks import ONE_STAGE_GAN
from speech2image.training.core.picture_batches import ConditionSampler, PictureBatch, PictureBatches
from speech2image.training.core.run import Run, belonging, make_fabric, step_rng, step_torch_rng
from speech2image.training.core.sources import Part, Reading, source_of
from speech2image.training.recipes.condition_prior import (
    PriorSettings,
    draw_features,
    fit_prior,
    sample_inputs,
)
from speech2image.training.recipes.growing import begin_from, mean_of


@dataclass(frozen=True)
class OneStageGanTraining(GanSettings):
    """Every setting of this recipe.

    Attributes:
        generator: sizes of the generator.
        heads: sizes of the discriminator's heads.
        steps: optimiser steps of generator and discriminator each.
        batch_size: pictures a step and process.
        learning_rate: Adam's, both sides.
        betas: Adam's.
        ema_decay: upper bound of the decay of the generator's average.
        speech_fraction: share of the generator's conditions that the condition prior samples for a spoken
            caption; the others are the teacher's features of pictures.
        prior: how such a condition is sampled.
        second_network: weights of EfficientNet-Lite0, whose maps the discriminator then sees beside the
            teacher's, so that the generator cannot please the one network alone; "" for none.
        keep_mean: centre conditions by the mean of the training that `start_from` names, not by that of the
            data at hand, so that condition priors fitted to that generator go on fitting this one.
        consistency: weight of the contrastive term that pulls the teacher's feature of a generated picture to
            its own condition.
        temperature: of that term.
        feature_size: side at which the teacher sees pictures.
        detail_share: share of each batch that is seen not as a whole but through a cut-out of `feature_size`
            at full size, so that pictures larger than that are sharp too; 0 for none.
        detail_weight: of the cut-outs' loss.
        translation, cutout: differentiable augmentation, parts of the side.
        grid_every: steps between two sample sheets.
    """

    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    heads: DiscriminatorSettings = field(default_factory=DiscriminatorSettings)
    steps: int = 20_000
    batch_size: int = 24
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.0, 0.99)
    ema_decay: float = 0.999
    speech_fraction: float = 0.5
    prior: PriorSettings = field(default_factory=PriorSettings)
    second_network: str = ""
    keep_mean: bool = False
    consistency: float = 0.5
    temperature: float = 0.1
    feature_size: int = 128
    detail_share: float = 0.0
    detail_weight: float = 0.5
    translation: float = 0.0
    cutout: float = 0.0
    grid_every: int = 500
    checkpoint_minutes: float = 4.0

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise SettingsError(f"batch_size is {self.batch_size}; give at least 2")
        if not 0 <= self.detail_share < 1 or self.batch_size - self.cutouts < 2:
            raise SettingsError(
                f"detail_share is {self.detail_share}; give 0 to less than 1, so that at least 2 of "
                f"{self.batch_size} pictures are seen whole"
            )
        if self.detail_share and self.feature_size > self.generator.picture_size:
            raise SettingsError(
                f"feature_size {self.feature_size} is larger than the picture "
                f"({self.generator.picture_size}): nothing can be cut out; set detail_share to 0"
            )

    @property
    def cutouts(self) -> int:
        """Pictures a batch that are seen through a cut-out."""
        return round(self.batch_size * self.detail_share)


CPU = OneStageGanTraining()
PRESETS: dict[str, OneStageGanTraining] = {
    "cpu": CPU,
    "cpu-64": replace(
        CPU, generator=GeneratorSettings(64, channels=(256, 256, 224, 128, 64)), feature_size=96
    ),
    "cpu-256": replace(
        CPU,
        generator=GeneratorSettings(256, channels=(256, 256, 224, 128, 64, 32, 16)),
        heads=DiscriminatorSettings(details=True),
        detail_share=1 / 3,
    ),
    "gpu": replace(
        CPU,
        batch_size=64,
        steps=60_000,
        translation=0.125,
        cutout=0.25,
        ema_decay=0.9995,
        read_ahead=4,
        channels_last=True,
    ),
    "toy": replace(
        CPU,
        generator=GeneratorSettings(32, code_size=64, channels=(64, 64, 32, 16)),
        heads=DiscriminatorSettings(width=32),
        feature_size=64,
        steps=300,
        grid_every=100,
    ),
}


def train(
    settings: OneStageGanTraining,
    arrays: TrainingArrays | Stream,
    teacher: GoogLeNet,
    folder: str | os.PathLike[str],
    start_from: str | os.PathLike[str] | None = None,
    fabric: Fabric | None = None,
) -> Path:
    """Train until `steps` or `minutes`, going on from the folder's checkpoint if there is one.

    Args:
        settings: see `OneStageGanTraining`.
        arrays: prepared data, or a stream, with teacher features, and with speech embeddings if
            `speech_fraction` > 0. On a stream, the condition prior is fitted to the first window.
        teacher: the frozen image network; gradients pass through it to the picture, never into it.
        folder: of the run.
        start_from: checkpoint of a training at another size or with other conditions; when this run starts
            (not when it resumes) all weights whose name and shape agree are taken from it, and a generator
            of half the side is grown (`growing.py`).
        fabric: devices and precision; made from the settings if absent.

    Returns:
        Path of the checkpoint (`ema/module` holds the generator to ship).

    Raises:
        SettingsError, DataError, CheckpointError, OutputError: as the parts say.
    """
    fabric = fabric or make_fabric(settings.precision, settings.seed)
    run = Run(
        folder, ONE_STAGE_GAN, settings, fabric, belonging(arrays, embeddings=bool(settings.speech_fraction))
    )
    source = source_of(arrays, settings, fabric)
    batches, sample, mean = source.batches(reading(settings)), source.sample, source.teacher_mean
    state = run.restore()
    if settings.keep_mean and state is None:
        if start_from is None:
            raise SettingsError("keep_mean keeps the mean of another training; name it by start_from")
        mean = mean_of(start_from, ONE_STAGE_GAN)
    generator = OneStageGenerator(settings.generator)
    generator.condition_mean.copy_(torch.from_numpy(mean))
    heads = settings.heads
    networks: list[GoogLeNet | EfficientNetLite] = [teacher]
    if settings.second_network:
        networks.append(load_efficientnet_lite(settings.second_network))
        heads = replace(heads, map_channels=(*heads.map_channels, *efficientnet_lite.CHANNELS))
    discriminator = ProjectedDiscriminator(heads)
    for network in networks:
        network.to(fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def stages_of(pictures: Tensor) -> Stages:
        return tuple(maps for network in networks for maps in network.stages(pictures))

    gan = Adversaries(generator, discriminator, settings.ema_decay)
    prior = None
    if settings.speech_fraction and state is not None:
        prior = prior_from_state(state["prior"])
    elif settings.speech_fraction:
        prior = fit_prior(settings.prior, sample, mean)
    if state is None:
        real = torch.from_numpy(np.concatenate([batches(i)[0].pictures for i in range(4)]))
        views = views_of(real.to(fabric.device), settings, step_rng(settings.seed, 0))
        whole, details = see(stages_of, views, settings)
        discriminator.calibrate(whole)
        if details is not None:
            discriminator.calibrate_details(details)
        if start_from is not None:  # heads that are taken over learnt at their own scales, and bring them
            begin_from(start_from, ONE_STAGE_GAN, generator, discriminator, gan.ema, sample)
    rates = (settings.learning_rate, settings.learning_rate)
    step = gan.begin(fabric, state, rates, settings.betas, settings)
    samples = sample_inputs(sample, prior, settings.generator.noise_size, settings.seed)
    fid = watch_fid(run, settings, sample, prior) if settings.fid_network else None

    def snapshot() -> State:
        fitted = {"prior": prior.state_dict()} if prior is not None else {}
        return {"step": step, **gan.state_dict(), **fitted}

    if settings.compile:
        stages_of = torch.compile(stages_of)
    del sample  # a stream's first window need not stay
    next_batch = run.read_ahead(batches)

    def show(number: int, batch: PictureBatch, conditions: ConditionSampler) -> Shown:
        rng = step_rng(settings.seed, number, fabric.global_rank)
        torch_rng = step_torch_rng(settings.seed, number, fabric.global_rank)
        real, matching, mismatched = (
            torch.from_numpy(part).to(fabric.device)
            for part in (batch.pictures, batch.conditions, batch.mismatched_conditions)
        )
        wanted = draw_features(prior, *conditions.draw(batch.indices, rng), torch_rng).to(fabric.device)
        noise = torch.randn(len(real), settings.generator.noise_size, generator=torch_rng).to(fabric.device)
        fake = gan.make(wanted, noise)
        real_seen, fake_seen = (
            augment_pictures(p.float(), settings.translation, settings.cutout, rng) for p in (real, fake)
        )
        real_views, fake_views = (views_of(seen, settings, rng) for seen in (real_seen, fake_seen))
        with fabric.autocast():
            fake_whole, fake_details = see(stages_of, fake_views, settings)
        # pictures that are seen through a cut-out have no conditional answer
        asked = (generator.normalise(c)[: len(fake_whole[0])] for c in (matching, wanted, mismatched))
        return Shown(real, real_views, fake_whole, fake_details, *asked)

    while not run.finished(step):
        numbers = run.batches_of(step)
        batches_now = {number: next_batch(number) for number in numbers}
        # The teacher is the expensive part of a step. One pass over the fakes serves both sides: its maps go
        # detached to the discriminator, and with their graph to the generator. One batch's graph is held at a
        # time: with several a step, the generator's step makes the others' pictures anew.
        for number in numbers:
            with torch.set_grad_enabled(number == numbers[-1]):
                shown = show(number, *batches_now[number])
            with fabric.autocast(), torch.no_grad():
                real_whole, real_details = see(stages_of, shown.real_views, settings)
            # Real and generated pictures go through the heads in one batch, which costs less than two. The
            # mismatched condition counts for the real ones alone; the other half of its answers is dropped.
            free, match, mismatch, detail = gan.judge(
                side_by_side(real_whole, shown.fake_whole),
                torch.cat([shown.for_real, shown.for_fake]),
                torch.cat([shown.for_other, shown.for_other]),
                None if real_details is None else side_by_side(real_details, shown.fake_details),
            )
            (free_real, free_fake), (match_real, match_fake) = free.chunk(2), match.chunk(2)
            d_free = hinge_discriminator(free_real, free_fake)
            d_match = hinge_discriminator(match_real, match_fake, mismatch.chunk(2)[0])
            d_detail = hinge_discriminator(*detail.chunk(2)) if detail is not None else torch.zeros(())
            d_loss = d_free + d_match + settings.detail_weight * d_detail
            gan.improve_discriminator(d_loss, last=number == numbers[-1])

        for number in reversed(numbers):
            if number != numbers[-1]:
                shown = show(number, *batches_now[number])
            fake_whole, for_fake = shown.fake_whole, shown.for_fake
            free, match, _, detail = gan.judge(fake_whole, for_fake, None, shown.fake_details)
            g_free, g_match = hinge_generator(free), hinge_generator(match)
            g_detail = hinge_generator(detail) if detail is not None else torch.zeros(())
            centre = discriminator.centre
            last = fake_whole[TEACHER_MAPS - 1]
            contrast = contrast_with_condition(last, for_fake, centre, settings.temperature)
            g_loss = g_free + g_match + settings.detail_weight * g_detail + settings.consistency * contrast
            gan.improve_generator(g_loss, last=number == numbers[0])
        step += 1

        losses = {"d_free": d_free, "d_match": d_match, "d_detail": d_detail}
        losses |= {"g_free": g_free, "g_match": g_match, "g_detail": g_detail, "contrast": contrast}
        run.log(step, losses)
        if step % settings.grid_every == 0:
            pictures = draw_samples(gan.ema.module, samples, fabric)
            run.grid(step, pictures, columns=8)
            for name, message in collapse_signs(pictures, shown.real).items():
                run.warn(name, message)
        if fid is not None and fid.due(step):
            run.save(snapshot())
            fid.measure(step, gan.ema.module)
        elif run.checkpoint_due():
            run.save(snapshot())
    run.save(snapshot())
    run.grid(step, draw_samples(gan.ema.module, samples, fabric), columns=8)
    run.close()
    return run.checkpoint


class DescribedBatches:
    """Training pictures with the teacher's features of them, and what draws conditions for them.

    Args:
        settings: of the training.
        arrays: which hold them.
        part: this process's part of them.
    """

    def __init__(self, settings: OneStageGanTraining, arrays: TrainingArrays, part: Part) -> None:
        self.pictures = picture_batches(settings, arrays, part)
        self.conditions = ConditionSampler(arrays, self.pictures.indices, settings.speech_fraction)

    def __call__(self, step: int) -> tuple[PictureBatch, ConditionSampler]:
        """The batch of `step` (0, 1, ...)."""
        return self.pictures(step), self.conditions

    def of(self, order: int, place: int, step: int) -> tuple[PictureBatch, ConditionSampler]:
        """See `PictureBatches.of`."""
        return self.pictures.of(order, place, step), self.conditions


def reading(settings: OneStageGanTraining) -> Reading[tuple[PictureBatch, ConditionSampler]]:
    """How batches are made."""

    def make(arrays: TrainingArrays, part: Part) -> DescribedBatches:
        return DescribedBatches(settings, arrays, part)

    def items(shard: StreamedShard) -> int:
        return shard.samples.get("train", 0)

    return Reading(make, items, settings.batch_size, pictures=True, frames=False)


def picture_batches(settings: OneStageGanTraining, arrays: TrainingArrays, part: Part) -> PictureBatches:
    """The training pictures with the teacher's features of them, in this process's part."""
    return PictureBatches(
        arrays,
        arrays.samples_of("train"),
        settings.generator.picture_size,
        settings.batch_size,
        settings.seed,
        speech_fraction=0.0,
        mismatched_pictures=False,
        rank=part.rank,
        world_size=part.processes,
    )


Stages = tuple[Tensor, ...]
"""Four maps of some pictures by the teacher, and four by the second network, if there is one."""


class Shown(NamedTuple):
    """A batch, and what the generator draws in it, as both sides see them.

    Attributes:
        real: pictures [batch, 3, side, side].
        real_views: of them, for the teacher.
        fake_whole, fake_details: the teacher's maps of what was drawn (`see`).
        for_real, for_fake, for_other: normalised conditions of the pictures that are seen whole: of the real
            ones, of what was drawn, of pictures of other classes.
    """

    real: Tensor
    real_views: Tensor
    fake_whole: Stages
    fake_details: Stages | None
    for_real: Tensor
    for_fake: Tensor
    for_other: Tensor


def watch_fid(
    run: Run,
    settings: OneStageGanTraining,
    arrays: TrainingArrays,
    prior: ConditionPrior | FlowPrior | None,
) -> FidWatch:
    """FID of pictures drawn from speech, with a prior, else from the teacher's features."""
    shown = described(settings, arrays, spoken=prior is not None)
    spoken = np.full(len(shown.items), prior is not None)
    features = draw_features(prior, shown.conditions, spoken, step_torch_rng(settings.seed, 0))
    sizes = settings.generator
    return FidWatch(run, settings, arrays, shown, features, sizes.picture_size, sizes.noise_size)


def views_of(pictures: Tensor, settings: OneStageGanTraining, rng: np.random.Generator) -> Tensor:
    """What the teacher is shown of pictures [batch, 3, side, side].

    Returns:
        The first pictures, resized to `feature_size`, and a random cut-out of each of the last `cutouts`.
    """
    size, whole = settings.feature_size, len(pictures) - settings.cutouts
    views = pictures[:whole]
    if pictures.shape[-1] != size:
        views = F.interpolate(views, (size, size), mode="bilinear", align_corners=False, antialias=True)
    if settings.cutouts:
        views = torch.cat([views, cut_out(pictures[whole:], size, rng)])
    return views


def see(
    stages_of: Callable[[Tensor], Stages], views: Tensor, settings: OneStageGanTraining
) -> tuple[Stages, Stages | None]:
    """The teacher's stages of `views_of` pictures, seen by `stages_of`, its `stages`.

    Returns:
        Those of whole pictures; and those of the cut-outs, or None if there are none. One pass gives both.
    """
    whole = len(views) - settings.cutouts
    # the teacher's pooling runs twice as fast on the CPU where channels lie together
    stages = stages_of(views.contiguous(memory_format=torch.channels_last))
    details = tuple(maps[whole:] for maps in stages) if settings.cutouts else None
    return tuple(maps[:whole] for maps in stages), details


def cut_out(pictures: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """A random square of each picture, [batch, 3, size, size]."""
    places = rng.integers(0, pictures.shape[-1] - size + 1, (len(pictures), 2)).tolist()
    squares = [
        p[:, top : top + size, left : left + size] for p, (top, left) in zip(pictures, places, strict=True)
    ]
    return torch.stack(squares)


def side_by_side(real: Stages, fake: Stages | None) -> Stages:
    """Maps of real pictures and, cut off from the generator, of drawn ones."""
    assert fake is not None
    return tuple(torch.cat([r, f.detach()]) for r, f in zip(real, fake, strict=True))


@torch.no_grad()
def draw_samples(generator: torch.nn.Module, samples: tuple[Tensor, Tensor], fabric: Fabric) -> Tensor:
    """The averaged generator's pictures of `sample_inputs`, [32, 3, side, side]."""
    features, noise = samples
    with fabric.autocast():
        pictures = generator(features.to(fabric.device), noise.to(fabric.device))
    assert isinstance(pictures, Tensor)
    return pictures.float()
