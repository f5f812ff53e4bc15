"""Learner: a network with its optimiser and averaged weights; stores and resumes them."""

import os
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from speech2image.errors import SettingsError
from speech2image.training.core.checkpoint import building_from, load_optimizer
from speech2image.training.core.ema import Ema

_CHECKPOINT = "the checkpoint to go on from"


class Learner:
    """A model that learns by Adam, and the running average of the network that is used afterwards.

    Args:
        model: the network with all that its loss needs; calling the learner calls it, as the devices ask for.
        network: the part of `model` that is averaged.
        optimizer: over the model's parameters.
        ema_decay: of the average, see `Ema`.
    """

    def __init__(
        self, model: nn.Module, network: nn.Module, optimizer: torch.optim.Optimizer, ema_decay: float
    ) -> None:
        self.model, self.network, self.optimizer = model, network, optimizer
        self.ema = Ema(network, ema_decay)

    def take(self, weights: dict[str, Tensor], source: str | os.PathLike[str]) -> None:
        """Start from the averaged network of another training, before `begin`.

        Args:
            weights: of that network.
            source: its checkpoint, for the error.

        Raises:
            SettingsError: it is of another shape.
        """
        for module in (self.network, self.ema.module):
            try:
                module.load_state_dict(weights)
            except RuntimeError as error:
                raise SettingsError(
                    f"the network in {source} is of another shape; start_from needs the same"
                ) from error

    def begin(self, fabric: Fabric, state: dict[str, Any] | None) -> int:
        """Move everything to the devices and go on from a checkpoint.

        Args:
            fabric: devices and precision.
            state: what `Run.restore` gave; None at the start.

        Returns:
            Steps done.

        Raises:
            CheckpointError: the checkpoint's weights or moments are not of these networks.
        """
        if state is not None:
            with building_from(_CHECKPOINT):
                self.model.load_state_dict(state["model"])
                self.ema.load_state_dict(state["ema"])
        self._fabric = fabric
        self._wrapped, self._stepper = fabric.setup(self.model, self.optimizer)
        self.ema.module.to(fabric.device)
        if state is None:
            return 0
        with building_from(_CHECKPOINT):
            load_optimizer(self.optimizer, state["optimizer"])
            return int(state["step"])

    def __call__(self, *inputs: Any) -> Any:
        """The model's answer, its loss among it."""
        return self._wrapped(*inputs)

    def step(self, loss: Tensor, rate: float, clip: float) -> Tensor:
        """One step down the gradient of `loss`.

        Args:
            loss: of this step's batch.
            rate: learning rate of this step, of which a group of parameters may take its `share`.
            clip: largest norm of the gradient.

        Returns:
            Norm of the gradient before it was clipped.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        self._fabric.backward(loss)
        norm = self._fabric.clip_gradients(
            self._wrapped, self._stepper, max_norm=clip, error_if_nonfinite=False
        )
        self._stepper.step()
        self._stepper.zero_grad()
        self.ema.update(self.network)
        assert norm is not None
        return norm

    def state_dict(self) -> dict[str, Any]:
        """What `begin` goes on from, but for the number of steps."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
