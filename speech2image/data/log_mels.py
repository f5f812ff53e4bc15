"""Log-mels, or other frames, on disk: those of many recordings laid end to end, memory-mapped.

STEM.npy            frames float16 [total, 40] (or as many numbers as the front end gives)
STEM.offsets.npy    int64 [recordings + 1]: recording i owns the frames offsets[i] to offsets[i + 1]
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image import audio
from speech2image.audio.front_ends import PAPER, FrontEnd
from speech2image.data.end_to_end import EndToEnd
from speech2image.data.shards.array_files import create_array, open_array
from speech2image.errors import DataError, SpeechError


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
