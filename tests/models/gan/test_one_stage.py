"""One-stage generator and projected discriminator."""

import pytest
import torch

from speech2image.errors import SettingsError
from speech2image.models.gan.one_stage import (
    DiscriminatorSettings,
    GeneratorSettings,
    OneStageGenerator,
    ProjectedDiscriminator,
    smooth,
)

SMALL = GeneratorSettings(32, noise_size=10, code_size=16, channels=(16, 16, 8, 8))


def inputs(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.rand(batch, 1024, generator=rng), torch.randn(batch, 10, generator=rng)


def test_pictures_have_the_size_asked_for_and_lie_in_range() -> None:
    pictures = OneStageGenerator(SMALL)(*inputs())
    assert pictures.shape == (3, 3, 32, 32)
    assert pictures.abs().max() <= 1


def test_channels_must_fit_the_picture_size() -> None:
    with pytest.raises(SettingsError, match=r"ends? at a side of 16"):
        GeneratorSettings(32, channels=(16, 16, 8))


def test_condition_scale_and_offset_along_the_mean_do_not_matter() -> None:
    generator = OneStageGenerator(SMALL).eval()
    generator.condition_mean.uniform_(0, 1)
    condition, noise = inputs()
    scaled = generator.condition_mean + 7 * (condition - generator.condition_mean)
    torch.testing.assert_close(generator(condition, noise), generator(scaled, noise), atol=1e-4, rtol=0)


def test_condition_and_noise_both_change_the_picture_after_training_mode_statistics() -> None:
    generator = OneStageGenerator(SMALL)
    condition, noise = inputs(8)
    for _ in range(5):
        generator(condition, noise)
    generator.eval()
    base = generator(condition[:1], noise[:1])
    assert (generator(condition[1:2], noise[:1]) - base).abs().mean() > 1e-3
    assert (generator(condition[:1], noise[1:2]) - base).abs().mean() > 1e-3


def test_smoothing_takes_out_the_checkerboard_and_keeps_what_is_even() -> None:
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    pattern = ((rows + columns) % 2 * 2.0 - 1).expand(1, 3, 8, 8)
    assert smooth(pattern)[..., 1:-1, 1:-1].abs().max() < 1e-6
    torch.testing.assert_close(smooth(torch.full((2, 3, 8, 8), 0.3)), torch.full((2, 3, 8, 8), 0.3))


def stages(batch: int = 4) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(1)
    sides = zip((6, 7, 8, 9), (16, 8, 4, 2), strict=True)
    return tuple(3 + 5 * torch.randn(batch, c, s, s, generator=rng) for c, s in sides)


def test_calibration_makes_every_channel_standard() -> None:
    discriminator = ProjectedDiscriminator(DiscriminatorSettings(width=8, map_channels=(6, 7, 8, 9)))
    maps = stages(16)
    discriminator.calibrate(maps)
    head = discriminator.heads[0]
    scaled = (maps[0] - head.mean[:, None, None]) / head.deviation[:, None, None]
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std((0, 2, 3)), torch.ones(6), atol=1e-4, rtol=0)


def test_conditional_answer_depends_on_the_condition_and_the_unconditional_does_not() -> None:
    discriminator = ProjectedDiscriminator(DiscriminatorSettings(width=8, map_channels=(6, 7, 8, 9)))
    one, other = torch.randn(2, 4, 1024)
    free, said, wrong, details = discriminator(stages(), one, other)
    free_again, said_again, none, _ = discriminator(stages(), other)
    assert wrong is not None and none is None and details is None
    assert free.shape == said.shape == wrong.shape
    # spectral norm moves a power-iteration step in training mode, hence the tolerance
    torch.testing.assert_close(wrong, said_again, atol=0.2, rtol=0.2)
    assert (said - wrong).abs().mean() > 0
    torch.testing.assert_close(free, free_again, atol=0.2, rtol=0.2)
