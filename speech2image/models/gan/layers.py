"""Blocks that the stacked GANs share; each has an exact, cheaper form for inference (`folded`)."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.errors import SettingsError


class UpBlock(nn.Module):
    """Nearest-neighbour x2, 3x3 convolution, BatchNorm, GLU: doubles the side of a map (StackGAN-v2).

    The first two are computed as one transposed convolution, which equals them and needs 4/9 of the work.

    Args:
        channels_in: channels of the input map.
        channels_out: channels of the output map.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, 2 * channels_out, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2 * channels_out)

    def forward(self, x: Float[Tensor, "batch c_in h w"]) -> Float[Tensor, "batch c_out h2 w2"]:
        weight = up_conv_as_transposed(self.conv.weight)
        doubled = F.conv_transpose2d(x, weight, stride=2, padding=1)
        return F.glu(self.norm(doubled), dim=1)

    def folded(self) -> nn.Module:
        """The same map in evaluation mode with the norm inside the transposed convolution."""
        weight, bias = scaled_by_norm(self.conv.weight, self.norm)
        outputs, inputs = weight.shape[:2]
        conv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
        conv.weight.data = up_conv_as_transposed(weight).contiguous()
        conv.bias.data = bias  # type: ignore[union-attr]
        return nn.Sequential(conv, nn.GLU(dim=1))


class ResidualBlock(nn.Module):
    """x + BN(conv(GLU(BN(conv(x))))), 3x3 convolutions, channels and size kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)
        self.norm1: nn.Module = nn.BatchNorm2d(2 * channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2: nn.Module = nn.BatchNorm2d(channels)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
        hidden = F.glu(self.norm1(self.conv1(x)), dim=1)
        return x + self.norm2(self.conv2(hidden))

    def folded(self) -> nn.Module:
        """The same map in evaluation mode with both norms inside the convolutions."""
        block = copy.deepcopy(self)
        fold_norm(block.conv1, block.norm1)
        fold_norm(block.conv2, block.norm2)
        block.norm1, block.norm2 = nn.Identity(), nn.Identity()
        return block


class JointConv(nn.Module):
    """3x3 convolution of a map joined with a code that is the same at every place.

    Equals `Conv2d(cat([code tiled over space, x]), padding=1)` exactly, but the code's share of the output is
    computed on a 3x3 map: zero padding gives a constant code only nine different outputs (inside, four edges,
    four corners), so the middle row and column of that map are stretched to the size of `x`.

    Args:
        code: length of the code.
        channels_in: channels of the map.
        channels_out: channels of the output.
        side: height and width of the map, at least 2.
    """

    def __init__(self, code: int, channels_in: int, channels_out: int, side: int) -> None:
        super().__init__()
        self.code, self.side = code, side
        self.conv = nn.Conv2d(code + channels_in, channels_out, 3, padding=1, bias=False)

    def forward(
        self, x: Float[Tensor, "batch c_in {self.side} {self.side}"], code: Float[Tensor, "batch {self.code}"]
    ) -> Float[Tensor, "batch c_out {self.side} {self.side}"]:
        of_code, of_map = self.conv.weight[:, : self.code], self.conv.weight[:, self.code :]
        tile = code[:, :, None, None].expand(-1, -1, 3, 3)
        nine = F.conv2d(tile, of_code, self.conv.bias, padding=1)
        return F.conv2d(x, of_map, padding=1) + stretch_middle(nine, self.side)


class JointBlock(nn.Module):
    """`JointConv` to twice the channels, BatchNorm, GLU: brings the condition's code into a branch."""

    def __init__(self, code: int, channels: int, side: int) -> None:
        super().__init__()
        self.joint = JointConv(code, channels, 2 * channels, side)
        self.norm: nn.Module = nn.BatchNorm2d(2 * channels)

    def forward(
        self, x: Float[Tensor, "batch c h w"], code: Float[Tensor, "batch code"]
    ) -> Float[Tensor, "batch c h w"]:
        return F.glu(self.norm(self.joint(x, code)), dim=1)

    def folded(self) -> "JointBlock":
        """The same map in evaluation mode with the norm inside the convolution."""
        block = copy.deepcopy(self)
        fold_norm(block.joint.conv, block.norm)
        block.norm = nn.Identity()
        return block


