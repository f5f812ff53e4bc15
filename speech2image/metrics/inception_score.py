"""Inception Score, and classifiers to compute it with.

    IS = exp(mean over pictures of KL(p(y | picture) || p(y))),  p(y) the mean of p(y | picture)

on each of 10 splits of the pictures in random order; reported are mean and standard deviation over splits.

Source: Salimans et al., "Improved Techniques for Training GANs" (NeurIPS 2016), section 4. The standard score
takes the 1,008-class softmax of Inception-v3 without its bias (`feature_network.load_imagenet_classifier`);
for birds and flowers papers take classifiers fitted to the data set, which nobody can download: here such a
classifier is fitted, saved and named in every result. torchmetrics' metric
(which gives the same figure) takes pictures and runs the network itself, so features could not be kept.

Known pitfalls:
- The score of one classifier says nothing about that of another: always name it.
- Between 1 and the number of classes; splits of few pictures bound it further, by the pictures in a split.
- Nothing is compared with real pictures, and pictures without variety inside a class score high (Barratt and
  Sharma, "A Note on the Inception Score", 2018). A classifier of training classes sees unseen ones wrongly.
- The first implementation takes pictures in their given order, so splits could be classes: here at random.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import CheckpointError, DataError
from speech2image.files import writing
from speech2image.metrics.logistic_regression import fit, log_softmax

_PENALTY = 1e-3
_STEPS = 200


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


@dataclass(frozen=True)
class PictureClassifier:
    """Features -> probabilities of classes, by logistic regression; make one with `fit` or `load`.

    Attributes:
        weights: float32 [features + 1, classes]; the last row is the bias.
        name: what a result calls it: features, data set, number of classes.
        accuracy: share of pictures it classified rightly while being fitted; nan if it was not.
    """

    weights: NDArray[np.float32]
    name: str
    accuracy: float = float("nan")

    @classmethod
    def fit(
        cls, features: NDArray[np.floating], labels: NDArray[np.integer], name: str
    ) -> "PictureClassifier":
        """Fit on features and classes of real pictures.

        Args:
            features: [n, size], scaled here to mean 0 and deviation 1 (folded into the weights after).
            labels: classes [n], any whole numbers.
            name: what a result calls it.

        Raises:
            DataError: the numbers differ, fewer than two classes, or values that are not finite.
        """
        kinds, places = np.unique(labels, return_inverse=True)
        if len(features) != len(labels) or len(kinds) < 2:
            raise DataError(f"{len(features)} features, {len(labels)} labels of {len(kinds)} classes: need 2")
        if not np.isfinite(features).all():
            raise DataError("features hold values that are not finite; look at what the network was given")
        mean = features.mean(0, dtype=np.float64)
        scale = np.maximum(features.std(0, dtype=np.float64), 1e-6)
        rows = _with_one((features - mean) / scale)
        inner = fit(rows, np.eye(len(kinds), dtype=np.float32)[places], _PENALTY, _STEPS)
        slope = inner[:-1] / scale[:, None]
        weights = np.vstack([slope, inner[-1] - mean @ slope]).astype(np.float32)
        accuracy = float(((rows @ inner).argmax(1) == places).mean())
        return cls(weights, name, accuracy)

    @property
    def classes(self) -> int:
        """How many classes it tells apart: the highest possible score."""
        return self.weights.shape[1]

    def probabilities(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Features [n, size] -> p(y | picture), float32 [n, classes].

        Raises:
            DataError: features of another size: of another network than it was fitted on.
        """
        if features.ndim != 2 or features.shape[1] + 1 != len(self.weights):
            raise DataError(
                f"the classifier '{self.name}' reads {len(self.weights) - 1} features, got {features.shape}"
            )
        scores = features.astype(np.float64) @ self.weights[:-1] + self.weights[-1]
        return np.exp(log_softmax(scores)).astype(np.float32)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the classifier as `.npz`.

        Raises:
            OutputError: the file cannot be written.
        """
        with writing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, weights=self.weights, name=self.name, accuracy=self.accuracy)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "PictureClassifier":
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is absent, damaged, or no classifier.
        """
        try:
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                return cls(file["weights"], str(file["name"]), float(file["accuracy"]))
        except Exception as error:  # a damaged archive raises whatever zip or numpy stumbles upon
            raise CheckpointError(
                f"{Path(path)} is no picture classifier, or damaged: {error}; fit one again"
            ) from error


def _with_one(features: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.hstack([features, np.ones((len(features), 1))]).astype(np.float32)
