"""Photograph -> drawn picture retrieval of the class, as S2IGAN measures what its pictures mean.

Wang et al., "S2IGAN: Speech-to-Image Generation via Adversarial Learning", Interspeech 2020: of each test
class two photographs are queries, the drawn pictures are the gallery, a drawn picture is relevant if the
caption it was drawn from is of the query's class, and the mean average precision over the queries is taken
in the space of Inception-v3, by the cosine of its features. The lists released with their code name 40
photographs of Oxford-102 (100 of CUB), and as gallery ten pictures drawn for each of those same photographs;
here every drawn picture of the test set is in the gallery.

Pitfalls: chance is about the share of the class in the gallery, so figures of data sets with other classes
differ; two queries a class are few (40 on Oxford-102), so the interval is wide.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from speech2image.errors import SettingsError
from speech2image.metrics.bootstrap import bootstrap_interval
from speech2image.metrics.estimate import Estimate
from speech2image.metrics.picture_sets import PictureSets
from speech2image.metrics.retrieval import average_precisions
from speech2image.metrics.rows import blocks, unit

AT_ONCE = 4096


def choose_queries(labels: Int[np.ndarray, " n"], per_class: int, seed: int) -> NDArray[np.int64]:
    """At most `per_class` places of each class at random, int64 [queries]."""
    rng = np.random.default_rng(seed)
    places = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in np.unique(labels)]
    return np.sort(np.concatenate(places))


def class_average_precisions(
    queries: Float[np.ndarray, "queries dim"],
    query_labels: Int[np.ndarray, " queries"],
    gallery: Float[np.ndarray, "gallery dim"],
    gallery_labels: Int[np.ndarray, " gallery"],
) -> Float[np.ndarray, " queries"]:
    """Average precision of each query's class over the gallery, which may be memory-mapped.

    Raises:
        SettingsError: no query or no picture to find.
    """
    if not len(queries) or not len(gallery):
        raise SettingsError("class retrieval needs at least one query and one picture")
    looking = unit(np.asarray(queries, dtype=np.float32))
    parts = (np.asarray(gallery[rows], dtype=np.float32) for rows in blocks(len(gallery), AT_ONCE))
    scores = np.concatenate([looking @ unit(part).T for part in parts], axis=1)
    return average_precisions(scores, query_labels[:, None] == gallery_labels)


def class_map(sets: PictureSets) -> Estimate:
    """Class mAP of the photographs that look for pictures; the interval draws these queries anew."""
    pictures = sets.classified
    found = class_average_precisions(sets.queries, sets.query_labels, pictures.features, pictures.labels)
    interval = bootstrap_interval(found, seed=sets.seed, n=sets.resamples)
    return Estimate(float(found.mean()), interval, {"queries": len(sets.queries)})
