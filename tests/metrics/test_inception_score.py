"""The score where it is known, and the classifier it is computed with."""

import math

import numpy as np
import pytest

from speech2image.errors import CheckpointError, DataError
from speech2image.metrics.inception_score import inception_score
from speech2image.metrics.picture_classifier import PictureClassifier


def test_bounds():
    sure = np.tile(np.eye(5), (20, 1))
    unsure = np.full((100, 5), 0.2)
    one_class = np.tile([1.0, 0, 0, 0, 0], (100, 1))
    assert inception_score(sure, splits=1) == pytest.approx((5, 0))
    assert inception_score(unsure) == pytest.approx((1, 0))
    assert inception_score(one_class) == pytest.approx((1, 0))


def test_by_hand():
    """Rows (3/4, 1/4) and (1/4, 3/4): mean (1/2, 1/2), KL = 3/4 ln(3/2) + 1/4 ln(1/2)."""
    p = np.array([[0.75, 0.25], [0.25, 0.75]])
    expected = math.exp(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert inception_score(p, splits=1)[0] == pytest.approx(expected)


def test_order_does_not_make_splits_of_one_class():
    p = np.repeat(np.eye(4), 100, axis=0)
    mean, spread = inception_score(p)
    assert mean > 3.7
    assert 0 < spread < 0.3
    assert inception_score(p, seed=1) != (mean, spread)


def test_random_probabilities_stay_within_bounds():
    p = np.random.default_rng(0).dirichlet(np.full(7, 0.3), 200)
    assert 1 < inception_score(p)[0] < 7


@pytest.mark.parametrize(
    "p", [np.full((20, 2), 0.7), np.tile([1.5, -0.5], (20, 1)), np.full((20, 2), np.nan)]
)
def test_what_are_no_probabilities(p):
    with pytest.raises(DataError, match="no probabilities"):
        inception_score(p)


def test_fewer_pictures_than_splits():
    with pytest.raises(DataError, match="10 splits"):
        inception_score(np.full((9, 2), 0.5))


@pytest.fixture
def set_of_three():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    centres = rng.normal(size=(3, 6)) * 3
    features = centres[labels] + rng.normal(size=(300, 6)) * 0.3
    return (features * [1, 100, 0.01, 1, 1, 1] + 50).astype(np.float32), labels * 7 + 2


def test_classifier_learns_and_is_kept(set_of_three, tmp_path):
    features, labels = set_of_three
    classifier = PictureClassifier.fit(features[:200], labels[:200], "three clouds")
    assert classifier.accuracy == 1.0
    assert classifier.classes == 3
    p = classifier.probabilities(features[200:])
    assert p.shape == (100, 3)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    assert (p.argmax(1) == np.searchsorted(np.unique(labels), labels[200:])).all()
    assert 2.5 < inception_score(p, splits=1)[0] <= 3
    classifier.save(tmp_path / "c.npz")
    again = PictureClassifier.load(tmp_path / "c.npz")
    assert (again.name, again.accuracy) == ("three clouds", 1.0)
    np.testing.assert_array_equal(again.probabilities(features), classifier.probabilities(features))


def test_bad_input(set_of_three, tmp_path):
    features, labels = set_of_three
    with pytest.raises(DataError, match="need 2"):
        PictureClassifier.fit(features, labels * 0, "one class")
    with pytest.raises(DataError, match="not finite"):
        PictureClassifier.fit(features * np.nan, labels, "nan")
    with pytest.raises(DataError, match=r"'clouds' reads 6 features, got \(2, 5\)"):
        PictureClassifier.fit(features, labels, "clouds").probabilities(np.zeros((2, 5)))
    (tmp_path / "c.npz").write_bytes(b"no archive")
    with pytest.raises(CheckpointError, match="fit one again"):
        PictureClassifier.load(tmp_path / "c.npz")
