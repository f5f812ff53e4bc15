"""Early signs that an adversarial training has collapsed, read from pictures and losses."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Thresholds:
    """When a sign is given.

    Attributes:
        diversity: generated pictures differ less than this share of what real ones differ.
        discriminator: the discriminator's mean loss, per term, is below this: it tells fakes without effort.
        saturation: more than this share of the pixels' values is black or white to the brim (beyond 0.98).
    """

    diversity: float = 0.3
    discriminator: float = 0.01
    saturation: float = 0.9


DEFAULT = Thresholds()


def collapse_signs(
    generated: Tensor,
    real: Tensor,
    discriminator_loss: float | None = None,
    thresholds: Thresholds = DEFAULT,
) -> dict[str, str]:
    """Signs of collapse, name -> message; empty when all is well.

    Args:
        generated: pictures [n, 3, h, w] in [-1, 1] made from n fixed conditions and noises, n >= 2.
        real: real pictures [m, 3, h, w], m >= 2, for comparison; of the same size.
        discriminator_loss: the discriminator's loss divided by its number of terms, averaged over recent
            steps (0.69 is chance for cross-entropy).
        thresholds: when a sign is given.
    """
    signs: dict[str, str] = {}
    loss_broken = discriminator_loss is not None and not math.isfinite(discriminator_loss)
    if loss_broken or not bool(torch.isfinite(generated).all()):
        return {"nan": "pictures or losses are no longer numbers: go back to a checkpoint, lower the rate"}
    ratio = diversity(generated) / max(diversity(real), 1e-8)
    if ratio < thresholds.diversity:
        signs["alike"] = (
            f"generated pictures differ {100 * ratio:.0f} % as much as real ones: the generator collapses"
        )
    if float((generated.abs() > 0.98).float().mean()) > thresholds.saturation:
        signs["saturated"] = (
            "generated pictures are all black, white and full colours: the generator diverged"
        )
    if discriminator_loss is not None and discriminator_loss < thresholds.discriminator:
        signs["discriminator"] = (
            f"the discriminator's loss is stuck at {discriminator_loss:.4f}: it wins without effort, "
            "so the generator learns nothing more; lower its rate or its width"
        )
    return signs


def diversity(pictures: Tensor) -> float:
    """Mean distance between two of the pictures [n, 3, h, w], seen in 8 x 8 fields (so noise counts little).

    The distance is the root of the mean squared difference over fields and colours, 0..2.
    """
    fields = functional.adaptive_avg_pool2d(pictures.detach().float(), 8).flatten(1)
    distances = torch.pdist(fields) / math.sqrt(fields.shape[1])
    return float(distances.mean())
