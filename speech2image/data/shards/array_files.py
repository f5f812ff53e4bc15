"""Array files (`.npy`): made at their full size before they are filled, checked when opened, resumable.

A memory-mapped file that is larger than the room on its disk ends the process with SIGBUS once a page of it
is written; so its blocks are taken from the disk first.
"""

import errno
import os
from bisect import bisect_left
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from speech2image.errors import DataError, OutputError
from speech2image.files import writing

_BLOCK = 1 << 20
_NOT_OFFERED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def create_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike, values: Any = None) -> None:
    """Write an array of `shape` that holds `values`, a number or an array; by default zeros.

    Raises:
        OutputError: the file cannot be written, or does not fit on the disk; nothing of it stays.
    """
    with writing(path) as temporary:
        allocate_array(temporary, shape, dtype, called=path)
        if values is not None:
            array = np.load(temporary, mmap_mode="r+")
            array[...] = values
            array.flush()


def allocate_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike, called: Path) -> None:
    """Write an array of zeros to a temporary file, of what will be `called` so.

    Raises:
        OutputError: it cannot be written, or does not fit on the disk.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    try:
        _allocate(path, shape, dtype, size)
    except OSError as error:
        raise OutputError(
            f"cannot write {called}, which takes {size / 1e6:,.1f} MB: {error.strerror or error}; "
            "make room or choose another disk"
        ) from error


def _allocate(path: Path, shape: tuple[int, ...], dtype: DTypeLike, size: int) -> None:
    described = np.lib.format.dtype_to_descr(np.dtype(dtype))
    with open(path, "wb") as file:
        header = {"descr": described, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        if not _reserve(file, size):  # writing zeros takes the blocks, too, only slowly
            for start in range(0, size, _BLOCK):
                file.write(bytes(min(_BLOCK, size - start)))


def _reserve(file: BinaryIO, size: int) -> bool:
    """Let the file system set `size` zeros aside behind what is written; False where it cannot."""
    if not hasattr(os, "posix_fallocate") or not size:
        return False
    try:
        os.posix_fallocate(file.fileno(), file.tell(), size)
    except OSError as error:
        if error.errno in _NOT_OFFERED:
            return False
        raise
    return True


def open_array(
    path: Path,
    dtype: DTypeLike | None = None,
    ndim: int | None = None,
    *,
    mode: Literal["r", "r+"] = "r",
    advice: str = "delete it and run the command again",
) -> NDArray[Any]:
    """A `.npy` file, memory-mapped.

    Args:
        path: the file.
        dtype: what it has to hold.
        ndim: how many axes it has to have.
        mode: "r+" for one that is to be filled.
        advice: what an error ends in.

    Raises:
        DataError: it is missing, damaged, cut short, or holds something else.
    """
    try:
        array: Any = np.load(path, mmap_mode=mode, allow_pickle=False)
    except OSError as error:
        raise DataError(f"unreadable {path}: {error.strerror or error}; {advice}") from error
    except Exception as error:  # NumPy's own message may advise to unpickle the file: never do
        raise DataError(f"{path} is damaged or no array of numbers; {advice}") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path} is an archive, must be one array of numbers; {advice}")
    if (dtype is not None and array.dtype != dtype) or (ndim is not None and array.ndim != ndim):
        wanted = f"{np.dtype(dtype).name if dtype is not None else 'numbers'} with {ndim} axes"
        raise DataError(f"{path} holds {array.dtype} of shape {array.shape}, must be {wanted}; {advice}")
    return array


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
        # Rows fill from the first to the last, so the first empty one is found by bisection: no need to
        # read an array of gigabytes to go on.
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
        last = self.array[row].flat[-1]  # written last: a row that an interruption cut counts as empty
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
