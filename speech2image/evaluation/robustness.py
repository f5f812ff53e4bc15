"""Robustness table: retrieval and colour agreement under each acoustic condition, for each group of voices.

The same utterances about test pictures in every condition: of each group of voices at most so many, spread
evenly, those prepared without any change where there are any. The model hears them without its detector;
how many the detector would have refused stands beside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image import audio
from speech2image.audio.vad import VoiceActivityDetector
from speech2image.data.augment.acoustic_conditions import (
    ACOUSTIC_CONDITIONS,
    AcousticCondition,
    changed,
)
from speech2image.data.progress import track
from speech2image.data.shards.array_files import ResumableArray
from speech2image.data.shards.arrays import PairArrays
from speech2image.evaluation.colours import ColourRows, numbers
from speech2image.evaluation.drawing import DrawnSet, Reading, draw
from speech2image.evaluation.embeddings import recordings
from speech2image.evaluation.results import Row
from speech2image.evaluation.retrieval import RetrievalEvaluator
from speech2image.evaluation.utterances import (
    HEARD,
    KEPT_OUT,
    by_kind,
    caption_of,
    evenly,
    file_name,
    one_a_caption,
    unchanged,
)
from speech2image.metrics.colour_agreement import ColourReader
from speech2image.metrics.colour_words import COLOURS
from speech2image.metrics.estimate import Estimate, Sample
from speech2image.metrics.refusals import Refusals
from speech2image.metrics.registry import REFUSED
from speech2image.pipeline.base import Route

BABBLE = 20
"""So many recordings of the group are the other voices of its babble."""


@dataclass(frozen=True)
class RobustnessGroup:
    """Utterances in voices of one kind; its name is one of `utterances.GROUPS`."""

    voices: str
    utterances: NDArray[np.int64]


def make_groups(
    arrays: PairArrays, heard: Sequence[str], kept_out: Sequence[str], most: int
) -> list[RobustnessGroup]:
    """Test utterances of synthesizers, natural voices and people, heard in training and kept out of it."""
    as_spoken = unchanged(arrays)
    groups = []
    for kind, names in ((HEARD, heard), (KEPT_OUT, kept_out)):
        for who, voices in by_kind(names).items():
            spoken = arrays.utterances_of("test", voices)
            clean = spoken[as_spoken[spoken]]
            chosen = evenly(one_a_caption(arrays, clean if len(clean) else spoken), most)
            if len(chosen):
                groups.append(RobustnessGroup(f"{kind}, {who}", chosen))
    return groups


@dataclass(frozen=True)
class Robustness:
    """Measures groups under conditions; every row has the same form.

    Attributes:
        route: the model; it must not refuse recordings.
        arrays: the prepared data.
        detector: the model's speech detector, None if it has none.
        searches: to measure retrieval with; None leaves it out.
        reader: to measure colours with; None leaves them out.
        work: folder for what is heard and drawn.
        seed: of what is random in the conditions, of the pictures' noise, and of the intervals.
        resamples: of the intervals.
    """

    route: Route
    arrays: PairArrays
    detector: VoiceActivityDetector | None
    searches: RetrievalEvaluator | None
    reader: ColourReader | None
    work: Path
    seed: int
    resamples: int

    def rows(
        self, groups: Sequence[RobustnessGroup], conditions: Sequence[AcousticCondition] = ACOUSTIC_CONDITIONS
    ) -> list[Row]:
        """A row for every group and condition."""
        return [row for group in groups for row in self._group(group, conditions)]

    def _group(self, group: RobustnessGroup, conditions: Sequence[AcousticCondition]) -> list[Row]:
        vectors, speech = self._hear(group, conditions)
        read = self._read(group, vectors, len(conditions))
        n = len(group.utterances)
        described = self.arrays.utterance_sample[group.utterances]
        found = []
        clean = vectors[:n].mean(axis=0)  # the first condition is as recorded
        for number, condition in enumerate(conditions):
            own = slice(number * n, (number + 1) * n)
            refused = self._refused(speech[own] == 0, described)
            ranked = self._retrieval(vectors[own], described, clean)
            n_read, agreed = self._colours(group, None if read is None else read[own], described)
            estimates = {**refused, **ranked, **agreed}
            counts = {"utterances": n, "n": n_read}
            found.append(Row(group.voices, estimates, counts, {"condition": condition.name}))
        return found

    def _hear(
        self, group: RobustnessGroup, conditions: Sequence[AcousticCondition]
    ) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Embeddings, and whether the detector hears speech, condition after condition."""
        n, size = len(group.utterances), self.route.model.card["embedding_size"]
        vectors = ResumableArray(self._path(group, "heard"), (n * len(conditions), size))
        speech = ResumableArray(self._path(group, "speech"), (n * len(conditions), 1), np.int8)
        if not (vectors.complete and speech.complete):
            clips = [audio.load(encoded) for _, encoded in recordings(self.arrays, group.utterances)]
            rest = range(min(vectors.done, speech.done), len(vectors))
            for row in track(rest, f"listening: {group.voices}", len(rest)):
                number, i = divmod(row, n)
                sound = self._sound(clips, i, conditions[number], [int(group.utterances[i]), number])
                vectors.write(row, self.route.embed((sound, audio.SAMPLE_RATE))[None])
                heard = self.detector is None or self.detector.has_speech(audio.log_mel(sound))
                speech.write(row, np.array([[heard]], dtype=np.int8))
        return np.asarray(vectors.array), np.asarray(speech.array[:, 0])

    def _sound(
        self, clips: list[NDArray[np.float32]], i: int, condition: AcousticCondition, key: list[int]
    ) -> NDArray[np.float32]:
        """Recording `i` under a condition; the same whenever it is asked for."""
        rng = np.random.default_rng([self.seed, *key])
        others = [clips[j] for j in rng.permutation(len(clips))[:BABBLE] if j != i] or clips
        return changed(condition, clips[i], rng, others)

    def _read(
        self, group: RobustnessGroup, vectors: NDArray[np.float32], times: int
    ) -> NDArray[np.int8] | None:
        """The colour of a picture of every embedding; the noise of an utterance is the same each time."""
        if self.reader is None:
            return None
        spoken = np.tile(group.utterances, times)
        pictures = DrawnSet(f"robust, {group.voices}", spoken, lambda rows: vectors[rows], 1, self.seed)
        rows = ResumableArray(self._path(group, "colours"), (len(pictures), 1), np.int8)
        draw(self.route, self.arrays, pictures, [Reading(rows, partial(numbers, self.reader))])
        return np.asarray(rows.array[:, 0])

    def _path(self, group: RobustnessGroup, what: str) -> Path:
        return self.work / f"robust-{file_name(group.voices)}-{what}.npy"

    def _refused(self, refused: NDArray[np.bool_], described: NDArray[np.int64]) -> dict[str, Estimate]:
        if self.detector is None:
            return {}
        sample = Sample(described, self.seed, self.resamples)
        return {REFUSED.key: REFUSED.compute(Refusals(refused, sample))}

    def _retrieval(
        self, vectors: NDArray[np.float32], described: NDArray[np.int64], mean: NDArray[np.float32]
    ) -> Mapping[str, Estimate]:
        if self.searches is None:
            return {}
        samples = self.arrays.samples_of("test")
        return self.searches.row("", "", vectors, described, samples, mean).estimates

    def _colours(
        self, group: RobustnessGroup, read: NDArray[np.int8] | None, described: NDArray[np.int64]
    ) -> tuple[int, Mapping[str, Estimate]]:
        """How many captions have a colour, and the figures."""
        if read is None:
            return 0, {}
        captions = [caption_of(self.arrays, int(u)) for u in group.utterances]
        rows = ColourRows(self.arrays, self.seed, self.resamples)
        found = rows.row(group.voices, [COLOURS[i] for i in read], captions, described)
        return found.counts["n"], found.estimates
