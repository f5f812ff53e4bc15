"""Several prepared data sets as one, for a model that knows all of them (flowers and birds, say).

Every set keeps its own shards and arrays; nothing is copied on disk. Classes are numbered on from set to set,
so that class 3 of the flowers and class 3 of the birds stay two classes.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.audio.front_ends import PAPER, FrontEnd
from speech2image.data.end_to_end import EndToEnd
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.rows import Rows
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
            DataError: a set that has utterances has none, or not of all.
        """
        spoken = [part for part in self.parts if len(part.utterance_sample)]
        return np.concatenate([part.embeddings for part in spoken])


TrainingArrays = PairArrays | JoinedArrays
"""What a training reads: one prepared data set, or several as one."""


def parts_of(arrays: TrainingArrays) -> list[PairArrays]:
    """The data sets that are trained on as one."""
    return arrays.parts if isinstance(arrays, JoinedArrays) else [arrays]


def open_arrays(folders: Sequence[Path], *, workers: int = 1, front_end: FrontEnd = PAPER) -> TrainingArrays:
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
