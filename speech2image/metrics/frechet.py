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

import warnings
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from speech2image.errors import DataError
from speech2image.metrics.bootstrap import Indices, normal_interval, resampled
from speech2image.metrics.estimate import Estimate
from speech2image.metrics.moments import Moments, moments_of
from speech2image.metrics.picture_sets import PictureSets

RESAMPLES = 50
"""For the interval: enough for a standard deviation to a tenth of itself; each costs two decompositions."""


class FewPicturesWarning(UserWarning):
    """Too few pictures for the covariance to have full rank."""


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


def fid(sets: PictureSets) -> Estimate:
    """FID of a set against the real set, with a normal interval.

    Its spread is that of FID when the described photographs are drawn again with replacement. The spread
    alone is of use: doubles among the pictures raise every resampled FID.
    """
    features, real = sets.pictures.features, sets.real_moments
    own = moments_of(features)
    distance = frechet_distance(own, real)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewPicturesWarning)  # said once, of the set itself
        spread = sets.deviation(
            lambda rows: frechet_distance(moments_of(features, rows), real), "interval of FID"
        )
    low, high = normal_interval(distance, spread)
    singular = min(own.n, real.n) <= features.shape[1]
    return Estimate(distance, (max(low, 0.0), max(high, 0.0)), {"singular": singular})


def fid_of_equal_numbers(sets: PictureSets) -> Estimate:
    """FID of so many pictures of a set as every row has, against the second half of the real set."""
    features = sets.pictures.features
    few = np.sort(np.random.default_rng([sets.seed, 13]).permutation(len(features))[: sets.equal])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewPicturesWarning)
        distance = frechet_distance(moments_of(features, few), sets.half_moments)
    return Estimate(distance, None, {"n_equal": len(few)})


def _distance(a: Moments, b: Moments) -> float:
    covariance, root = a.covariance, b.root
    product = linalg.eigvalsh(root.T @ covariance @ root)
    trace = np.sqrt(np.clip(product, 0, None)).sum()
    gap = a.mean - b.mean
    distance = gap @ gap + np.trace(covariance) + np.trace(b.covariance) - 2 * trace
    return max(float(distance), 0.0)
