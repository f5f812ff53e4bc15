"""Frechet distance between two sets of features; with Inception-v3's, the FID.

    FID = |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)),  m mean, S covariance (divided by n - 1)

Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium"
(NeurIPS 2017), eq. (6); Dowson and Landau (1982) for the distance of Gaussians; pytorch-fid for conventions.
The trace of the root is the sum of the roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric:
no complex parts, no offset on the diagonal. torchmetrics' metric (which gives the same figure) takes pictures
and runs the network itself, so features could not be kept nor moments merged; these few lines are simpler.

Known pitfalls:
- FID falls with the number of pictures (Chong and Forsyth, CVPR 2020): compare only figures at equal n. Below
  some 10,000 pictures KID, which has no such bias, is the better judge.
- With n <= dim the covariance is singular: a warning is given, as directions without variance say nothing.
- Figures of another layer, other weights, another resizing or another real set cannot be compared.
"""

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from speech2image.errors import CheckpointError, DataError
from speech2image.files import writing
from speech2image.metrics.bootstrap import Indices, normal_interval, resampled

RESAMPLES = 50
"""For the interval: enough for a standard deviation to a tenth of itself; each costs two decompositions."""


class FewPicturesWarning(UserWarning):
    """Too few pictures for the covariance to have full rank."""


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


def frechet_distance(a: Moments, b: Moments) -> float:
    """FID of two sets, as pytorch-fid defines it; never below 0.

    It is quicker where several sets are compared with one `b`, whose decomposition is kept.

    Warns:
        FewPicturesWarning: a set has no more pictures than features, so its covariance is singular.

    Raises:
        DataError: fewer than two pictures, or different numbers of features.
    """
    if a.dim != b.dim:
        raise DataError(f"features of {a.dim} and of {b.dim} dimensions cannot be compared: use one network")
    for moments in (a, b):
        if 2 <= moments.n <= moments.dim:
            warnings.warn(
                f"fewer pictures than dimensions: {moments.n} give a singular covariance of {moments.dim} "
                f"features and too high an FID; take more than {moments.dim} pictures, or read the KID",
                FewPicturesWarning,
                stacklevel=2,
            )
    return _distance(a, b)


def frechet_interval(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    estimate: float,
    seed: int = 0,
    draws: Iterable[int] = range(RESAMPLES),
    level: float = 0.95,
) -> tuple[float, float]:
    """Normal interval about `estimate` for features [n, dim] of two sets; see `bootstrap.py` for why normal.

    Both sets are drawn anew. The interval is of the FID at these numbers of pictures, whose bias it keeps.

    Args:
        a: features of one set; may be memory-mapped.
        b: of the other.
        estimate: their `frechet_distance`.
        seed: of the drawing.
        draws: numbers of the resamples, two at least; wrap them to show how far it is.
        level: share of such samples inside the interval.

    Raises:
        DataError: as `frechet_distance`.
    """

    def statistic(first: Indices, second: Indices) -> float:
        return _distance(Moments.of(a[first]), Moments.of(b[second]))

    values = resampled(statistic, (len(a), len(b)), seed, draws)
    return normal_interval(estimate, float(values.std(ddof=1)), level)


def _distance(a: Moments, b: Moments) -> float:
    covariance, root = a.covariance, b.root
    product = linalg.eigvalsh(root.T @ covariance @ root)
    trace = np.sqrt(np.clip(product, 0, None)).sum()
    gap = a.mean - b.mean
    distance = gap @ gap + np.trace(covariance) + np.trace(b.covariance) - 2 * trace
    return max(float(distance), 0.0)
