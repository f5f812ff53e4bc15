"""One-stage generator and projected discriminator: the shipped generator, beyond the papers.

The generator grows one picture from a 4 x 4 map; the condition and the noise enter every block through an
affine map after BatchNorm (as in DF-GAN, Tao et al. 2022). The discriminator sees pictures only through
frozen feature maps of the image teacher (Projected GAN, Sauer et al. 2021); only its small spectrally
normalised heads learn. Each head gives an unconditional answer (is it a photograph?) and a conditional one
(does it fit the condition?, a projection on it).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from speech2image.errors import SettingsError

CONDITION_SIZE = 1024
TEACHER_MAPS = 4
"""The teacher's stages, which come first among the maps that a discriminator sees."""
SMOOTHED_FROM = 32
"""Maps of this side and more are smoothed before the next block enlarges their patterns."""


@dataclass(frozen=True)
class GeneratorSettings:
    """Sizes of `OneStageGenerator`.

    Attributes:
        picture_size: side of the picture in pixels, 8 to 256, a power of two.
        noise_size: length of the noise vector.
        code_size: length to which the condition is reduced before it joins the noise.
        channels: channels of the maps of side 4, 8, 16, ... up to `picture_size`; one number a resolution.
    """

    picture_size: int = 128
    noise_size: int = 100
    code_size: int = 256
    channels: tuple[int, ...] = (256, 256, 224, 128, 64, 32)

    def __post_init__(self) -> None:
        sides = tuple(4 * 2**i for i in range(len(self.channels)))
        if len(sides) < 2 or sides[-1] != self.picture_size:
            raise SettingsError(
                f"{len(self.channels)} channel numbers end at a side of {sides[-1] if sides else 0} pixels, "
                f"but picture_size is {self.picture_size}; give one number for each of 4, 8, 16, ... up to it"
            )


def smooth(
    maps: Float[Tensor, "batch channels h w"],
) -> Float[Tensor, "batch channels h w"]:
    """Binomial filter (1 2 1) along both sides, edges repeated: takes out the pattern of period two places.

    Transposed convolutions leave that pattern, and a discriminator whose first convolution has stride 2
    hardly sees it.
    """
    channels = int(maps.shape[1])
    line = maps.new_tensor([1.0, 2.0, 1.0])
    weight = (line[:, None] * line / 16).repeat(channels, 1, 1, 1)
    return F.conv2d(F.pad(maps, (1, 1, 1, 1), mode="replicate"), weight, groups=channels)


