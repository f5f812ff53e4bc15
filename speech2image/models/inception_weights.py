"""Files that hold the evaluating network, read into one set of names without torchvision.

| sha256 begins with | file | holds |
|---|---|---|
| 6726825d | pytorch-fid's `pt_inception-2015-12-05-6726825d.pth` | all of it, batch norm apart |
| fff0a5c3 | this project's `inception_v3_fid_mixed6e.fp16.safetensors` | to Mixed_6e, half precision |

torchvision's `inception_v3_google-*.pth` has the same names and shapes but other weights, and would give
other figures without a word: this is why the checksum is compared.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from speech2image.errors import CheckpointError
from speech2image.models.inception import CLASSES, DIMS, InceptionV3, LayerName
from speech2image.models.weight_files import fold_batch_norm, read_pth, read_safetensors

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
    """What a file holds.

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
            f"cannot read the evaluating network at {path}: {error.strerror}; {ALLOWED}"
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
