"""Both networks' steps; signs of collapse are given when, and only when, there is a reason."""

import pytest
import torch
from torch import Tensor, nn

from speech2image.training.core.gan import Adversaries, CollapseCheck, GanSettings, collapse_signs, diversity
from speech2image.training.core.run import make_fabric


def test_two_half_batches_are_one_batch() -> None:
    pictures = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    learnt = []
    for parts in (1, 2):
        torch.manual_seed(1)
        gan = Adversaries(nn.Linear(3, 3), nn.Linear(3, 1), 0.9)
        settings = GanSettings(steps=1, accumulate=parts)
        gan.begin(make_fabric("32-true", 0), None, (1e-2, 1e-2), (0.9, 0.99), settings)
        for _ in range(3):
            for i, half in enumerate(pictures.chunk(parts)):
                loss = (gan.judge(half) - gan.judge(gan.make(half).detach())).square().mean()
                gan.improve_discriminator(loss, last=i == parts - 1)
            for i, half in enumerate(pictures.chunk(parts)):
                gan.improve_generator(gan.discriminator(gan.make(half)).square().mean(), last=i == parts - 1)
        learnt.append(gan.state_dict())
    assert learnt[1]["ema"]["updates"] == 3
    for side in ("generator", "discriminator"):
        torch.testing.assert_close(learnt[1][side], learnt[0][side], msg=side)


def varied(n: int = 8, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 4, 4, generator=rng) * 1.6 - 0.8
    return torch.nn.functional.interpolate(coarse, size=(32, 32))


REAL = varied(seed=1)


def test_diversity_by_hand() -> None:
    pictures = torch.zeros(3, 3, 16, 16)
    pictures[1] += 0.5
    pictures[2] -= 0.5
    assert diversity(pictures) == pytest.approx((0.5 + 0.5 + 1.0) / 3, rel=1e-5)
    assert diversity(pictures[:1]) == 0.0


def test_no_sign_for_varied_pictures() -> None:
    assert collapse_signs(varied(), REAL, 4, 0.6) == {}


def test_alike_pictures_are_noticed_even_under_pixel_noise() -> None:
    noisy = varied(1).expand(8, -1, -1, -1) + 0.2 * torch.randn(8, 3, 32, 32)
    assert list(collapse_signs(noisy, REAL)) == ["alike"]


def test_noise_without_effect_is_noticed() -> None:
    assert list(collapse_signs(varied(4).repeat(2, 1, 1, 1), REAL, 4)) == ["deaf_to_noise"]


def test_not_a_number_saturation_and_a_winning_discriminator() -> None:
    broken = varied()
    broken[0, 0, 0, 0] = float("nan")
    assert list(collapse_signs(broken, REAL, 4)) == ["nan"]
    assert list(collapse_signs(varied(), REAL, 4, discriminator_loss=float("inf"))) == ["nan"]
    assert list(collapse_signs(varied().sign(), REAL, 4)) == ["saturated"]
    assert list(collapse_signs(varied(), REAL, 4, discriminator_loss=0.001)) == ["discriminator"]


def test_check_waits_at_the_start_then_speaks() -> None:
    check = CollapseCheck(REAL, grace=2)
    grey = torch.zeros(8, 3, 32, 32)
    answers = [check(grey, columns=4) for _ in range(3)]
    assert answers[:2] == [None, None]
    assert answers[2] is not None and "differ 0 % as much as real" in answers[2]
    assert check(varied(), columns=4) is None
    message = CollapseCheck(REAL, grace=2)(grey * float("nan"), columns=4)
    assert message is not None and "no longer numbers" in message
