"""A prepared data set whose generators are conditioned on something else than the direct route's embeddings.

    `CaptionPairs`      text embeddings; every caption takes an utterance's place
    `ClassifierPairs`   features of the classifier route's speech encoder

Both are `PairArrays` to all that trains generators; their embeddings lie beside the others in `arrays/`.
"""

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from speech2image.audio.front_ends import PAPER, FrontEnd
from speech2image.data.corpora.embedding_pickles import PublishedEmbeddings
from speech2image.data.listings import sample_id
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.training_sets import JoinedArrays, TrainingArrays
from speech2image.errors import DataError

ConditionKind = Literal["speech", "classifier", "text"]
"""What a generator is conditioned on."""

WRITTEN = "text"
"""The voice of captions."""


class ClassifierPairs(PairArrays):
    """Utterances with the features of a speech encoder trained to tell classes apart."""

    embeddings_file = "classifier_embeddings.npy"
    embeddings_command = "speech2image train embeddings --conditions classifier"


class CaptionPairs(PairArrays):
    """Captions in the place of utterances, in their order: one "utterance" of the voice "text" each."""

    embeddings_file = "text_embeddings.npy"
    embeddings_command = "speech2image train text-embeddings"

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], *, workers: int = 1, front_end: FrontEnd = PAPER
    ) -> "CaptionPairs":
        """Open a shards folder; see `PairArrays.open`."""
        plain = PairArrays.open(folder, workers=workers, front_end=front_end)
        values = {f.name: getattr(plain, f.name) for f in fields(PairArrays) if f.init}
        counts = [len(captions) for captions in plain.captions]
        values["utterance_sample"] = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
        values["utterance_caption"] = np.concatenate([np.arange(n) for n in counts]).astype(np.int64)
        values["utterance_voice"] = np.full(sum(counts), WRITTEN)
        values["_speech"] = []
        return cls(**values)

    @property
    def texts(self) -> list[str]:
        """All captions, [U]."""
        return [caption for captions in self.captions for caption in captions]

    def published(self, splits: Sequence[PublishedEmbeddings]) -> NDArray[np.float32]:
        """The published embedding of every caption, float32 [U, size].

        Raises:
            DataError: a picture has none, or another number of captions.
        """
        found = {
            sample_id(name): rows
            for split in splits
            for name, rows in zip(split.filenames, split.embeddings, strict=True)
        }
        for name, captions in zip(self.ids, self.captions, strict=True):
            if len(found.get(name, ())) != len(captions):
                raise DataError(
                    f"picture {name} has {len(captions)} captions and {len(found.get(name, ()))} published "
                    "embeddings; prepare the corpus they were made for, with all its captions"
                )
        return np.concatenate([found[name] for name in self.ids])


KINDS: dict[str, type[PairArrays]] = {
    "speech": PairArrays,
    "classifier": ClassifierPairs,
    "text": CaptionPairs,
}


def open_conditions(folders: Sequence[Path], conditions: ConditionKind = "speech") -> TrainingArrays:
    """Open one shards folder, or several as one, for a generator that draws from `conditions`.

    Raises:
        DataError: as `PairArrays.open`.
    """
    parts = [KINDS[conditions].open(folder) for folder in folders]
    return parts[0] if len(parts) == 1 else JoinedArrays(parts)
