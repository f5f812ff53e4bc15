"""Readers of published weight files (safetensors, PyTorch's), which run nothing in them."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from speech2image.errors import CheckpointError

_EPSILON = 1e-3  # of the batch norms of Inception networks and EfficientNet
_PARTS = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")


def read_safetensors(path: Path, allowed: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Args:
        path: the file.
        allowed: ends the error's message.

    Raises:
        CheckpointError: the file is damaged or something else.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}); {allowed}") from error


def read_pth(path: Path, allowed: str) -> dict[str, Tensor]:
    """The tensors of a PyTorch weight file; arguments and errors as of `read_safetensors`."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's restricted unpickler raises whatever it stumbles upon
        raise CheckpointError(f"{path} is damaged or no PyTorch weight file; {allowed}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no plain weights ({type(state).__name__}); {allowed}")
    return state


def fold_batch_norm(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A convolution and its batch norm as one convolution with bias, folded in float64.

    Returns:
        Float32 `<name>.weight` and `<name>.bias`; {} if a part is absent or does not fit the others.
    """
    if any(f"{name}.{part}" not in state for part in _PARTS):
        return {}
    weight, gain, offset, mean, variance = (state[f"{name}.{part}"].double() for part in _PARTS)
    scale = gain / (variance + _EPSILON).sqrt()
    if weight.ndim != 4 or len(weight) != len(scale):
        return {}
    return {
        f"{name}.weight": (weight * scale.view(-1, 1, 1, 1)).float(),
        f"{name}.bias": (offset - mean * scale).float(),
    }