class ConditionalBlock(nn.Module):
    """Twice the side: transposed convolution, BatchNorm, an affine map from the code, GLU.

    A 4 x 4 transposed convolution of stride 2 contains nearest-neighbour enlargement followed by a 3 x 3
    convolution as a special case, at 4/9 of its multiplications.
    """

    def __init__(self, in_channels: int, out_channels: int, code_size: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, 2 * out_channels, 4, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(2 * out_channels, affine=False)
        self.affine = nn.Linear(code_size, 4 * out_channels)
        nn.init.orthogonal_(self.up.weight)
        nn.init.normal_(self.affine.weight, 0.0, 0.02)
        nn.init.zeros_(self.affine.bias)

    def forward(
        self, maps: Float[Tensor, "batch in_channels side side"], code: Float[Tensor, "batch code"]
    ) -> Float[Tensor, "batch out_channels double double"]:
        """Returns maps of twice the side."""
        scale, shift = self.affine(code)[:, :, None, None].chunk(2, dim=1)
        return F.glu(self.norm(self.up(maps)) * (1 + scale) + shift, dim=1)


class OneStageGenerator(nn.Module):
    """(condition, noise) -> one picture.

    The condition is centred by the mean teacher feature (buffer `condition_mean`) and scaled to unit length,
    so the teacher's features of a picture and the speech embedding of its description are taken alike.
    """

    condition_mean: Tensor

    def __init__(self, settings: GeneratorSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or GeneratorSettings()
        code_size = settings.code_size + settings.noise_size
        first, *rest = settings.channels
        self.register_buffer("condition_mean", torch.zeros(CONDITION_SIZE))
        self.reduce = nn.Linear(CONDITION_SIZE, settings.code_size)
        self.stem = nn.Linear(code_size, first * 16)
        widths = zip(settings.channels, rest, strict=False)
        self.blocks = nn.ModuleList(ConditionalBlock(i, o, code_size) for i, o in widths)
        self.to_picture = nn.Conv2d(rest[-1], 3, 3, padding=1)
        nn.init.orthogonal_(self.stem.weight)

    def normalise(self, condition: Float[Tensor, "batch 1024"]) -> Float[Tensor, "batch 1024"]:
        """Centre by the mean teacher feature and scale to a root mean square of 1."""
        return F.normalize(condition - self.condition_mean, dim=1) * CONDITION_SIZE**0.5

    def forward(
        self, condition: Float[Tensor, "batch 1024"], noise: Float[Tensor, "batch noise"]
    ) -> Float[Tensor, "batch 3 side side"]:
        """Draw pictures.

        Args:
            condition: speech embeddings or teacher features (pool5), any scale.
            noise: standard normal numbers.

        Returns:
            RGB in [-1, 1].
        """
        maps, _ = self.maps(condition, noise)
        return torch.tanh(smooth(self.to_picture(maps)))

    def maps(
        self, condition: Float[Tensor, "batch 1024"], noise: Float[Tensor, "batch noise"]
    ) -> tuple[Float[Tensor, "batch channels side side"], Float[Tensor, "batch code"]]:
        """The last block's maps, from which the picture is made, and the code that entered every block."""
        code = torch.cat([self.reduce(self.normalise(condition)), noise], dim=1)
        maps = self.stem(code).unflatten(1, (-1, 4, 4))
        for block in self.blocks:
            maps = block(maps, code)
            if SMOOTHED_FROM <= maps.shape[-1] < self.settings.picture_size:
                maps = smooth(maps)
        return maps, code


@dataclass(frozen=True)
class DiscriminatorSettings:
    """Sizes of `ProjectedDiscriminator`.

    Attributes:
        width: channels inside every head.
        map_channels: channels of the teacher's four stages, and of those of a second network if there is
            one.
        details: a second set of heads, unconditional, for cut-outs of pictures at full size.
    """

    width: int = 128
    map_channels: tuple[int, ...] = (192, 480, 832, 1024)
    details: bool = False


class RealismHead(nn.Module):
    """One discriminator head on one stage of the teacher: is it a photograph?"""

    mean: Tensor
    deviation: Tensor

    def __init__(self, in_channels: int, width: int, reductions: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(in_channels))
        self.register_buffer("deviation", torch.ones(in_channels))
        self.enter = spectral_norm(nn.Conv2d(in_channels, width, 1))
        self.down = nn.ModuleList(spectral_norm(nn.Conv2d(width, width, 4, 2, 1)) for _ in range(reductions))
        self.mix = spectral_norm(nn.Conv2d(width, width, 3, padding=1))
        self.unconditional = spectral_norm(nn.Conv2d(width, 1, 1))

    def judge(self, maps: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch hidden h w"]:
        """The part of the head that does not depend on the condition."""
        # the frozen network's scales differ a lot between channels: without them all start alike
        hidden = (maps - self.mean[:, None, None]) / self.deviation[:, None, None]
        hidden = F.leaky_relu(self.enter(hidden), 0.2)
        for convolution in self.down:
            hidden = F.leaky_relu(convolution(hidden), 0.2)
        return F.leaky_relu(self.mix(hidden), 0.2)

    @torch.no_grad()
    def calibrate(self, maps: Float[Tensor, "batch channels height width"]) -> None:
        """Set the per-channel mean and deviation from the stage of real pictures, once, at the start."""
        self.mean.copy_(maps.float().mean((0, 2, 3)))
        self.deviation.copy_(maps.float().std((0, 2, 3)).clamp_min(1e-3))


class FeatureHead(RealismHead):
    """A head that also answers whether a picture fits its condition."""

    def __init__(self, in_channels: int, width: int, reductions: int) -> None:
        super().__init__(in_channels, width, reductions)
        self.project = spectral_norm(nn.Linear(CONDITION_SIZE, width))
        self.conditional = spectral_norm(nn.Conv2d(width, width, 1))

    def match(
        self, hidden: Float[Tensor, "batch hidden h w"], condition: Float[Tensor, "batch 1024"]
    ) -> Float[Tensor, "batch hw"]:
        """The conditional answer at every place: inner product with the projected condition."""
        code = self.project(condition)
        return torch.einsum("bchw,bc->bhw", self.conditional(hidden), code).flatten(1) / code.shape[1] ** 0.5


class ProjectedDiscriminator(nn.Module):
    """Heads on the four stages of the frozen teacher, and on those of a second network."""

    def __init__(self, settings: DiscriminatorSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or DiscriminatorSettings()
        shapes = [
            (channels, settings.width, max(0, 2 - i % TEACHER_MAPS))
            for i, channels in enumerate(settings.map_channels)
        ]
        self.heads = nn.ModuleList(FeatureHead(*shape) for shape in shapes)
        self.detail_heads = nn.ModuleList(RealismHead(*shape) for shape in shapes if settings.details)

    @property
    def centre(self) -> Tensor:
        """Mean of the teacher's last stage over real pictures, [1024]."""
        head = self.heads[TEACHER_MAPS - 1]
        assert isinstance(head, FeatureHead)
        return head.mean

    def calibrate(self, stages: tuple[Tensor, ...]) -> None:
        """Set the heads' scales from the stages of real pictures, once, at the start."""
        _calibrate(self.heads, stages)

    def calibrate_details(self, stages: tuple[Tensor, ...]) -> None:
        """The same for the heads of cut-outs."""
        _calibrate(self.detail_heads, stages)

    def forward(
        self,
        stages: tuple[Tensor, ...],
        condition: Float[Tensor, "batch 1024"],
        mismatched: Float[Tensor, "batch 1024"] | None = None,
        details: tuple[Tensor, ...] | None = None,
    ) -> tuple[
        Float[Tensor, "batch places"],
        Float[Tensor, "batch places"],
        Float[Tensor, "batch places"] | None,
        Float[Tensor, "cutouts more_places"] | None,
    ]:
        """Judge pictures by their feature maps.

        Args:
            stages: four maps of each network, each [batch, channels, height, width].
            condition: normalised condition of each picture.
            mismatched: normalised condition of pictures of another class.
            details: as many maps of cut-outs at full size.

        Returns:
            The unconditional answers, the conditional answers for `condition`, those for `mismatched`, and
            the unconditional answers for the cut-outs (or None); each head's answer at each of its places,
            joined.
        """
        unconditional, matching, mismatching = [], [], []
        for head, maps in zip(self.heads, stages, strict=True):
            assert isinstance(head, FeatureHead)
            hidden = head.judge(maps.float())
            unconditional.append(head.unconditional(hidden).flatten(1))
            matching.append(head.match(hidden, condition))
            if mismatched is not None:
                mismatching.append(head.match(hidden, mismatched))
        return (
            torch.cat(unconditional, 1),
            torch.cat(matching, 1),
            torch.cat(mismatching, 1) if mismatching else None,
            None if details is None else self._judge_details(details),
        )

    def _judge_details(self, stages: tuple[Tensor, ...]) -> Tensor:
        answers = []
        for head, maps in zip(self.detail_heads, stages, strict=True):
            assert isinstance(head, RealismHead)
            answers.append(head.unconditional(head.judge(maps.float())).flatten(1))
        return torch.cat(answers, 1)


def _calibrate(heads: nn.ModuleList, stages: tuple[Tensor, ...]) -> None:
    for head, maps in zip(heads, stages, strict=True):
        assert isinstance(head, RealismHead)
        head.calibrate(maps)
