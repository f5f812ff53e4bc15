"""What the discriminators of both StackGANs share: a picture's map, and that map joined with a code."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from speech2image.errors import SettingsError
from speech2image.models.gan.layers import JointConv, down_block, narrow_block

SIZES = (64, 128, 256)
"""Sides of the pictures that StackGANs draw."""


class Maps(NamedTuple):
    """What is read from pictures: their own maps, and those joined with a code; each [batch, c, 4, 4]."""

    own: Tensor
    joined: Tensor


class ConditionalDiscriminator(nn.Module):
    """Pictures and codes -> maps of 4 x 4, for several batches in one call.

    The norms see every batch by itself, as if it came alone. The convolutions of small maps see all of them
    at once: these have the most weights and the fewest places, and reading weights is what takes the time.

    Args:
        size: side of the pictures: 64, 128 or 256.
        width: channels after the first layer.
        code: length of the condition's code (its mean is given).

    Raises:
        SettingsError: another size.
    """

    def __init__(self, size: int, width: int, code: int) -> None:
        super().__init__()
        if size not in SIZES:
            raise SettingsError(f"a discriminator judges pictures of 64, 128 or 256 pixels, not {size}")
        self.size = size
        further = SIZES.index(size)
        first = nn.Conv2d(3, width, 4, stride=2, padding=1, bias=False)
        down = [down_block(width * 2**k, width * 2 ** (k + 1)) for k in range(3 + further)]
        narrow = [narrow_block(width * 2 ** (3 + k), width * 2 ** (2 + k)) for k in range(further, 0, -1)]
        self.trunk = nn.Sequential(first, nn.LeakyReLU(0.2, inplace=True), *down, *narrow)
        self.large = 3 + further
        """Layers of the trunk before the map is 16 x 16."""
        self.joint = JointConv(code, 8 * width, 8 * width, side=4)
        self.joint_norm = nn.BatchNorm2d(8 * width)

    def maps(
        self, batches: list[Float[Tensor, "batch 3 size size"]], code: Float[Tensor, "batch code"]
    ) -> list[Maps]:
        """Read batches of pictures in [-1, 1], each against the same mean codes of conditions."""
        n = len(batches)
        x = torch.cat([self.trunk[: self.large](pictures) for pictures in batches])
        for block in list(self.trunk)[self.large :]:
            conv, norm, activation = block.children()
            x = activation(_by_batch(norm, conv(x), n))
        joined = functional.leaky_relu(_by_batch(self.joint_norm, self.joint(x, code.repeat(n, 1)), n), 0.2)
        return [Maps(*pair) for pair in zip(x.chunk(n), joined.chunk(n), strict=True)]


def _by_batch(norm: nn.Module, x: Tensor, batches: int) -> Tensor:
    return torch.cat([norm(part) for part in x.chunk(batches)])
