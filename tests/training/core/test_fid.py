"""FID while training: which pictures it is of, and that it tells photographs from others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_parts import TinyNetwork

from speech2image.errors import DataError, SettingsError
from speech2image.pipeline.images import from_uint8
from speech2image.training.core import fid
from speech2image.training.core.fid import FidWatch, described
from speech2image.training.core.gan import GanSettings
from speech2image.training.core.picture_batches import central_squares
from speech2image.training.core.run import Run, make_fabric

SETTINGS = GanSettings(steps=100, fid_network="inception.pth", fid_every=10, fid_pictures=4)


class Arrays:
    """Ten training pictures in voice a; six for validation, in voices a and b; as much as FID reads."""

    def __init__(self) -> None:
        self.split = np.array(["train"] * 10 + ["val"] * 6)
        self.utterance_sample = np.array([*range(16), 11, 12])
        self.utterance_voice = np.array(["a"] * 10 + ["b", "b"] + ["a"] * 4 + ["a", "b"])
        self.embeddings = np.arange(18.0)[:, None].repeat(3, 1)
        self.teacher = np.arange(16.0)[:, None, None].repeat(2, 1).repeat(3, 2)

    def samples_of(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.split == split)

    def utterances_of(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.split[self.utterance_sample] == split)

    def pictures(self, size: int) -> np.ndarray:
        shades = np.random.default_rng(0).integers(0, 255, (16, 1, 1, 3), np.uint8)
        return shades.repeat(size, 1).repeat(size, 2)


def arrays_without_validation() -> Any:
    arrays = Arrays()
    arrays.split[:] = "train"
    return arrays


def test_validation_pictures_in_voices_that_training_hears() -> None:
    arrays: Any = Arrays()
    shown = described(SETTINGS, arrays, spoken=True)
    assert (shown.split, shown.items.tolist()) == ("val", [11, 12, 14, 15])
    assert shown.conditions[:, 0].tolist() == [16, 12, 14, 15], "utterance 11 is of voice b"
    assert described(SETTINGS, arrays, spoken=False).conditions[:, 0].tolist() == [10, 12, 13, 15]


def test_without_validation_pictures_of_the_training_set() -> None:
    shown = described(SETTINGS, arrays_without_validation(), spoken=False)
    assert (shown.split, shown.items.tolist()) == ("train", [0, 5, 10, 15])
    nobody: Any = Arrays()
    nobody.split[:] = "test"
    with pytest.raises(DataError, match="at least 2"):
        described(SETTINGS, nobody, spoken=True)
    with pytest.raises(SettingsError, match="fid_pictures is 1"):
        described(GanSettings(steps=1, fid_pictures=1), nobody, spoken=True)


def test_photographs_are_at_no_distance_from_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fid, "load_inception", lambda path: TinyNetwork())
    arrays: Any = Arrays()
    shown = described(SETTINGS, arrays, spoken=True)
    run = Run(tmp_path, "gan", SETTINGS, make_fabric("32-true", 0))
    watch = FidWatch(run, SETTINGS, arrays, shown, torch.from_numpy(shown.conditions), 32, noise=5)
    measured: list[float] = []
    monkeypatch.setattr(run, "judge", lambda step, name, value, lower_is_better: measured.append(value))
    themselves = torch.from_numpy(from_uint8(central_squares(arrays, shown.items, 32)))

    def draw(conditions: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        assert conditions.shape == (4, 3) and noise.shape == (4, 5)
        return themselves

    watch.measure(10, draw)
    watch.measure(20, lambda conditions, noise: -themselves)
    assert measured[0] < 1e-6 < 0.01 < measured[1]
    assert [step for step in range(1, 101) if watch.due(step)] == list(range(10, 101, 10))
