"""Classifier of the Inception Score: ImageNet's, where the network's file has it, or one fitted here.

A score depends on its classifier as much as on the pictures, so every result names it. StackGAN's scores come
from an Inception network fine-tuned on the test classes, which nobody can download; the one fitted here is a
logistic regression on the evaluating network's features of half of the real set (the other half gives the
ceiling), and is saved beside the report. Scores of different classifiers do not compare.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speech2image.errors import CheckpointError
from speech2image.evaluation.real_set import RealSet
from speech2image.metrics.feature_network import FeatureNetwork, load_imagenet_classifier
from speech2image.metrics.picture_classifier import PictureClassifier

FILE = "classifier.npz"
STANDARD_DIM = 2048


@dataclass(frozen=True)
class NamedClassifier:
    """A classifier and what a report says of it."""

    classifier: PictureClassifier
    description: dict[str, Any]


def score_classifier(
    network_file: Path, network: FeatureNetwork, real: RealSet, out: Path
) -> NamedClassifier | None:
    """ImageNet's head if the file has one, else a classifier fitted to the real set and saved in `out`.

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
    path = out / FILE
    classifier.save(path)
    found = classifier.probabilities(real.features[real.second]).argmax(axis=1)
    known = np.unique(labels)
    return NamedClassifier(
        classifier,
        {
            "name": classifier.name,
            "classes": classes,
            "file": FILE,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "right_on_the_other_half": float((known[found] == real.labels[real.second]).mean()),
        },
    )
