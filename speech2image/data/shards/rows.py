"""Rows of data sets: samples and utterances by split and voice, several sets end to end, frames on disk.

Log-mels, or another front end's frames, of many recordings lie end to end in two files, memory-mapped:

    STEM.npy            frames float16 [total, 40] (or as many numbers as the front end gives)
    STEM.offsets.npy    int64 [recordings + 1]: recording i owns the frames offsets[i] to offsets[i + 1]
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image import audio
from speech2image.audio.front_ends import PAPER, FrontEnd
from speech2image.data.shards.array_files import create_array, open_array
from speech2image.errors import DataError, SpeechError

SEEN, UNSEEN = "seen classes", "unseen classes"
SHARED, PARTLY = "seen classes (test pictures)", "partly seen classes"


class Rows:
    """Samples and utterances by split and voice.

    Attributes:
        labels: class numbers, int64 [N].
        splits: "train", "val" or "test" [N].
        utterance_sample: index of the sample spoken of, int64 [U].
        utterance_voice: voice names [U].
    """

    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    utterance_sample: NDArray[np.int64]
    utterance_voice: NDArray[np.str_]

    @property
    def voices(self) -> list[str]:
        """Names of all voices, sorted."""
        return sorted(set(self.utterance_voice.tolist()))

    def samples_of(self, split: str) -> NDArray[np.int64]:
        """Indices of the samples of a split ("train", "val" or "test"), int64 [n]."""
        return np.flatnonzero(self.splits == split)

    def classes_of(self, split: str) -> str:
        """Which classes the pictures of "val" or "test" show, in words.

        `SEEN` for "val". For "test" `UNSEEN` where the split is zero-shot, `SHARED` where all of its classes
        have training pictures (Places-subset), `PARTLY` where some have.
        """
        if split == "val":
            return SEEN
        own, trained = (set(self.labels[self.samples_of(name)].tolist()) for name in (split, "train"))
        return UNSEEN if not own & trained else SHARED if own <= trained else PARTLY

    def utterances_of(
        self, split: str, voices: Collection[str] | None = None, exclude_voices: Collection[str] = ()
    ) -> NDArray[np.int64]:
        """Indices of a split's utterances, int64 [n]: of `voices` alone, if given; not `exclude_voices`."""
        keep = self.splits[self.utterance_sample] == split
        if voices is not None:
            keep &= np.isin(self.utterance_voice, list(voices))
        keep &= ~np.isin(self.utterance_voice, list(exclude_voices))
        return np.flatnonzero(keep)


class EndToEnd:
    """Places of rows.

    Args:
        sizes: rows of each set, in order.

    >>> place = EndToEnd([3, 2])
    >>> len(place), place(2), place(3)
    (5, (0, 2), (1, 0))
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        self.starts = np.cumsum([0, *sizes])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __call__(self, row: int) -> tuple[int, int]:
        """The set in which row `row` lies, and its number there."""
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return part, int(row - self.starts[part])


class LogMels:
    """The log-mels of several files as one sequence.

    Args:
        paths: what `write_log_mels` wrote.

    Raises:
        DataError: a file is missing or damaged.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        opened = [_open(path) for path in paths]
        self._frames = [frames for frames, _ in opened]
        self._offsets = [offsets for _, offsets in opened]
        self._place = EndToEnd([len(offsets) - 1 for offsets in self._offsets])

    def __len__(self) -> int:
        return len(self._place)

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        """Frames of a recording, float32 [numbers a frame, n_frames]."""
        part, i = self._place(row)
        frames, offsets = self._frames[part], self._offsets[part]
        return np.ascontiguousarray(frames[offsets[i] : offsets[i + 1]].T, dtype=np.float32)

    def n_frames(self) -> NDArray[np.int64]:
        """Number of frames of every recording, int64 [n]."""
        return np.concatenate([np.zeros(0, np.int64), *map(np.diff, self._offsets)])


def write_log_mels(path: Path, log_mels: Sequence[NDArray[np.float16]]) -> None:
    """Write the frames [n_frames, n] of one recording or more to `path`, their offsets, first, beside it."""
    offsets = np.cumsum([0] + [len(frames) for frames in log_mels]).astype(np.int64)
    create_array(_offsets_path(path), offsets.shape, np.int64, offsets)
    frames = np.concatenate(log_mels)
    create_array(path, frames.shape, np.float16, frames)


def _open(path: Path) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Frames and offsets of a file.

    Raises:
        DataError: one is missing or damaged, or they do not belong together.
    """
    frames, offsets = open_array(path, np.float16, 2), np.array(open_array(_offsets_path(path), np.int64, 1))
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(frames) or (np.diff(offsets) < 0).any():
        raise DataError(
            f"{path} and its offsets do not belong together; delete both and run the command again"
        )
    return frames, offsets


def frames_of(recording: audio.Source, name: str, front_end: FrontEnd = PAPER) -> NDArray[np.float16]:
    """A recording's frames as they are kept, float16 [n_frames, n]; `name` is what an error calls it.

    Raises:
        DataError: it cannot be used.
    """
    try:
        return front_end.extract(audio.load(recording)).T.astype(np.float16)
    except SpeechError as error:
        raise DataError(f"{name} cannot be used: {error}") from error


def _offsets_path(path: Path) -> Path:
    return path.with_name(path.stem + ".offsets.npy")
