"""Inception Score: how surely a classifier names each picture, and how many classes it names.

    IS = exp(mean over pictures of KL(p(y | picture) || p(y))),  p(y) the mean of p(y | picture)

on each of 10 splits of the pictures in random order; reported are mean and standard deviation over splits.

Source: Salimans et al., "Improved Techniques for Training GANs" (NeurIPS 2016), section 4. The standard score
takes the 1,008-class softmax of Inception-v3 without its bias (`feature_network.load_imagenet_classifier`);
for birds and flowers papers take classifiers fitted to the data set, which nobody can download: here one is
fitted to training photographs, saved and named in every result (`evaluation/realism.py`). torchmetrics'
metric (which gives the same figure) takes pictures and runs the network itself, so features cannot be kept.

Known pitfalls:
- The score of one classifier says nothing about that of another: always name it.
- Between 1 and the number of classes; splits of few pictures bound it further, by the pictures in a split.
- Nothing is compared with real pictures, and pictures without variety inside a class score high (Barratt and
  Sharma, "A Note on the Inception Score", 2018). A classifier of training classes sees unseen ones wrongly.
- The first implementation takes pictures in their given order, so splits could be classes: here at random.
"""

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import DataError
from speech2image.metrics.bootstrap import normal_interval
from speech2image.metrics.estimate import Estimate
from speech2image.metrics.picture_sets import PictureSets


def inception_score(
    probabilities: NDArray[np.floating], splits: int = 10, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation over splits.

    Args:
        probabilities: p(y | picture), rows sum to 1, [n, classes].
        splits: how many parts; the pictures are put in random order first.
        seed: of that order.

    Raises:
        DataError: fewer pictures than splits, or rows that are no probabilities.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or splits < 1 or len(p) < splits:
        raise DataError(f"{splits} splits need at least as many rows of probabilities, got {p.shape}")
    if not np.isfinite(p).all() or (p < 0).any() or not np.allclose(p.sum(1), 1, atol=1e-3):
        raise DataError("these are no probabilities: every row must be >= 0 and sum to 1")
    order = np.random.default_rng(seed).permutation(len(p))
    scores = [_score(p[part]) for part in np.array_split(order, splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(p: NDArray[np.float64]) -> float:
    ratio = np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(p.mean(0), 1e-300))
    return float(np.exp((p * ratio).sum(1).mean()))


def inception(sets: PictureSets) -> Estimate:
    """Inception Score of a set, with a normal interval; the set must have a classifier."""
    assert sets.classifier is not None
    probabilities = sets.classifier.probabilities(sets.classified.features)
    splits = min(10, max(1, len(probabilities) // 2))

    def score(rows: NDArray[np.int64]) -> float:
        return inception_score(probabilities[rows], splits=splits, seed=sets.seed)[0]

    value, over_splits = inception_score(probabilities, splits=splits, seed=sets.seed)
    spread = sets.deviation(score, "interval of the Inception Score", sets.classified)
    low, high = (max(end, 1.0) for end in normal_interval(value, spread))
    return Estimate(value, (low, high), {"is_spread": over_splits, "is_splits": splits})
