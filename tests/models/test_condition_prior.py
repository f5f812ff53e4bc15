"""The condition prior keeps what was said and draws the rest as real features lie."""

import numpy as np
import pytest
import torch
from torch import nn

from speech2image.errors import DataError, SettingsError
from speech2image.models.condition_prior import ConditionPrior, SpokenGenerator, principal

SIZE, SAID, FREE = 24, 3, 5


@pytest.fixture(scope="module")
def material() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features in which three directions follow what is said and five others vary freely."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0]
    meaning = rng.standard_normal((400, SAID))
    mean = rng.standard_normal(SIZE)
    features = mean + meaning @ axes[:SAID] + 2 * rng.standard_normal((400, FREE)) @ axes[SAID : SAID + FREE]
    speech = mean + 0.1 * meaning @ axes[:SAID]
    return speech.astype(np.float32), features.astype(np.float32), mean.astype(np.float32)


def fit(material, **settings: float) -> ConditionPrior:
    return ConditionPrior.fit(*material, told=SAID, noise_size=FREE, **settings)


def draw(prior: ConditionPrior, speech: np.ndarray, seed: int) -> torch.Tensor:
    noise = torch.randn(len(speech), FREE, generator=torch.Generator().manual_seed(seed))
    return prior(torch.from_numpy(speech), noise)


def test_what_was_said_stays_whatever_the_noise(material) -> None:
    prior, speech = fit(material), material[0]
    first, second = (draw(prior, speech, seed) - prior.mean for seed in (0, 1))
    torch.testing.assert_close(first @ prior.told, second @ prior.told, atol=1e-5, rtol=1e-4)
    assert (first - second).norm(dim=1).mean() > 0.3


def test_drawn_features_lie_as_real_ones(material) -> None:
    speech, features, mean = material
    drawn = draw(fit(material, variation=1.0), speech, 0).numpy() - mean
    real = (features - mean) / np.linalg.norm(features - mean, axis=1, keepdims=True)
    expected, got = (principal(rows.astype(np.float32))[0][: SAID + FREE] for rows in (real, drawn))
    np.testing.assert_allclose(got, expected, rtol=0.25)


def test_variation_narrows_what_was_not_said_alone(material) -> None:
    speech = material[0]
    wide, narrow = (fit(material, variation=variation) for variation in (1.0, 0.25))
    widest, narrowest = (draw(prior, speech, 0) - prior.mean for prior in (wide, narrow))
    torch.testing.assert_close(inside(narrowest, narrow), inside(widest, wide), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(outside(narrowest, narrow), 0.25 * outside(widest, wide), rtol=1e-3, atol=1e-4)
    noise = torch.randn(len(speech), FREE, generator=torch.Generator().manual_seed(0))
    chosen = wide(torch.from_numpy(speech), noise, torch.full((len(speech),), 0.25)) - wide.mean
    torch.testing.assert_close(chosen, narrowest, rtol=1e-3, atol=1e-4)


def inside(rows: torch.Tensor, prior: ConditionPrior) -> torch.Tensor:
    return rows @ prior.told


def outside(rows: torch.Tensor, prior: ConditionPrior) -> torch.Tensor:
    return rows - rows @ prior.told @ prior.told.T


def test_scale_of_the_embedding_does_not_matter(material) -> None:
    prior, speech = fit(material), material[0]
    longer = prior.mean.numpy() + 9 * (speech - prior.mean.numpy())
    torch.testing.assert_close(draw(prior, speech, 0), draw(prior, longer, 0), rtol=1e-3, atol=1e-4)


def test_spoken_generator_splits_the_noise(material) -> None:
    class Echo(nn.Module):
        def forward(self, feature: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            return torch.cat([feature, noise], 1)[:, None, None]

    prior = fit(material)
    whole = SpokenGenerator(prior, Echo(), 2)
    noise = torch.randn(4, whole.noise_size)
    assert whole.noise_size == FREE + 2
    condition = torch.from_numpy(material[0][:4])
    seen = whole.generator(prior(condition, noise[:, :FREE]), noise[:, FREE:])
    torch.testing.assert_close(seen[:, 0, 0, -2:], noise[:, -2:])


@pytest.mark.parametrize("sizes", [{"told": 0}, {"told": 25}, {"noise_size": 0}, {"noise_size": 25}])
def test_sizes_out_of_range_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match="between 1 and 24"):
        ConditionPrior(SIZE, **{"told": 3, "noise_size": 3, **sizes})


def test_each_embedding_needs_its_feature(material) -> None:
    speech, features, mean = material
    with pytest.raises(DataError, match="as many speech embeddings as features"):
        ConditionPrior.fit(speech[:-1], features, mean)
    with pytest.raises(DataError, match="as many speech embeddings as features"):
        ConditionPrior.fit(speech[:0], features[:0], mean)
