"""What every GAN's trainer shares: both networks, the generator's average, the optimisers; resuming."""

from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from speech2image.training.core.checkpoint_checks import building_from, load_optimizer
from speech2image.training.core.ema import Ema
from speech2image.training.core.run import RunSettings


@dataclass(frozen=True, kw_only=True)
class GanSettings(RunSettings):
    """What the settings of every GAN's training have beside its own.

    Attributes:
        channels_last: keep the channels of generator and discriminator together in memory, as a GPU's
            convolutions in bfloat16 like them.
        compile: let torch.compile make code for the networks first, which takes minutes.
    """

    channels_last: bool = False
    compile: bool = False


_CHECKPOINT = "the checkpoint to go on from"


class Adversaries:
    """A generator and its discriminator, which learn by Adam in turns.

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
        state: dict[str, Any] | None,
        rates: tuple[float, float],
        betas: tuple[float, float],
        settings: GanSettings,
    ) -> int:
        """Make the optimisers, move everything to the devices and go on from a checkpoint.

        Afterwards `make` and `judge` call generator and discriminator as the devices ask for.

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
        if state is not None:
            with building_from(_CHECKPOINT):
                self.generator.load_state_dict(state["generator"])
                self.discriminator.load_state_dict(state["discriminator"])
                self.ema.load_state_dict(state["ema"])
        own = [p for p in self.generator.parameters() if p.requires_grad]
        generator_adam = torch.optim.Adam(own, rates[0], betas)
        discriminator_adam = torch.optim.Adam(self.discriminator.parameters(), rates[1], betas)
        self._fabric = fabric
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
        """Learning rates from now on."""
        self.g_optimizer.param_groups[0]["lr"] = generator
        self.d_optimizer.param_groups[0]["lr"] = discriminator

    def improve_discriminator(self, loss: Tensor) -> None:
        """The discriminator's step.

        Then it is frozen until the generator has made its own step. Judged by the bare `discriminator`, that
        one has no gradients of the discriminator to compute, nor to exchange between processes.
        """
        self.d_optimizer.zero_grad()
        self._fabric.backward(loss)
        self.d_optimizer.step()
        self.discriminator.requires_grad_(False)

    def improve_generator(self, loss: Tensor) -> None:
        """The generator's step, and its average's."""
        self.g_optimizer.zero_grad()
        self._fabric.backward(loss)
        self.g_optimizer.step()
        self.discriminator.requires_grad_(True)
        self.ema.update(self.generator)

    def state_dict(self) -> dict[str, Any]:
        """What `begin` goes on from, but for the number of steps."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "ema": self.ema.state_dict(),
            "g_optimizer": self.g_optimizer.state_dict(),
            "d_optimizer": self.d_optimizer.state_dict(),
        }
