"""Arrays on disk that fill from the first row to the last, so that interrupted work goes on."""

from bisect import bisect_left
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from speech2image.data.array_files import create_array, open_array
from speech2image.errors import DataError


class StoredRows:
    """`n` rows of `width` numbers in a `.npy` file, memory-mapped; empty rows hold NaN, or -1 for integers.

    A file of another shape, or a damaged one, is begun anew.

    Raises:
        OutputError: the folder of `path` cannot be written, or the rows do not fit on its disk.
    """

    def __init__(self, path: Path, n: int, width: int, dtype: DTypeLike = np.float32) -> None:
        self.path, self.dtype = path, np.dtype(dtype)
        found = self._open() if path.exists() else None
        if found is None or found.shape != (n, width):
            found = self._create(n, width)
        self.array: NDArray = found
        self.done: int = bisect_left(range(n), True, key=self._is_empty)

    def __len__(self) -> int:
        return len(self.array)

    @property
    def complete(self) -> bool:
        """Whether every row is there."""
        return self.done == len(self)

    def write(self, start: int, rows: NDArray) -> None:
        """Put `rows` at row `start`, which is at most `done`; those already there are written once more."""
        self.array[start : start + len(rows)] = rows
        self.done = max(self.done, start + len(rows))

    def _is_empty(self, row: int) -> bool:
        last = self.array[row, -1]
        return bool(np.isnan(last) if self.dtype.kind == "f" else last == -1)

    def _open(self) -> NDArray | None:
        try:
            return open_array(self.path, self.dtype, 2, mode="r+")
        except DataError:
            return None

    def _create(self, n: int, width: int) -> NDArray:
        create_array(self.path, (n, width), self.dtype, np.nan if self.dtype.kind == "f" else -1)
        return open_array(self.path, self.dtype, 2, mode="r+")
