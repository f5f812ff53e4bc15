"""StackGAN-v1: Stage I draws 64 x 64 pixels for an embedding, Stage II larger pictures from them.

Zhang et al., "StackGAN: Text to Photo-realistic Image Synthesis with Stacked Generative Adversarial Networks"
(ICCV 2017). Stage II encodes Stage I's picture, reads the embedding a second time, and takes no new noise;
Stage I is frozen within it.

The condition reaches the discriminator as the mean of the generator's conditioning augmentation (128 numbers,
at every place of the map), as in the authors' PyTorch code; their first code had a network of its own there,
which compressed the embedding.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.errors import SettingsError
from speech2image.models.gan.layers import (
    SIZES,
    ConditionalDiscriminator,
    JointConv,
    initialise_with,
    up_conv_as_transposed,
)
from speech2image.models.gan.stackgan_v2 import ConditioningAugmentation, Generated

SMALL = 64
"""Side of Stage I's pictures."""

ENCODED = 16
"""Side of Stage II's map of them."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of the networks; the defaults are the paper's.

    Attributes:
        stage: 1 or 2.
        size: side of Stage II's pictures: 64, 128 or 256.
        generator_width: a quarter of the channels at 16 x 16 in Stage II, an eighth of those at 4 x 4 in
            Stage I (GF); a multiple of 8.
        discriminator_width: channels after the first layer (DF).
        noise: length of the noise z.
        code: length of the condition's code c.
        residual_blocks: of Stage II.
        condition: length of the condition; a training takes that of its data.
    """

    stage: int = 1
    size: int = 256
    generator_width: int = 128
    discriminator_width: int = 64
    noise: int = 100
    code: int = 128
    residual_blocks: int = 4
    condition: int = 1024

    def __post_init__(self) -> None:
        if self.stage not in (1, 2) or self.size not in SIZES:
            raise SettingsError(f"stage is {self.stage} and size {self.size}; choose 1 or 2; 64, 128 or 256")
        if self.generator_width < 8 or self.generator_width % 8:
            raise SettingsError(f"generator_width is {self.generator_width}; choose a multiple of 8")
        if min(self.discriminator_width, self.noise, self.code, self.condition) < 1:
            raise SettingsError(f"widths and lengths must be at least 1, got {self}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of the pictures made, the last one those judged."""
        return (SMALL,) if self.stage == 1 else (SMALL, self.size)


class UpBlock(nn.Module):
    """Nearest-neighbour x2, 3x3 convolution, BatchNorm, ReLU: doubles the side of a map.

    The first two are computed as one transposed convolution, as in `layers.UpBlock`.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x: Float[Tensor, "batch c_in h w"]) -> Float[Tensor, "batch c_out h2 w2"]:
        doubled = F.conv_transpose2d(x, up_conv_as_transposed(self.conv.weight), stride=2, padding=1)
        return F.relu(self.norm(doubled))


class ResidualBlock(nn.Module):
    """relu(x + BN(conv(relu(BN(conv(x)))))), 3x3 convolutions, channels and size kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
        hidden = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(hidden)))


