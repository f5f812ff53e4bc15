"""Data sets as trainings read them: one or several as one, with embeddings of speech, classifier or text.

Joined sets (flowers and birds, say) keep their own shards and arrays; nothing is copied on disk. Classes are
numbered on from set to set, so that class 3 of the flowers and class 3 of the birds stay two classes.

What a generator is conditioned on decides the kind of a set (`KINDS`):

    `PairArrays`        embeddings of the direct route's speech encoder
    `ClassifierPairs`   features of the classifier route's speech encoder
    `CaptionPairs`      text embeddings; every caption takes an utterance's place
"""

import os
from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from speech2image.audio.front_ends import PAPER, FrontEnd
from speech2image.data.corpora.embedding_pickles import PublishedEmbeddings
from speech2image.data.listings import sample_id
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.plan import Workers
from speech2image.data.shards.rows import EndToEnd, Rows
from speech2image.errors import DataError


class JoinedRows:
    """Arrays laid end to end, of which one row (or a part of it) is read at a time.

    Args:
        parts: arrays of equal shape but for the first axis.
    """

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        self.parts = parts
        self._place = EndToEnd(map(len, parts))
        self.shape = (len(self._place), *parts[0].shape[1:])

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: Any) -> NDArray[Any]:
        row, rest = (int(key[0]), key[1:]) if isinstance(key, tuple) else (int(key), ())
        part, i = self._place(row)
        picked: NDArray[Any] = self.parts[part][(i, *rest)]
        return picked


class JoinedArrays(Rows):
    """What the trainings read of `PairArrays`, of several data sets: see there for every attribute.

    Args:
        parts: the data sets; their order decides the numbers of samples, utterances and classes.
    """

    def __init__(self, parts: Sequence[PairArrays]) -> None:
        self.parts = list(parts)
        self.folder, self.front_end = self.parts[0].folder, self.parts[0].front_end
        self.ids = [name for part in self.parts for name in part.ids]
        self.captions = [caption for part in self.parts for caption in part.captions]
        self.splits = np.concatenate([part.splits for part in self.parts])
        self.utterance_caption = np.concatenate([part.utterance_caption for part in self.parts])
        self.utterance_voice = np.concatenate([part.utterance_voice for part in self.parts])
        first_class = np.cumsum([0] + [int(part.labels.max()) + 1 for part in self.parts])
        first_sample = np.cumsum([0] + [len(part.ids) for part in self.parts])
        self.labels = np.concatenate([p.labels + n for p, n in zip(self.parts, first_class, strict=False)])
        self.class_names = {
            label + int(n): name
            for part, n in zip(self.parts, first_class, strict=False)
            for label, name in part.class_names.items()
        }
        self.utterance_sample = np.concatenate(
            [p.utterance_sample + n for p, n in zip(self.parts, first_sample, strict=False)]
        )
        self._place = EndToEnd(len(part.utterance_sample) for part in self.parts)

    def pictures(self, size: int) -> JoinedRows:
        """All pictures for training at `size`: rows uint8 [S, S, 3] (`PairArrays.pictures`)."""
        return JoinedRows([part.pictures(size) for part in self.parts])

    def log_mel(self, u: int) -> NDArray[np.float32]:
        """Frames of utterance `u`, float32 [40, n_frames] of the paper's front end."""
        part, i = self._place(u)
        return self.parts[part].log_mel(i)

    def n_frames(self) -> NDArray[np.int64]:
        """Number of frames of every utterance, int64 [U]."""
        return np.concatenate([part.n_frames() for part in self.parts])

    @cached_property
    def teacher(self) -> NDArray[np.float16]:
        """Teacher features of every sample's crops, float16 [N, n_crops, 1024], copied into memory.

        Raises:
            DataError: a set has none, or they have different numbers of crops.
        """
        features = [part.teacher for part in self.parts]
        if len({array.shape[1] for array in features}) > 1:
            counts = ", ".join(f"{part.folder}: {part.teacher.shape[1]}" for part in self.parts)
            raise DataError(f"the sets' teacher features are of different numbers of crops ({counts})")
        return np.concatenate(features)

    @cached_property
    def embeddings(self) -> NDArray[np.float16]:
        """Speech embedding of every utterance, float16 [U, 1024], copied into memory.

        Raises:
            DataError: a set that has utterances has none, or not of all; or no set has any.
        """
        spoken = [part for part in self.parts if len(part.utterance_sample)]  # silent sets need no file
        return np.concatenate([part.embeddings for part in spoken or self.parts])

    @property
    def embedding_space(self) -> str:
        """As of `PairArrays`; that of all sets.

        Raises:
            DataError: the sets' embeddings were made by different encoders.
        """
        spaces = {part.embedding_space for part in self.parts if len(part.utterance_sample)} - {""}
        if len(spaces) > 1:
            raise DataError(
                "the sets' embeddings were made by different encoders; make them again with one: "
                f"{self.parts[0].embeddings_command}, for each of "
                f"{', '.join(str(part.folder) for part in self.parts)}"
            )
        return next(iter(spaces), "")


TrainingArrays = PairArrays | JoinedArrays
"""What a training reads: one prepared data set, or several as one."""


def parts_of(arrays: TrainingArrays) -> list[PairArrays]:
    """The data sets that are trained on as one."""
    return arrays.parts if isinstance(arrays, JoinedArrays) else [arrays]


def open_arrays(
    folders: Sequence[Path], *, workers: Workers = 1, front_end: FrontEnd = PAPER
) -> TrainingArrays:
    """Open one shards folder, or several as one.

    Args:
        folders: what `speech2image prepare` wrote.
        workers: processes that build arrays not yet there.
        front_end: what makes frames of the speech.

    Raises:
        DataError: as `PairArrays.open`; or a folder is named twice.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise DataError(f"a data set is named twice: {', '.join(map(str, folders))}")
    parts = [PairArrays.open(folder, workers=workers, front_end=front_end) for folder in folders]
    return parts[0] if len(parts) == 1 else JoinedArrays(parts)


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
        cls, folder: str | os.PathLike[str], *, workers: Workers = 1, front_end: FrontEnd = PAPER
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
