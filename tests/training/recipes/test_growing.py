"""Growing: the larger generator draws the smaller one's pictures; another shape takes the weights alone."""

import dataclasses

import torch
from torch.nn import functional as F

from speech2image.models.gan.one_stage import GeneratorSettings, OneStageGenerator
from speech2image.training.recipes.growing import grow

SMALL = GeneratorSettings(32, noise_size=8, code_size=16, channels=(16, 16, 16, 16))


def _pair(width: int = 8) -> tuple[OneStageGenerator, OneStageGenerator, torch.Tensor, torch.Tensor]:
    """A small generator whose pictures are smooth in colour, a larger one with its weights, and inputs."""
    torch.manual_seed(0)
    small = OneStageGenerator(SMALL)
    conditions, noise = torch.randn(48, 1024), torch.randn(48, 8)
    small.train()
    for _ in range(60):  # BatchNorm's running statistics
        small(conditions, noise)
    large = OneStageGenerator(dataclasses.replace(SMALL, picture_size=64, channels=(*SMALL.channels, width)))
    own = large.state_dict()
    fitting = {name: w for name, w in small.state_dict().items() if own[name].shape == w.shape}
    large.load_state_dict(fitting, strict=False)
    return small.eval(), large.eval(), conditions, noise


@torch.no_grad()
def _coarse_error(
    small: OneStageGenerator, large: OneStageGenerator, conditions: torch.Tensor, noise: torch.Tensor
) -> float:
    """Root mean square difference of both generators' pictures, as a share of the smaller's contrast; in
    squares of 4 x 4 pixels, as an untrained generator's pictures are full of detail that smoothing takes."""
    expected = F.interpolate(small(conditions, noise), scale_factor=2.0, mode="bilinear")
    found, expected = (F.avg_pool2d(p, 4) for p in (large(conditions, noise), expected))
    return float(((found - expected).square().mean() / expected.var()).sqrt())


@torch.no_grad()
def test_the_grown_generator_draws_the_same_pictures_enlarged() -> None:
    small, large, conditions, noise = _pair()
    assert _coarse_error(small, large, conditions, noise) > 0.9
    grow(small, large, conditions, noise)
    assert large(conditions, noise).shape == (48, 3, 64, 64)
    assert _coarse_error(small, large, conditions, noise) < 0.35
    assert _coarse_error(small, large, torch.randn(16, 1024), torch.randn(16, 8)) < 0.4


def test_every_weight_of_a_grown_generator_still_learns() -> None:
    small, large, conditions, noise = _pair()
    grow(small, large, conditions, noise)
    large.train()
    large.zero_grad()
    (large(conditions, noise) - torch.linspace(-1, 1, 64)).square().mean().backward()
    optimizer = torch.optim.SGD(large.parameters(), 0.1)
    optimizer.step()  # now the convolution to pictures reads the new channels, too
    large.zero_grad()
    (large(conditions, noise) - torch.linspace(-1, 1, 64)).square().mean().backward()
    still = [name for name, p in large.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []
