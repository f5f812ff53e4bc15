"""Tests of the flow prior: samples follow what was said, lie as real features, and are the same in ONNX."""

import numpy as np
import pytest
import torch

from speech2image.errors import CheckpointError, DataError, SettingsError
from speech2image.export.onnx import to_onnx, with_float16_weights
from speech2image.models.condition_prior import ConditionPrior, unit
from speech2image.models.flow_prior import FlowPrior, FlowPriorSettings, prior_from_state
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.routes import PRIOR

SIZE = 16
SETTINGS = FlowPriorSettings(
    n_predicted=2, noise_size=5, width=48, blocks=1, steps=700, learning_rate=5e-3, residual_blend=1.0
)


@pytest.fixture(scope="module")
def material() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of which one direction follows what is said; in a second one they lie at two places."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0]
    said, place = rng.choice([-1.0, 1.0], (2, 600, 1))
    loose = 0.2 * rng.standard_normal((600, 3))
    mean = rng.standard_normal(SIZE)
    features = mean + said @ axes[:1] + place @ axes[1:2] + loose @ axes[2:5]
    speech = mean + 0.1 * said @ axes[:1] + 0.01 * rng.standard_normal((600, SIZE))
    return tuple(one.astype(np.float32) for one in (speech, features, mean))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def prior(material) -> FlowPrior:
    return FlowPrior.fit(*material, SETTINGS)


def draw(prior: FlowPrior, speech: np.ndarray, seed: int) -> np.ndarray:
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return prior.sample(torch.from_numpy(speech), rng).numpy()


def test_samples_follow_what_was_said_and_lie_at_both_places(prior: FlowPrior, material) -> None:
    speech, features, mean = material
    real, drawn = unit(features - mean), draw(prior, speech, 0) - mean
    direction = real[speech @ (speech[0] - mean) > mean @ (speech[0] - mean)].mean(0)
    own = (real @ direction) > 0
    assert (((drawn @ direction) > 0) == own).mean() > 0.95
    # the second place is no mean of the two, as a regression would give, but either
    other = np.linalg.svd(real - np.outer(real @ direction, direction) / (direction @ direction))[2][0]
    shares = np.abs(drawn @ other) / np.abs(real @ other).mean()
    assert np.median(shares) > 0.7
    assert 0.25 < ((drawn @ other) > 0).mean() < 0.75
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, rtol=1e-3)


def test_a_smaller_blend_keeps_what_was_predicted(prior: FlowPrior, material) -> None:
    speech, _, mean = material
    state, samples = prior.state_dict(), {}
    for blend in (0.0, 0.5, 1.0):
        blended = prior_from_state({**state, "residual_blend": torch.tensor(blend)})
        samples[blend] = draw(blended, speech, 0) - mean
    basis = prior.predicted_basis.numpy()
    said = prior.said(torch.from_numpy(speech)).numpy()
    np.testing.assert_allclose(samples[0.0] @ basis, prior.predicted_length.item() * said, atol=1e-5)
    np.testing.assert_allclose(samples[0.5], (samples[0.0] + samples[1.0]) / 2, atol=1e-5)
    # in all other directions the sample is its own
    residuals = [kept - kept @ basis @ basis.T for kept in samples.values()]
    np.testing.assert_allclose(residuals[0], residuals[2], atol=1e-5)


def test_noise_decides_and_the_same_noise_gives_the_same(prior: FlowPrior, material) -> None:
    speech = material[0][:50]
    first, again, other = (draw(prior, speech, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert np.linalg.norm(first - other, axis=1).mean() > 0.3


def test_the_same_in_onnx_at_any_batch(prior: FlowPrior, material) -> None:
    speech, noise = torch.from_numpy(material[0][:3]), torch.randn(3, prior.noise_size)
    model = with_float16_weights(to_onnx(prior, (speech[:2], noise[:2]), PRIOR))
    session = Session(model.SerializeToString(), ("embedding", "noise"), ("feature",), "prior")
    with torch.no_grad():
        expected = prior(speech, noise).numpy()
    np.testing.assert_allclose(session(speech.numpy(), noise.numpy()), expected, atol=5e-3)
    assert not any(node.op_type in ("Loop", "If", "Scan") for node in model.graph.node)


def test_a_checkpoint_holds_which_prior_it_is(prior: FlowPrior, material) -> None:
    again = prior_from_state(prior.state_dict())
    assert isinstance(again, FlowPrior)
    assert np.array_equal(draw(again, material[0], 3), draw(prior, material[0], 3))
    neighbours = ConditionPrior.fit(*material, n_predicted=2, noise_size=5)
    assert isinstance(prior_from_state(neighbours.state_dict()), ConditionPrior)


def test_a_checkpoint_of_an_earlier_form_is_refused(prior: FlowPrior) -> None:
    earlier = {name: value for name, value in prior.state_dict().items() if name != "predicted_basis"}
    with pytest.raises(CheckpointError, match="train it anew"):
        prior_from_state(earlier)


def test_the_same_seed_trains_the_same(prior: FlowPrior, material) -> None:
    short = [
        FlowPrior.fit(*material, FlowPriorSettings(2, 5, 8, 1, steps=20, seed=seed)).velocity.last.weight
        for seed in (0, 0, 1)
    ]
    assert torch.equal(short[0], short[1]) and not torch.equal(short[0], short[2])


def test_bad_settings_and_data_are_refused(material) -> None:
    speech, features, mean = material
    with pytest.raises(DataError, match="as many speech embeddings as features"):
        FlowPrior.fit(speech, features[:-1], mean, SETTINGS)
    with pytest.raises(SettingsError, match="between 1 and 16"):
        FlowPrior.fit(speech, features, mean, FlowPriorSettings(noise_size=17))
    for wrong in ({"steps": 0}, {"ema_decay": 1.0}, {"condition_noise": -1.0}, {"residual_blend": 1.5}):
        with pytest.raises(SettingsError):
            FlowPriorSettings(**wrong)
