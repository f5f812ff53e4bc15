"""Bootstrap confidence intervals (Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979).

Known pitfalls:
- Items that depend on one another (two captions of one picture, eight noises of one utterance) count once:
  draw whole `groups`.
- A measure that is biased at small n (FID) is more biased on a resample, which holds repeated items: its
  percentiles need not even contain the estimate. For such measures take the standard deviation of
  `resampled` and the normal interval about the estimate. It says how far another sample *of the same size*
  would fall, nothing about the bias.
"""

from collections.abc import Callable, Iterable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speech2image.errors import DataError

RESAMPLES = 2000
"""Resamples of an interval."""

Indices = NDArray[np.int64]


def bootstrap_interval(
    values: ArrayLike,
    counts: ArrayLike | None = None,
    seed: int = 0,
    groups: ArrayLike | None = None,
    n: int = RESAMPLES,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of sum(values) / sum(counts), by default the mean, over items drawn anew.

    Args:
        values: of each item [items], such as 1 for a hit, or the hits of a whole group.
        counts: what an item counts [items]; 1 by default.
        seed: of the drawing.
        groups: a label an item [items]; whole groups are drawn with replacement. By default every item is
            a group.
        n: resamples.
        level: share of resamples inside the interval.

    Raises:
        DataError: no items, values that are not finite, or lengths that differ.
    """
    values = np.asarray(values, dtype=np.float64)
    counts = np.ones(len(values)) if counts is None else np.asarray(counts, dtype=np.float64)
    _check(values, counts)
    if groups is not None:
        places = np.unique(np.asarray(groups), return_inverse=True)[1]
        values, counts = np.bincount(places, values), np.bincount(places, counts)
    rng = np.random.default_rng(seed)
    shares = np.empty(n)
    for i in range(n):
        drawn = rng.integers(len(values), size=len(values))
        total = counts[drawn].sum()
        shares[i] = values[drawn].sum() / total if total else np.nan
    low, high = np.nanpercentile(shares, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def resampled(
    statistic: Callable[..., float],
    sizes: Sequence[int],
    seed: int = 0,
    draws: Iterable[int] = range(RESAMPLES),
) -> NDArray[np.float64]:
    """`statistic` of every resample, float64 [draws].

    Args:
        statistic: takes, for each sample, the indices of the items drawn (int64 [size], with repeats).
        sizes: how many items each sample has; samples are drawn independently.
        seed: of the drawing.
        draws: numbers of the resamples; each has its own random stream. Wrap them to show how far it is.
    """

    def once(draw: int) -> float:
        rng = np.random.default_rng([seed, draw])
        return statistic(*(rng.integers(size, size=size) for size in sizes))

    return np.array([once(draw) for draw in draws])


def normal_interval(estimate: float, deviation: float, level: float = 0.95) -> tuple[float, float]:
    """The interval about `estimate` that a normal variable of this deviation falls in with share `level`."""
    reach = NormalDist().inv_cdf((1 + level) / 2) * deviation
    return estimate - reach, estimate + reach


def _check(values: NDArray[np.float64], counts: NDArray[np.float64]) -> None:
    if not len(values) or len(values) != len(counts):
        raise DataError(f"an interval needs values with a count each, got {len(values)} and {len(counts)}")
    if not (np.isfinite(values).all() and np.isfinite(counts).all() and counts.sum() > 0):
        raise DataError("an interval needs finite values, and counts whose sum is above 0")
