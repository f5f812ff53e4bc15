"""One batch over and over, in GAN trainings: two of it, accumulated, have the gradient of one."""

from pathlib import Path
from types import ModuleType

import pytest
from torch import Tensor

from speech2image.training.core.checkpoint import load_checkpoint
from speech2image.training.core.picture_batches import PictureBatches


def repeat_the_first_batch(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Let every batch be that of step 0, with its draws, which `modules` take from `step_rng`."""
    first = PictureBatches.__call__
    monkeypatch.setattr(PictureBatches, "__call__", lambda self, step: first(self, 0))
    for module in modules:
        for name in {"step_rng", "step_torch_rng"} & set(vars(module)):
            draws = getattr(module, name)
            monkeypatch.setattr(module, name, lambda seed, step, rank=0, of=draws: of(seed, 0, rank))


def first_moments(checkpoint: Path) -> dict[str, Tensor]:
    """Adam's of both networks, which after one step are a share of the gradient."""
    state = load_checkpoint(checkpoint)
    assert state["step"] == 1
    return {
        f"{side} {i}": moments["exp_avg"]
        for side in ("g_optimizer", "d_optimizer")
        for i, moments in state[side]["state"].items()
    }
