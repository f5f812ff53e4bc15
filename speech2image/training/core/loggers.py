"""Loggers besides the run's own log and TensorBoard: Weights & Biases, as one of Fabric's loggers."""

import argparse
from typing import Any

from lightning_fabric.loggers.logger import Logger

from speech2image.errors import SettingsError, require


class WandbLogger(Logger):
    """A run at Weights & Biases (extra `wandb`); `WANDB_MODE=offline` keeps it on this machine.

    Args:
        project: its name there.
        folder: of the run, whose name the run has there, and in which W&B keeps its files.
        name: the run's name.
        config: settings to show.

    Raises:
        MissingExtraError: wandb is not installed.
        SettingsError: W&B refuses to start (no login, say).
    """

    def __init__(self, project: str, folder: str, name: str, config: dict[str, Any]) -> None:
        self.wandb = require("wandb", "wandb")
        self._project, self._name = project, name
        try:
            self._run: Any = self.wandb.init(
                project=project, name=name, dir=folder, config=config, id=None, resume="allow"
            )
        except Exception as error:  # wandb has errors of many kinds
            reason = " ".join(str(error).split())[:200]
            raise SettingsError(
                f"Weights & Biases cannot start ({reason}); run `wandb login`, set WANDB_MODE=offline, or "
                "leave --wandb out"
            ) from error

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return str(self._run.id)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Send numbers of a step."""
        self._run.log(dict(metrics), step=step)

    def log_hyperparams(self, params: dict[str, Any] | argparse.Namespace, *args: Any, **kwargs: Any) -> None:
        """Show settings."""
        self._run.config.update(vars(params) if isinstance(params, argparse.Namespace) else params)

    def log_picture(self, path: str, step: int) -> None:
        """Send a sample sheet."""
        self._run.log({"samples": self.wandb.Image(path)}, step=step)

    def finalize(self, status: str) -> None:
        """Say that the run is over."""
        self._run.finish(exit_code=0 if status == "success" else 1)
