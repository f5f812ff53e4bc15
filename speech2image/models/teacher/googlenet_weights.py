"""What the published GoogLeNet weight files hold, read into one set of names without torchvision or Caffe.

| file | network | differences |
|---|---|---|
| `.safetensors` | Caffe's BVLC GoogLeNet, this project's names | - |
| `.caffemodel` | the same, as Berkeley published it | Caffe's layer names, a protocol buffer |
| `googlenet-1378be20.pth` | torchvision's | batch norm (folded), 3x3 for 5x5, 2x2 pool4, no response norm |
"""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from speech2image.errors import CheckpointError
from speech2image.models.teacher.caffemodel import read_caffemodel
from speech2image.models.weight_files import fold_batch_norm, read_pth, read_safetensors

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
        raise CheckpointError(f"no teacher weights at {path}; {ALLOWED}")
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
