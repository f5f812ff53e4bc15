"""Precision and recall on points whose balls one can draw."""

import numpy as np
import pytest

from speech2image.errors import DataError
from speech2image.metrics import precision_recall as module
from speech2image.metrics.precision_recall import precision_recall


def line(*values):
    return np.array(values, np.float32)[:, None]


def test_by_hand():
    """Real 0, 1, 3 with k = 1: radii 1, 1, 2. Fake 2, 9, 10 have radii 7, 1, 1.

    Fake 2 lies in the balls of 1 and 3, the others in none: precision 1/3. Real 0, 1 and 3 lie within 7 of 2:
    recall 1.
    """
    assert precision_recall(line(0, 1, 3), line(2, 9, 10), k=1) == (pytest.approx(1 / 3), 1.0)


def test_second_neighbour_by_hand():
    """Real 0, 1, 5 with k = 2: radii 5, 4, 5. Fake 0, 0, 11, radii 11: 11 lies outside, 5 inside."""
    assert precision_recall(line(0, 1, 5), line(0, 0, 11), k=2) == (pytest.approx(2 / 3), 1.0)


def test_a_ball_holds_its_edge():
    assert precision_recall(line(0, 2), line(-2, 4), k=1)[0] == 1.0
    assert precision_recall(line(0, 2), line(-2.1, 4.1), k=1)[0] == 0.0


def test_mode_collapse_has_precision_without_recall():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 4))
    collapsed = rng.normal(size=(200, 4)) * 0.05
    precision, recall = precision_recall(real, collapsed)
    assert precision == 1.0
    assert recall < 0.05
    assert precision_recall(collapsed, real) == (recall, precision)


def test_same_set_and_one_far_away():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(60, 4)).astype(np.float32)
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, real + 100) == (0.0, 0.0)


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(50, 4)), rng.normal(size=(40, 4)) + 1
    whole = precision_recall(real, fake)
    monkeypatch.setattr(module, "_HELD", 350)
    assert precision_recall(real, fake) == whole
    assert 0 < whole[0] < 1


def test_bad_input():
    with pytest.raises(DataError, match="more than k pictures in each set, got 3 and 9"):
        precision_recall(np.zeros((3, 2)), np.zeros((9, 2)))
    with pytest.raises(DataError, match="one network"):
        precision_recall(np.zeros((9, 3)), np.zeros((9, 2)))
    with pytest.raises(DataError, match="not finite"):
        precision_recall(np.full((9, 2), np.nan), np.zeros((9, 2)))
