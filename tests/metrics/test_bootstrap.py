"""Intervals where their width is known."""

import numpy as np
import pytest

from speech2image.errors import DataError
from speech2image.metrics.bootstrap import bootstrap_interval, normal_interval, resampled


def test_of_a_mean():
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = bootstrap_interval(values)
    assert (high - low) / 2 == pytest.approx(1.96 * 2 / 20, rel=0.15)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.02)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(values, seed=1) != (low, high)
    narrow = bootstrap_interval(values, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_of_a_ratio():
    assert bootstrap_interval(np.full(50, 2.0), np.full(50, 4.0)) == (0.5, 0.5)
    low, high = bootstrap_interval(np.tile([0.0, 4.0], 50), np.full(100, 4.0))
    assert (high - low) / 2 == pytest.approx(1.96 * 0.5 / 10, rel=0.15)


def test_groups_are_drawn_whole():
    """Ten times the same item is one item."""
    values = np.random.default_rng(0).normal(size=40)
    alone = bootstrap_interval(values)
    repeated = bootstrap_interval(np.repeat(values, 10), groups=np.repeat(np.arange(40), 10))
    assert repeated == pytest.approx(alone)
    naive = bootstrap_interval(np.repeat(values, 10))
    assert (naive[1] - naive[0]) < (alone[1] - alone[0]) / 2


def test_groups_of_several_sizes_weigh_by_items():
    low, high = bootstrap_interval([1, 1, 1, 0], groups=["a", "a", "a", "b"])
    assert (low, high) == (0, 1)


def test_groups_without_count_do_not_spoil():
    assert bootstrap_interval([1.0, 0.0], [1.0, 0.0]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("values", "counts"), [([], None), ([1.0], [1.0, 2.0]), ([np.nan], None), ([1.0], [0.0])]
)
def test_bad_input(values, counts):
    with pytest.raises(DataError):
        bootstrap_interval(values, counts)


def test_resampled_statistic():
    x, y = np.arange(100.0), np.arange(50.0)
    found = resampled(lambda i, j: x[i].mean() - y[j].mean(), (100, 50), draws=range(500))
    assert found.mean() == pytest.approx(25, abs=0.6)
    assert found.std() == pytest.approx(np.sqrt(x.var() / 100 + y.var() / 50), rel=0.15)
    again = resampled(lambda i, j: x[i].mean() - y[j].mean(), (100, 50), draws=[7])
    assert again == pytest.approx(found[7:8])


def test_normal_interval():
    assert normal_interval(5, 2) == pytest.approx((5 - 3.92, 5 + 3.92), abs=1e-3)