def down_block(channels_in: int, channels_out: int) -> nn.Sequential:
    """4x4 convolution with stride 2, BatchNorm, LeakyReLU 0.2: halves the side of a map."""
    conv = nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.LeakyReLU(0.2, inplace=True))


def narrow_block(channels_in: int, channels_out: int) -> nn.Sequential:
    """3x3 convolution, BatchNorm, LeakyReLU 0.2: changes the channels of a map."""
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.LeakyReLU(0.2, inplace=True))


def stretch_middle(nine: Float[Tensor, "batch c 3 3"], side: int) -> Float[Tensor, "batch c {side} {side}"]:
    """Repeat the middle row and column of a 3x3 map until it is `side` x `side` (at least 2 x 2)."""
    rows = [nine[:, :, :1], nine[:, :, 1:2].expand(-1, -1, side - 2, -1), nine[:, :, 2:]]
    tall = torch.cat(rows, dim=2)
    columns = [tall[:, :, :, :1], tall[:, :, :, 1:2].expand(-1, -1, -1, side - 2), tall[:, :, :, 2:]]
    return torch.cat(columns, dim=3)


def up_conv_as_transposed(weight: Float[Tensor, "c_out c_in 3 3"]) -> Float[Tensor, "c_in c_out 4 4"]:
    """Weight of the transposed convolution (4x4, stride 2, padding 1) that equals nearest x2, then `weight`.

    After doubling, taps of the 3x3 kernel that fall on copies of one pixel add up: along each axis an even
    output sees w0 of the pixel before and w1 + w2 of its own, an odd one w0 + w1 of its own and w2 of the
    next.
    """
    for axis in (2, 3):
        before, own, after = weight.unbind(axis)
        weight = torch.stack([after, own + after, before + own, before], dim=axis)
    return weight.transpose(0, 1)


def scaled_by_norm(weight: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias that equal `weight` (outputs first, no bias), then `norm` in evaluation mode."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight.data / torch.sqrt(norm.running_var + norm.eps)
    shape = (-1, *[1] * (weight.dim() - 1))
    return weight.data * scale.view(shape), norm.bias.data - norm.running_mean * scale


def fold_norm(layer: nn.Conv2d | nn.Linear, norm: nn.Module) -> None:
    """Move `norm`, in evaluation mode, into `layer` in place; `layer` gains a bias."""
    weight, bias = scaled_by_norm(layer.weight, norm)
    layer.weight.data = weight
    layer.bias = nn.Parameter(bias)


def initialise_orthogonal(module: nn.Module) -> None:
    """Orthogonal weights, zero biases, BatchNorm weights from N(1, 0.02) (StackGAN-v2)."""
    initialise_with(module, nn.init.orthogonal_)


@torch.no_grad()
def initialise_with(module: nn.Module, fill: Callable[[Tensor], object]) -> None:
    """Weights of convolutions and linear layers by `fill`, zero biases, BatchNorm weights from N(1, 0.02)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fill(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)


SIZES = (64, 128, 256)
"""Sides of the pictures that StackGANs draw."""


class Maps(NamedTuple):
    """A discriminator's maps: of the pictures alone, and joined with a code; each [batch, c, 4, 4]."""

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
        joined = F.leaky_relu(_by_batch(self.joint_norm, self.joint(x, code.repeat(n, 1)), n), 0.2)
        return [Maps(*pair) for pair in zip(x.chunk(n), joined.chunk(n), strict=True)]


def _by_batch(norm: nn.Module, x: Tensor, batches: int) -> Tensor:
    return torch.cat([norm(part) for part in x.chunk(batches)])
