"""Retrieval figures and the text baseline, counted by hand."""

import re

import numpy as np
import pytest

from speech2image.metrics import text_baseline as text_baseline_module
from speech2image.metrics.retrieval import answers, average_precisions, chance, ranks, retrieval
from speech2image.metrics.text_baseline import text_baseline


def test_places_by_hand():
    scores = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.3, 0.2, 0.1]])
    targets = np.array([0, 1, 2])  # the best, the second, the third
    assert ranks(scores, targets).tolist() == [0, 1, 2]


def test_constant_scores_win_nothing():
    assert ranks(np.zeros((4, 5)), np.arange(4)).tolist() == [4] * 4


def test_average_precision_by_hand():
    scores = np.array([[4.0, 3.0, 2.0, 1.0]])
    relevant = np.array([[True, False, True, False]])
    assert average_precisions(scores, relevant) == pytest.approx([(1 / 1 + 2 / 3) / 2])


def test_perfect_embeddings_and_shuffled_ones():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 100)
    pictures = rng.normal(size=(1000, 32)).astype(np.float32) + 5
    targets = rng.integers(0, 1000, 700)  # more than one chunk
    perfect = retrieval(pictures[targets] * 1.0, pictures, targets, labels)
    assert perfect.recall == {1: 1.0, 5: 1.0, 10: 1.0, 50: 1.0}
    random = retrieval(rng.normal(size=(700, 32)).astype(np.float32) + 5, pictures, targets, labels)
    assert random.recall[50] == pytest.approx(chance(labels).recall[50], abs=0.03)
    assert random.mean_average_precision == pytest.approx(chance(labels).mean_average_precision, abs=0.02)
    assert (random.queries, random.pictures) == (700, 1000)


def test_neither_scale_nor_place_of_the_embeddings_counts():
    """A loss on raw products need not put embeddings where the teacher's features are."""
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(50, 8)).astype(np.float32) + 10
    labels = np.arange(50)
    for speech in (pictures, 1e-2 * pictures, pictures - 30):
        assert retrieval(speech, pictures, labels, labels, ks=(1,)).recall[1] == 1.0
    places, _ = answers(pictures - 30, pictures, labels, labels, pictures.mean(0))
    assert (places == 0).mean() < 0.5, "about another mean it does"


def test_text_baseline_learns_what_words_mean():
    rng = np.random.default_rng(0)
    words = ["red", "blue", "small", "round", "tall", "pale"]
    bits = rng.integers(0, 2, (400, 6))
    captions = [[" ".join(w for w, b in zip(words, row, strict=True) if b)] for row in bits]
    teacher = (bits @ rng.normal(size=(6, 16)))[:, None].astype(np.float16)
    labels = bits @ (1 << np.arange(6))
    found = text_baseline(captions, teacher, labels, np.arange(300), np.arange(300, 400))
    assert found.mean_average_precision > 0.8
    assert found.queries == found.pictures == 100


def test_text_baseline_is_a_ridge_over_words_and_pairs_that_are_frequent():
    captions = ["A red, RED rose", "red rose", "red tulip", "red", "blue"] * 2
    wanted = np.random.default_rng(0).normal(size=(len(captions), 3))
    terms = ("red", "rose", "red rose")  # those in four captions at least; "a", one letter long, in two
    bags = [[float(term in re.sub("[^a-z ]", "", text.lower())) for term in terms] for text in captions]
    x = np.hstack([bags, np.ones((len(bags), 1))])
    weights = np.linalg.solve(x.T @ x + 30 * np.eye(4), x.T @ wanted)
    found = text_baseline_module._predict(captions, wanted, ["a red rose", "blue"], 4, 30.0)
    assert np.allclose(found, np.array([[1, 1, 1, 1], [0, 0, 0, 1]]) @ weights, atol=1e-6)
    alone = text_baseline_module._predict(captions, wanted, ["blue"], 99, 30.0)
    assert np.allclose(alone, wanted.sum(0) / (len(wanted) + 30), atol=1e-6), "the bias alone"
