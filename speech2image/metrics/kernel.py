"""Kernel distance between two sets of features; with Inception-v3's, the KID.

    KID = mean k(x, x') + mean k(y, y') - 2 mean k(x, y),  k(x, y) = (x.y / dim + 1)^3,  over pairs x != x'

Source: Binkowski et al., "Demystifying MMD GANs" (ICLR 2018), section 3: the unbiased squared maximum mean
discrepancy under a polynomial kernel of degree 3, averaged over random subsets. torchmetrics' metric
(which gives the same figure) takes pictures and runs the network itself, so features could not be kept.

Known pitfalls:
- Unbiased, so it can be negative for equal sets; do not clip it. It can be compared at different n.
- The deviation over subsets tells the spread of subsets, which overlap, not of the mean: for that there is
  `kernel_interval`. Smaller subsets spread more, the mean stays.
- Often multiplied by 100 or 1,000 in papers; here it is not.
"""

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import DataError, SettingsError
from speech2image.metrics.estimate import Estimate
from speech2image.metrics.picture_sets import PictureSets
from speech2image.metrics.rows import blocks

AT_ONCE = 1024
"""Rows of a kernel matrix held at once."""


def kernel_distance(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """KID of features [n, dim] of two sets: mean and standard deviation over random subsets.

    Args:
        x: one set; may be memory-mapped.
        y: the other.
        subsets: how many.
        subset_size: rows of each set in a subset, drawn without replacement; at most the smaller set.
        seed: of the drawing.

    Raises:
        DataError: fewer than two rows, another number of features, or values that are not finite.
        SettingsError: no subsets, or subsets of fewer than two.
    """
    _check(x, y)
    if subsets < 1 or subset_size < 2:
        raise SettingsError(f"KID needs 1 subset of 2 or more, got {subsets} of {subset_size}")
    size = min(subset_size, len(x), len(y))
    rng = np.random.default_rng(seed)
    drawn = [
        tuple(np.sort(rng.choice(len(rows), size, replace=False)) for rows in (x, y)) for _ in range(subsets)
    ]
    if len(x) * len(y) > subsets * size**2:  # subsets that hardly overlap: each has its own kernel
        each = [_unbiased(x[own].astype(np.float64), y[other].astype(np.float64)) for own, other in drawn]
        values = np.array(each)
    else:  # one kernel of all rows serves all subsets
        times_x, times_y = np.zeros((len(x), subsets)), np.zeros((len(y), subsets))
        for place, (own, other) in enumerate(drawn):
            times_x[own, place] = times_y[other, place] = 1
        across = _sums(x, y, times_x, times_y) / size**2
        values = _drawn_within(x, times_x) + _drawn_within(y, times_y) - 2 * across
    return float(np.mean(values)), float(np.std(values))


def kernel_interval(
    x: NDArray[np.floating], y: NDArray[np.floating], seed: int = 0, n: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Bootstrap percentile interval of the KID of the whole sets: both are drawn anew `n` times.

    A pair of one row with its own copy does not count, which keeps resamples unbiased. The kernels are
    computed in blocks; memory does not grow with their number but with rows times `n`.

    Raises:
        DataError: as `kernel_distance`.
    """
    _check(x, y)
    rng = np.random.default_rng(seed)
    times_x, times_y = (
        rng.multinomial(len(s), np.full(len(s), 1 / len(s)), n).T.astype(float) for s in (x, y)
    )
    within_x, within_y = _drawn_within(x, times_x), _drawn_within(y, times_y)
    across = _sums(x, y, times_x, times_y) / (len(x) * len(y))
    low, high = np.percentile(within_x + within_y - 2 * across, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def kid(sets: PictureSets) -> Estimate:
    """KID of a set against the real set, with a bootstrap interval; its deviation is over subsets."""
    features, seed = sets.pictures.features, sets.seed
    mean, spread = kernel_distance(sets.real, features, seed=seed)
    interval = kernel_interval(sets.real, features, seed, max(20, sets.resamples // 5))
    return Estimate(mean, interval, {"kid_spread": spread})


def _kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _unbiased(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    n, m = len(x), len(y)
    xx, yy = _kernel(x, x), _kernel(y, y)
    within_x = (xx.sum() - np.trace(xx)) / (n * (n - 1))
    within_y = (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within_x + within_y - 2 * _kernel(x, y).mean())


def _drawn_within(x: NDArray[np.floating], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean kernel over pairs of different rows, for each resample [n]; rows were drawn `times` [rows, n]."""
    own = (np.square(x, dtype=np.float64).mean(1) + 1) ** 3
    pairs = times.sum(0) ** 2 - (times**2).sum(0)
    return (_sums(x, x, times, times) - own @ times**2) / np.maximum(pairs, 1)


def _sums(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    times_x: NDArray[np.float64],
    times_y: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Sum of the kernel over all pairs of drawn rows, for each resample [n]."""
    total, columns = np.zeros(times_x.shape[1]), y.astype(np.float64)
    for rows in blocks(len(x), AT_ONCE):
        total += (times_x[rows] * (_kernel(x[rows].astype(np.float64), columns) @ times_y)).sum(0)
    return total


def _check(x: NDArray[np.floating], y: NDArray[np.floating]) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise DataError(f"KID compares features of one network, [n, dim] both, got {x.shape} and {y.shape}")
    if min(len(x), len(y)) < 2:
        raise DataError(f"KID needs at least 2 pictures in each set, got {len(x)} and {len(y)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("features hold values that are not finite; look at what the network was given")
