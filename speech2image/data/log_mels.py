"""Log-mels on disk: the frames of many recordings laid end to end, memory-mapped.

STEM.npy            frames float16 [total, 40]
STEM.offsets.npy    int64 [recordings + 1]: recording i owns the frames offsets[i] to offsets[i + 1]
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image import audio
from speech2image.data.end_to_end import EndToEnd
from speech2image.errors import DataError, SpeechError
from speech2image.files import writing


class LogMels:
    """The log-mels of several files as one sequence.

    Args:
        paths: what `write_log_mels` wrote.

    Raises:
        OSError, ValueError: a file is missing or damaged.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._frames = [np.load(path, mmap_mode="r") for path in paths]
        self._offsets = [np.load(_offsets_path(path)) for path in paths]
        self._place = EndToEnd([len(offsets) - 1 for offsets in self._offsets])

    def __len__(self) -> int:
        return len(self._place)

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        """Log-mel of a recording, float32 [40, n_frames]."""
        part, i = self._place(row)
        frames, offsets = self._frames[part], self._offsets[part]
        return np.ascontiguousarray(frames[offsets[i] : offsets[i + 1]].T, dtype=np.float32)

    def n_frames(self) -> NDArray[np.int64]:
        """Number of frames of every recording, int64 [n]."""
        return np.concatenate([np.zeros(0, np.int64), *map(np.diff, self._offsets)])


def write_log_mels(path: Path, log_mels: Sequence[NDArray[np.float16]]) -> None:
    """Write the frames [n_frames, 40] of recordings to `path`, their offsets, first, beside it."""
    offsets = np.cumsum([0] + [len(frames) for frames in log_mels]).astype(np.int64)
    with writing(_offsets_path(path)) as temporary:
        np.save(temporary, offsets)
    with writing(path) as temporary:
        np.save(temporary, np.concatenate([np.zeros((0, audio.N_MELS), np.float16), *log_mels]))


def frames_of(recording: audio.Source, name: str) -> NDArray[np.float16]:
    """A recording's log-mel as it is kept, float16 [n_frames, 40]; `name` is what an error calls it.

    Raises:
        DataError: it cannot be used.
    """
    try:
        return audio.log_mel(audio.load(recording)).T.astype(np.float16)
    except SpeechError as error:
        raise DataError(f"{name} cannot be used: {error}") from error


def _offsets_path(path: Path) -> Path:
    return path.with_name(path.stem + ".offsets.npy")
