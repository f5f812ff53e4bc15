"""Class retrieval against cases counted by hand."""

import numpy as np
import pytest

from speech2image.errors import SettingsError
from speech2image.metrics.class_retrieval import choose_queries, class_average_precisions


def test_counted_by_hand() -> None:
    gallery = np.array([[1, 0], [1, 0.5], [0.5, 1], [0, 1]], np.float32)
    labels = np.array([0, 1, 0, 1])
    queries = np.array([[2, 0], [0, 3]], np.float32)
    found = class_average_precisions(queries, np.array([0, 1]), gallery, labels)
    # Orders: 0 1 2 3 with relevant places 1 and 3; 3 2 1 0 with relevant places 1 and 3.
    assert found == pytest.approx([(1 + 2 / 3) / 2] * 2)


def test_blocks_of_the_gallery_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    gallery, labels = rng.random((20, 5)).astype(np.float32), rng.integers(0, 3, 20)
    arguments = (gallery[:6], labels[:6], gallery, labels)
    whole = class_average_precisions(*arguments)
    monkeypatch.setattr("speech2image.metrics.class_retrieval.AT_ONCE", 7)
    assert class_average_precisions(*arguments) == pytest.approx(whole)


def test_queries_are_so_many_of_each_class() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    chosen = choose_queries(labels, 2, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [2, 1, 2]
    assert (chosen == choose_queries(labels, 2, seed=0)).all()


def test_nothing_to_find() -> None:
    empty = np.zeros((0, 2), np.float32)
    with pytest.raises(SettingsError, match="at least one"):
        class_average_precisions(empty, np.zeros(0, np.int64), empty, np.zeros(0, np.int64))