def ups(width: int, number: int) -> nn.Sequential:
    """Up-blocks, each to half the channels; a 3x3 convolution to RGB; tanh."""
    blocks = [UpBlock(width // 2**k, width // 2 ** (k + 1)) for k in range(number)]
    return nn.Sequential(*blocks, nn.Conv2d(width // 2**number, 3, 3, padding=1, bias=False), nn.Tanh())


class StageOne(nn.Module):
    """Condition and noise -> pictures of 64 x 64 (section 3.3)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = a = architecture
        self.width = 8 * a.generator_width
        self.augmentation = ConditioningAugmentation(a.condition, a.code, gated=False)
        self.linear = nn.Linear(a.code + a.noise, self.width * 4 * 4, bias=False)
        self.norm = nn.BatchNorm1d(self.width * 4 * 4)
        self.up = ups(self.width, 4)
        initialise(self)

    def forward(
        self,
        condition: Float[Tensor, "batch condition"],
        noise: Float[Tensor, "batch noise"],
        epsilon: Float[Tensor, "batch code"] | None = None,
    ) -> Generated:
        """Make pictures; `epsilon` for the conditioning augmentation, None for its mean."""
        augmented = self.augmentation(condition, epsilon)
        start = F.relu(self.norm(self.linear(torch.cat([augmented.code, noise], dim=1))))
        picture = self.up(start.view(-1, self.width, 4, 4))
        return Generated([picture], augmented.mean, augmented.log_variance)


class StageTwo(nn.Module):
    """Condition and noise -> Stage I's pictures, and larger ones drawn from them (section 3.4).

    Args:
        architecture: the sizes.
        stage_one: trained; it is frozen here, its BatchNorm statistics too.
    """

    def __init__(self, architecture: Architecture, stage_one: StageOne) -> None:
        super().__init__()
        self.architecture = a = architecture
        width = a.generator_width
        self.stage_one = stage_one.eval().requires_grad_(False)
        self.augmentation = ConditioningAugmentation(a.condition, a.code, gated=False)
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
            *_halving(width, 2 * width),
            *_halving(2 * width, 4 * width),
        )
        self.joint = JointConv(a.code, 4 * width, 4 * width, side=ENCODED)
        self.joint_norm = nn.BatchNorm2d(4 * width)
        self.residual = nn.Sequential(*[ResidualBlock(4 * width) for _ in range(a.residual_blocks)])
        self.up = ups(4 * width, (a.size // ENCODED).bit_length() - 1)
        for own in (self.augmentation, self.encoder, self.joint, self.joint_norm, self.residual, self.up):
            initialise(own)

    def train(self, mode: bool = True) -> "StageTwo":
        """Training mode for all but Stage I."""
        super().train(mode)
        self.stage_one.eval()
        return self

    def forward(
        self,
        condition: Float[Tensor, "batch condition"],
        noise: Float[Tensor, "batch noise"],
        epsilon: Float[Tensor, "batch two_codes"] | None = None,
    ) -> Generated:
        """Make pictures of both stages.

        Args:
            condition: text or speech embeddings.
            noise: standard normal draws, for Stage I.
            epsilon: standard normal draws for both conditioning augmentations, [batch, 2 * code]; None takes
                the codes' means.
        """
        first, second = (None, None) if epsilon is None else epsilon.chunk(2, dim=1)
        with torch.no_grad():
            small = self.stage_one(condition, noise, first).pictures[-1]
        augmented = self.augmentation(condition, second)
        joined = F.relu(self.joint_norm(self.joint(self.encoder(small), augmented.code)))
        return Generated([small, self.up(self.residual(joined))], augmented.mean, augmented.log_variance)


def _halving(channels_in: int, channels_out: int) -> list[nn.Module]:
    """4x4 convolution with stride 2, BatchNorm, ReLU."""
    conv = nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]


class LastPicture(nn.Module):
    """A trained stage for inference and export: (condition, noise) -> its largest picture, from the code's
    mean."""

    def __init__(self, stage: StageOne | StageTwo) -> None:
        super().__init__()
        self.stage = stage.eval().requires_grad_(False)

    def forward(
        self, condition: Float[Tensor, "batch condition"], noise: Float[Tensor, "batch noise"]
    ) -> Float[Tensor, "batch 3 size size"]:
        """Pictures in [-1, 1]; the same condition and noise always give the same picture."""
        picture: Tensor = self.stage(condition, noise).pictures[-1]
        return picture


class Discriminator(ConditionalDiscriminator):
    """Picture and code -> logit: a real picture of this condition?

    Args:
        size: side of the pictures: 64, 128 or 256.
        width: channels after the first layer.
        code: length of the condition's code (its mean is given).
    """

    def __init__(self, size: int, width: int = 64, code: int = 128) -> None:
        super().__init__(size, width, code)
        self.head = nn.Conv2d(8 * width, 1, 4)
        initialise(self)

    def forward(
        self, batches: list[Float[Tensor, "batch 3 size size"]], code: Float[Tensor, "batch code"]
    ) -> list[Float[Tensor, " batch"]]:
        """Judge batches of pictures in [-1, 1], each against the same mean codes of conditions."""
        return [self.head(maps.joined).float().flatten() for maps in self.maps(batches, code)]


def initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02), zero biases, BatchNorm weights from N(1, 0.02), as the authors' code."""
    initialise_with(module, partial(nn.init.normal_, mean=0.0, std=0.02))
