"""Training StackGAN's first version: both stages, exact resume, Stage I untouched by Stage II."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from repeated_batches import first_moments, repeat_the_first_batch
from torch import Tensor

from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import SettingsError
from speech2image.models.gan.stackgan_v1 import Architecture, StageTwo
from speech2image.training.core.checkpoint import load_checkpoint
from speech2image.training.core.networks import load_generator, load_stage
from speech2image.training.recipes import stackgan
from speech2image.training.recipes.stackgan_v1 import (
    PRESETS,
    StackGanV1Training,
    discriminator_loss,
    rates,
    train,
)

TINY = StackGanV1Training(
    networks=Architecture(
        size=64, generator_width=8, discriminator_width=2, noise=3, code=4, residual_blocks=1
    ),
    steps=4,
    batch_size=4,
    precision="32-true",
    log_every=1,
    grid_every=2,
    halve_every=2,
    standardise_condition=True,
)
TWO = replace(TINY, networks=replace(TINY.networks, stage=2, size=128, generator_width=16))


class Squares(PairArrays):
    """Plain pictures of three classes, red, green, blue; utterances' embeddings are fixed directions."""

    def pictures(self, size: int) -> NDArray[np.uint8]:
        side = round(size * 304 / 256)
        pictures = np.full((len(self.labels), side, side, 3), 40, dtype=np.uint8)
        pictures[np.arange(len(self.labels)), :, :, self.labels] = 220
        return pictures

    @property
    def embeddings(self) -> NDArray[np.float16]:
        directions = np.random.default_rng(0).standard_normal((3, 1024))
        return directions[self.labels[self.utterance_sample]].astype(np.float16)


@pytest.fixture(scope="module")
def arrays() -> Squares:
    n = 12
    return Squares(
        folder=Path("nowhere"),
        ids=[str(i) for i in range(n)],
        labels=np.arange(n, dtype=np.int64) % 3,
        class_names={0: "red", 1: "green", 2: "blue"},
        splits=np.array(["train"] * 9 + ["test"] * 3),
        captions=[("a",)] * n,
        utterance_sample=np.arange(n, dtype=np.int64),
        utterance_caption=np.zeros(n, dtype=np.int64),
        utterance_voice=np.full(n, "voice"),
    )


@pytest.fixture(scope="module")
def stage_one(arrays, tmp_path_factory) -> Path:
    return train(TINY, arrays, tmp_path_factory.mktemp("one"))


def flatten(node: object, name: str = "") -> dict[str, object]:
    """Leaves of nested dicts and lists by path."""
    if isinstance(node, dict | list):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        return {k: v for key, child in pairs for k, v in flatten(child, f"{name}/{key}").items()}
    return {name: node}


def differing(one: Path, other: Path) -> list[str]:
    a, b = flatten(load_checkpoint(one)), flatten(load_checkpoint(other))
    assert a.keys() == b.keys()
    return [n for n, v in a.items() if isinstance(v, Tensor) and not torch.equal(v, b[n])]


def test_resumed_equals_uninterrupted(arrays, stage_one, tmp_path):
    train(replace(TINY, steps=3), arrays, tmp_path / "one")
    torch.manual_seed(99)
    assert differing(train(TINY, arrays, tmp_path / "one"), stage_one) == []
    whole = train(TWO, arrays, tmp_path / "whole", stage_one)
    train(replace(TWO, steps=1), arrays, tmp_path / "parts", stage_one)
    torch.manual_seed(99)
    assert differing(train(TWO, arrays, tmp_path / "parts", stage_one), whole) == []


def test_gradients_of_two_batches_are_averaged(arrays, stage_one, tmp_path, monkeypatch):
    repeat_the_first_batch(monkeypatch, stackgan)
    once = train(replace(TWO, steps=1), arrays, tmp_path / "once", stage_one)
    twice = train(replace(TWO, steps=1, accumulate=2), arrays, tmp_path / "twice", stage_one)
    torch.testing.assert_close(first_moments(twice), first_moments(once), rtol=1e-3, atol=1e-6)


def test_stage_two_leaves_stage_one_as_it_was(arrays, stage_one, tmp_path):
    two = load_stage(train(TWO, arrays, tmp_path, stage_one))
    assert isinstance(two, StageTwo) and two.architecture.sizes == (64, 128)
    one = load_stage(stage_one)
    inside = two.stage_one.state_dict()
    assert all(torch.equal(value, inside[name]) for name, value in one.state_dict().items())
    assert (tmp_path / "samples" / "0000004.png").is_file()
    generator, noise = load_generator(tmp_path / "checkpoint.safetensors")
    assert generator(torch.randn(1, 1024), torch.randn(1, noise)).shape == (1, 3, 128, 128)


def test_a_stage_in_the_wrong_place_is_refused(arrays, stage_one, tmp_path):
    with pytest.raises(SettingsError, match="--stage-one"):
        train(TWO, arrays, tmp_path / "a")
    with pytest.raises(SettingsError, match="takes no Stage I"):
        train(TINY, arrays, tmp_path / "b", stage_one)
    other = replace(TWO, networks=replace(TWO.networks, noise=5))
    with pytest.raises(SettingsError, match="noise is 5"):
        train(other, arrays, tmp_path / "c", stage_one)


def test_it_learns_the_colours(arrays, tmp_path):
    """Red speech gives the reddest of three pictures after some steps."""
    settings = replace(
        TINY, steps=100, learning_rate=1e-3, discriminator_rate=1e-3, betas=(0.0, 0.99), kl_weight=0.01
    )
    settings = replace(settings, batch_size=9, halve_every=0, log_every=50, grid_every=60, ema_decay=0.95)
    settings = replace(settings, networks=replace(TINY.networks, discriminator_width=8))
    generator, noise = load_generator(train(settings, arrays, tmp_path))
    conditions = torch.from_numpy(np.asarray(arrays.embeddings[:3], np.float32))
    pictures = generator(conditions, torch.zeros(3, noise)).mean(dim=(2, 3))
    assert pictures.argmax(dim=0).tolist() == [0, 1, 2]


def test_discriminator_loss_against_a_hand_computed_number():
    real, mismatched, fake = (torch.tensor([p]).logit() for p in (0.8, 0.3, 0.4))
    expected = -np.log(0.8) - (np.log(0.7) + np.log(0.6)) / 2
    assert float(discriminator_loss(real, mismatched, fake)) == pytest.approx(expected, abs=1e-6)


def test_rates_are_halved():
    settings = replace(TINY, learning_rate=1.0, discriminator_rate=2.0, halve_every=10)
    assert rates(settings, 25) == (0.25, 0.5)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_together(name):
    one, two = PRESETS[name.removesuffix("-stage2")], PRESETS[name.removesuffix("-stage2") + "-stage2"]
    assert (one.networks.stage, two.networks.stage) == (1, 2)
    assert replace(two.networks, stage=1) == one.networks
