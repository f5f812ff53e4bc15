"""Losses that make the one-stage generator draw what was asked, and not the same picture each time."""

import torch
from torch import Tensor
from torch.nn import functional as F


def contrast_with_condition(maps: Tensor, condition: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each picture's own condition among the batch's, by the teacher's last stage.

    Args:
        maps: last stage of the generated pictures, [batch, 1024, height, width].
        condition: normalised conditions, [batch, 1024]; the second half repeats the first.
        centre: mean of real pictures' maps, [1024].
        temperature: of the cosines.
    """
    half = len(condition) // 2  # the second half repeats the first
    seen = F.normalize(maps.float().mean((2, 3)) - centre, dim=1)
    logits = seen @ F.normalize(condition[:half], dim=1).T / temperature
    return F.cross_entropy(logits, torch.arange(half, device=logits.device).repeat(2))


def too_alike(pictures: Tensor, share: float) -> Tensor:
    """How far the pictures of one condition fall short of differing by `share` of what conditions change.

    Mode seeking (Mao et al. 2019) as a hinge, on where pictures are light and dark alone: noise may move the
    flower, but not paint it in another colour than the one spoken.

    Args:
        pictures: generated, [2 n, 3, side, side]; i and n + i share a condition.
        share: 0 asks for nothing, 1 for as much as another condition changes.

    Returns:
        Mean over conditions of max(0, share - ratio), where ratio is the mean absolute difference under two
        noises over that between different conditions (which gets no gradient).
    """
    first, second = layout(pictures).flatten(1).chunk(2)
    by_noise = (first - second).abs().mean(1)
    by_condition = (first - first.roll(1, 0)).abs().mean().detach()
    return F.relu(share - by_noise / by_condition.clamp_min(1e-6)).mean()


def layout(pictures: Tensor, fields: int = 16) -> Tensor:
    """Brightness in fields, of mean 0 and deviation 1 in each picture, [batch, 1, fields, fields]."""
    grey = F.adaptive_avg_pool2d(pictures.float().mean(1, keepdim=True), fields)
    grey = grey - grey.mean((2, 3), keepdim=True)
    return grey / grey.square().mean((2, 3), keepdim=True).add(1e-4).sqrt()
