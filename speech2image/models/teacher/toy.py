"""Toy teacher, for the toy set alone: fixed random filters, nothing to download.

Half of the filters see colour alone, the others colours and edges, which is all that coloured shapes differ
in: on 480 toy pictures the nearest neighbour of a picture in this space has its colour always, its shape
eight times in ten, and colours lie further apart than shapes. For photographs it is worthless; `train direct`
refuses it there.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 32
WIDTH = 32
FEATURE_SIZE = 1024
N_COLOURS = 512
SHAPE_STRENGTH = 0.5


class ToyTeacher(nn.Module):
    """Stands in for `GoogLeNet` on toy pictures: features of its size and sign, frozen, always the same."""

    variant = "toy"

    def __init__(self) -> None:
        super().__init__()
        self.colours = nn.Conv2d(3, N_COLOURS, 1)
        self.edges = nn.Conv2d(3, WIDTH, 5, stride=2, padding=2)
        self.shapes = nn.Conv2d(WIDTH, FEATURE_SIZE - N_COLOURS, 3, stride=2, padding=1)
        random = torch.Generator().manual_seed(0)
        _fill(self.colours, 1.0, 1.0, random)
        _fill(self.edges, math.sqrt(2 / 75), 0.0, random)
        _fill(self.shapes, SHAPE_STRENGTH * math.sqrt(2 / (9 * WIDTH)), 0.0, random)
        self.requires_grad_(False)
        self.eval()

    def features(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1024"]:
        """Features (>= 0) of RGB pictures in [-1, 1]: the strongest answer of every filter anywhere."""
        small = F.interpolate(pictures, size=(SIDE, SIDE), mode="area").to(self.edges.weight.dtype)
        maps = self.colours(small), self.shapes(F.relu(self.edges(small)))
        return torch.cat([F.relu(answers).float().amax((2, 3)) for answers in maps], 1)


def _fill(layer: nn.Conv2d, weight: float, bias: float, random: torch.Generator) -> None:
    """Normal draws with these standard deviations."""
    assert layer.bias is not None
    layer.weight.data = weight * torch.randn(layer.weight.shape, generator=random)
    layer.bias.data = bias * torch.randn(layer.bias.shape, generator=random)
