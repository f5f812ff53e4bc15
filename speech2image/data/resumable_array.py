"""Arrays on disk that fill from the first row to the last, so that interrupted work goes on."""

from bisect import bisect_left
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from speech2image.data.shards.array_files import create_array, open_array
from speech2image.errors import DataError


class ResumableArray:
    """Rows in a `.npy` file, memory-mapped; empty rows hold NaN, or -1 for integers.

    A file of another shape, or a damaged one, is begun anew.

    Args:
        path: of the file.
        shape: rows first.
        dtype: of the numbers.

    Raises:
        OutputError: the folder of `path` cannot be written, or the rows do not fit on its disk.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> None:
        self.path, self.dtype = path, np.dtype(dtype)
        found = self._open(shape) if path.exists() else None
        self.array: NDArray[Any] = self._create(shape) if found is None else found
        self.done: int = bisect_left(range(len(self)), True, key=self._is_empty)

    def __len__(self) -> int:
        return len(self.array)

    @property
    def complete(self) -> bool:
        """Whether every row is there."""
        return self.done == len(self)

    def write(self, start: int, rows: NDArray[Any]) -> None:
        """Put `rows` at row `start`, which is at most `done`; those already there are written once more."""
        self.array[start : start + len(rows)] = rows
        self.done = max(self.done, start + len(rows))

    def _is_empty(self, row: int) -> bool:
        last = self.array[row].flat[-1]
        return bool(np.isnan(last) if self.dtype.kind == "f" else last == -1)

    def _open(self, shape: tuple[int, ...]) -> NDArray[Any] | None:
        try:
            found = open_array(self.path, self.dtype, len(shape), mode="r+")
        except DataError:
            return None
        return found if found.shape == shape else None

    def _create(self, shape: tuple[int, ...]) -> NDArray[Any]:
        create_array(self.path, shape, self.dtype, np.nan if self.dtype.kind == "f" else -1)
        return open_array(self.path, self.dtype, len(shape), mode="r+")
