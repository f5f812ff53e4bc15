"""Picture table: drawn sets compared with the real set in a feature space, with floor and ceiling.

Every row has a second FID, of as many pictures as half of the real set, against the other half: FID falls
with the number of pictures, so only figures of equal numbers compare, and only that one has its ceiling in
the row of real against real.
"""

import hashlib
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import CheckpointError
from speech2image.evaluation.real_set import RealSet, training_photographs
from speech2image.evaluation.results import CEILING, SHUFFLED, Results, Row
from speech2image.evaluation.settings import FITTED, IMAGENET
from speech2image.metrics.class_retrieval import choose_queries
from speech2image.metrics.feature_network import FeatureNetwork, load_imagenet_classifier
from speech2image.metrics.frechet import FewPicturesWarning
from speech2image.metrics.moments import moments_of
from speech2image.metrics.picture_classifier import PictureClassifier
from speech2image.metrics.picture_sets import PictureFeatures, PictureSets
from speech2image.metrics.registry import PICTURES, Measure

CLASSIFIER_FILE = "classifier.npz"
FITTED_ON = 2500
"""About so many training photographs fit and check a classifier."""


class Comparison:
    """Compares sets of pictures with one real set.

    Args:
        real: the real set.
        options: which measures to compute, by the words of `--measures`.
        classifier: gives probabilities of classes; None leaves out what needs them.
        queries_per_class: photographs of each class that look for pictures.
        equal: how many pictures are compared where all rows have equally many.
        seed: of KID's subsets, the score's splits, the queries and the intervals.
        resamples: of the intervals.
    """

    def __init__(
        self,
        real: RealSet,
        options: Collection[str],
        classifier: "NamedClassifier | None",
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
        # The queries are of the first half, so they look among pictures of the second.
        self._halves = PictureSets(
            first,
            second,
            second.features,
            half_moments,
            half_moments,
            equal,
            real.features[queries],
            real.labels[queries],
            None if classifier is None else classifier.classifier,
            np.zeros(0, np.int64) if classifier is None else classifier.labels,
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
    """A classifier of the Inception Score and of class accuracy, and what a report says of it.

    A score depends on its classifier as much as on the pictures, so every result names it; scores of
    different classifiers do not compare. StackGAN's scores come from an Inception network fine-tuned on the
    test classes, which nobody can download.

    Attributes:
        classifier: reads features.
        description: what results.json keeps of it.
        labels: label of each of its classes in the data that are measured, [k]; none if it knows others.
    """

    classifier: PictureClassifier
    description: Results
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


def score_classifier(
    chosen: str, network_file: Path, network: FeatureNetwork, arrays: PairArrays, size: int, out: Path
) -> NamedClassifier | None:
    """The classifier that a setting names (`EvaluationSettings.classifier`).

    A fitted one learns from training photographs alone: none of those that measure it, or that pictures are
    compared with, is among them. In a zero-shot split its classes are others than those that are drawn; it
    tells how surely and how differently pictures look like something it knows. It is saved in `out`.

    Returns:
        None for a fitted one if the training photographs are of one class alone.

    Raises:
        CheckpointError: the file is damaged, has no head, or reads features of another network.
    """
    if chosen == FITTED:
        return _fitted(network, arrays, size, out)
    if chosen == IMAGENET:
        classifier = load_imagenet_classifier(network_file)
        described: Results = {}
    else:
        classifier = PictureClassifier.load(chosen)
        described = {"file": Path(chosen).name, "sha256": _checksum(Path(chosen))}
    if len(classifier.weights) != network.dim + 1:
        raise CheckpointError(
            f"the classifier '{classifier.name}' reads {len(classifier.weights) - 1} features, "
            f"{network.name} gives {network.dim}: choose another --classifier or --layer"
        )
    return NamedClassifier(classifier, {"name": classifier.name, "classes": classifier.classes, **described})


def _fitted(network: FeatureNetwork, arrays: PairArrays, size: int, out: Path) -> NamedClassifier | None:
    if len(np.unique(arrays.labels[arrays.samples_of("train")])) < 2:
        return None
    features, labels = training_photographs(arrays, size, network, FITTED_ON)
    order = np.argsort(labels, kind="stable")
    held_back = order[2::5]  # of each class of five or more
    rest = np.setdiff1d(order, held_back)
    known = np.unique(labels[rest])
    name = (
        f"logistic regression on {network.name}, {len(known)} classes of {arrays.folder.resolve().name}, "
        f"{len(rest)} training photographs"
    )
    classifier = PictureClassifier.fit(features[rest], labels[rest], name)
    path = out / CLASSIFIER_FILE
    classifier.save(path)
    found = known[classifier.probabilities(features[held_back]).argmax(axis=1)]
    return NamedClassifier(
        classifier,
        {
            "name": classifier.name,
            "classes": classifier.classes,
            "file": CLASSIFIER_FILE,
            "sha256": _checksum(path),
            "right_on_photographs_held_back": float((found == labels[held_back]).mean()),
        },
        known,
    )


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
