"""Picture classifier of the Inception Score: features -> probabilities of classes, by logistic regression."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import CheckpointError, DataError
from speech2image.files import writing
from speech2image.metrics.logistic_regression import fit, log_softmax
from speech2image.metrics.moments import AT_ONCE
from speech2image.metrics.rows import blocks

_PENALTY = 1e-3
_STEPS = 200


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

        Args:
            features: possibly memory-mapped; read in parts.

        Raises:
            DataError: features of another size: of another network than it was fitted on.
        """
        if features.ndim != 2 or features.shape[1] + 1 != len(self.weights):
            raise DataError(
                f"the classifier '{self.name}' reads {len(self.weights) - 1} features, got {features.shape}"
            )
        found = np.empty((len(features), self.classes), np.float32)
        for rows in blocks(len(features), AT_ONCE):
            scores = features[rows].astype(np.float64) @ self.weights[:-1] + self.weights[-1]
            found[rows] = np.exp(log_softmax(scores))
        return found

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
