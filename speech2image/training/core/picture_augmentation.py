"""Differentiable augmentation of what a discriminator sees (Zhao et al. 2020): translation and cutout.

Colours stay as they are: captions speak of colour.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def augment_pictures(pictures: Tensor, translation: float, cutout: float, rng: np.random.Generator) -> Tensor:
    """Shift each picture at random and blank a random square of it; gradients pass through.

    Args:
        pictures: [batch, 3, side, side].
        translation: largest shift in either direction, as a part of the side; 0 switches it off.
        cutout: side of the blanked square as a part of the side; 0 switches it off.
        rng: where the random numbers come from.

    Returns:
        Pictures of the same shape; what is shifted in or blanked is 0 (mid grey).
    """
    side = pictures.shape[-1]
    reach = round(translation * side)
    if reach:
        shifts = rng.integers(0, 2 * reach + 1, (len(pictures), 2))
        padded = F.pad(pictures, (reach,) * 4)
        pictures = torch.stack(
            [picture[:, y : y + side, x : x + side] for picture, (y, x) in zip(padded, shifts, strict=True)]
        )
    hole = round(cutout * side)
    if hole:
        mask = torch.ones(len(pictures), 1, side, side, dtype=pictures.dtype, device=pictures.device)
        for row, (y, x) in enumerate(rng.integers(-hole // 2, side - hole // 2, (len(pictures), 2))):
            mask[row, :, max(0, y) : y + hole, max(0, x) : x + hole] = 0
        pictures = pictures * mask
    return pictures
