"""Moments of features: mean and covariance that are merged part by part, so that memory stays bounded."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from speech2image.errors import CheckpointError, DataError
from speech2image.files import writing
from speech2image.metrics.rows import blocks

AT_ONCE = 2048
"""Rows of features in memory at once."""


@dataclass
class Moments:
    """Mean and covariance of features that come in parts; memory does not grow with their number.

    Parts are merged by Chan, Golub and LeVeque's formula (1979) in float64, about each part's own mean, so
    nothing large is subtracted from something large.

    Attributes:
        dim: how many features.
        n: how many rows were seen.
        mean: float64 [dim].
        scatter: sum of outer products about the mean, float64 [dim, dim].
    """

    dim: int
    n: int = 0
    mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    scatter: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    _root: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.n:
            self.mean, self.scatter = np.zeros(self.dim), np.zeros((self.dim, self.dim))

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> "Moments":
        """Moments of features [n, dim] that are all there."""
        moments = cls(np.shape(features)[1])
        moments.update(features)
        return moments

    def update(self, features: NDArray[np.floating]) -> None:
        """Take in features [n, dim]; n may be 0.

        Raises:
            DataError: another number of features, or values that are not finite.
        """
        rows = np.asarray(features, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise DataError(f"features are {rows.shape}, these moments take [n, {self.dim}]")
        if not np.isfinite(rows).all():
            raise DataError("features hold values that are not finite; look at what the network was given")
        if len(rows):
            mean = rows.mean(0)
            rows = rows - mean
            self.merge(Moments(self.dim, len(rows), mean, rows.T @ rows))

    def merge(self, other: "Moments") -> None:
        """Take in what `other` has seen.

        Raises:
            DataError: `other` is of another number of features.
        """
        if other.dim != self.dim:
            raise DataError(f"moments of {other.dim} features cannot join those of {self.dim}")
        n = self.n + other.n
        if not other.n:
            return
        self._root = None
        shift = other.mean - self.mean
        self.scatter = self.scatter + other.scatter + np.outer(shift, shift) * (self.n * other.n / n)
        self.mean = self.mean + shift * (other.n / n)
        self.n = n

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Unbiased covariance, float64 [dim, dim].

        Raises:
            DataError: fewer than two rows were seen.
        """
        if self.n < 2:
            raise DataError(f"a covariance needs at least 2 pictures, got {self.n}")
        return self.scatter / (self.n - 1)

    @property
    def root(self) -> NDArray[np.float64]:
        """A matrix R with R R^T = covariance, float64 [dim, dim]; kept until more rows come."""
        if self._root is None:
            values, vectors = linalg.eigh(self.covariance)
            self._root = vectors * np.sqrt(np.clip(values, 0, None))
        return self._root

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `.npz` with pytorch-fid's names `mu` and `sigma`, and `n`.

        Raises:
            OutputError: the file cannot be written.
            DataError: fewer than two rows were seen.
        """
        covariance = self.covariance
        with writing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, mu=self.mean, sigma=covariance, n=self.n)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Moments":
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is absent, damaged, or lacks `mu`, `sigma` or `n` (pytorch-fid's own
                files do not say how many pictures they are of).
        """
        try:
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                mean, covariance, n = file["mu"], file["sigma"], int(file["n"])
        except Exception as error:  # a damaged archive raises whatever zip or numpy stumbles upon
            raise CheckpointError(
                f"{Path(path)} holds no moments with n, or is damaged: {error}; compute them again"
            ) from error
        return cls(len(mean), n, mean, covariance * (n - 1))


def moments_of(features: NDArray[np.float32], rows: NDArray[np.int64] | None = None) -> Moments:
    """Mean and covariance of some rows (default all) of features, which may be memory-mapped."""
    moments = Moments(features.shape[1])
    chosen = np.arange(len(features)) if rows is None else rows
    for block in blocks(len(chosen), AT_ONCE):
        moments.update(np.asarray(features[chosen[block]]))
    return moments
