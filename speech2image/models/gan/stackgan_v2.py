"""StackGAN-v2: the stacked generator and its discriminators, conditioned on a speech embedding.

speech embedding -> `ConditioningAugmentation` -> code c -> `TreeGenerator` (c, noise) -> pictures of 64, 128
and 256 pixels; one `Discriminator` a size. Source: Li et al., "Direct Speech-to-Image Translation" (2020),
section III.
"""

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.errors import SettingsError
from speech2image.models.gan.layers import (
    SIZES,
    ConditionalDiscriminator,
    JointBlock,
    ResidualBlock,
    UpBlock,
    fold_norm,
    initialise_orthogonal,
)


@dataclass(frozen=True)
class Architecture:
    """Sizes of the networks; the defaults are the paper's.

    Attributes:
        branches: 1, 2 or 3 pictures: 64, 128, 256 pixels.
        generator_width: channels at 64 x 64 (GF); the 4 x 4 map has 16 times as many. A multiple of 4.
        discriminator_width: channels after the first layer (DF).
        noise: length of the noise z.
        code: length of the condition's code c.
        residual_blocks: in each branch after the first.
        condition: length of the condition; a training takes that of its data.
    """

    branches: int = 3
    generator_width: int = 64
    discriminator_width: int = 64
    noise: int = 100
    code: int = 128
    residual_blocks: int = 2
    condition: int = 1024

    def __post_init__(self) -> None:
        if self.branches not in (1, 2, 3):
            raise SettingsError(f"branches is {self.branches}; choose 1 (64 pixels), 2 (128) or 3 (256)")
        if self.generator_width < 4 or self.generator_width % 4:
            raise SettingsError(f"generator_width is {self.generator_width}; choose a multiple of 4")
        if (
            min(self.discriminator_width, self.noise, self.code, self.condition) < 1
            or self.residual_blocks < 0
        ):
            raise SettingsError(f"widths and lengths must be at least 1, got {self}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of the pictures, smallest first."""
        return SIZES[: self.branches]


class Augmented(NamedTuple):
    """A condition's code with the normal distribution it was drawn from; each [batch, code]."""

    code: Tensor
    mean: Tensor
    log_variance: Tensor


class Generated(NamedTuple):
    """Pictures, smallest first, each [batch, 3, size, size] in [-1, 1], and the code's distribution."""

    pictures: list[Tensor]
    mean: Tensor
    log_variance: Tensor


class ConditioningAugmentation(nn.Module):
    """Condition -> normal distribution over codes: c = mean + sigma * epsilon (paper, section III-C).

    The condition may be standardised first (`standardise`); by default it is taken as it comes, as in the
    paper.

    Args:
        condition: length of the condition; a training takes that of its data.
        code: length of the code.
        gated: a GLU follows the linear layer; else a LeakyReLU (StackGAN's first version, section 3.2).
    """

    def __init__(self, condition: int, code: int, gated: bool = True) -> None:
        super().__init__()
        self.gated = gated
        self.linear = nn.Linear(condition, (4 if gated else 2) * code)
        self.register_buffer("centre", torch.zeros(condition))
        self.register_buffer("scale", torch.ones(()))

    def standardise(self, centre: Float[Tensor, " condition"], scale: float) -> None:
        """From now on subtract `centre` and divide by `scale`; both travel with the weights."""
        self.centre = centre.to(self.linear.weight)
        self.scale = self.linear.weight.new_tensor(scale)

    def forward(
        self, condition: Float[Tensor, "batch condition"], epsilon: Float[Tensor, "batch code"] | None = None
    ) -> Augmented:
        """Draw a code.

        Args:
            condition: speech embeddings or teacher features.
            epsilon: standard normal draws; None gives the mean as the code.
        """
        hidden = self.linear((condition - self.centre) / self.scale)
        hidden = F.glu(hidden, dim=1) if self.gated else F.leaky_relu(hidden, 0.2)
        mean, log_variance = hidden.float().chunk(2, dim=1)
        code = mean if epsilon is None else mean + torch.exp(0.5 * log_variance) * epsilon
        return Augmented(code, mean, log_variance)


class Trunk(nn.Module):
    """Code and noise -> the map at 64 x 64: linear to 4 x 4, then four up-blocks.

    Args:
        inputs: length of code and noise together.
        width: channels of the result; the 4 x 4 map has 16 times as many.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(inputs, 2 * 16 * 16 * width, bias=False)
        self.norm: nn.Module = nn.BatchNorm1d(2 * 16 * 16 * width)
        self.up = nn.Sequential(*[UpBlock(width * 2**k, width * 2 ** (k - 1)) for k in (4, 3, 2, 1)])

    def forward(self, code_and_noise: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch width 64 64"]:
        start = F.glu(self.norm(self.linear(code_and_noise)), dim=1)
        return self.up(start.view(-1, 16 * self.width, 4, 4))


class Branch(nn.Module):
    """A map and the code -> a map of half the channels and twice the side.

    Args:
        code: length of the code.
        width: channels of the input.
        side: height and width of the input.
        residual_blocks: how many.
    """

    def __init__(self, code: int, width: int, side: int, residual_blocks: int) -> None:
        super().__init__()
        self.joint = JointBlock(code, width, side)
        self.residual = nn.Sequential(*[ResidualBlock(width) for _ in range(residual_blocks)])
        self.up: nn.Module = UpBlock(width, width // 2)

    def forward(
        self, x: Float[Tensor, "batch width h w"], code: Float[Tensor, "batch code"]
    ) -> Float[Tensor, "batch half h2 w2"]:
        return self.up(self.residual(self.joint(x, code)))


class TreeGenerator(nn.Module):
    """Condition and noise -> pictures at 64, 128 and 256 pixels (as many as there are branches).

    With the default architecture it has 21.2 M parameters.

    Args:
        architecture: the sizes.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = a = architecture
        widths = [a.generator_width // 2**k for k in range(a.branches)]
        self.augmentation = ConditioningAugmentation(a.condition, a.code)
        self.trunk = Trunk(a.code + a.noise, a.generator_width)
        self.branches = nn.ModuleList(
            Branch(a.code, width, side, a.residual_blocks)
            for width, side in zip(widths[:-1], a.sizes[:-1], strict=True)
        )
        self.to_picture = nn.ModuleList(nn.Conv2d(width, 3, 3, padding=1, bias=False) for width in widths)
        initialise_orthogonal(self)

    def forward(
        self,
        condition: Float[Tensor, "batch condition"],
        noise: Float[Tensor, "batch noise"],
        epsilon: Float[Tensor, "batch code"] | None = None,
    ) -> Generated:
        """Make pictures.

        Args:
            condition: speech embeddings or teacher features.
            noise: standard normal draws.
            epsilon: standard normal draws for the conditioning augmentation, as in training; None takes the
                code's mean, so that the same condition and noise give the same picture.
        """
        augmented = self.augmentation(condition, epsilon)
        maps = self.maps(augmented.code, noise)
        pictures = [torch.tanh(conv(x)) for conv, x in zip(self.to_picture, maps, strict=True)]
        return Generated(pictures, augmented.mean, augmented.log_variance)

    def maps(self, code: Float[Tensor, "batch code"], noise: Float[Tensor, "batch noise"]) -> list[Tensor]:
        """The hidden maps pictures are read from, smallest first."""
        maps = [self.trunk(torch.cat([code, noise], dim=1))]
        for branch in self.branches:
            maps.append(branch(maps[-1], code))
        return maps


class PictureGenerator(nn.Module):
    """A trained `TreeGenerator` for inference and export: only the largest picture, from the code's mean.

    Exact but cheaper: norms are folded into convolutions, nearest-up and 3x3 into one transposed convolution.

    Args:
        generator: copied, in evaluation mode; its weights stay as they are.
    """

    def __init__(self, generator: TreeGenerator) -> None:
        super().__init__()
        tree = copy.deepcopy(generator).eval().requires_grad_(False)
        fold_norm(tree.trunk.linear, tree.trunk.norm)
        tree.trunk.norm = nn.Identity()
        tree.trunk.up = nn.Sequential(*[folded(block) for block in tree.trunk.up])
        for branch in tree.branches:
            assert isinstance(branch, Branch)
            branch.joint = branch.joint.folded()
            branch.residual = nn.Sequential(*[folded(block) for block in branch.residual])
            branch.up = folded(branch.up)
        self.augmentation, self.trunk, self.branches = tree.augmentation, tree.trunk, tree.branches
        self.to_picture = tree.to_picture[-1]
        self.requires_grad_(False)

    def forward(
        self, condition: Float[Tensor, "batch condition"], noise: Float[Tensor, "batch noise"]
    ) -> Float[Tensor, "batch 3 size size"]:
        """Pictures in [-1, 1]; the same condition and noise always give the same picture."""
        code = self.augmentation(condition).mean
        x = self.trunk(torch.cat([code, noise], dim=1))
        for branch in self.branches:
            x = branch(x, code)
        return torch.tanh(self.to_picture(x))


class Judged(NamedTuple):
    """Logits of a batch, each [batch]: a real picture of this condition?; a real picture at all?"""

    conditional: Tensor
    unconditional: Tensor


class Discriminator(ConditionalDiscriminator):
    """Picture and code -> two logits; 5.7, 18.8 and 71.3 M parameters at width 64 for 64, 128 and 256 pixels.

    Args:
        size: side of the pictures: 64, 128 or 256.
        width: channels after the first layer.
        code: length of the condition's code (its mean is given).
    """

    def __init__(self, size: int, width: int = 64, code: int = 128) -> None:
        super().__init__(size, width, code)
        self.conditional = nn.Conv2d(8 * width, 1, 4)
        self.unconditional = nn.Conv2d(8 * width, 1, 4)
        initialise_orthogonal(self)

    def forward(
        self, batches: list[Float[Tensor, "batch 3 size size"]], code: Float[Tensor, "batch code"]
    ) -> list[Judged]:
        """Judge batches of pictures in [-1, 1], each against the same mean codes of conditions."""
        return [
            Judged(self.conditional(joined).float().flatten(), self.unconditional(own).float().flatten())
            for own, joined in self.maps(batches, code)
        ]


class Discriminators(nn.Module):
    """One discriminator a picture size, judging several batches in one call.

    Args:
        architecture: the sizes.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = architecture
        self.of_size = nn.ModuleList(Discriminator(size, a.discriminator_width, a.code) for size in a.sizes)

    def forward(self, batches: list[list[Tensor]], code: Float[Tensor, "batch code"]) -> list[list[Judged]]:
        """Judge each batch (pictures at every size, smallest first) against the same codes.

        Returns:
            For each batch, the logits at every size. Batches are normalised each by its own statistics.
        """
        sizes = zip(self.of_size, zip(*batches, strict=True), strict=True)
        judged = [judge(list(pictures), code) for judge, pictures in sizes]
        return [list(batch) for batch in zip(*judged, strict=True)]


def folded(block: nn.Module) -> nn.Module:
    """The inference form of a block of `layers`."""
    assert isinstance(block, UpBlock | ResidualBlock)
    return block.folded()
