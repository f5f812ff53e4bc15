"""Every layer of the papers' networks is what the papers say: tests/reference/paper.toml."""

import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from speech2image.models.gan import stackgan_v1, stackgan_v2
from speech2image.models.gan.layers import ResidualBlock
from speech2image.models.speech_encoder import (
    PRESETS,
    MaskedConvolution,
    MaskedMean,
    SpeechEncoder,
)

GOLDEN: dict[str, Any] = tomllib.loads(
    (Path(__file__).parents[1] / "reference" / "paper.toml").read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    return SpeechEncoder(PRESETS["paper"]).eval()


def test_convolutions_of_the_speech_encoder(encoder: SpeechEncoder) -> None:
    found = []
    for layer in encoder.convolutions:
        conv = layer.convolution
        assert isinstance(conv, nn.Conv1d) and conv.bias is None and not layer.residual
        shape = [conv.in_channels, conv.out_channels, *conv.kernel_size, *conv.stride, *conv.padding]
        found.append([*shape, layer.pool])
        assert layer.stride == conv.stride[0] and layer.normalisation.weight.shape == (conv.out_channels,)
    assert found == GOLDEN["speech_encoder"]["convolutions"]
    assert not len(encoder.stem) and encoder.input_normalisation.weight.shape == (40,)
    weights = torch.cat([layer.convolution.weight.flatten() for layer in encoder.convolutions])
    assert (weights.mean().item(), weights.std().item()) == (
        pytest.approx(0.0, abs=1e-4),
        pytest.approx(0.02, rel=0.01),
    )


def test_the_rest_of_the_speech_encoder(encoder: SpeechEncoder) -> None:
    stated = GOLDEN["speech_encoder"]
    frames = stated["frames"]
    with torch.no_grad():
        x, n_steps = encoder._convolve(torch.zeros(1, 40, frames), torch.tensor([frames]))
    assert x.shape == (1, stated["lstm"][0], stated["steps"]) and n_steps.tolist() == [stated["steps"]]
    for direction in (encoder.recurrent.ahead, encoder.recurrent.back):
        assert [direction.input_size, direction.hidden_size] == stated["lstm"] and direction.num_layers == 1
    assert isinstance(encoder.pooling, MaskedMean) and isinstance(encoder.projection, nn.Identity)
    assert encoder.embed_dim == stated["embedding"]


def test_a_pool_is_three_wide_and_halves() -> None:
    layer = MaskedConvolution(1, 1, 1, 1, pool=True).eval()
    layer.convolution.weight.data.fill_(1.0)
    x = torch.tensor([[[3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, -5.0]]])
    pooled, n_steps = layer(x, torch.tensor([9]))
    expected = [max(x[0, 0, max(0, i - 1) : i + 2].tolist()) for i in range(0, 9, 2)]
    assert pooled[0, 0].tolist() == pytest.approx(expected, rel=1e-4) and n_steps.tolist() == [5]


def test_normalisation_of_the_input_for_each_band_or_as_a_whole() -> None:
    """Paper and released code: the mean and the spread of each band, or of all together."""
    clip = torch.randn(2, 40, 100) * torch.arange(1, 41)[:, None] + torch.arange(40.0)[:, None]
    seen: dict[str, torch.Tensor] = {}
    for name in ("paper", "released-code"):
        encoder = SpeechEncoder(PRESETS[name]).train()
        inputs: list[torch.Tensor] = []
        take = encoder.convolutions[0].register_forward_pre_hook(
            lambda _, given, to=inputs: to.append(given[0])
        )
        encoder(clip, torch.tensor([100, 100]))
        take.remove()
        (seen[name],) = inputs
    bands, whole = seen["paper"], seen["released-code"]
    assert torch.allclose(bands.mean((0, 2)), torch.zeros(40), atol=1e-4)
    assert torch.allclose(bands.std((0, 2)), torch.ones(40), atol=0.02)
    assert torch.allclose(whole, (clip - clip.mean()) / clip.std(), atol=0.01)


def test_stacked_generator() -> None:
    stated = GOLDEN["stackgan_v2"]
    with torch.device("meta"):
        generator = stackgan_v2.TreeGenerator(stackgan_v2.Architecture())
    up = [block.conv for block in generator.trunk.up]
    assert generator.trunk.linear.out_features == 2 * 16 * stated["trunk"][0]
    assert generator.trunk.linear.in_features == stated["code"] + stated["noise"]
    assert [[conv.in_channels, conv.out_channels // 2] for conv in up] == _pairs(stated["trunk"])
    found = [
        [branch.residual[0].conv1.in_channels, branch.up.conv.out_channels // 2]
        for branch in generator.branches
    ]
    assert found == stated["branches"]
    for branch, (width, _) in zip(generator.branches, stated["branches"], strict=True):
        assert len(branch.residual) == stated["residual_blocks"]
        joint = branch.joint.joint.conv
        assert (joint.in_channels, joint.out_channels) == (stated["code"] + width, 2 * width)
    ends = [64, *(narrow for _, narrow in stated["branches"])]
    assert [(conv.in_channels, conv.out_channels) for conv in generator.to_picture] == [(n, 3) for n in ends]
    assert list(generator.architecture.sizes) == stated["sides"]
    assert generator.augmentation.linear.out_features == 4 * stated["code"], "a GLU, then mean and variance"


@pytest.mark.parametrize("size", GOLDEN["stackgan_v2"]["sides"])
def test_discriminators(size: int) -> None:
    stated = GOLDEN["stackgan_v2"]["discriminators"][str(size)]
    with torch.device("meta"):
        judge = stackgan_v2.Discriminator(size)
    convolutions = [layer for layer in judge.trunk.modules() if isinstance(layer, nn.Conv2d)]
    halving = [c.out_channels for c in convolutions if (c.kernel_size, c.stride) == ((4, 4), (2, 2))]
    narrowing = [c.out_channels for c in convolutions if (c.kernel_size, c.stride) == ((3, 3), (1, 1))]
    assert {"halving": halving, "narrowing": narrowing} == stated
    assert len(halving) + len(narrowing) == len(convolutions)


def test_stages_of_stackgan_v1() -> None:
    stated = GOLDEN["stackgan_v1"]
    with torch.device("meta"):
        one = stackgan_v1.StageOne(stackgan_v1.Architecture())
        two = stackgan_v1.StageTwo(stackgan_v1.Architecture(stage=2), one)
    for stage, name in ((one, "stage_one"), (two, "stage_two")):
        blocks = [block.conv for block in stage.up if isinstance(block, stackgan_v1.UpBlock)]
        assert [[conv.in_channels, conv.out_channels] for conv in blocks] == _pairs(stated[name])
    encoder = [layer.out_channels for layer in two.encoder if isinstance(layer, nn.Conv2d)]
    assert encoder == stated["stage_two_encoder"]
    assert len(two.residual) == stated["stage_two_residual_blocks"]
    assert list(two.architecture.sizes) == stated["sides"]


def _pairs(channels: list[int]) -> list[list[int]]:
    return [list(pair) for pair in pairwise(channels)]


def test_residual_blocks_add_their_input() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 5, 5)
    for kind in (stackgan_v1.ResidualBlock, ResidualBlock):
        block = kind(8).eval()
        hidden = block.norm1(block.conv1(x))
        hidden = F.relu(hidden) if kind is stackgan_v1.ResidualBlock else F.glu(hidden, dim=1)
        expected = x + block.norm2(block.conv2(hidden))
        expected = F.relu(expected) if kind is stackgan_v1.ResidualBlock else expected
        torch.testing.assert_close(block(x), expected, msg=str(kind))


def test_stage_two_reads_its_blocks_one_after_the_other() -> None:
    """What stage II draws follows from stage I's picture and the code, through every residual block."""
    torch.manual_seed(0)
    shape = stackgan_v1.Architecture(1, 64, 8, 2, noise=3, code=4)
    two = stackgan_v1.StageTwo(
        stackgan_v1.Architecture(2, 64, 8, 2, noise=3, code=4), stackgan_v1.StageOne(shape)
    ).eval()
    condition, noise = torch.randn(1, 1024), torch.randn(1, 3)
    small, large = two(condition, noise).pictures
    joined = F.relu(two.joint_norm(two.joint(two.encoder(small), two.augmentation(condition).code)))
    for block in two.residual:
        joined = F.relu(joined + block.norm2(block.conv2(F.relu(block.norm1(block.conv1(joined))))))
    torch.testing.assert_close(large, two.up(joined))
