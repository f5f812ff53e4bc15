"""Variety: distances by hand, recall of collapsed and of varied sets."""

import numpy as np
import pytest

from speech2image.errors import DataError
from speech2image.metrics.estimate import Sample
from speech2image.metrics.variety import (
    VarietyFeatures,
    condition_recall,
    mean_distance,
    pairwise_distance,
    picture_recall,
)


def test_distance_is_the_mean_over_pairs_of_rows_of_length_1() -> None:
    rows = np.array([[1.0, 0], [3.0, 0], [0, 2.0]])
    assert pairwise_distance(rows) == pytest.approx((0 + 2 * 2**0.5) / 3)
    assert pairwise_distance(np.ones((4, 3))) == 0
    with pytest.raises(DataError, match="two pictures"):
        pairwise_distance(rows[:1])


def test_a_collapsed_set_reaches_nothing_and_a_varied_one_does() -> None:
    rng = np.random.default_rng(0)
    real, varied = (rng.standard_normal((200, 4)).astype(np.float32) for _ in range(2))
    collapsed = varied[:1] + 1e-3 * rng.standard_normal((200, 4)).astype(np.float32)
    sample = Sample(np.arange(20), 0, 50)

    def found(pictures: np.ndarray, conditions: np.ndarray) -> VarietyFeatures:
        alike = [pictures[start : start + 8] for start in range(20)]
        return VarietyFeatures(pictures, real, conditions, real, alike, sample)

    lost_by_generator, lost_by_prior = found(collapsed, varied), found(varied, collapsed)
    assert picture_recall(lost_by_generator).value < 0.02 < 0.6 < picture_recall(lost_by_prior).value
    assert condition_recall(lost_by_prior).value < 0.02 < 0.6 < condition_recall(lost_by_generator).value
    near, far = mean_distance(lost_by_generator), mean_distance(lost_by_prior)
    assert near.value < 0.01 < 0.5 < far.value
    assert far.interval is not None and far.interval[0] < far.value < far.interval[1]
