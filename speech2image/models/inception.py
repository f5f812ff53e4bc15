"""Inception-v3 as Google released it on 2015-12-05: the network that FID is defined on, and its weight files.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (CVPR 2016); Heusel et al., "GANs
Trained by a Two Time-Scale Update Rule" (NeurIPS 2017) measure with it. It differs from torchvision's: the
average pools do not count padding, the last block pools by maximum, and there are 1,008 classes. Layers carry
the names of pytorch-fid's file; each is a convolution with bias, into which batch norm has been folded.

| sha256 begins with | file | holds |
|---|---|---|
| 6726825d | pytorch-fid's `pt_inception-2015-12-05-6726825d.pth` | all of it, batch norm apart |
| fff0a5c3 | this project's `inception_v3_fid_mixed6e.fp16.safetensors` | to Mixed_6e, half precision |

torchvision's `inception_v3_google-*.pth` has the same names and shapes but other weights, and would silently
give other figures: this is why the checksum is compared. Never train against this network: it evaluates.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from speech2image.errors import CheckpointError
from speech2image.models.published import where
from speech2image.models.weight_files import fold_batch_norm, read_pth, read_safetensors

SIDE = 299
"""Height and width the network was made for (pixels)."""
LayerName = Literal["mixed_6e", "pool3"]
DIMS: dict[LayerName, int] = {"mixed_6e": 768, "pool3": 2048}
"""Where features can be read off, and how many there are."""
CLASSES = 1008
"""ImageNet's 1,000 and eight that were never used."""


class Layer(NamedTuple):
    """A convolution, then ReLU; with stride 2, or where `padded` is false, no padding."""

    name: str
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padded: bool = True


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


def _halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2)


Pool = Callable[[Tensor], Tensor]
Step = Layer | Pool | tuple[Layer, Layer]  # a pair reads the same input, its outputs are joined
Branches = list[list[Step]]

_STEM: list[Step] = [
    Layer("Conv2d_1a_3x3", 32, (3, 3), stride=2),
    Layer("Conv2d_2a_3x3", 32, (3, 3), padded=False),
    Layer("Conv2d_2b_3x3", 64, (3, 3)),
    _halve,
    Layer("Conv2d_3b_1x1", 80),
    Layer("Conv2d_4a_3x3", 192, (3, 3), padded=False),
    _halve,
]


def _block_a(pooled: int) -> Branches:
    """35 x 35 positions (figure 5 of the paper, with one 5 x 5)."""
    return [
        [Layer("branch1x1", 64)],
        [Layer("branch5x5_1", 48), Layer("branch5x5_2", 64, (5, 5))],
        [
            Layer("branch3x3dbl_1", 64),
            Layer("branch3x3dbl_2", 96, (3, 3)),
            Layer("branch3x3dbl_3", 96, (3, 3)),
        ],
        [_average, Layer("branch_pool", pooled)],
    ]


def _block_c(width: int) -> Branches:
    """17 x 17 positions, 7 x 7 in two steps (figure 6)."""
    row, column = (1, 7), (7, 1)
    return [
        [Layer("branch1x1", 192)],
        [Layer("branch7x7_1", width), Layer("branch7x7_2", width, row), Layer("branch7x7_3", 192, column)],
        [
            Layer("branch7x7dbl_1", width),
            Layer("branch7x7dbl_2", width, column),
            Layer("branch7x7dbl_3", width, row),
            Layer("branch7x7dbl_4", width, column),
            Layer("branch7x7dbl_5", 192, row),
        ],
        [_average, Layer("branch_pool", 192)],
    ]


def _block_e(pool: Pool) -> Branches:
    """8 x 8 positions, forked ends (figure 7)."""
    row, column = (1, 3), (3, 1)
    return [
        [Layer("branch1x1", 320)],
        [
            Layer("branch3x3_1", 384),
            (Layer("branch3x3_2a", 384, row), Layer("branch3x3_2b", 384, column)),
        ],
        [
            Layer("branch3x3dbl_1", 448),
            Layer("branch3x3dbl_2", 384, (3, 3)),
            (Layer("branch3x3dbl_3a", 384, row), Layer("branch3x3dbl_3b", 384, column)),
        ],
        [pool, Layer("branch_pool", 192)],
    ]


