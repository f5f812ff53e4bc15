"""GoogLeNet, the frozen image teacher: its 1024-d pool5 feature is what the encoders learn to predict.

Szegedy et al., "Going deeper with convolutions" (CVPR 2015). Its inner feature maps also serve projected
discriminators (`stages`). Published weight files, read without torchvision or Caffe:

| file | network | differences |
|---|---|---|
| `.safetensors` | Caffe's BVLC GoogLeNet, this project's names (the paper's teacher) | - |
| `.caffemodel` | the same, as Berkeley published it | Caffe's layer names, a protocol buffer |
| `googlenet-1378be20.pth` | torchvision's | batch norm (folded), 3x3 for 5x5, 2x2 pool4, no response norm |
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from speech2image.errors import CheckpointError
from speech2image.models.published import where
from speech2image.models.teacher.caffemodel import read_caffemodel
from speech2image.models.weight_files import fold_batch_norm, read_pth, read_safetensors
from speech2image.pipeline.images import from_uint8

# Output channels of an inception block: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection (table 1).
BLOCKS: dict[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_CAFFE_BRANCHES = {
    "branch1": "1x1",
    "branch2.0": "3x3_reduce",
    "branch2.1": "3x3",
    "branch3.0": "5x5_reduce",
    "branch3.1": "5x5",
    "branch4.1": "pool_proj",
}
LAYERS = (
    "conv1",
    "conv2",
    "conv3",
    *(f"inception{b}.{branch}" for b in BLOCKS for branch in _CAFFE_BRANCHES),
)
_CAFFE_MEAN_BGR = (104.0, 117.0, 123.0)
ALLOWED = (
    "allowed are this project's .safetensors, Caffe's bvlc_googlenet.caffemodel "
    "and torchvision's googlenet-1378be20.pth"
)


@dataclass(frozen=True)
class Variant:
    """In what the published networks differ.

    Attributes:
        branch3_kernel: kernel of the wide branch of every inception block.
        pool4: kernel of the max-pool before 5a.
        response_norm: whether local response norms follow pool1 and conv3.
        shift: subtracted from RGB pictures in [-1, 1], per channel.
    """

    branch3_kernel: int
    pool4: int
    response_norm: bool
    shift: tuple[float, float, float]


CAFFE_SHIFT = tuple(mean / 127.5 - 1 for mean in reversed(_CAFFE_MEAN_BGR))
CAFFE = Variant(5, 3, True, (CAFFE_SHIFT[0], CAFFE_SHIFT[1], CAFFE_SHIFT[2]))
# torchvision's own normalisation followed by its `transform_input` is again exactly [-1, 1].
TORCHVISION = Variant(3, 2, False, (0.0, 0.0, 0.0))


def read_weights(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], Variant]:
    """Read a published file: float32 weights for RGB pictures in [-1, 1], and the variant they belong to.

    Raises:
        CheckpointError: the file is absent, damaged, or holds another network.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no teacher weights at {path}; {ALLOWED}; {where('googlenet')}")
    readers = {".safetensors": _read_safetensors, ".caffemodel": _read_caffemodel, ".pth": _read_torchvision}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise CheckpointError(f"{path} is no known kind of teacher weights ('{path.suffix}'); {ALLOWED}")
    weights, variant = reader(path)
    return _checked(weights, variant, path), variant


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Variant]:
    return from_caffe(read_safetensors(path, ALLOWED)), CAFFE


