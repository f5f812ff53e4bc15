"""Early signs that an adversarial training has collapsed, read from pictures and losses.

A trainer calls one `CollapseCheck` on each sample sheet; `collapse_signs` is the pure function within.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Thresholds:
    """When a sign is given.

    Attributes:
        alike: pictures of different conditions differ less than this share of what real ones differ.
        deaf_to_noise: pictures of one condition differ less than this share of what real ones differ.
        discriminator: the discriminator's mean loss, per term, is below this: it tells fakes without effort.
        saturated: more than this share of the pixels' values is at the rim (beyond 0.98).
    """

    alike: float = 0.3
    deaf_to_noise: float = 0.03
    discriminator: float = 0.01
    saturated: float = 0.9


DEFAULT = Thresholds()


def collapse_signs(
    pictures: Tensor,
    real: Tensor,
    columns: int | None = None,
    discriminator_loss: float | None = None,
    thresholds: Thresholds = DEFAULT,
) -> dict[str, str]:
    """Signs of collapse, name -> message; empty when all is well.

    Args:
        pictures: generated from fixed conditions and noises, [n, 3, h, w] in [-1, 1].
        real: real pictures of various classes to compare with, [m, 3, h, w], m >= 2.
        columns: number of conditions, if picture i has condition i % columns and noise i // columns; then the
            effect of the noise is looked at too.
        discriminator_loss: the discriminator's loss divided by its number of terms, averaged over recent
            steps (0.69 is chance for cross-entropy).
        thresholds: when a sign is given.
    """
    loss_is_number = discriminator_loss is None or math.isfinite(discriminator_loss)
    if not loss_is_number or not bool(torch.isfinite(pictures).all()):
        return {"nan": "pictures or losses are no longer numbers: go back to a checkpoint, lower the rate"}
    signs: dict[str, str] = {}
    usual = max(diversity(real), 1e-6)
    ratio = diversity(pictures[:columns]) / usual
    if ratio < thresholds.alike:
        signs["alike"] = (
            f"pictures of different conditions differ {100 * ratio:.0f} % as much as real pictures"
        )
    if columns is not None and len(pictures) > columns:
        of_noise = max(diversity(pictures[c::columns]) for c in range(columns)) / usual
        if of_noise < thresholds.deaf_to_noise:
            signs["deaf_to_noise"] = f"the noise changes pictures by {100 * of_noise:.1f} % of real variety"
    if float((pictures.abs() > 0.98).float().mean()) > thresholds.saturated:
        signs["saturated"] = "pictures are all black, white and full colours: the generator diverged"
    if discriminator_loss is not None and discriminator_loss < thresholds.discriminator:
        signs["discriminator"] = (
            f"the discriminator's loss is stuck at {discriminator_loss:.4f}: it wins without effort and the "
            "generator learns nothing more; lower its rate or its width"
        )
    return signs


def diversity(pictures: Tensor) -> float:
    """Mean distance between two of the pictures [n, 3, h, w], seen in 8 x 8 fields (so noise counts little).

    The distance is the root of the mean squared difference over fields and colours, 0..2; 0 for one picture.
    """
    if len(pictures) < 2:
        return 0.0
    fields = functional.adaptive_avg_pool2d(pictures.detach().float(), 8).flatten(1)
    distances = torch.pdist(fields) / math.sqrt(fields.shape[1])
    return float(distances.mean())


class CollapseCheck:
    """Calls `collapse_signs` on each sample sheet of a training, the first ones excepted.

    Args:
        real: real pictures to compare with, [m, 3, h, w], m >= 2.
        grace: sheets at the start of which only "nan" is reported, since every training begins with grey.
        thresholds: when a sign is given.
    """

    def __init__(self, real: Tensor, grace: int = 2, thresholds: Thresholds = DEFAULT) -> None:
        self.real, self.grace, self.thresholds, self.sheets = real, grace, thresholds, 0

    def __call__(self, pictures: Tensor, columns: int, discriminator_loss: float | None = None) -> str | None:
        """A warning, or None when all is well; arguments as for `collapse_signs`."""
        self.sheets += 1
        signs = collapse_signs(pictures, self.real, columns, discriminator_loss, self.thresholds)
        if self.sheets <= self.grace:
            signs = {name: message for name, message in signs.items() if name == "nan"}
        if not signs:
            return None
        return "the training seems to collapse: " + "; ".join(signs.values())
