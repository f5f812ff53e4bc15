"""Adversarial losses against values worked out by hand."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from speech2image.losses.adversarial import (
    cross_entropy,
    discriminator_triplet_loss,
    generator_triplet_loss,
    hinge_discriminator,
    hinge_generator,
    kl_to_standard_normal,
)


class Answer(NamedTuple):
    conditional: Tensor
    unconditional: Tensor


def answer(conditional: float, unconditional: float) -> Answer:
    """Logits at which the discriminator gives these probabilities, for a batch of two."""
    return Answer(*(torch.full((2,), math.log(p / (1 - p))) for p in (conditional, unconditional)))


def test_cross_entropy_is_minus_log_probability() -> None:
    logits = torch.tensor([math.log(3.0), math.log(1 / 3)])  # probabilities 3/4 and 1/4
    expected = -(math.log(0.75) + math.log(0.25)) / 2
    assert cross_entropy(logits, True).item() == pytest.approx(expected)
    assert cross_entropy(logits[:1], False).item() == pytest.approx(-math.log(0.25))
    assert cross_entropy(torch.tensor([-200.0]), True).item() == pytest.approx(200.0), "no overflow"


def test_triplet_loss_sums_all_terms_over_scales() -> None:
    real, mismatched, fake = answer(0.8, 0.7), answer(0.4, 0.6), answer(0.1, 0.3)
    scale = -sum(math.log(p) for p in (0.8, 0.7, 1 - 0.4, 1 - 0.1, 1 - 0.3))
    without = discriminator_triplet_loss(
        [real], [mismatched], [fake], mismatched_unconditional_real=False
    ).item()
    assert without == pytest.approx(scale, rel=1e-5)
    with_mismatched = discriminator_triplet_loss([real], [mismatched], [fake]).item()
    assert with_mismatched == pytest.approx(scale - math.log(0.6), rel=1e-5)
    twice = discriminator_triplet_loss([real] * 2, [mismatched] * 2, [fake] * 2).item()
    assert twice == pytest.approx(2 * with_mismatched, rel=1e-5)


def test_printed_triplet_loss_is_linear_in_the_probabilities() -> None:
    """Eq. (11)-(14): a term is the probability of the wrong answer; mismatched ones only conditional."""
    real, mismatched, fake = answer(0.8, 0.7), answer(0.4, 0.6), answer(0.1, 0.3)
    printed = discriminator_triplet_loss(
        [real], [mismatched], [fake], mismatched_unconditional_real=False, logarithm=False
    )
    assert printed.item() == pytest.approx(0.2 + 0.3 + 0.4 + 0.1 + 0.3, rel=1e-5)
    generator = generator_triplet_loss([fake, real], logarithm=False)
    assert generator.item() == pytest.approx(0.9 + 0.7 + 0.2 + 0.3, rel=1e-5)


def test_generator_loss_wants_fakes_judged_real() -> None:
    loss = generator_triplet_loss([answer(0.1, 0.3), answer(0.5, 0.5)]).item()
    assert loss == pytest.approx(-sum(math.log(p) for p in (0.1, 0.3, 0.5, 0.5)), rel=1e-5)


def test_scales_must_agree() -> None:
    with pytest.raises(ValueError, match="zip"):
        discriminator_triplet_loss([answer(0.5, 0.5)] * 2, [answer(0.5, 0.5)], [answer(0.5, 0.5)] * 2)


def test_kl_divergence() -> None:
    zero = torch.zeros(3, 4)
    assert kl_to_standard_normal(zero, zero).item() == 0
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, math.log(2.0)]])
    assert kl_to_standard_normal(mean, log_variance).item() == pytest.approx(
        0.5 * (1.0 + (2 - 1 - math.log(2))) / 2
    )


def test_hinge_losses() -> None:
    real, fake, other = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0]), torch.tensor([1.0, -1.0])
    assert hinge_discriminator(real, fake).item() == pytest.approx(0.25 + 0.5)
    assert hinge_discriminator(real, fake, other).item() == pytest.approx(0.25 + 0.5 * (0.5 + 1.0))
    assert hinge_generator(fake).item() == pytest.approx(1.5)
