"""Variety table: where variety goes, from the photographs' features over the prior's samples to the pictures.

    photographs    themselves (ceiling); alike are those of one class
    features       drawn from the teacher's features of these photographs, without speech
    prior samples  drawn from one sample of the condition prior for each utterance, under the generator's
                   noises
    speech         drawn from the utterances, as users do: prior and generator under their noises

All rows describe the same photographs, one half of the real set, and are compared with the other half.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError
from speech2image.evaluation.drawing import DrawnSet, noise_seed
from speech2image.evaluation.embeddings import Embeddings
from speech2image.evaluation.real_set import RealSet
from speech2image.evaluation.results import CEILING, FEATURES, PRIOR_SAMPLES, SPEECH, Row
from speech2image.evaluation.utterances import evenly
from speech2image.metrics.estimate import Sample
from speech2image.metrics.precision_recall import NEIGHBOURS
from speech2image.metrics.registry import VARIETY
from speech2image.metrics.variety import VarietyFeatures
from speech2image.pipeline.base import Route

NOISES = 8
"""Pictures of one condition."""
ALIKE = 40
"""Conditions that so many pictures are drawn of; of all others one is."""


@dataclass(frozen=True)
class VarietyPlan:
    """What is drawn: one utterance of each photograph of a half of the real set.

    Attributes:
        utterances: [n].
        described: places in the real set of the photographs they describe, [n].
        compared: places of the other half.
    """

    utterances: NDArray[np.int64]
    described: NDArray[np.int64]
    compared: NDArray[np.int64]


def plan_variety(arrays: PairArrays, real: RealSet, utterances: NDArray[np.int64], limit: int) -> VarietyPlan:
    """Choose at most `limit` of some utterances about test photographs, no two of one photograph.

    Raises:
        DataError: they describe too few photographs.
    """
    place = {int(sample): number for number, sample in enumerate(real.samples)}
    half = set(real.first.tolist())
    first: dict[int, int] = {}
    for u in utterances.tolist():
        described = place[int(arrays.utterance_sample[u])]
        if described in half:
            first.setdefault(described, u)
    if len(first) <= NEIGHBOURS:
        raise DataError(
            f"the test utterances describe {len(first)} photographs of half of the real set; variety needs "
            f"more than {NEIGHBOURS}: speak more captions, or leave variety out of --measures"
        )
    chosen = evenly(np.array(sorted(first), dtype=np.int64), limit)
    return VarietyPlan(np.array([first[d] for d in chosen.tolist()]), chosen, real.second)


class VarietyRows:
    """Makes the rows of one data set.

    Args:
        route: the model.
        arrays: the prepared data, with the teacher's features.
        real: the real set.
        plan: what is drawn.
        speech: embeddings of the plan's utterances.
        read: draws a set and gives its pictures' features [n, dim].
        seed: of noise and intervals.
        resamples: of the intervals.
    """

    def __init__(
        self,
        route: Route,
        arrays: PairArrays,
        real: RealSet,
        plan: VarietyPlan,
        speech: Embeddings,
        read: Callable[[DrawnSet], NDArray[np.float32]],
        seed: int,
        resamples: int,
    ) -> None:
        self._route, self._arrays, self._real, self._plan, self._speech = route, arrays, real, plan, speech
        self._read, self._seed, self._resamples = read, seed, resamples
        self._teacher = arrays.teacher[real.samples].astype(np.float32).mean(1)  # of all crops

    def rows(self) -> list[Row]:
        """All rows; a model without condition prior draws from speech alone."""
        found = [self._photographs()]
        if self._route.samples_features:
            found.append(self._drawn(FEATURES, self._teacher[self._plan.described], features=True))
            found.append(self._drawn(PRIOR_SAMPLES, self._samples(), features=True))
        found.append(self._drawn(SPEECH, self._samples(), features=False))
        return found

    def _samples(self) -> NDArray[np.float32]:
        """What the generator draws each utterance's first picture from, [n, size]."""
        spoken = zip(self._speech.of(self._plan.utterances), self._plan.utterances.tolist(), strict=True)
        seeds = ((vector, noise_seed(self._arrays, u, self._seed)) for vector, u in spoken)
        return np.stack([self._route.sample_features(vector, 1, seed)[0] for vector, seed in seeds])

    def _photographs(self) -> Row:
        described, labels = self._plan.described, self._real.labels
        classes = [self._real.first[labels[self._real.first] == one] for one in np.unique(labels)]
        several = [members[:NOISES] for members in classes if len(members) > 1]
        alike = [np.asarray(self._real.features[members]) for members in several]
        pictures = np.asarray(self._real.features[described])
        return self._row(CEILING, pictures, self._teacher[described], alike)

    def _drawn(self, id: str, conditions: NDArray[np.float32], features: bool) -> Row:
        utterances = self._plan.utterances
        inputs = conditions if features else self._speech.of(utterances)
        one = DrawnSet(f"variety {id}", utterances, lambda rows: inputs[rows], 1, self._seed, features)
        few = evenly(np.arange(len(utterances)), ALIKE)
        several = replace(
            one,
            name=f"variety {id} alike",
            utterances=utterances[few],
            condition=lambda rows: inputs[few[rows]],
            per_utterance=NOISES,
        )
        alike = self._read(several).reshape(len(few), NOISES, -1)
        return self._row(id, self._read(one), conditions, list(alike))

    def _row(
        self,
        id: str,
        pictures: NDArray[np.float32],
        conditions: NDArray[np.float32],
        alike: Sequence[NDArray[np.float32]],
    ) -> Row:
        compared = self._plan.compared
        found = VarietyFeatures(
            pictures,
            np.asarray(self._real.features[compared]),
            conditions,
            self._teacher[compared],
            list(alike),
            Sample(np.arange(len(alike)), self._seed, self._resamples),
        )
        counts = {"n": len(pictures), "real": len(compared), "conditions": len(alike)}
        return Row(id, {measure.key: measure.compute(found) for measure in VARIETY}, counts)
