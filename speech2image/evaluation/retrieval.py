"""Retrieval table: speech -> picture in the teacher's feature space, with ceiling and floor."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import CheckpointError, DataError
from speech2image.evaluation.embeddings import Embeddings
from speech2image.evaluation.results import CEILING, NOISE, SHUFFLED, TRUE_WORDS, Row
from speech2image.evaluation.utterances import UtteranceGroup, shuffled
from speech2image.metrics import registry
from speech2image.metrics.estimate import Estimate, Sample
from speech2image.metrics.retrieval import (
    Ranking,
    answers,
    average_precisions,
    centred,
    chance,
    picture_features,
    ranks,
)
from speech2image.metrics.rows import blocks
from speech2image.metrics.text_baseline import text_baseline


@dataclass(frozen=True)
class Gallery:
    """The teacher's features.

    Attributes:
        features: of every picture, the mean of its crops, float32 [N, size].
        crops: features of every picture's first and last crop, [N, 2, size]; None if there is one alone.
    """

    features: NDArray[np.float32]
    crops: NDArray[np.float16] | None


def shown_classes(arrays: PairArrays, split: str) -> str:
    """What the column of classes calls a split's: "seen", "unseen" ..."""
    return arrays.classes_of(split).replace(" classes", "")


def open_gallery(arrays: PairArrays, embedding_size: int) -> Gallery:
    """The teacher's features of the data set.

    Args:
        arrays: the prepared data.
        embedding_size: of the model.

    Raises:
        DataError: they are not there.
        CheckpointError: the model's embeddings are of another size.
    """
    teacher = arrays.teacher
    if teacher.shape[-1] != embedding_size:
        raise CheckpointError(
            f"the model's speech embeddings have {embedding_size} numbers, the teacher features of "
            f"{arrays.folder} {teacher.shape[-1]}: the model was trained with another teacher"
        )
    features = np.concatenate([picture_features(teacher[rows]) for rows in blocks(len(teacher), 256)])
    crops = teacher[:, [0, -1]] if teacher.shape[1] > 1 else None
    return Gallery(features, crops)


