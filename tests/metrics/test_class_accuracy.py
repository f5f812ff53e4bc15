"""Class accuracy on pictures of two colours: right, swapped, shuffled; whole photographs are drawn anew."""

import numpy as np
import pytest
from numpy.typing import NDArray
from small_network import RandomNetwork

from speech2image.metrics.class_accuracy import class_accuracy
from speech2image.metrics.moments import moments_of
from speech2image.metrics.picture_classifier import PictureClassifier
from speech2image.metrics.picture_sets import PictureFeatures, PictureSets

RED, BLUE = 7, 3
"""Labels of the two classes, not in the order of their numbers."""


def pictures(labels: NDArray[np.int64], seed: int) -> NDArray[np.uint8]:
    colours = {RED: (200, 40, 40), BLUE: (40, 40, 200)}
    noise = np.random.default_rng(seed).normal(0, 12, (len(labels), 16, 16, 3))
    made = np.array([colours[int(label)] for label in labels])[:, None, None] + noise
    return np.clip(made, 0, 255).astype(np.uint8)


def sets(drawn: NDArray[np.int64], asked: NDArray[np.int64], owners: NDArray[np.int64]) -> PictureSets:
    """Pictures of the colours `drawn` where `asked` was described."""
    network = RandomNetwork()
    learnt = np.array([RED, BLUE] * 20)
    classifier = PictureClassifier.fit(network(pictures(learnt, 0)), learnt, "two colours")
    features = network(pictures(drawn, 1))
    found = PictureFeatures("kept out", features, asked, owners)
    moments = moments_of(features, np.arange(len(features)))
    queries, known = features[:2], np.array([BLUE, RED])
    return PictureSets(
        found, found, features, moments, moments, 2, queries, asked[:2], classifier, known, 0, 400
    )


def test_right_swapped_and_shuffled_colours() -> None:
    asked = np.array([RED] * 30 + [BLUE] * 30)
    owners = np.arange(60)
    right = class_accuracy(sets(asked, asked, owners))
    assert right.value == 1 and right.interval == (1, 1)
    assert class_accuracy(sets(asked[::-1], asked, owners)).value == 0
    mixed = np.random.default_rng(2).permutation(asked)
    shuffled = class_accuracy(sets(mixed, asked, owners))
    assert shuffled.value == (mixed == asked).mean()
    assert shuffled.interval is not None
    low, high = shuffled.interval
    assert 0.3 < low < shuffled.value < high < 0.7


def test_pictures_of_one_photograph_count_together() -> None:
    """Four photographs of fifteen captions each: four items, not sixty, so the interval is wide."""
    asked = np.array([RED] * 60)
    drawn = np.array([RED] * 30 + [BLUE] * 30)
    apart, together = (
        class_accuracy(sets(drawn, asked, owners)) for owners in (np.arange(60), np.repeat(np.arange(4), 15))
    )
    assert apart.value == together.value == 0.5
    assert apart.interval is not None and together.interval is not None
    assert together.interval[1] - together.interval[0] > 2 * (apart.interval[1] - apart.interval[0])


def test_a_class_that_the_classifier_never_saw_is_never_right() -> None:
    asked = np.array([RED, 11] * 10)
    assert class_accuracy(sets(np.full(20, RED), asked, np.arange(20))).value == pytest.approx(0.5)
