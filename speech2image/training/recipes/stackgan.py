"""Shared parts of both StackGAN recipes: settings, batches, noise, and what follows every step."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from speech2image.data.training_sets import TrainingArrays
from speech2image.errors import SettingsError
from speech2image.pipeline.images import from_uint8
from speech2image.training.core.ema import BATCHES, Ema, measure_statistics
from speech2image.training.core.fid import FidWatch, described
from speech2image.training.core.gan import Adversaries, CollapseCheck, GanSettings
from speech2image.training.core.picture_batches import PictureBatches, central_squares
from speech2image.training.core.run import Run, step_rng, step_torch_rng

Settings = TypeVar("Settings", bound="StackSettings")
COLUMNS = 8
"""Conditions on a sample sheet."""


class StackSizes(Protocol):
    """Sizes that both versions' architectures have: lengths of noise and code, sides of the pictures."""

    @property
    def noise(self) -> int: ...
    @property
    def code(self) -> int: ...
    @property
    def sizes(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class StackSettings(GanSettings):
    """The settings of both versions.

    Attributes:
        networks: sizes of generator and discriminators.
        batch_size: pictures a step and process.
        learning_rate: Adam's, generator.
        discriminator_rate: Adam's, discriminators.
        betas: Adam's.
        kl_weight: of the conditioning augmentation's distance from N(0, 1).
        ema_decay: upper bound of the decay of the generator's average, which is used afterwards; 0 follows
            the live generator.
        speech_fraction: how often a picture's condition is an embedding (of an utterance or of a caption; 1:
            always, as published) rather than the teacher's feature of the picture itself.
        standardise_condition: subtract the conditions' mean and divide by their spread. Not published; a
            short training gains by it, for most of a teacher feature is its mean.
        grid_every: steps between two sample sheets.
    """

    networks: StackSizes
    batch_size: int = 24
    learning_rate: float = 2e-4
    discriminator_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    kl_weight: float = 2.0
    ema_decay: float = 0.999
    speech_fraction: float = 1.0
    standardise_condition: bool = False
    grid_every: int = 1000


def fitted(settings: Settings, arrays: TrainingArrays) -> Settings:
    """The settings with networks for conditions as long as the data's: 1,024 numbers of this project's
    encoders and of the published char-CNN-RNN, 300 of most word vectors.

    Raises:
        DataError: the data has no such conditions.
        SettingsError: the teacher's features, of another length, are to be conditions as well.
    """
    share = settings.speech_fraction
    lengths = {arrays.teacher.shape[-1]} if share < 1 else set()
    lengths |= {arrays.embeddings.shape[1]} if share > 0 else set()
    if len(lengths) > 1:
        raise SettingsError(
            f"embeddings have {arrays.embeddings.shape[1]} numbers and the teacher's features "
            f"{arrays.teacher.shape[-1]}, so one generator cannot draw from both: --speech-fraction 1"
        )
    networks: Any = settings.networks
    return replace(settings, networks=replace(networks, condition=int(lengths.pop())))


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


def spread_of_conditions(batches: PictureBatches, seed: int) -> tuple[Tensor, float]:
    """Mean [1024] of up to 4096 drawn conditions and the root mean square of their differences from it."""
    rng = step_rng(seed, 0)
    items = rng.permutation(batches.indices)[:4096]
    conditions, _ = batches.conditions.draw(items, rng)
    centre = conditions.mean(axis=0)
    return torch.from_numpy(centre), max(float((conditions - centre).std()), 1e-6)


class Progress:
    """What follows every step: the log, sample sheets of the average, its FID, checkpoints.

    Args:
        run: the training's folder.
        gan: the networks.
        settings: of the training.
        arrays, utterances: for the sample sheet.
        batches: for the average's BatchNorm statistics, which are measured before it draws or is stored.
        fabric: device and precision.
        terms: cross-entropies in the discriminators' loss, whose mean tells of a collapse.
    """

    def __init__(
        self,
        run: Run,
        gan: Adversaries,
        settings: StackSettings,
        arrays: TrainingArrays,
        utterances: NDArray[np.int64] | None,
        batches: PictureBatches,
        fabric: Fabric,
        terms: int,
    ) -> None:
        self.run, self.gan, self.settings, self.fabric, self.terms = run, gan, settings, fabric, terms
        self.sheet = SampleSheet(settings, arrays, utterances, fabric)
        self.fid = self._watch_fid(arrays) if settings.fid_network else None
        self.inputs = [self._inputs(batches, k) for k in range(BATCHES)]
        self.losses: list[Tensor] = []
        self.drawn = self.measured = -1

    def after_step(self, step: int, discriminator: Tensor, generator: Tensor, kl: Tensor) -> None:
        """Log, and do what is due.

        Args:
            step: steps done.
            discriminator, generator, kl: losses of its last batch, the generator's without the conditioning
                augmentation's term, which is `kl`.
        """
        self.run.log(step, {"discriminator": discriminator, "generator": generator, "kl": kl})
        self.losses.append(discriminator.detach())
        if step % self.settings.grid_every == 0:
            mean = torch.stack(self.losses).mean().item() / self.terms
            self.losses.clear()
            warning = self._draw(step, mean)
            if warning:
                self.run.warn("collapse", warning)
        if self.fid is not None and self.fid.due(step):
            self._save(step)
            self.fid.measure(step, lambda *inputs: self.gan.ema.module(*inputs).pictures[-1])
        elif self.run.checkpoint_due():
            self._save(step)

    def end(self, step: int) -> Path:
        """The last sheet, unless it is drawn already, and checkpoint; returns its path."""
        if self.drawn != step:
            self._draw(step)
        self._save(step)
        self.run.close()
        return self.run.checkpoint

    def _watch_fid(self, arrays: TrainingArrays) -> FidWatch:
        sizes = self.settings.networks
        shown = described(self.settings, arrays, spoken=self.settings.speech_fraction > 0)
        conditions = torch.from_numpy(shown.conditions)
        return FidWatch(self.run, self.settings, arrays, shown, conditions, sizes.sizes[-1], sizes.noise)

    def _inputs(self, batches: PictureBatches, k: int) -> tuple[Tensor, Tensor]:
        rng = step_rng(self.settings.seed, k)
        conditions, _ = batches.conditions.draw(rng.choice(batches.indices, self.settings.batch_size), rng)
        noise, _ = draw_noise(self.settings, k, self.fabric)
        return torch.from_numpy(conditions).to(self.fabric.device), noise

    def _draw(self, step: int, discriminator_loss: float | None = None) -> str | None:
        self._measure_statistics(step)
        self.drawn = step
        return self.sheet(self.run, step, self.gan.ema, discriminator_loss)

    def _measure_statistics(self, step: int) -> None:
        if self.measured != step:
            with self.fabric.autocast():
                measure_statistics(self.gan.ema.module, self.inputs)
            self.measured = step

    def _save(self, step: int) -> None:
        self._measure_statistics(step)
        self.run.save({"step": step, **self.gan.state_dict()})


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
            items, rows = arrays.utterance_sample[chosen], [arrays.embeddings[u] for u in chosen]
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
    return from_uint8(central_squares(arrays, items, size))