class RetrievalEvaluator:
    """Measures queries against galleries of one data set; every row has the same form.

    Args:
        arrays: the prepared data.
        gallery: the teacher's features.
        seed: of the shuffling, the noise, the smaller gallery and the intervals.
        resamples: of the intervals.
    """

    def __init__(self, arrays: PairArrays, gallery: Gallery, seed: int, resamples: int) -> None:
        self.arrays, self.gallery, self.seed, self.resamples = arrays, gallery, seed, resamples
        self.tested = shown_classes(arrays, "test")

    def rows(
        self, cells: list[UtteranceGroup], speech: Embeddings, main: str, smaller: int | None
    ) -> list[Row]:
        """All rows; floors are of the group `main`, of which `smaller` adds a row with so many pictures."""
        rows = [self.cell(cell, speech) for cell in cells]
        own = next(cell for cell in cells if (cell.split, cell.voices) == ("test", main))
        if smaller is not None:
            rows.append(self.cell(own, speech, smaller))
        rows += self._words()
        if self.gallery.crops is not None:
            rows.append(self._ceiling())
        return [*rows, *self._floors(own, speech)]

    def cell(self, cell: UtteranceGroup, speech: Embeddings, smaller: int | None = None) -> Row:
        """Utterances of one kind against the pictures of their split."""
        samples = self.arrays.samples_of(cell.split)
        if smaller is not None and smaller < len(samples):
            drawn = np.random.default_rng([self.seed, 3]).choice(samples, smaller, replace=False)
            samples = np.sort(drawn)
        described = self.arrays.utterance_sample[cell.utterances]
        keep = np.isin(described, samples)
        vectors = speech.of(cell.utterances[keep])
        return self.row(
            shown_classes(self.arrays, cell.split), cell.voices, vectors, described[keep], samples
        )

    def by_voice(self, cells: list[UtteranceGroup], speech: Embeddings) -> list[Row]:
        """The utterances about test pictures, voice by voice."""
        rows = []
        for cell in (cell for cell in cells if cell.split == "test"):
            voices = self.arrays.utterance_voice[cell.utterances]
            for voice in sorted(set(voices.tolist())):
                own = UtteranceGroup("test", cell.voices, cell.utterances[voices == voice])
                row = self.cell(own, speech)
                rows.append(replace(row, facts={"voice": voice, **row.facts}))
        return rows

    def row(
        self,
        classes: str,
        voices: str,
        vectors: NDArray[np.float32],
        described: NDArray[np.int64],
        samples: NDArray[np.int64],
        mean: NDArray[np.float32] | None = None,
    ) -> Row:
        """Queries [q, size] that describe the pictures `described` [q], in the gallery `samples`.

        `mean` is taken away from the queries, by default their own.
        """
        labels = self.arrays.labels[samples]
        features = self.gallery.features[samples]
        targets = np.searchsorted(samples, described)
        places, precisions = answers(vectors, features, targets, labels, mean)
        return self._summary(classes, voices, places, precisions, described, labels)

    def _summary(
        self,
        classes: str,
        voices: str,
        places: NDArray[np.int64],
        precisions: NDArray[np.float64],
        described: NDArray[np.int64],
        labels: NDArray[np.int64],
    ) -> Row:
        found = Ranking(places, precisions, Sample(described, self.seed, self.resamples))
        return Row(
            voices,
            {measure.key: measure.compute(found) for measure in registry.RETRIEVAL},
            {"queries": len(places), "pictures": len(labels)},
            {"classes": classes},
            chance(labels).as_dict(),
        )

    def _words(self) -> list[Row]:
        """What the true words reach, if they are known."""
        arrays, features = self.arrays, self.gallery.features
        train, test = arrays.samples_of("train"), arrays.samples_of("test")
        if not (any(arrays.captions[i] for i in train) and any(arrays.captions[i] for i in test)):
            return []
        found = text_baseline(arrays.captions, features[:, None], arrays.labels, train, test)
        estimates = {key: Estimate(value) for key, value in found.as_dict().items()}
        counts = {"queries": found.queries, "pictures": found.pictures}
        reached = chance(arrays.labels[test]).as_dict()
        return [Row(TRUE_WORDS, estimates, counts, {"classes": self.tested}, reached)]

    def _ceiling(self) -> Row:
        """Real against real: one crop of a photograph looks for the photograph by another crop.

        Its own picture does not count for mAP, which asks for others of the class.
        """
        assert self.gallery.crops is not None
        test = self.arrays.samples_of("test")
        labels = self.arrays.labels[test]
        crops = self.gallery.crops[test].astype(np.float32)
        first, last = (centred(crop, crop.mean(axis=0)) for crop in (crops[:, 0], crops[:, 1]))
        scores = first @ last.T
        targets = np.arange(len(test))
        places = ranks(scores, targets)
        np.fill_diagonal(scores, -np.inf)
        relevant = labels[:, None] == labels
        np.fill_diagonal(relevant, False)
        precisions = average_precisions(scores, relevant)
        return self._summary(self.tested, CEILING, places, precisions, test, labels)

    def _floors(self, cell: UtteranceGroup, speech: Embeddings) -> list[Row]:
        """A group's utterances looking for the pictures of others, and noise looking for theirs."""
        described = self.arrays.utterance_sample[cell.utterances]
        vectors, samples = speech.of(cell.utterances), self.arrays.samples_of("test")
        noise = np.random.default_rng([self.seed, 5]).normal(vectors.mean(), vectors.std(), vectors.shape)
        rows = [self.row(self.tested, NOISE, noise.astype(np.float32), described, samples)]
        try:
            others = described[shuffled(described, self.seed)]
        except DataError:
            return rows
        return [self.row(self.tested, SHUFFLED, vectors, others, samples), *rows]
