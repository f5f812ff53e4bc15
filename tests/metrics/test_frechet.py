"""Moments that come in parts, and the distance in closed form."""

import warnings

import numpy as np
import pytest
from scipy import linalg

from speech2image.errors import CheckpointError, DataError
from speech2image.metrics.frechet import FewPicturesWarning, Moments, frechet_distance, frechet_interval


def gaussian(mean, covariance, n=1000) -> Moments:
    mean, covariance = np.asarray(mean, float), np.asarray(covariance, float)
    return Moments(len(mean), n, mean, covariance * (n - 1))


def test_moments_in_parts_are_those_of_numpy():
    rows = np.random.default_rng(0).normal(size=(100, 6)) * np.arange(1, 7) + 1e4  # far from zero
    moments = Moments(6)
    for start, end in ((0, 1), (1, 1), (1, 40), (40, 100)):
        moments.update(rows[start:end])
    other = Moments(6)
    other.merge(Moments.of(rows[:30]))
    other.merge(Moments.of(rows[30:]))
    for found in (moments, other):
        assert found.n == 100
        np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.covariance, np.cov(rows, rowvar=False), rtol=1e-8, atol=1e-8)


def test_float32_far_from_zero_loses_nothing():
    """Adding up raw squares would leave no digit of this variance."""
    rows = (np.random.default_rng(0).integers(0, 2, (1000, 1)) + 4096).astype(np.float32)
    moments = Moments(1)
    for start in range(0, 1000, 7):
        moments.update(rows[start : start + 7])
    assert moments.covariance[0, 0] == pytest.approx(np.var(rows.astype(float), ddof=1), rel=1e-10)


def test_saved_moments_come_back(tmp_path):
    moments = Moments.of(np.random.default_rng(0).normal(size=(9, 3)))
    moments.save(tmp_path / "m.npz")
    again = Moments.load(tmp_path / "m.npz")
    assert again.n == 9
    np.testing.assert_allclose(again.covariance, moments.covariance)
    again.update(np.ones((2, 3)))
    moments.update(np.ones((2, 3)))
    np.testing.assert_allclose(again.scatter, moments.scatter)
    with np.load(tmp_path / "m.npz") as file:
        assert {"mu", "sigma"} <= set(file)


@pytest.mark.parametrize("content", [b"", b"nothing", None])
def test_foreign_moments_are_refused(tmp_path, content):
    path = tmp_path / "m.npz"
    if content is None:
        np.savez(path, mu=np.zeros(2), sigma=np.eye(2))  # no n
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="compute them again"):
        Moments.load(path)


def test_bad_features_are_refused():
    with pytest.raises(DataError, match="not finite"):
        Moments(2).update(np.array([[0, np.nan]]))
    with pytest.raises(DataError, match=r"take \[n, 2\]"):
        Moments(2).update(np.zeros((3, 4)))
    with pytest.raises(DataError, match="at least 2 pictures, got 1"):
        frechet_distance(Moments.of(np.zeros((1, 2))), Moments.of(np.zeros((5, 2))))
    with pytest.raises(DataError, match="use one network"):
        frechet_distance(gaussian([0], [[1]]), gaussian([0, 0], np.eye(2)))


def test_one_dimension_in_closed_form():
    """(m1 - m2)^2 + (s1 - s2)^2."""
    assert frechet_distance(gaussian([3], [[4]]), gaussian([1], [[25]])) == pytest.approx(4 + 9)


def test_diagonal_covariances_in_closed_form():
    a, b = np.array([1.0, 4.0, 9.0]), np.array([16.0, 4.0, 0.0])
    found = frechet_distance(gaussian([0, 0, 0], np.diag(a)), gaussian([1, 2, 3], np.diag(b)))
    assert found == pytest.approx(14 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum())


def test_full_covariances_against_the_matrix_root():
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(2, 5, 5))
    one, other = roots[0] @ roots[0].T, roots[1] @ roots[1].T
    expected = np.trace(one + other - 2 * linalg.sqrtm(one @ other).real)
    assert frechet_distance(gaussian(np.zeros(5), one), gaussian(np.zeros(5), other)) == pytest.approx(
        expected
    )


def test_same_and_symmetric():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 8)), rng.normal(size=(40, 8)) + 1
    a, b = Moments.of(x), Moments.of(y)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, b) > 7


def test_few_pictures_warn():
    rows = np.random.default_rng(0).normal(size=(9, 8))
    with pytest.warns(FewPicturesWarning, match="fewer pictures than dimensions: 8 give"):
        assert frechet_distance(Moments.of(rows[:8]), Moments.of(rows)) > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(Moments.of(rows), Moments.of(rows))


def test_interval_covers_the_distance_of_fresh_samples():
    rng = np.random.default_rng(0)

    def sample():
        return rng.normal(size=(300, 3)), rng.normal(size=(300, 3)) * 1.2 + 0.5

    def distance(x, y):
        return frechet_distance(Moments.of(x), Moments.of(y))

    x, y = sample()
    estimate = distance(x, y)
    low, high = frechet_interval(x, y, estimate, draws=range(200))
    fresh = np.array([distance(*sample()) for _ in range(200)])
    assert (high - low) / 2 == pytest.approx(1.96 * fresh.std(), rel=0.3)
    assert (low + high) / 2 == pytest.approx(estimate)
    assert frechet_interval(x, y, estimate, draws=range(20)) == frechet_interval(
        x, y, estimate, draws=range(20)
    )


def test_the_root_is_made_anew_when_rows_come():
    rng = np.random.default_rng(0)
    moments = Moments.of(rng.normal(size=(30, 4)))
    first = moments.root
    np.testing.assert_allclose(first @ first.T, moments.covariance, atol=1e-12)
    assert moments.root is first
    moments.update(rng.normal(size=(30, 4)) * 3)
    np.testing.assert_allclose(moments.root @ moments.root.T, moments.covariance, atol=1e-12)
