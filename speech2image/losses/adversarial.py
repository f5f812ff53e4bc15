"""Adversarial losses: the paper's multi-scale triplet loss, hinge losses, and contrast with the condition."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


@runtime_checkable
class Logits(Protocol):
    """A discriminator's answer about a batch, each [batch] (`speech2image.models.gan.stackgan_v2.Judged`)."""

    @property
    def conditional(self) -> Tensor:
        """Is it a real picture of this condition?"""

    @property
    def unconditional(self) -> Tensor:
        """Is it a real picture at all?"""


def discriminator_triplet_loss(
    real: Sequence[Logits],
    mismatched: Sequence[Logits],
    fake: Sequence[Logits],
    *,
    mismatched_unconditional_real: bool = True,
    logarithm: bool = True,
) -> Float[Tensor, ""]:
    """Multi-scale triplet loss of the discriminators, eq. (10)-(12).

    Args:
        real: logits of real pictures with their own conditions, one entry a picture size.
        mismatched: logits of real pictures of another class than the conditions.
        fake: logits of pictures generated from the conditions.
        mismatched_unconditional_real: count the mismatched picture as real in the unconditional part, as the
            authors' code does; else it takes no part there, as in eq. (12).
        logarithm: binary cross-entropy, as in the authors' code; else the terms as printed, linear in the
            probabilities.
    """
    error = cross_entropy if logarithm else wrong_probability
    loss = torch.zeros((), device=real[0].conditional.device)
    for r, m, f in zip(real, mismatched, fake, strict=True):
        loss = loss + error(r.conditional, True) + error(r.unconditional, True)
        loss = loss + error(m.conditional, False)
        loss = loss + error(f.conditional, False) + error(f.unconditional, False)
        if mismatched_unconditional_real:
            loss = loss + error(m.unconditional, True)
    return loss


def generator_triplet_loss(fake: Sequence[Logits], *, logarithm: bool = True) -> Float[Tensor, ""]:
    """Multi-scale loss of the generator, eq. (13)-(14): fakes are to pass as real.

    Args:
        fake: logits of generated pictures, one entry a picture size.
        logarithm: the non-saturating cross-entropy, as in the authors' code; else linear in the
            probabilities, as printed.
    """
    error = cross_entropy if logarithm else wrong_probability
    loss = torch.zeros((), device=fake[0].conditional.device)
    for f in fake:
        loss = loss + error(f.conditional, True) + error(f.unconditional, True)
    return loss


def cross_entropy(logits: Float[Tensor, " batch"], real: bool) -> Float[Tensor, ""]:
    """Mean binary cross-entropy of logits against one answer for all."""
    signed = -logits.float() if real else logits.float()
    return F.softplus(signed).mean()


def wrong_probability(logits: Float[Tensor, " batch"], real: bool) -> Float[Tensor, ""]:
    """Mean probability given to the wrong answer: the printed terms of eq. (11)-(14).

    Those of pictures that are to be real are printed as -D, here 1 - D: a constant apart, so that 0 is the
    best there is.
    """
    return torch.sigmoid(-logits.float() if real else logits.float()).mean()


def kl_to_standard_normal(
    mean: Float[Tensor, "batch code"], log_variance: Float[Tensor, "batch code"]
) -> Float[Tensor, ""]:
    """KL divergence of N(mean, exp(log_variance)) from N(0, 1), averaged over batch and code (weight 2)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()


def hinge_discriminator(
    real: Float[Tensor, "*shape"],
    fake: Float[Tensor, "*shape"],
    mismatched: Float[Tensor, "*shape"] | None = None,
) -> Float[Tensor, ""]:
    """Hinge loss: real logits above 1, fake and mismatched ones below -1, which share one weight.

    Source: Lim and Ye, "Geometric GAN" (2017); with mismatched pairs, Tao et al., "DF-GAN" (2022), eq. (1).
    """
    of_real = F.relu(1.0 - real.float()).mean()
    of_fake = F.relu(1.0 + fake.float()).mean()
    if mismatched is None:
        return of_real + of_fake
    return of_real + 0.5 * (of_fake + F.relu(1.0 + mismatched.float()).mean())


def hinge_generator(fake: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """The generator's side of the hinge loss: the mean logit of fakes, negated."""
    return -fake.float().mean()


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