def _read_caffemodel(path: Path) -> tuple[dict[str, Tensor], Variant]:
    try:
        blobs = read_caffemodel(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {ALLOWED}") from error
    weights = {}
    for name in LAYERS:
        for kind, blob in zip(("weight", "bias"), blobs.get(caffe_name(name), []), strict=False):
            weights[f"{name}.{kind}"] = blob if kind == "weight" else blob.flatten()
    return from_caffe(weights), CAFFE


def caffe_name(layer: str) -> str:
    """What Caffe calls a layer: `inception3a.branch2.0` -> `inception_3a/3x3_reduce`."""
    stem = {"conv1": "conv1/7x7_s2", "conv2": "conv2/3x3_reduce", "conv3": "conv2/3x3"}
    if layer in stem:
        return stem[layer]
    block, branch = layer.removeprefix("inception").split(".", 1)
    return f"inception_{block}/{_CAFFE_BRANCHES[branch]}"


def _read_torchvision(path: Path) -> tuple[dict[str, Tensor], Variant]:
    state = read_pth(path, ALLOWED)
    weights: dict[str, Tensor] = {}
    for name in LAYERS:
        weights.update(fold_batch_norm(name, state))
    return weights, TORCHVISION


def from_caffe(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn weights for BGR pictures in 0..255 into weights for RGB pictures in [-1, 1] (minus the shift)."""
    weights = {name: value.float() for name, value in weights.items()}
    if "conv1.weight" in weights:
        weights["conv1.weight"] = weights["conv1.weight"].flip(1) * 127.5
    return weights


def _shapes(kernel: int) -> dict[str, tuple[int, ...]]:
    """Every parameter of the trunk and its shape, given the kernel of the wide branches."""
    layers = {"conv1": (64, 3, 7), "conv2": (64, 64, 1), "conv3": (192, 64, 3)}
    inputs = 192
    for block, (one, reduce3, three, reduce5, five, pool) in BLOCKS.items():
        layers[f"inception{block}.branch1"] = (one, inputs, 1)
        layers[f"inception{block}.branch2.0"] = (reduce3, inputs, 1)
        layers[f"inception{block}.branch2.1"] = (three, reduce3, 3)
        layers[f"inception{block}.branch3.0"] = (reduce5, inputs, 1)
        layers[f"inception{block}.branch3.1"] = (five, reduce5, kernel)
        layers[f"inception{block}.branch4.1"] = (pool, inputs, 1)
        inputs = one + three + five + pool
    weights = {f"{name}.weight": (o, i, k, k) for name, (o, i, k) in layers.items()}
    return {**weights, **{f"{name}.bias": (o,) for name, (o, _, _) in layers.items()}}


def _checked(weights: dict[str, Tensor], variant: Variant, path: Path) -> dict[str, Tensor]:
    """The trunk's weights alone (no classifier); every one must be there, of its shape, and finite."""
    for name, shape in _shapes(variant.branch3_kernel).items():
        found = weights.get(name)
        if found is None:
            raise CheckpointError(f"{path} holds another network: it lacks '{name}'; {ALLOWED}")
        if tuple(found.shape) != shape:
            raise CheckpointError(
                f"{path} holds another network: '{name}' is {tuple(found.shape)}, not {shape}; {ALLOWED}"
            )
        if not torch.isfinite(found).all():
            raise CheckpointError(f"{path} is damaged: '{name}' holds values that are not finite; {ALLOWED}")
    return {name: weights[name] for name in _shapes(variant.branch3_kernel)}


FEATURE_SIZE = 1024
CROP = 224
SHORT_SIDE = 256
_SIZE, _ALPHA, _BETA = 5, 1e-4, 0.75  # local response norm, as in the Caffe model's definition (k = 1)


class LocalResponseNorm(torch.autograd.Function):
    """y = x / (1 + alpha/5 * sum of x^2 over 5 neighbouring channels)^0.75.

    Equal to `F.local_response_norm(x, 5, 1e-4, 0.75, 1)`, which pools over channels slowly on CPU, and seven
    to ten times faster there. Computed in float32 whatever the input (half precision loses the sum of
    squares), returned in the input's type. The gradient is written out; it cannot be differentiated a second
    time (torch says so if one tries).
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        wide = x.float()
        scale = _channel_window(wide.square()).mul_(_ALPHA / _SIZE).add_(1)
        root = scale.rsqrt()
        power = root.sqrt().mul_(root)  # scale ** -0.75
        ctx.save_for_backward(x, scale, power)
        return (wide * power).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        x, scale, power = ctx.saved_tensors  # type: ignore[attr-defined]
        wide = x.float()
        direct = gradient.float() * power
        shared = _channel_window((direct * wide).div_(scale)).mul_(wide)
        return direct.sub_(shared, alpha=2 * _BETA * _ALPHA / _SIZE).to(x.dtype)


def _channel_window(values: Tensor) -> Tensor:
    """Sum over each channel and its two neighbours on either side."""
    total = values.clone()
    for distance in range(1, _SIZE // 2 + 1):
        total[:, distance:] += values[:, :-distance]
        total[:, :-distance] += values[:, distance:]
    return total


class Convolution(nn.Conv2d):
    """A convolution that keeps the size (over its stride), with bias, then ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(super().forward(x))


class Inception(nn.Module):
    """Four branches side by side: 1x1, 3x3, 5x5 (3x3 in torchvision's), and a projected 3x3 max-pool."""

    def __init__(self, inputs: int, outputs: tuple[int, int, int, int, int, int], kernel: int) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = outputs
        self.branch1 = Convolution(inputs, one, 1)
        self.branch2 = nn.Sequential(Convolution(inputs, reduce3, 1), Convolution(reduce3, three, 3))
        self.branch3 = nn.Sequential(Convolution(inputs, reduce5, 1), Convolution(reduce5, five, kernel))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), Convolution(inputs, pool, 1))
        self.channels = one + three + five + pool

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet(nn.Module):
    """The trunk of GoogLeNet up to pool5, frozen: no parameter takes a gradient, `train()` changes nothing.

    Pictures are RGB in [-1, 1]; each variant's own preprocessing lives in `shift` and in the first
    convolution, so nothing is done to the picture before but one subtraction. A copy made by `bfloat16()`
    works too and spares the cast of the weights that autocast repeats at every pass.

    Args:
        variant: which published network the weights are of; see `load_teacher`.
    """

    shift: Tensor

    def __init__(self, variant: Variant = CAFFE) -> None:
        super().__init__()
        self.variant = variant
        self.register_buffer("shift", torch.tensor(variant.shift).view(1, 3, 1, 1))
        self.conv1 = Convolution(3, 64, 7, stride=2)
        self.conv2 = Convolution(64, 64, 1)
        self.conv3 = Convolution(64, 192, 3)
        channels = 192
        for name, outputs in BLOCKS.items():
            block = Inception(channels, outputs, variant.branch3_kernel)
            self.add_module(f"inception{name}", block)
            channels = block.channels
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "GoogLeNet":
        """Stay in evaluation: a frozen network has no training mode."""
        return super().train(False)

    def stages(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> tuple[
        Float[Tensor, "batch 192 h4 w4"],
        Float[Tensor, "batch 480 h8 w8"],
        Float[Tensor, "batch 832 h16 w16"],
        Float[Tensor, "batch 1024 h32 w32"],
    ]:
        """Feature maps at a quarter, an eighth, a sixteenth and a 32nd of the picture's size, all >= 0.

        They follow conv3 (after its local response norm), inception 3b, 4e and 5b. Differentiable to the
        picture. Height and width are free, 64 or more. Pictures and teacher in `torch.channels_last` are the
        fastest on CPU (twice as fast under bfloat16).
        """
        x = self.conv1((pictures - self.shift).to(self.conv1.weight.dtype))
        x = self._normalise(_shrink(x))
        first = self._normalise(self.conv3(self.conv2(x)))
        second = self._blocks(_shrink(first), "3a", "3b")
        third = self._blocks(_shrink(second), "4a", "4b", "4c", "4d", "4e")
        fourth = self._blocks(_shrink(third, self.variant.pool4), "5a", "5b")
        return first, second, third, fourth

    def features(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1024"]:
        """The pool5 feature (>= 0) of 224 x 224 crops: the mean of 5b over positions, in float32."""
        return self.stages(pictures)[-1].float().mean((2, 3))

    def _normalise(self, x: Tensor) -> Tensor:
        return LocalResponseNorm.apply(x) if self.variant.response_norm else x

    def _blocks(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = self.get_submodule(f"inception{name}")(x)
        return x


def _shrink(x: Tensor, kernel: int = 3) -> Tensor:
    """Max-pool to half the size, rounded up."""
    return F.max_pool2d(x, kernel, stride=2, ceil_mode=True)


def load_teacher(path: str | os.PathLike[str]) -> GoogLeNet:
    """Load the teacher from a published weight file.

    Args:
        path: a `.safetensors` file with this project's names (`conv1.weight`, `inception3a.branch1.bias`...),
            Caffe's `bvlc_googlenet.caffemodel`, or torchvision's `googlenet-1378be20.pth`.

    Raises:
        CheckpointError: the file is absent, damaged, or holds another network.
    """
    weights, variant = read_weights(path)
    teacher = GoogLeNet(variant)
    teacher.load_state_dict({**weights, "shift": teacher.shift})
    return teacher


def ten_crops(
    picture: UInt8[np.ndarray, "height width 3"], which: Sequence[int] = range(10)
) -> Float[Tensor, "crops 3 224 224"]:
    """The picture's centre and four corners, 224 x 224, then the horizontal flips of these five, in [-1, 1].

    The short side is first resized to 256 (antialiased bilinear), keeping the proportions. Crop 0 is the
    centre, crop 5 its flip. The paper's released code flipped vertically, by mistake.

    Args:
        picture: RGB.
        which: of the ten; all by default.
    """
    height, width, _ = picture.shape
    scale = SHORT_SIDE / min(height, width)
    size = (max(SHORT_SIDE, round(width * scale)), max(SHORT_SIDE, round(height * scale)))
    resized = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    corners = _corners(size[1], size[0])
    crops = [_crop(resized, corners[i % 5], mirrored=i >= 5) for i in which]
    return torch.from_numpy(from_uint8(np.stack(crops)))


def _crop(picture: np.ndarray, corner: tuple[int, int], mirrored: bool) -> np.ndarray:
    y, x = corner
    crop = picture[y : y + CROP, x : x + CROP]
    return crop[:, ::-1] if mirrored else crop


def _corners(height: int, width: int) -> list[tuple[int, int]]:
    """Top-left positions of the centre crop, then of the four corner crops."""
    bottom, right = height - CROP, width - CROP
    return [(bottom // 2, right // 2), (0, 0), (0, right), (bottom, 0), (bottom, right)]
