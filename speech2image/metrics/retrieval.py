"""Speech -> picture retrieval: recall at k, and mean average precision of the class (as in S2IGAN's Table V).

Queries are speech embeddings, the gallery is one feature a picture (mean of its crops). They are compared by
cosine, each side after its own mean has been taken away: what all embeddings of an encoder share says
nothing, and not every loss puts it where the teacher's features have it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from speech2image.errors import DataError
from speech2image.metrics.estimate import Estimate, Sample
from speech2image.metrics.rows import blocks, unit

KS = (1, 5, 10, 50)


@dataclass(frozen=True)
class Retrieval:
    """Shares in [0, 1]: `recall[k]` of queries whose own picture is among the first k; class mAP."""

    recall: dict[int, float]
    mean_average_precision: float
    queries: int
    pictures: int

    def as_dict(self) -> dict[str, float]:
        """`{"R@1": ..., "R@10": ..., "mAP": ...}` for a log or a table."""
        return {f"R@{k}": share for k, share in self.recall.items()} | {"mAP": self.mean_average_precision}


def centred(
    features: Float[np.ndarray, "n size"], mean: Float[np.ndarray, " size"]
) -> Float[np.ndarray, "n size"]:
    """Takes the mean away and scales every row to length 1."""
    return unit(features.astype(np.float32) - mean.astype(np.float32))


def picture_features(teacher: Float[np.ndarray, "n crops size"]) -> Float[np.ndarray, "n size"]:
    """One feature a picture: the mean over its crops."""
    return teacher.astype(np.float32).mean(axis=1)


def ranks(
    scores: Float[np.ndarray, "queries pictures"], targets: Int[np.ndarray, " queries"]
) -> NDArray[np.int64]:
    """Place of each query's own picture, 0 for the first; ties count against the query.

    Raises:
        DataError: a score is not a number, which would count as a hit.
    """
    _check(scores)
    own = scores[np.arange(len(scores)), targets]
    return (scores >= own[:, None]).sum(axis=1) - 1


def average_precisions(
    scores: Float[np.ndarray, "queries pictures"], relevant: NDArray[np.bool_]
) -> Float[np.ndarray, " queries"]:
    """Per query, the mean over its relevant pictures of the precision down to each.

    Raises:
        DataError: a score is not a number.
    """
    _check(scores)
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = np.take_along_axis(relevant, order, axis=1)
    precision = hits.cumsum(axis=1) / np.arange(1, scores.shape[1] + 1)
    return (precision * hits).sum(axis=1) / np.maximum(hits.sum(axis=1), 1)


def answers(
    speech: Float[np.ndarray, "queries size"],
    pictures: Float[np.ndarray, "pictures size"],
    targets: Int[np.ndarray, " queries"],
    labels: Int[np.ndarray, " pictures"],
    speech_mean: Float[np.ndarray, " size"] | None = None,
) -> tuple[Int[np.ndarray, " queries"], Float[np.ndarray, " queries"]]:
    """Place of each query's own picture (0 for the first), and its average precision of the class.

    Args:
        speech: one embedding a query.
        pictures: one feature a picture.
        targets: which gallery picture each query describes.
        labels: class of each picture; a query's class is that of its picture.
        speech_mean: what to take away from `speech`; by default its own mean.
    """
    gallery = centred(pictures, pictures.mean(axis=0))
    centre = speech.mean(axis=0) if speech_mean is None else speech_mean
    places = np.empty(len(speech), np.int64)
    precisions = np.empty(len(speech))
    for rows in blocks(len(speech), 512):
        scores = centred(speech[rows], centre) @ gallery.T
        places[rows] = ranks(scores, targets[rows])
        precisions[rows] = average_precisions(scores, labels[targets[rows], None] == labels)
    return places, precisions


def retrieval(
    speech: Float[np.ndarray, "queries size"],
    pictures: Float[np.ndarray, "pictures size"],
    targets: Int[np.ndarray, " queries"],
    labels: Int[np.ndarray, " pictures"],
    ks: Sequence[int] = KS,
) -> Retrieval:
    """Recall at k and class mAP of spoken queries over a gallery of pictures; arguments as in `answers`."""
    places, precisions = answers(speech, pictures, targets, labels)
    recall = {k: float((places < k).mean()) for k in ks}
    return Retrieval(recall, float(precisions.mean()), len(speech), len(pictures))


def chance(labels: Int[np.ndarray, " pictures"], ks: Sequence[int] = KS) -> Retrieval:
    """What an order at random reaches: k / pictures, and for mAP (nearly) the share of the query's class."""
    n = len(labels)
    share_of_own_class = np.unique(labels, return_counts=True)[1] / n
    recall = {k: min(k / n, 1.0) for k in ks}
    return Retrieval(recall, float((share_of_own_class**2).sum()), n, n)


@dataclass(frozen=True)
class Ranking:
    """What queries found: place of the own picture (0 for the first), and average precision, [q] each."""

    places: NDArray[np.int64]
    precisions: NDArray[np.float64]
    sample: Sample


def recall_at(k: int) -> Callable[[Ranking], Estimate]:
    """Share of queries whose own picture is among the first k."""
    return lambda found: found.sample.mean(found.places < k)


def class_mean_average_precision(found: Ranking) -> Estimate:
    """Mean average precision of the query's class."""
    return found.sample.mean(found.precisions)


def _check(scores: NDArray[np.floating]) -> None:
    if np.isnan(scores).any():
        raise DataError("a similarity is not a number (NaN): look at the embeddings and features compared")
