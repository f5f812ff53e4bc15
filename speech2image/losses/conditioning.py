"""The loss that makes the one-stage generator draw what was asked."""

import torch
from torch import Tensor
from torch.nn import functional as F


def contrast_with_condition(maps: Tensor, condition: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each picture's own condition among the batch's, by the teacher's last stage.

    Args:
        maps: last stage of the generated pictures, [batch, 1024, height, width].
        condition: normalised conditions, [batch, 1024].
        centre: mean of real pictures' maps, [1024].
        temperature: of the cosines.
    """
    seen = F.normalize(maps.float().mean((2, 3)) - centre, dim=1)
    logits = seen @ F.normalize(condition, dim=1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
