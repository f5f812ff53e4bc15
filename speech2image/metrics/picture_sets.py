"""Picture sets: features of drawn pictures and of the real pictures that they are compared with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from speech2image.data.progress import track
from speech2image.metrics.moments import Moments
from speech2image.metrics.picture_classifier import PictureClassifier

COSTLY = 20
"""One resample of a measure that takes long for so many of the others."""


@dataclass(frozen=True)
class PictureFeatures:
    """A set of pictures as features.

    Attributes:
        id: of the row of the table.
        features: float32 [n, dim], possibly memory-mapped.
        labels: class of what was asked for, [n].
        owners: described photograph of each; the bootstrap draws these, [n].
    """

    id: str
    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    owners: NDArray[np.int64]

    @cached_property
    def members(self) -> list[NDArray[np.int64]]:
        """Rows of each owner."""
        place = np.unique(self.owners, return_inverse=True)[1]
        return np.split(np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))[:-1])


@dataclass(frozen=True, eq=False)
class PictureSets:
    """What a measure of pictures is computed from.

    Attributes:
        pictures: the set that is measured.
        classified: what a classifier and the class queries see: the same set, but for real against real.
        real: features of the real set it is compared with, float32 [m, dim].
        real_moments: mean and covariance of `real`.
        half_moments: of half of the real set, for comparisons of equal numbers.
        equal: how many pictures those comparisons take.
        queries, query_labels: features [q, dim] and classes [q] of photographs that look for pictures.
        classifier: gives probabilities of classes; None if there is none.
        classes: label of each of the classifier's classes, [k]; none where they are not the data set's.
        seed: of subsets, splits and intervals.
        resamples: of intervals.
    """

    pictures: PictureFeatures
    classified: PictureFeatures
    real: NDArray[np.float32]
    real_moments: Moments
    half_moments: Moments
    equal: int
    queries: NDArray[np.float32]
    query_labels: NDArray[np.int64]
    classifier: PictureClassifier | None
    classes: NDArray[np.int64]
    seed: int
    resamples: int

    def deviation(
        self,
        statistic: Callable[[NDArray[np.int64]], float],
        progress: str,
        pictures: PictureFeatures | None = None,
    ) -> float:
        """Standard deviation of a costly statistic of rows, whole described photographs drawn anew.

        Args:
            statistic: takes rows of `pictures`, with repeats.
            progress: what the progress bar says.
            pictures: default the set that is measured.
        """
        members = (pictures or self.pictures).members
        rng, times = np.random.default_rng([self.seed, 17]), max(2, self.resamples // COSTLY)
        found = []
        for _ in track(range(times), progress, times):
            drawn = rng.integers(len(members), size=len(members))
            found.append(statistic(np.concatenate([members[i] for i in drawn])))
        return float(np.std(found, ddof=1))
