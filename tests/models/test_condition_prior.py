"""Tests of the condition prior: predictions follow the embedding, residuals the neighbours."""

import numpy as np
import pytest
import torch
from torch import nn

from speech2image.errors import CheckpointError, DataError, SettingsError
from speech2image.models.condition_prior import OLD_BUFFERS, ConditionPrior, SpokenGenerator, principal

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
    return ConditionPrior.fit(*material, n_predicted=SAID, noise_size=FREE, **settings)


def draw(prior: ConditionPrior, speech: np.ndarray, seed: int) -> torch.Tensor:
    noise = torch.randn(len(speech), FREE, generator=torch.Generator().manual_seed(seed))
    return prior(torch.from_numpy(speech), noise)


def test_without_blending_the_prediction_stays_whatever_the_noise(material) -> None:
    prior, speech = fit(material, residual_blend=0.0), material[0]
    first, second = (draw(prior, speech, seed) - prior.mean for seed in (0, 1))
    torch.testing.assert_close(inside(first, prior), inside(second, prior), atol=1e-5, rtol=1e-4)
    assert (first - second).norm(dim=1).mean() > 0.3


def test_drawn_features_lie_as_real_ones(material) -> None:
    speech, features, mean = material
    drawn = draw(fit(material), speech, 0).numpy() - mean
    real = (features - mean) / np.linalg.norm(features - mean, axis=1, keepdims=True)
    expected, got = (principal(rows.astype(np.float32))[0][: SAID + FREE] for rows in (real, drawn))
    np.testing.assert_allclose(got, expected, rtol=0.25)


def test_blending_changes_the_predicted_directions_alone(material) -> None:
    speech = torch.from_numpy(material[0])
    noise = torch.randn(len(speech), FREE, generator=torch.Generator().manual_seed(0))
    prior = fit(material, residual_blend=0.25)
    none, some, all_ = (
        prior(speech, noise, residual_blend=torch.full((len(speech),), part)) - prior.mean
        for part in (0.0, 0.25, 1.0)
    )
    torch.testing.assert_close(outside(none, prior), outside(all_, prior), rtol=1e-3, atol=1e-4)
    mixed = 0.75 * inside(none, prior) + 0.25 * inside(all_, prior)
    torch.testing.assert_close(inside(some, prior), mixed, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(prior(speech, noise) - prior.mean, some, rtol=1e-3, atol=1e-4)


def test_pictures_described_alike_lend_the_rest() -> None:
    """What is not said of flowers lies in other directions than what is not said of birds."""
    rng = np.random.default_rng(1)
    axes = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0].astype(np.float32)
    bird = np.arange(600) % 2 == 1
    said = np.where(bird[:, None], axes[0], -axes[0]) + rng.standard_normal((600, 3)) @ axes[5:8]
    free = rng.standard_normal((600, 2))
    own = np.where(bird[:, None], free @ axes[1:3], free @ axes[3:5])
    mean = np.zeros(SIZE, np.float32)
    material = said.astype(np.float32), (2 * said + own).astype(np.float32), mean
    prior = ConditionPrior.fit(*material, n_predicted=4, noise_size=6, pictures=300)
    noise = torch.randn(600, 6, generator=torch.Generator().manual_seed(0))
    drawn = prior(torch.from_numpy(material[0]), noise).numpy()
    of_birds, of_flowers = (((drawn @ axes[k : k + 2].T) ** 2).sum(1) for k in (1, 3))
    assert of_birds[bird].mean() > 10 * of_flowers[bird].mean()
    assert of_flowers[~bird].mean() > 10 * of_birds[~bird].mean()
    assert drawn.std(0).max() > 0.1


def test_storing_in_half_precision_chooses_the_same_pictures(material) -> None:
    prior = fit(material)
    stored = {name: buffer.half().float() for name, buffer in prior.state_dict().items()}
    for name in ("neighbour_keys", "neighbour_values", "neighbour_residuals"):
        assert torch.equal(stored[name], prior.state_dict()[name])


def test_a_prior_of_an_earlier_form_is_refused(material) -> None:
    state = fit(material).state_dict()
    again = ConditionPrior.from_state(state)
    torch.testing.assert_close(draw(again, material[0], 3), draw(fit(material), material[0], 3))
    del state["neighbour_keys"]
    with pytest.raises(CheckpointError, match="train condition-prior"):
        ConditionPrior.from_state(state)


def test_a_prior_with_the_buffer_names_of_version_0_1_opens(material) -> None:
    prior = fit(material)
    old = {new: old for old, new in OLD_BUFFERS.items()}
    state = {old.get(name, name): buffer for name, buffer in prior.state_dict().items()}
    assert {"read", "told", "others", "described", "inside", "outside", "borrowed"} < set(state)
    again = ConditionPrior.from_state(state)
    torch.testing.assert_close(draw(again, material[0], 3), draw(prior, material[0], 3))


def inside(rows: torch.Tensor, prior: ConditionPrior) -> torch.Tensor:
    return rows @ prior.predicted_basis


def outside(rows: torch.Tensor, prior: ConditionPrior) -> torch.Tensor:
    return rows - rows @ prior.predicted_basis @ prior.predicted_basis.T


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


@pytest.mark.parametrize("value", [0, 25])
@pytest.mark.parametrize("name", ["n_predicted", "noise_size"])
def test_sizes_out_of_range_are_refused(name: str, value: int) -> None:
    with pytest.raises(SettingsError, match="between 1 and 24"):
        ConditionPrior(SIZE, **{"n_predicted": 3, "noise_size": 3, name: value})


@pytest.mark.parametrize(("setting", "value"), [("residual_blend", -0.1), ("residual_blend", 1.5)])
def test_settings_out_of_range_are_refused(material, setting: str, value: float) -> None:
    with pytest.raises(SettingsError, match=f"{setting} is {value}"):
        fit(material, **{setting: value})


def test_each_embedding_needs_its_feature(material) -> None:
    speech, features, mean = material
    with pytest.raises(DataError, match="as many speech embeddings as features"):
        ConditionPrior.fit(speech[:-1], features, mean)
    with pytest.raises(DataError, match="as many speech embeddings as features"):
        ConditionPrior.fit(speech[:0], features[:0], mean)
