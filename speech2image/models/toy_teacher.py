"""A picture teacher for the toy set alone: two layers of fixed random filters, nothing to download.

Random filters see colours and edges, which is all that coloured shapes differ in: on 480 toy pictures the
nearest neighbour of a picture in this space has its colour always and its shape nine times in ten. For
photographs it is worthless; `training.direct` refuses it there.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

SIDE = 32
WIDTH = 32
FEATURE_SIZE = 1024


class ToyTeacher(nn.Module):
    """Stands in for `GoogLeNet` on toy pictures: features of its size and sign, frozen, always the same."""

    variant = "toy"

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 5, stride=2, padding=2)
        self.conv2 = nn.Conv2d(WIDTH, FEATURE_SIZE, 3, stride=2, padding=1)
        random = torch.Generator().manual_seed(0)
        for layer in (self.conv1, self.conv2):
            fan_in = layer.weight[0].numel()
            layer.weight.data = math.sqrt(2 / fan_in) * torch.randn(layer.weight.shape, generator=random)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.requires_grad_(False)
        self.eval()

    def features(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1024"]:
        """Features (>= 0) of RGB pictures in [-1, 1]: the strongest answer of every filter anywhere."""
        small = functional.interpolate(pictures, size=(SIDE, SIDE), mode="area")
        hidden = functional.relu(self.conv1(small.to(self.conv1.weight.dtype)))
        return functional.relu(self.conv2(hidden)).float().amax((2, 3))