BLOCKS: dict[str, Branches] = {
    "Mixed_5b": _block_a(32),
    "Mixed_5c": _block_a(64),
    "Mixed_5d": _block_a(64),
    "Mixed_6a": [
        [Layer("branch3x3", 384, (3, 3), stride=2)],
        [
            Layer("branch3x3dbl_1", 64),
            Layer("branch3x3dbl_2", 96, (3, 3)),
            Layer("branch3x3dbl_3", 96, (3, 3), stride=2),
        ],
        [_halve],
    ],
    "Mixed_6b": _block_c(128),
    "Mixed_6c": _block_c(160),
    "Mixed_6d": _block_c(160),
    "Mixed_6e": _block_c(192),
    "Mixed_7a": [
        [Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, (3, 3), stride=2)],
        [
            Layer("branch7x7x3_1", 192),
            Layer("branch7x7x3_2", 192, (1, 7)),
            Layer("branch7x7x3_3", 192, (7, 1)),
            Layer("branch7x7x3_4", 192, (3, 3), stride=2),
        ],
        [_halve],
    ],
    "Mixed_7b": _block_e(_average),
    "Mixed_7c": _block_e(_maximum),
}


class Branch(nn.Module):
    """Steps one after the other; its layers' names are those of the published file."""

    def __init__(self, inputs: int, steps: list[Step]) -> None:
        super().__init__()
        self.steps = steps
        self.channels = inputs
        for step in steps:
            if isinstance(step, Layer):
                self.channels = self._add(step)
            elif isinstance(step, tuple):
                self.channels = sum([self._add(layer) for layer in step])

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            if isinstance(step, Layer):
                x = self._run(step, x)
            elif isinstance(step, tuple):
                x = torch.cat([self._run(layer, x) for layer in step], 1)
            else:
                x = step(x)
        return x

    def _add(self, layer: Layer) -> int:
        """Make a layer that reads what the last step gave; the number of its outputs."""
        same = layer.padded and layer.stride == 1
        padding = (layer.kernel[0] // 2, layer.kernel[1] // 2) if same else 0
        convolution = nn.Conv2d(self.channels, layer.outputs, layer.kernel, layer.stride, padding)
        self.add_module(layer.name, convolution)
        return layer.outputs

    def _run(self, layer: Layer, x: Tensor) -> Tensor:
        return F.relu_(self.get_submodule(layer.name)(x))


class Block(nn.Module):
    """Branches side by side, joined over channels."""

    def __init__(self, inputs: int, branches: Branches) -> None:
        super().__init__()
        made = [Branch(inputs, steps) for steps in branches]
        self.branches = nn.ModuleList(made)
        self.channels = sum(branch.channels for branch in made)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class InceptionV3(nn.Module):
    """The trunk up to `last`, frozen.

    Args:
        last: "mixed_6e" (768 features; a part of the network) or "pool3" (2048, the standard of FID).
    """

    def __init__(self, last: LayerName = "pool3") -> None:
        super().__init__()
        self.last = last
        self.stem = Branch(3, _STEM)
        self.blocks = nn.ModuleDict()
        channels = self.stem.channels
        for name, branches in BLOCKS.items():
            block = Block(channels, branches)
            self.blocks[name] = block
            channels = block.channels
            if name == "Mixed_6e" and last == "mixed_6e":
                break
        self.requires_grad_(False)
        self.eval()

    def forward(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch size"]:
        """Mean over positions of the last feature map, [batch, 768 or 2048], all >= 0.

        Args:
            pictures: RGB in [-1, 1]; 299 x 299 where figures are to compare with others'.
        """
        x = self.stem(pictures)
        for block in self.blocks.values():
            x = block(x)
        return x.mean((2, 3))

    def layer_names(self) -> dict[str, str]:
        """Every convolution: its name in the published file (`Mixed_6b.branch1x1`) -> its path in here."""
        names = {}
        for path, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                names[_published(path)] = path
        return names


def _published(path: str) -> str:
    """`blocks.Mixed_6b.branches.0.branch1x1` -> `Mixed_6b.branch1x1`; `stem.Conv2d_1a_3x3` -> its end."""
    words = path.split(".")
    return words[-1] if words[0] == "stem" else f"{words[1]}.{words[-1]}"


KNOWN = {
    "6726825d": "pt_inception-2015-12-05-6726825d.pth",
    "fff0a5c3": "inception_v3_fid_mixed6e.fp16.safetensors",
}
"""First eight digits of the sha256 of every file whose figures can be compared -> its name."""
ALLOWED = (
    "allowed are pytorch-fid's pt_inception-2015-12-05-6726825d.pth (of its release 'fid_weights'; all "
    "features) and this project's inception_v3_fid_mixed6e.fp16.safetensors (up to mixed_6e)"
)


@dataclass(frozen=True)
class InceptionWeights:
    """Contents of a weight file.

    Attributes:
        layers: float32 `<published name>.weight` and `.bias` of every convolution.
        head: the classifier's matrix [1008, 2048], without its bias; None where the file has none.
        checksum: sha256 of the file.
        known: whether it is one of `KNOWN`.
    """

    layers: dict[str, Tensor]
    head: Tensor | None
    checksum: str
    known: bool


def read_weights(path: str | os.PathLike[str], verify: bool = True) -> InceptionWeights:
    """Read a `.pth` (without running anything in it) or a `.safetensors` file.

    Args:
        path: one of the files above.
        verify: refuse a file whose checksum is not among `KNOWN`.

    Raises:
        CheckpointError: the file is absent, damaged or unknown.
    """
    path = Path(path)
    checksum = _sha256(path)
    known = checksum[:8] in KNOWN
    if verify and not known:
        raise CheckpointError(
            f"{path} is not the network that FID is defined on, or is damaged: its sha256 begins with "
            f"{checksum[:8]}, not {' or '.join(KNOWN)}; {ALLOWED}; download the file again"
        )
    if path.suffix.lower() == ".safetensors":
        state = read_safetensors(path, ALLOWED)
        return InceptionWeights({name: v.float() for name, v in state.items()}, None, checksum, known)
    state = read_pth(path, ALLOWED)
    return InceptionWeights(_fold(state), _head(state), checksum, known)


def build(weights: InceptionWeights, layer: LayerName | None = None) -> InceptionV3:
    """The network up to `layer`; by default the last one that the file holds.

    Raises:
        CheckpointError: the file lacks a layer, has it in another shape, or holds values that are not finite.
    """
    deep = any(name.startswith("Mixed_7") for name in weights.layers)
    with torch.device("meta"):
        network = InceptionV3(layer or ("pool3" if deep else "mixed_6e"))
    if network.last == "pool3" and not deep:
        raise CheckpointError(
            f"the file ends at mixed_6e, so it has no features 'pool3' ({DIMS['pool3']}-d); {ALLOWED}"
        )
    shapes = network.state_dict()
    state = {}
    for name, place in network.layer_names().items():
        for part in ("weight", "bias"):
            state[f"{place}.{part}"] = _checked(weights, f"{name}.{part}", shapes[f"{place}.{part}"].shape)
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False)


def _checked(weights: InceptionWeights, name: str, shape: torch.Size) -> Tensor:
    value = weights.layers.get(name)
    if value is None:
        raise CheckpointError(f"the file holds another network: it lacks '{name}'; {ALLOWED}")
    if value.shape != shape:
        raise CheckpointError(
            f"the file holds another network: '{name}' is {tuple(value.shape)}, not {tuple(shape)}; {ALLOWED}"
        )
    if not torch.isfinite(value).all():
        raise CheckpointError(f"the file is damaged: '{name}' holds values that are not finite; {ALLOWED}")
    return value


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(
            f"cannot read the evaluating network at {path}: {error.strerror}; {ALLOWED}; {where('inception')}"
        ) from error


def _fold(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every convolution with its batch norm folded in."""
    layers: dict[str, Tensor] = {}
    for key in state:
        name = key.removesuffix(".conv.weight")
        if name != key:
            layers |= fold_batch_norm(name, state)
    return layers


def _head(state: dict[str, Tensor]) -> Tensor | None:
    head = state.get("fc.weight")
    return head.float() if head is not None and head.shape == (CLASSES, DIMS["pool3"]) else None
