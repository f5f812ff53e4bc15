"""Signs of collapse are given when, and only when, there is a reason."""

import pytest
import torch

from speech2image.training.collapse import collapse_signs, diversity


def varied(n: int = 8, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 4, 4, generator=rng) * 1.6 - 0.8
    return torch.nn.functional.interpolate(coarse, size=(32, 32))


def test_no_sign_for_varied_pictures() -> None:
    assert collapse_signs(varied(), varied(seed=1), 0.6) == {}


def test_diversity_by_hand() -> None:
    pictures = torch.zeros(3, 3, 16, 16)
    pictures[1] += 0.5
    pictures[2] -= 0.5
    assert diversity(pictures) == pytest.approx((0.5 + 0.5 + 1.0) / 3, rel=1e-5)


def test_alike_pictures_are_noticed_even_under_pixel_noise() -> None:
    noisy = varied(1).expand(8, -1, -1, -1) + 0.2 * torch.randn(8, 3, 32, 32)
    signs = collapse_signs(noisy, varied(seed=1))
    assert list(signs) == ["alike"] and "as much as real ones" in signs["alike"]


def test_not_a_number_saturation_and_a_winning_discriminator() -> None:
    broken = varied()
    broken[0, 0, 0, 0] = float("nan")
    assert list(collapse_signs(broken, varied())) == ["nan"]
    assert list(collapse_signs(varied(), varied(), float("inf"))) == ["nan"]
    assert list(collapse_signs(varied().sign(), varied())) == ["saturated"]
    assert list(collapse_signs(varied(), varied(), 0.001)) == ["discriminator"]
