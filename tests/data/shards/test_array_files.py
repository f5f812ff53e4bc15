"""Arrays on disk: room is taken before they are filled; damaged ones give one error that says what to do."""

import errno
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from speech2image.data.shards import array_files
from speech2image.data.shards.array_files import create_array, open_array
from speech2image.data.shards.rows import LogMels, write_log_mels
from speech2image.errors import DataError, OutputError


def test_arrays_hold_what_they_were_made_of(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    create_array(path, (3, 4), np.uint8)
    assert open_array(path, np.uint8, 2).tolist() == [[0] * 4] * 3
    create_array(path, (2, 2), np.float16, np.nan)
    assert np.isnan(np.load(path)).all()
    values = np.arange(6, dtype=np.int64)
    create_array(path, (6,), np.int64, values)
    np.testing.assert_array_equal(open_array(path, np.int64, 1), values)
    create_array(path, (0, 40), np.float16)
    assert open_array(path, np.float16, 2).shape == (0, 40)


def test_room_is_taken_before_an_array_is_filled(tmp_path: Path) -> None:
    create_array(tmp_path / "a.npy", (1 << 20,), np.uint8)
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 1 << 20


def test_where_the_file_system_sets_nothing_aside_zeros_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(array_files.os, "posix_fallocate", refuse)
    create_array(tmp_path / "a.npy", (3 << 20,), np.uint8)
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 3 << 20
    assert not np.load(tmp_path / "a.npy").any()
    monkeypatch.delattr(array_files.os, "posix_fallocate")
    create_array(tmp_path / "b.npy", (100,), np.uint8)
    assert open_array(tmp_path / "b.npy").shape == (100,)


def test_full_disk_is_one_clear_error_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(array_files.os, "posix_fallocate", full)
    message = r"cannot write .*a\.npy, which takes 4\.2 MB: No space left on device; make room"
    with pytest.raises(OutputError, match=message):
        create_array(tmp_path / "a.npy", (1 << 20,), np.float32)
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, sys
import numpy as np
from pathlib import Path
from speech2image.data.shards.array_files import create_array
from speech2image.errors import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    create_array(Path(sys.argv[1]) / "a.npy", (1 << 22,), np.uint8, 7)
except OutputError as error:
    print(error)
"""


def test_a_real_limit_ends_in_an_error_not_in_a_signal(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "which takes 4.2 MB: File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1 << 20


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def objects(path: Path) -> None:
    np.save(path, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)


def archive(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, a=np.zeros(3))


def lying_shape(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"(3, 4)", b"(9, 9)"))


def evil_header(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"(3, 4)", b"exit()"))


def negative(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"(3, 4)", b"(-3,4)"))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello"),
    "pickle": lambda path: path.write_bytes(pickle.dumps([1, 2])),
    "cut": cut,
    "cut header": cut_header,
    "objects": objects,
    "archive": archive,
    "lying shape": lying_shape,
    "code for a shape": evil_header,
    "negative shape": negative,
    "another dtype": lambda path: np.save(path, np.zeros((3, 4), np.float64)),
    "another byte order": lambda path: np.save(path, np.zeros((3, 4), ">f4")),
    "more axes": lambda path: np.save(path, np.zeros((3, 4, 1), np.float32)),
    "no axes": lambda path: np.save(path, np.float32(3)),
    "records": lambda path: np.save(path, np.zeros((3, 4), [("a", "f4")])),
    "texts": lambda path: np.save(path, np.full((3, 4), "a")),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_arrays(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((3, 4), np.float32))
    DAMAGES[what](path)
    with pytest.raises(DataError, match=r"a\.npy.*; delete it and run the command again") as raised:
        open_array(path, np.float32, 2)
    assert "allow_pickle" not in str(raised.value) and "pickle.load" not in str(raised.value)


@pytest.mark.parametrize(
    "offsets", [[], [0], [1, 5], [0, 9], [0, 4, 2, 5], [0, -1, 5]], ids=lambda value: str(value)
)
def test_offsets_that_do_not_fit(tmp_path: Path, offsets: list[int]) -> None:
    write_log_mels(tmp_path / "a.npy", [np.zeros((2, 40), np.float16), np.zeros((3, 40), np.float16)])
    assert LogMels([tmp_path / "a.npy"]).n_frames().tolist() == [2, 3]
    np.save(tmp_path / "a.offsets.npy", np.array(offsets, np.int64))
    with pytest.raises(DataError, match="offsets do not belong together"):
        LogMels([tmp_path / "a.npy"])
