"""Arrays that fill row by row and are found again as they were left."""

import errno
from pathlib import Path

import numpy as np
import pytest

from speech2image.data.shards import array_files
from speech2image.data.shards.array_files import ResumableArray
from speech2image.errors import OutputError


def test_rows_stay_and_the_first_empty_one_is_found(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    rows = ResumableArray(path, (5, 2))
    assert (rows.done, rows.complete) == (0, False)
    rows.write(0, np.ones((3, 2)))
    again = ResumableArray(path, (5, 2))
    assert again.done == 3
    again.write(3, np.full((2, 2), 7.0))
    assert ResumableArray(path, (5, 2)).complete
    assert ResumableArray(path, (5, 2)).array[:, 0].tolist() == [1, 1, 1, 7, 7]
    assert ResumableArray(path, (5, 3)).done == 0
    cubes = ResumableArray(path, (4, 2, 3), np.float16)
    cubes.write(0, np.zeros((2, 2, 3)))
    assert ResumableArray(path, (4, 2, 3), np.float16).done == 2
    path.write_bytes(b"damaged")
    assert ResumableArray(path, (5, 2), np.int8).done == 0


def test_rows_that_do_not_fit_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(array_files.os, "posix_fallocate", full)
    with pytest.raises(OutputError, match=r"rows\.npy, which takes 4\.0 MB: No space left on device"):
        ResumableArray(tmp_path / "rows.npy", (1000, 1000))
    assert list(tmp_path.iterdir()) == []
