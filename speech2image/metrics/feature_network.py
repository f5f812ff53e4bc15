"""Feature network: pictures -> the Inception-v3 features that FID and its kin are computed on.

Source: pytorch-fid (Seitzer, 2020), whose preprocessing is followed step by step: uint8 / 255, bilinear to
299 x 299 without antialiasing (align_corners=False), 2x - 1, then the network, mean over positions.

Known pitfalls:
- Figures of different layers (768-d, 2048-d) cannot be compared, nor those of different weights; every result
  therefore names the network and carries its checksum.
- How a picture was made smaller before it came here changes FID by several points (Parmar et al., "On Aliased
  Resizing and Surprising Subtleties in GAN Evaluation", CVPR 2022): treat real and generated pictures alike.
- Pictures of folders are turned upright, put on white where transparent, and scaled from 16 bit; pytorch-fid
  does none of this, so the rare folder of such pictures gives another figure there.
- bfloat16 and TF32 change features in the third digit: everything is computed in float32.
"""

import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from speech2image.errors import CheckpointError, DataError, SettingsError
from speech2image.metrics.picture_classifier import PictureClassifier
from speech2image.models.inception import ALLOWED, DIMS, SIDE, InceptionV3, LayerName, build, read_weights

BATCH = 16
"""Pictures that go through the network at once; more only takes more memory."""

Pictures = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]


class FeatureNetwork(Protocol):
    """What measures pictures.

    Attributes:
        name: which network and layer.
        dim: how many features a picture has.
        checksum: sha256 of the weights' file.
    """

    name: str
    dim: int
    checksum: str

    def __call__(self, pictures: Pictures) -> NDArray[np.float32]:
        """RGB pictures, uint8 [batch, h, w, 3] or a list of [h, w, 3] of any sizes -> [batch, dim]."""
        ...


class Inception:
    """The Inception-v3 of FID as a `FeatureNetwork`; make one with `load_inception`."""

    def __init__(self, network: InceptionV3, name: str, checksum: str, device: torch.device) -> None:
        self.name = name
        self.dim = DIMS[network.last]
        self.checksum = checksum
        self.device = device
        self._network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, pictures: Pictures) -> NDArray[np.float32]:
        """RGB pictures, uint8 [batch, h, w, 3] or a list of [h, w, 3] of any sizes -> [batch, dim].

        Raises:
            DataError: a picture is not uint8 RGB.
        """
        parts = [self._features(pictures[i : i + BATCH]) for i in range(0, len(pictures), BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float32)

    def _features(self, pictures: Pictures) -> NDArray[np.float32]:
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            batch = torch.stack([_prepared(picture, self.device) for picture in pictures])
            features = self._network(batch.contiguous(memory_format=torch.channels_last))
        return features.cpu().numpy()


def load_inception(
    path: str | os.PathLike[str],
    layer: LayerName | None = None,
    *,
    verify: bool = True,
    device: str | None = None,
) -> Inception:
    """Load the network of FID from a file the user brings (see `models/inception.py`).

    Args:
        path: pytorch-fid's published .pth, or this project's .safetensors part.
        layer: "mixed_6e" (768-d) or "pool3" (2048-d, the standard); None takes the last the file holds.
        verify: refuse unknown files; if not, the network's name says "unverified".
        device: where to compute; by default on a GPU if there is one.

    Raises:
        CheckpointError: the file is absent, damaged, unknown, or lacks the layer.
        SettingsError: no such layer.
    """
    if layer is not None and layer not in DIMS:
        raise SettingsError(f"the network has no features '{layer}'; there are: {', '.join(DIMS)}")
    weights = read_weights(path, verify)
    network = build(weights, layer)
    name = "inception-v3-2015-12-05" if weights.known else "unverified-inception-v3"
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Inception(network, f"{name}/{network.last}", weights.checksum, chosen)


def load_imagenet_classifier(path: str | os.PathLike[str], *, verify: bool = True) -> PictureClassifier:
    """The head of the standard Inception Score: reads probabilities of 1,008 classes off pool3 features.

    As in the first implementation (Salimans et al., 2016) the head's bias is left out; with it, scores are
    higher by some percent.

    Args:
        path: pytorch-fid's published .pth; the .safetensors part has no head.
        verify: refuse unknown files.

    Raises:
        CheckpointError: the file is absent, damaged, unknown, or has no head.
    """
    weights = read_weights(path, verify)
    if weights.head is None:
        raise CheckpointError(f"{path} has no classifier of 1,008 classes; {ALLOWED}; only the first has one")
    bias = torch.zeros(1, len(weights.head))
    name = "inception-v3-2015-12-05/softmax" if weights.known else "unverified-inception-v3/softmax"
    return PictureClassifier(torch.cat([weights.head.T, bias]).numpy(), name)


def _prepared(picture: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 [h, w, 3] -> [3, 299, 299] in [-1, 1]."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise DataError(f"a picture is {picture.dtype} {picture.shape}; features need uint8 [h, w, 3]")
    x = torch.tensor(picture, device=device).permute(2, 0, 1)[None].float().div_(255)
    x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return x[0].mul_(2).sub_(1)
