"""Learner: a network with its optimiser and averaged weights; stores and resumes them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from speech2image.errors import SettingsError
from speech2image.training.core.checkpoint import State, building_from, load_optimizer
from speech2image.training.core.ema import Ema
from speech2image.training.core.run import LogItems, Run, seed_step

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

    def start_from(self, weights: dict[str, Tensor], source: str | os.PathLike[str]) -> None:
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

    def begin(self, fabric: Fabric, state: State | None) -> int:
        """Move everything to the devices and go on from a checkpoint.

        Args:
            fabric: devices and precision.
            state: what `Run.restore` gave; None at the start.

        Returns:
            Steps done.

        Raises:
            CheckpointError: the checkpoint's weights or moments are not of these networks.
        """
        # Weights before `fabric.setup`, moments after it: an optimiser puts loaded moments where its weights
        # lie, which only then are on the device.
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

    def fit(
        self,
        run: Run,
        step: int,
        loss_of: Callable[[int], tuple[Tensor, LogItems]],
        rate_of: Callable[[int], float],
        clip: float,
        save: Callable[[int], None],
        finish: Callable[[int], None] | None = None,
    ) -> Path:
        """The loop of a training: optimiser steps, log and checkpoints until the run is finished.

        Args:
            run: the training's folder.
            step: steps done before, from `begin`.
            loss_of: number of a batch -> its loss, and further items for the log (numbers or scalar tensors).
                Each step has one batch, or as many as `accumulate` says, numbered on. Called with torch's
                generator seeded for the batch, so that dropout, too, is a function of (seed, rank, batch).
            rate_of: step -> learning rate, a pure function (`schedules`).
            clip: largest norm of the gradient.
            save: steps done -> writes the checkpoint, and logs what is measured at one.
            finish: called with the steps done before the last `save`, once the run is finished.

        Returns:
            The checkpoint.
        """
        while not run.finished(step):
            numbers = run.batches_of(step)
            for batch in numbers:
                seed_step(run.settings.seed, batch, run.fabric.global_rank)
                # processes exchange gradients once a step; that is decided when the model is called
                more = batch != numbers[-1]
                with self._fabric.no_backward_sync(self._wrapped, enabled=more):
                    loss, items = loss_of(batch)
                    if more:
                        self._fabric.backward(loss / len(numbers))
            rate = rate_of(step)
            norm = self.step(loss / len(numbers), rate, clip)
            step += 1
            run.log(step, {"loss": loss, **items, "gradient_norm": norm, "learning_rate": rate})
            if run.checkpoint_due():
                save(step)
        if finish is not None:
            finish(step)
        save(step)
        run.close()
        return run.checkpoint

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

    def state_dict(self) -> State:
        """The state that `begin` resumes from, without the number of steps."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
