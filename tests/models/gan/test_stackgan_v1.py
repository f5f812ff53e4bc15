"""Stage I and Stage II: the published shapes, a frozen Stage I, the same picture from the same input."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from speech2image.errors import SettingsError
from speech2image.models.gan.stackgan_v1 import (
    Architecture,
    Discriminator,
    LastPicture,
    StageOne,
    StageTwo,
    UpBlock,
    ups,
)

TINY = Architecture(size=64, generator_width=8, discriminator_width=2, noise=3, code=4, residual_blocks=1)
TWO = Architecture(2, 128, generator_width=8, discriminator_width=2, noise=3, code=4, residual_blocks=2)


def inputs(n=2):
    return torch.randn(n, 1024), torch.randn(n, 3)


def test_published_sizes():
    with torch.device("meta"):
        one = StageOne(Architecture())
        two = StageTwo(Architecture(stage=2), one)
        judge = Discriminator(256)
    assert tuple(one.augmentation.linear.weight.shape) == (256, 1024)
    assert tuple(one.linear.weight.shape) == (1024 * 16, 228)
    assert [tuple(b.conv.weight.shape[:2]) for b in one.up[:4]] == [
        (512, 1024),
        (256, 512),
        (128, 256),
        (64, 128),
    ]
    assert tuple(two.joint.conv.weight.shape) == (512, 512 + 128, 3, 3) and len(two.residual) == 4
    assert [tuple(b.conv.weight.shape[:2]) for b in two.up[:4]] == [
        (256, 512),
        (128, 256),
        (64, 128),
        (32, 64),
    ]
    assert judge.head.in_channels == 512


def test_stage_one_draws_64():
    made = StageOne(TINY)(*inputs(), torch.randn(2, 4))
    assert [p.shape for p in made.pictures] == [(2, 3, 64, 64)]
    assert made.mean.shape == made.log_variance.shape == (2, 4)
    assert made.pictures[0].abs().max() <= 1


@pytest.mark.parametrize("size", [64, 128, 256])
def test_stage_two_draws_larger_pictures_from_stage_ones(size):
    two = StageTwo(Architecture(2, size, 8, 2, 3, 4, 1), StageOne(TINY))
    made = two(*inputs(), torch.randn(2, 8))
    assert [p.shape[-1] for p in made.pictures] == [64, size]
    (judged,) = Discriminator(size, 2, 4)([made.pictures[-1]], made.mean)
    assert judged.shape == (2,)


def test_stage_one_is_frozen_in_stage_two():
    two = StageTwo(TWO, StageOne(TINY)).train()
    before = {name: value.clone() for name, value in two.stage_one.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in two.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        two(*inputs(), torch.randn(2, 8)).pictures[-1].mean().backward()
        optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in two.stage_one.state_dict().items())
    assert not two.stage_one.training and two.residual.training
    assert all(p.grad is None for p in two.stage_one.parameters())
    assert all(p.grad is not None for name, p in two.named_parameters() if not name.startswith("stage_one"))


@torch.no_grad()
def test_the_same_input_gives_the_same_picture_alone_or_in_a_batch():
    draw = LastPicture(StageTwo(TWO, StageOne(TINY)))
    condition, noise = inputs(3)
    pictures = draw(condition, noise)
    assert pictures.shape == (3, 3, 128, 128)
    torch.testing.assert_close(draw(condition[1:2], noise[1:2])[0], pictures[1], atol=1e-5, rtol=0)
    assert not torch.allclose(draw(condition[:1], noise[1:2]), pictures[1:2])


def test_up_block_is_nearest_then_convolution():
    block = UpBlock(6, 4).eval()
    x = torch.randn(2, 6, 5, 5)
    nearest = functional.conv2d(functional.interpolate(x, scale_factor=2), block.conv.weight, padding=1)
    torch.testing.assert_close(block(x), functional.relu(block.norm(nearest)), atol=1e-5, rtol=1e-4)
    assert isinstance(ups(32, 3)[-1], nn.Tanh)


def test_the_judge_minds_the_code():
    judge = Discriminator(64, 4, 4).eval()
    picture = torch.randn(2, 3, 64, 64)
    (one,), (other,) = judge([picture], torch.zeros(2, 4)), judge([picture], torch.ones(2, 4))
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("wrong", [{"stage": 3}, {"size": 100}, {"generator_width": 12}, {"noise": 0}])
def test_settings_are_checked(wrong):
    with pytest.raises(SettingsError):
        Architecture(**wrong)
