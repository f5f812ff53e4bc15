"""Variety of drawn pictures: how much of the real set they reach, how far apart those of one condition are.

Recall says what of the real pictures' variety is reached over all conditions (`precision_recall.py`), the
mean distance what one condition leaves open: pictures that are all alike have the distance 0. Distances are
between features of length 1 (0 to 2), as LPIPS takes them of normalised maps (Zhang et al. 2018), here of
the evaluating network's pooled last map.

Known pitfall: both rise with noise and faults, too; read them beside precision and colour agreement.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import DataError
from speech2image.metrics.estimate import Estimate, Sample
from speech2image.metrics.precision_recall import NEIGHBOURS, precision_recall
from speech2image.metrics.rows import unit


@dataclass(frozen=True, eq=False)
class VarietyFeatures:
    """What the variety of a set is computed from.

    Attributes:
        pictures: features of one picture of each condition, [n, dim].
        real: of the real set, [m, dim].
        conditions: what the pictures were drawn from, in the teacher's space, [n, size].
        real_conditions: the teacher's features of the real set, [m, size].
        alike: features of several pictures of one condition, [k, dim] of each.
        sample: whose groups are the conditions of `alike`, for the interval.
    """

    pictures: NDArray[np.float32]
    real: NDArray[np.float32]
    conditions: NDArray[np.float32]
    real_conditions: NDArray[np.float32]
    alike: list[NDArray[np.float32]]
    sample: Sample


def picture_recall(found: VarietyFeatures) -> Estimate:
    """Share of real pictures within the neighbourhoods of drawn ones."""
    return Estimate(precision_recall(found.real, found.pictures, NEIGHBOURS)[1])


def condition_recall(found: VarietyFeatures) -> Estimate:
    """The same of the conditions and the real pictures' features, before anything is drawn."""
    return Estimate(precision_recall(unit(found.real_conditions), unit(found.conditions), NEIGHBOURS)[1])


def mean_distance(found: VarietyFeatures) -> Estimate:
    """Mean distance between two pictures of one condition, over all conditions."""
    return found.sample.mean(np.array([pairwise_distance(features) for features in found.alike]))


def pairwise_distance(features: NDArray[np.floating]) -> float:
    """Mean Euclidean distance between two rows of length 1, over all pairs of `features` [k, dim].

    Raises:
        DataError: there are fewer than two rows.
    """
    if len(features) < 2:
        raise DataError(f"a distance is between two pictures or more, got {len(features)}")
    rows = unit(np.asarray(features, np.float32)).astype(np.float64)
    first, second = np.triu_indices(len(rows), 1)
    return float(np.linalg.norm(rows[first] - rows[second], axis=1).mean())
