"""KID against sums written out, and what it does at equal and different sets."""

from itertools import permutations, product

import numpy as np
import pytest

from speech2image.errors import DataError, SettingsError
from speech2image.metrics import kernel
from speech2image.metrics.kernel import kernel_distance, kernel_interval


def slow(x, y):
    """The definition, pair by pair."""

    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    same = [np.mean([k(a, b) for a, b in permutations(rows, 2)]) for rows in (x, y)]
    return same[0] + same[1] - 2 * np.mean([k(a, b) for a, b in product(x, y)])


def test_one_subset_of_everything_is_the_definition():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(7, 3)) + 0.5
    assert kernel_distance(x, y, subsets=3) == pytest.approx((slow(x, y), 0), abs=1e-12)


def test_by_hand():
    """Four points on a line: kernels 1 for any pair with 0, (ab + 1)^3 else."""
    x, y = np.array([[0.0], [0.0]]), np.array([[1.0], [1.0]])
    assert kernel_distance(x, y)[0] == pytest.approx(1 + 8 - 2 * 1)


def test_unbiased_at_equal_sets_and_grows_with_distance():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 400, 8)).astype(np.float32)
    same, spread = kernel_distance(x, y, subsets=50, subset_size=100)
    assert abs(same) < 3 * spread / np.sqrt(4)
    found = [kernel_distance(x, y + shift, subset_size=100)[0] for shift in (0.2, 0.5, 1.0)]
    assert same < found[0] < found[1] < found[2]


def test_subsets_are_drawn_anew_for_each_seed():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 60, 4))
    found = [kernel_distance(x, y, subsets=5, subset_size=20, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert found[0][1] > 0


def test_one_kernel_for_all_subsets_gives_what_a_kernel_each_gives():
    """Subsets of 20 of 60 and 50 rows overlap from nine on; each subset's own value is `_unbiased`."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)), rng.normal(size=(50, 4)) + 0.3
    rows = np.random.default_rng(5)
    values = []
    for _ in range(9):
        own, other = (rows.choice(len(s), 20, replace=False) for s in (x, y))
        values.append(slow(x[own], y[other]))
    found = kernel_distance(x, y, subsets=9, subset_size=20, seed=5)
    assert found == pytest.approx((np.mean(values), np.std(values)))
    few = kernel_distance(x, y, subsets=2, subset_size=20, seed=5)
    assert few == pytest.approx((np.mean(values[:2]), np.std(values[:2])))


def test_interval_is_as_wide_as_fresh_samples_spread(monkeypatch):
    monkeypatch.setattr(kernel, "AT_ONCE", 64)  # several blocks
    rng = np.random.default_rng(0)

    def sample():
        return rng.normal(size=(150, 4)), rng.normal(size=(130, 4)) + 0.7

    x, y = sample()
    low, high = kernel_interval(x, y)
    fresh = [kernel_distance(*sample(), subsets=1, subset_size=130)[0] for _ in range(200)]
    assert high - low == pytest.approx(2 * 1.96 * np.std(fresh), rel=0.35)
    assert low < kernel_distance(x, y, subsets=20, subset_size=130)[0] < high


def test_bad_input():
    with pytest.raises(DataError, match="at least 2 pictures in each set, got 1 and 5"):
        kernel_distance(np.zeros((1, 2)), np.zeros((5, 2)))
    with pytest.raises(DataError, match="one network"):
        kernel_distance(np.zeros((5, 3)), np.zeros((5, 2)))
    with pytest.raises(DataError, match="not finite"):
        kernel_interval(np.full((5, 2), np.inf), np.zeros((5, 2)))
    with pytest.raises(SettingsError):
        kernel_distance(np.zeros((5, 2)), np.zeros((5, 2)), subsets=0)
