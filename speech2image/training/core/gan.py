"""Shared parts of GAN trainings: both networks and their steps, picture augmentation, signs of collapse."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.training.core.checkpoint import State, building_from, load_optimizer
from speech2image.training.core.ema import Ema
from speech2image.training.core.run import RunSettings


@dataclass(frozen=True, kw_only=True)
class GanSettings(RunSettings):
    """Settings that every GAN training has.

    Attributes:
        channels_last: keep the channels of generator and discriminator together in memory, as a GPU's
            convolutions in bfloat16 like them.
        compile: let torch.compile make code for the networks first, which takes minutes.
        fid_network: weights of FID's Inception-v3: the averaged generator's FID against validation pictures
            (training ones, if there are none) is logged, and best.safetensors kept by it; "" measures none.
        fid_every: steps between two measurements.
        fid_pictures: photographs that are compared, and pictures drawn.
    """

    channels_last: bool = False
    compile: bool = False
    fid_network: str = ""
    fid_every: int = 1000
    fid_pictures: int = 500


_CHECKPOINT = "the checkpoint to go on from"


class Adversaries:
    """A generator and its discriminator, which learn by Adam in turns, and the generator's average.

    Args:
        generator: parameters that require no gradient stay as they are.
        discriminator: of any number of picture sizes.
        ema_decay: of the generator's average, see `Ema`.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, ema_decay: float) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.ema = Ema(generator, ema_decay)

    def begin(
        self,
        fabric: Fabric,
        state: State | None,
        rates: tuple[float, float],
        betas: tuple[float, float],
        settings: GanSettings,
    ) -> int:
        """Make the optimisers, move everything to the devices and go on from a checkpoint.

        Afterwards `make` and `judge` call generator and discriminator wrapped for the devices and precision.

        Args:
            fabric: devices and precision.
            state: what `Run.restore` gave; None at the start.
            rates: learning rates of generator and discriminator.
            betas: Adam's, of both.
            settings: how both networks are laid out and computed.

        Returns:
            Steps done.

        Raises:
            CheckpointError: the checkpoint's weights or moments are not of these networks.
        """
        # Weights before `fabric.setup`, moments after it: an optimiser puts loaded moments where its weights
        # lie, which only then are on the device.
        if state is not None:
            with building_from(_CHECKPOINT):
                self.generator.load_state_dict(state["generator"])
                self.discriminator.load_state_dict(state["discriminator"])
                self.ema.load_state_dict(state["ema"])
        own = [p for p in self.generator.parameters() if p.requires_grad]
        generator_adam = torch.optim.Adam(own, rates[0], betas)
        discriminator_adam = torch.optim.Adam(self.discriminator.parameters(), rates[1], betas)
        self._fabric, self._parts = fabric, settings.accumulate
        for network in (self.generator, self.discriminator):
            if settings.channels_last:
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if settings.compile:
                network.compile()
        self.make, self.g_optimizer = fabric.setup(self.generator, generator_adam)
        self.judge, self.d_optimizer = fabric.setup(self.discriminator, discriminator_adam)
        self.ema.module.to(fabric.device)
        if state is None:
            return 0
        with building_from(_CHECKPOINT):
            load_optimizer(self.g_optimizer, state["g_optimizer"])
            load_optimizer(self.d_optimizer, state["d_optimizer"])
            return int(state["step"])

    def set_rates(self, generator: float, discriminator: float) -> None:
        """Set the learning rates from now on."""
        self.g_optimizer.param_groups[0]["lr"] = generator
        self.d_optimizer.param_groups[0]["lr"] = discriminator

    def improve_discriminator(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of one batch's `loss`; at the last of a step's batches, one step down their mean,
        after which the discriminator is frozen.

        `improve_generator` thaws it again.
        """
        self._fabric.backward(loss / self._parts)
        if not last:
            return
        self.d_optimizer.step()
        self.d_optimizer.zero_grad()
        # The generator's loss runs through the discriminator, too. Frozen, and called as the bare
        # `discriminator`, it computes no gradients of its own weights there and exchanges none between
        # processes.
        self.discriminator.requires_grad_(False)

    def improve_generator(self, loss: Tensor, *, last: bool) -> None:
        """Likewise of the generator, then one step of its average."""
        self._fabric.backward(loss / self._parts)
        if not last:
            return
        self.g_optimizer.step()
        self.g_optimizer.zero_grad()
        self.discriminator.requires_grad_(True)
        # after the step: sample sheets and checkpoints always show the weights that were just made
        self.ema.update(self.generator)

    def state_dict(self) -> State:
        """The state that `begin` resumes from, without the number of steps."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "ema": self.ema.state_dict(),
            "g_optimizer": self.g_optimizer.state_dict(),
            "d_optimizer": self.d_optimizer.state_dict(),
        }


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of the signs of collapse.

    Attributes:
        alike: pictures of different conditions differ less than this share of what real ones differ.
        deaf_to_noise: pictures of one condition differ less than this share of what real ones differ.
        discriminator: the discriminator's mean loss, per term, is below this: it tells fakes without effort.
        saturated: more than this share of the pixels' values is at the rim (beyond 0.98).
    """

    alike: float = 0.3
    deaf_to_noise: float = 0.03
    discriminator: float = 0.01
    saturated: float = 0.9


DEFAULT = Thresholds()


def collapse_signs(
    pictures: Tensor,
    real: Tensor,
    columns: int | None = None,
    discriminator_loss: float | None = None,
    thresholds: Thresholds = DEFAULT,
) -> dict[str, str]:
    """Signs of collapse, name -> message; empty when all is well.

    Args:
        pictures: generated from fixed conditions and noises, [n, 3, h, w] in [-1, 1].
        real: real pictures of various classes to compare with, [m, 3, h, w], m >= 2.
        columns: number of conditions, if picture i has condition i % columns and noise i // columns; then the
            effect of the noise is looked at too.
        discriminator_loss: the discriminator's loss divided by its number of terms, averaged over recent
            steps (0.69 is chance for cross-entropy).
        thresholds: when a sign is given.
    """
    loss_is_number = discriminator_loss is None or math.isfinite(discriminator_loss)
    if not loss_is_number or not bool(torch.isfinite(pictures).all()):
        return {"nan": "pictures or losses are no longer numbers: go back to a checkpoint, lower the rate"}
    signs: dict[str, str] = {}
    usual = max(diversity(real), 1e-6)
    ratio = diversity(pictures[:columns]) / usual
    if ratio < thresholds.alike:
        signs["alike"] = (
            f"pictures of different conditions differ {100 * ratio:.0f} % as much as real pictures"
        )
    if columns is not None and len(pictures) > columns:
        of_noise = max(diversity(pictures[c::columns]) for c in range(columns)) / usual
        if of_noise < thresholds.deaf_to_noise:
            signs["deaf_to_noise"] = f"the noise changes pictures by {100 * of_noise:.1f} % of real variety"
    if float((pictures.abs() > 0.98).float().mean()) > thresholds.saturated:
        signs["saturated"] = "pictures are all black, white and full colours: the generator diverged"
    if discriminator_loss is not None and discriminator_loss < thresholds.discriminator:
        signs["discriminator"] = (
            f"the discriminator's loss is stuck at {discriminator_loss:.4f}: it wins without effort and the "
            "generator learns nothing more; lower its rate or its width"
        )
    return signs


def diversity(pictures: Tensor) -> float:
    """Mean distance between two of the pictures [n, 3, h, w], seen in 8 x 8 fields (so noise counts little).

    The distance is the root of the mean squared difference over fields and colours, 0..2; 0 for one picture.
    """
    if len(pictures) < 2:
        return 0.0
    fields = F.adaptive_avg_pool2d(pictures.detach().float(), 8).flatten(1)
    distances = torch.pdist(fields) / math.sqrt(fields.shape[1])
    return float(distances.mean())


class CollapseCheck:
    """Calls `collapse_signs` on each sample sheet of a training, the first ones excepted.

    Args:
        real: real pictures to compare with, [m, 3, h, w], m >= 2.
        grace: sheets at the start of which only "nan" is reported, since every training begins with grey.
        thresholds: when a sign is given.
    """

    def __init__(self, real: Tensor, grace: int = 2, thresholds: Thresholds = DEFAULT) -> None:
        self.real, self.grace, self.thresholds, self.sheets = real, grace, thresholds, 0

    def __call__(self, pictures: Tensor, columns: int, discriminator_loss: float | None = None) -> str | None:
        """A warning, or None when all is well; arguments as for `collapse_signs`."""
        self.sheets += 1
        signs = collapse_signs(pictures, self.real, columns, discriminator_loss, self.thresholds)
        if self.sheets <= self.grace:
            signs = {name: message for name, message in signs.items() if name == "nan"}
        if not signs:
            return None
        return "the training seems to collapse: " + "; ".join(signs.values())


def augment_pictures(pictures: Tensor, translation: float, cutout: float, rng: np.random.Generator) -> Tensor:
    """Shift each picture at random and blank a random square of it; gradients pass through.

    Args:
        pictures: [batch, 3, side, side].
        translation: largest shift in either direction, as a part of the side; 0 switches it off.
        cutout: side of the blanked square as a part of the side; 0 switches it off.
        rng: where the random numbers come from.

    Returns:
        Pictures of the same shape; what is shifted in or blanked is 0 (mid grey).
    """
    side = pictures.shape[-1]
    reach = round(translation * side)
    if reach:
        shifts = rng.integers(0, 2 * reach + 1, (len(pictures), 2))
        padded = F.pad(pictures, (reach,) * 4)
        pictures = torch.stack(
            [picture[:, y : y + side, x : x + side] for picture, (y, x) in zip(padded, shifts, strict=True)]
        )
    hole = round(cutout * side)
    if hole:
        mask = torch.ones(len(pictures), 1, side, side, dtype=pictures.dtype, device=pictures.device)
        for row, (y, x) in enumerate(rng.integers(-hole // 2, side - hole // 2, (len(pictures), 2))):
            mask[row, :, max(0, y) : y + hole, max(0, x) : x + hole] = 0
        pictures = pictures * mask
    return pictures
