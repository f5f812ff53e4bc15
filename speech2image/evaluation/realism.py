"""Picture table: FID, KID, precision, recall, Inception Score and class mAP, with floor and ceiling.

Every row has a second FID, of as many pictures as half of the real set, against the other half: FID falls
with the number of pictures, so only figures of equal numbers compare, and only that one has its ceiling in
the row of real against real.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.data.progress import track
from speech2image.evaluation.real_set import RealSet
from speech2image.metrics.bootstrap import bootstrap_interval, normal_interval
from speech2image.metrics.class_retrieval import choose_queries, class_average_precisions
from speech2image.metrics.frechet import FewPicturesWarning, Moments, frechet_distance
from speech2image.metrics.inception_score import inception_score
from speech2image.metrics.kernel import kernel_distance, kernel_interval
from speech2image.metrics.picture_classifier import PictureClassifier
from speech2image.metrics.precision_recall import precision_recall
from speech2image.metrics.rows import blocks

REAL = "real against real: two halves (ceiling)"
SHUFFLED = "kept out, utterances shuffled (floor)"
COSTLY = 20
"""One resample of a measure that takes long for so many of the others."""
HALF_SAMPLES = 20
"""Of precision and recall, which doubles would spoil: halves drawn without replacement spread as much."""
NEIGHBOURS = 3
"""k of precision and recall."""
AT_ONCE = 2048
"""Rows of features in memory at once."""


@dataclass(frozen=True)
class PictureFeatures:
    """A set of pictures as features.

    Attributes:
        name: row of the table.
        features: memory-mapped float32 [n, dim].
        labels: class of what was asked for, [n].
        owners: described photograph of each; bootstrap draws these, [n].
    """

    name: str
    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    owners: NDArray[np.int64]


class Comparison:
    """Compares sets of pictures with one real set.

    Args:
        real: the real set.
        measures: which of `settings.OF_FEATURES` to compute.
        classifier: gives the Inception Score its probabilities; None leaves the score out.
        queries_per_class: photographs of each class that look for pictures.
        seed: of KID's subsets, the score's splits, the queries and the intervals.
        resamples: of the intervals.
    """

    def __init__(
        self,
        real: RealSet,
        measures: Sequence[str],
        classifier: PictureClassifier | None,
        queries_per_class: int,
        seed: int,
        resamples: int,
    ) -> None:
        self.real, self.measures, self.classifier = real, measures, classifier
        self.seed, self.resamples = seed, resamples
        places = choose_queries(real.labels[real.first], queries_per_class, seed)
        self._queries = real.first[places]
        self._moments = moments_of(real.features)
        self._half = moments_of(real.features, real.second)

    def ceiling(self, equal: int) -> dict[str, Any]:
        """The row of real against real: the first half against the second."""
        real = self.real
        first = PictureFeatures(REAL, real.features[real.first], real.labels[real.first], real.first)
        second = PictureFeatures(REAL, real.features[real.second], real.labels[real.second], real.second)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FewPicturesWarning)  # half of a small set: the row says so
            row = self._row(first, self._half, second.features, equal)
        # The queries are of the first half, and the fitted classifier knows it: so both look at the second.
        return row | self._score(second) | self._class_map(second)

    def drawn(self, pictures: PictureFeatures, equal: int) -> dict[str, Any]:
        """The row of a drawn set against all of the real set."""
        row = self._row(pictures, self._moments, self.real.features, equal)
        return row | self._score(pictures) | self._class_map(pictures)

    def shuffled(
        self, row: dict[str, Any], pictures: PictureFeatures, order: NDArray[np.int64]
    ) -> dict[str, Any]:
        """The row of a drawn set whose pictures are given to others: only class mAP knows of it."""
        others = PictureFeatures(SHUFFLED, pictures.features, pictures.labels[order], pictures.owners)
        return row | {"pictures": SHUFFLED} | self._class_map(others)

    def _row(
        self, pictures: PictureFeatures, real: Moments, references: NDArray, equal: int
    ) -> dict[str, Any]:
        row: dict[str, Any] = {"pictures": pictures.name, "n": len(pictures.features), "real": real.n}
        if "fid" in self.measures:
            row |= self._fid(pictures, real, equal)
        if "kid" in self.measures:
            row |= self._kid(pictures, references)
        if "precision-recall" in self.measures:
            row |= self._precision_recall(pictures, references)
        return row

    def _kid(self, pictures: PictureFeatures, references: NDArray[np.float32]) -> dict[str, Any]:
        mean, spread = kernel_distance(references, pictures.features, seed=self.seed)
        times = max(20, self.resamples // 5)
        interval = kernel_interval(references, pictures.features, self.seed, times)
        return {"kid": mean, "kid_spread": spread, "kid_interval": list(interval)}

    def _precision_recall(self, pictures: PictureFeatures, references: NDArray[np.float32]) -> dict[str, Any]:
        """Precision and recall; intervals from half-samples of the described photographs."""
        found = precision_recall(references, pictures.features, NEIGHBOURS)
        members, rng = _members(pictures.owners), np.random.default_rng([self.seed, 19])
        halves = []
        for _ in track(range(HALF_SAMPLES), "precision and recall", HALF_SAMPLES):
            drawn = rng.permutation(len(members))[: (len(members) + 1) // 2]
            rows = np.sort(np.concatenate([members[i] for i in drawn]))
            if len(rows) > NEIGHBOURS:
                halves.append(precision_recall(references, pictures.features[rows], NEIGHBOURS))
        row: dict[str, Any] = dict(zip(("precision", "recall"), found, strict=True))
        for place, name in enumerate(("precision", "recall")):
            spread = float(np.std([half[place] for half in halves], ddof=1)) if len(halves) > 1 else 0.0
            row[f"{name}_interval"] = [min(max(end, 0), 1) for end in normal_interval(row[name], spread)]
        return row

    def _fid(self, pictures: PictureFeatures, real: Moments, equal: int) -> dict[str, Any]:
        own = moments_of(pictures.features)
        fid = frechet_distance(own, real)
        few = np.sort(np.random.default_rng([self.seed, 13]).permutation(own.n)[:equal])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FewPicturesWarning)
            fair = frechet_distance(moments_of(pictures.features, few), self._half)
            spread = self._fid_spread(pictures, real)
        return {
            "fid": fid,
            "fid_interval": [max(end, 0.0) for end in normal_interval(fid, spread)],
            "fid_equal": fair,
            "n_equal": len(few),
            "singular": min(own.n, real.n) <= pictures.features.shape[1],
        }

    def _fid_spread(self, pictures: PictureFeatures, real: Moments) -> float:
        """Standard deviation of FID when the described photographs are drawn again with replacement.

        Its spread alone is of use: doubles among the pictures raise every resampled FID.
        """

        def fid(rows: NDArray[np.int64]) -> float:
            return frechet_distance(moments_of(pictures.features, rows), real)

        return self._spread(fid, pictures, "interval of FID")

    def _spread(
        self, measure: Callable[[NDArray[np.int64]], float], pictures: PictureFeatures, name: str
    ) -> float:
        members, rng = _members(pictures.owners), np.random.default_rng([self.seed, 17])
        times, found = max(2, self.resamples // COSTLY), []
        for _ in track(range(times), name, times):
            drawn = rng.integers(len(members), size=len(members))
            found.append(measure(np.concatenate([members[i] for i in drawn])))
        return float(np.std(found, ddof=1))

    def _score(self, pictures: PictureFeatures) -> dict[str, Any]:
        if self.classifier is None:
            return {}
        features = pictures.features
        rows = blocks(len(features), AT_ONCE)
        parts = [self.classifier.probabilities(features[block]) for block in rows]
        probabilities = np.concatenate(parts)
        splits = min(10, max(1, len(probabilities) // 2))
        score, over_splits = inception_score(probabilities, splits=splits, seed=self.seed)
        spread = self._spread(
            lambda rows: inception_score(probabilities[rows], splits=splits, seed=self.seed)[0],
            pictures,
            "interval of the Inception Score",
        )
        return {
            "is": score,
            "is_spread": over_splits,
            "is_interval": [max(end, 1.0) for end in normal_interval(score, spread)],
            "is_splits": splits,
        }

    def _class_map(self, pictures: PictureFeatures) -> dict[str, Any]:
        if "class-map" not in self.measures:
            return {}
        labels = self.real.labels[self._queries]
        queries = self.real.features[self._queries]
        found = class_average_precisions(queries, labels, pictures.features, pictures.labels)
        interval = bootstrap_interval(found, seed=self.seed, n=self.resamples)
        return {
            "class_map": float(found.mean()),
            "class_map_interval": list(interval),
            "queries": len(queries),
        }


def moments_of(features: NDArray[np.float32], rows: NDArray[np.int64] | None = None) -> Moments:
    """Mean and covariance of some rows (default all), read block by block."""
    moments = Moments(features.shape[1])
    chosen = np.arange(len(features)) if rows is None else rows
    for block in blocks(len(chosen), AT_ONCE):
        moments.update(np.asarray(features[chosen[block]]))
    return moments


def _members(owners: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of each owner."""
    place = np.unique(owners, return_inverse=True)[1]
    return np.split(np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))[:-1])
