"""Learner: gradients of several batches make one step."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from speech2image.errors import SettingsError
from speech2image.training.core.learner import Learner
from speech2image.training.core.run import Run, RunSettings, make_fabric


def trained(folder: Path, accumulate: int, clips: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """Weights after two steps on 4 clips each, in `accumulate` batches, and which batches were asked for."""
    torch.manual_seed(0)
    settings = RunSettings(steps=2, accumulate=accumulate, log_every=100)
    fabric = make_fabric("32-true", 0)
    network = nn.Linear(3, 1)
    with torch.no_grad():
        network.weight.fill_(0.5)
    learner = Learner(network, network, torch.optim.SGD(network.parameters(), 0.1), 0.9)
    run, asked = Run(folder, "test", settings, fabric), []
    step = learner.begin(fabric, run.restore())
    batches = clips.chunk(2 * max(1, accumulate))

    def loss_of(batch: int):
        asked.append(batch)
        return learner(batches[batch]).square().mean(), {}

    learner.fit(
        run,
        step,
        loss_of,
        lambda step: 0.1,
        1e9,
        lambda step: run.save({"step": step, **learner.state_dict()}),
    )
    return network.weight.detach().clone(), asked


def test_several_small_batches_are_one_large_one(tmp_path: Path) -> None:
    clips = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    whole, once = trained(tmp_path / "whole", 1, clips)
    parts, twice = trained(tmp_path / "parts", 2, clips)
    assert (once, twice) == ([0, 1], [0, 1, 2, 3])
    torch.testing.assert_close(parts, whole)
    with pytest.raises(SettingsError, match="accumulate is 0"):
        trained(tmp_path / "none", 0, clips)


def test_it_is_part_of_what_is_learnt(tmp_path: Path) -> None:
    clips = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    trained(tmp_path, 2, clips)
    settings = RunSettings(steps=2, accumulate=1)
    with pytest.raises(SettingsError, match="accumulate 2, now 1"):
        Run(tmp_path, "test", dataclasses.replace(settings), make_fabric("32-true", 0)).restore()
