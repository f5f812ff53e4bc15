"""Precision and recall of generated pictures: how many look real, how much of the real set is reached.

Around each picture of a set lies a ball, whose radius is the distance to its k-th nearest neighbour in that
set. Precision: share of generated pictures inside any ball of the real set. Recall: share of real pictures
inside any ball of the generated set.

Source: Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models" (NeurIPS
2019), eq. (1) and (2), k = 3. No well-kept library without torchvision computes it.

Known pitfalls:
- Both depend on how many pictures there are: compare at equal numbers.
- One outlier among the real pictures has a huge ball, which lets anything near it count as precise.
- Copies of the training set score 1 and 1; a picture that is in a set k + 1 times has a ball of radius 0.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from speech2image.data.progress import track
from speech2image.errors import DataError
from speech2image.metrics.bootstrap import normal_interval
from speech2image.metrics.estimate import Estimate
from speech2image.metrics.picture_sets import PictureSets
from speech2image.metrics.rows import blocks

_HELD = 8_000_000
"""Distances held at once (32 MB)."""
NEIGHBOURS = 3
"""k of `precision` and `recall`."""
HALF_SAMPLES = 20
"""For their intervals: halves drawn without replacement, as doubles would spoil the neighbours."""


def precision_recall(
    real: NDArray[np.floating], fake: NDArray[np.floating], k: int = 3
) -> tuple[float, float]:
    """Precision and recall of `fake`, each in [0, 1], from features [n, dim]; memory is bounded.

    Args:
        real: features of real pictures; may be memory-mapped.
        fake: features of generated pictures.
        k: which neighbour gives the radius.

    Raises:
        DataError: a set has no more than k pictures, other numbers of features, or values not finite.
    """
    _check(real, fake, k)
    centre = real.mean(0, dtype=np.float64)  # less to cancel in the distances
    real, fake = ((features - centre).astype(np.float32) for features in (real, fake))
    return _share_inside(fake, real, _radii(real, k)), _share_inside(real, fake, _radii(fake, k))


def precision(sets: PictureSets) -> Estimate:
    """Precision of a set against the real set; the interval is from half-samples."""
    return _both(sets)[0]


def recall(sets: PictureSets) -> Estimate:
    """Recall of a set against the real set; the interval is from half-samples."""
    return _both(sets)[1]


@lru_cache(maxsize=1)  # the two are computed together
def _both(sets: PictureSets) -> tuple[Estimate, Estimate]:
    features, members = sets.pictures.features, sets.pictures.members
    found, rng = precision_recall(sets.real, features, NEIGHBOURS), np.random.default_rng([sets.seed, 19])
    halves = []
    for _ in track(range(HALF_SAMPLES), "precision and recall", HALF_SAMPLES):
        drawn = rng.permutation(len(members))[: (len(members) + 1) // 2]
        rows = np.sort(np.concatenate([members[i] for i in drawn]))
        if len(rows) > NEIGHBOURS:
            halves.append(precision_recall(sets.real, features[rows], NEIGHBOURS))
    first, second = (_estimate(value, [half[place] for half in halves]) for place, value in enumerate(found))
    return first, second


def _estimate(value: float, halves: list[float]) -> Estimate:
    # A half of n items drawn without replacement spreads as much as n items drawn with replacement.
    spread = float(np.std(halves, ddof=1)) if len(halves) > 1 else 0.0
    low, high = (min(max(end, 0.0), 1.0) for end in normal_interval(value, spread))
    return Estimate(value, (low, high))


def _radii(features: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Squared distance of each row to its k-th nearest other row, [n]."""
    radii = np.empty(len(features), np.float32)
    for rows in _blocks(len(features), len(features)):
        distances = _squared_distances(features[rows], features)
        distances[np.arange(len(distances)), np.arange(len(features))[rows]] = np.inf  # itself
        radii[rows] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return radii


def _share_inside(
    points: NDArray[np.float32], centres: NDArray[np.float32], radii: NDArray[np.float32]
) -> float:
    inside = 0
    for rows in _blocks(len(points), len(centres)):
        inside += int((_squared_distances(points[rows], centres) <= radii).any(1).sum())
    return inside / len(points)


def _squared_distances(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    squares = np.square(x).sum(1)[:, None] + np.square(y).sum(1)
    return np.maximum(squares - 2 * (x @ y.T), 0)


def _blocks(n: int, width: int) -> Iterator[slice]:
    return blocks(n, max(1, _HELD // width))


def _check(real: NDArray[np.floating], fake: NDArray[np.floating], k: int) -> None:
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise DataError(
            f"features of one network are compared, [n, dim] both, got {real.shape}, {fake.shape}"
        )
    if k < 1 or min(len(real), len(fake)) <= k:
        raise DataError(
            f"precision and recall with k = {k} need k >= 1 and more than k pictures in each set, "
            f"got {len(real)} and {len(fake)}"
        )
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        raise DataError("features hold values that are not finite; look at what the network was given")
