"""Picture table: drawn sets compared with the real set in a feature space, with floor and ceiling.

Every row has a second FID, of as many pictures as half of the real set, against the other half: FID falls
with the number of pictures, so only figures of equal numbers compare, and only that one has its ceiling in
the row of real against real.
"""

import hashlib
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import CheckpointError
from speech2image.evaluation.real_set import RealSet
from speech2image.evaluation.results import CEILING, SHUFFLED, Results, Row
from speech2image.metrics.class_retrieval import choose_queries
from speech2image.metrics.feature_network import FeatureNetwork, load_imagenet_classifier
from speech2image.metrics.frechet import FewPicturesWarning
from speech2image.metrics.moments import moments_of
from speech2image.metrics.picture_classifier import PictureClassifier
from speech2image.metrics.picture_sets import PictureFeatures, PictureSets
from speech2image.metrics.registry import PICTURES, Measure

CLASSIFIER_FILE = "classifier.npz"
STANDARD_DIM = 2048


class Comparison:
    """Compares sets of pictures with one real set.

    Args:
        real: the real set.
        options: which measures to compute, by the words of `--measures`.
        classifier: gives the Inception Score its probabilities; None leaves the score out.
        queries_per_class: photographs of each class that look for pictures.
        equal: how many pictures are compared where all rows have equally many.
        seed: of KID's subsets, the score's splits, the queries and the intervals.
        resamples: of the intervals.
    """

    def __init__(
        self,
        real: RealSet,
        options: Collection[str],
        classifier: PictureClassifier | None,
        queries_per_class: int,
        equal: int,
        seed: int,
        resamples: int,
    ) -> None:
        self._real = real
        self._measures = [
            measure
            for measure in PICTURES
            if measure.option in options and (classifier is not None or "classifier" not in measure.needs)
        ]
        queries = real.first[choose_queries(real.labels[real.first], queries_per_class, seed)]
        first, second = (
            PictureFeatures(CEILING, real.features[half], real.labels[half], half)
            for half in (real.first, real.second)
        )
        half_moments = moments_of(real.features, real.second)
        # The queries are of the first half, and the fitted classifier knows it: so both look at the second.
        self._halves = PictureSets(
            first,
            second,
            second.features,
            half_moments,
            half_moments,
            equal,
            real.features[queries],
            real.labels[queries],
            classifier,
            seed,
            resamples,
        )
        self._whole = moments_of(real.features)

    def ceiling(self) -> Row:
        """The row of real against real: the first half against the second."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FewPicturesWarning)  # half of a small set: the row says so
            return _row(self._halves, self._measures)

    def drawn(self, pictures: PictureFeatures) -> Row:
        """The row of a drawn set against all of the real set."""
        return _row(self._against_all(pictures), self._measures)

    def shuffled(self, row: Row, pictures: PictureFeatures, order: NDArray[np.int64]) -> Row:
        """The row of a drawn set whose pictures are given to others.

        Only measures that know what was asked for are computed anew.
        """
        others = PictureFeatures(SHUFFLED, pictures.features, pictures.labels[order], pictures.owners)
        asked = [measure for measure in self._measures if "labels" in measure.needs]
        anew = _row(self._against_all(others), asked)
        return replace(anew, estimates={**row.estimates, **anew.estimates})

    def _against_all(self, pictures: PictureFeatures) -> PictureSets:
        return replace(
            self._halves,
            pictures=pictures,
            classified=pictures,
            real=self._real.features,
            real_moments=self._whole,
        )


def _row(sets: PictureSets, measures: Sequence[Measure[PictureSets]]) -> Row:
    counts = {"n": len(sets.pictures.features), "real": sets.real_moments.n}
    return Row(sets.pictures.id, {measure.key: measure.compute(sets) for measure in measures}, counts)


@dataclass(frozen=True)
class NamedClassifier:
    """A classifier of the Inception Score and what a report says of it.

    A score depends on its classifier as much as on the pictures, so every result names it; scores of
    different classifiers do not compare. StackGAN's scores come from an Inception network fine-tuned on the
    test classes, which nobody can download.
    """

    classifier: PictureClassifier
    description: Results


def score_classifier(
    network_file: Path, network: FeatureNetwork, real: RealSet, out: Path
) -> NamedClassifier | None:
    """ImageNet's head if the file has one, else one fitted to half of the real set and saved in `out`.

    Returns:
        None if the real set has one class alone, or too few photographs of some.
    """
    if network.dim == STANDARD_DIM:
        try:
            imagenet = load_imagenet_classifier(network_file)
            return NamedClassifier(imagenet, {"name": imagenet.name, "classes": 1008})
        except CheckpointError:
            pass  # a file with the last features but without the head: fit one
    return _fitted(network, real, out)


def _fitted(network: FeatureNetwork, real: RealSet, out: Path) -> NamedClassifier | None:
    labels = real.labels[real.first]
    classes = len(np.unique(labels))
    if classes < 2 or classes < len(np.unique(real.labels)):
        return None
    name = f"logistic regression on {network.name}, {classes} classes of the test photographs, half of them"
    classifier = PictureClassifier.fit(real.features[real.first], labels, name)
    path = out / CLASSIFIER_FILE
    classifier.save(path)
    found = classifier.probabilities(real.features[real.second]).argmax(axis=1)
    known = np.unique(labels)
    return NamedClassifier(
        classifier,
        {
            "name": classifier.name,
            "classes": classes,
            "file": CLASSIFIER_FILE,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "right_on_the_other_half": float((known[found] == real.labels[real.second]).mean()),
        },
    )
