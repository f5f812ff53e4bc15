"""Files: written whole or not at all; read within bounds where strangers made them.

What is written is made in a hidden folder beside its place and renamed. That folder is locked as long as its
writer lives; whoever writes to the same place next deletes those that nobody has locked. What is read is a
regular file of a stated size at most, or plain JSON.
"""

import ctypes
import errno
import json
import math
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from speech2image.errors import OutputError

HIDDEN = re.compile(r"\.[0-9a-f]{16}\.speech2image")
"""The name of the hidden folder."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST_NUMBER = 20
"""Digits of a whole number in JSON, its sign included; an int64 has no more."""

_left: dict[Path, int] = {}
"""When a folder changed last, as this process left it; unless it changes again, nothing is to be deleted."""


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path; put what is there in the place of `path` on success, delete it on any failure.

    The temporary path ends in the name of `path`, since many writers choose a format by its suffix. The
    caller may create a file or a folder there. What was at `path` is replaced in one step, and its mode and
    owner stay; a new file has the mode of any new file, whatever its writer chose. Through a symbolic link
    its target is written. What cannot be replaced (a mounted file, a device, a file in a folder that may not
    be written) is written over.

    Raises:
        OutputError: the parent cannot be created or written, `path` is a folder where a file was written, or
            its name is too long.
    """
    try:
        place = _place(path)
        with _folder_for(place) as folder:
            new = folder / place.name
            yield new
            _keep_mode(new, place)
            _put(new, place)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Create the parent folder of `path` and check that `path` can be written, before long work starts.

    Raises:
        OutputError: the parent is not a folder, cannot be created, or cannot be written; or the name of
            `path` is too long.
    """
    try:
        place = _place(path)
        with _folder_for(place) as folder:
            (folder / place.name).touch()
        if place.is_dir() and not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        what, advice = f"to {Path(path).parent}", "a folder you may write to"
        if error.errno == errno.ENAMETOOLONG:
            what, advice = str(path), "a shorter name"
        raise OutputError(f"cannot write {what}: {error.strerror or error}; choose {advice}") from error


def _place(path: str | os.PathLike[str]) -> Path:
    """Where `path` leads to through symbolic links, its parent made if absent; there need not be anything."""
    try:
        place = Path(os.path.realpath(path) if os.path.islink(path) else os.path.abspath(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            place.stat()
    except ValueError as error:
        raise OutputError(f"cannot write {os.fspath(path)!r}: {error}; choose another name") from error
    return place


def _replaceable(place: Path) -> bool:
    """False for what may be written and not replaced: a device, or a file whose folder may not be written."""
    there = _stat(place)  # asked once: another writer may put the place aside between two questions
    if there is None:
        return True
    ordinary = stat.S_ISREG(there.st_mode) or stat.S_ISDIR(there.st_mode)
    return ordinary and (os.access(place.parent, os.W_OK | os.X_OK) or not os.access(place, os.W_OK))


def _stat(place: Path) -> os.stat_result | None:
    try:
        return place.stat()
    except FileNotFoundError:
        return None


@contextmanager
def _folder_for(place: Path) -> Iterator[Path]:
    """Where to make what shall stand at `place`: beside it, unless it can only be written over."""
    if _replaceable(place):
        with _folder_in(place.parent) as beside:
            yield beside
    else:
        with tempfile.TemporaryDirectory() as elsewhere:
            yield Path(elsewhere)


@contextmanager
def _folder_in(parent: Path) -> Iterator[Path]:
    """A folder of this writer's own in `parent`, deleted afterwards, as are those of killed writers."""
    _clear(parent)
    folder, lock = _make_locked(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)
    _left[parent] = parent.stat().st_mtime_ns


def _make_locked(parent: Path) -> tuple[Path, int | None]:
    while True:
        folder = parent / f".{secrets.token_hex(8)}.speech2image"
        folder.mkdir()
        try:
            return folder, _lock(folder)
        except (FileNotFoundError, BlockingIOError):
            continue  # another writer took it, not locked yet, for a leftover
        except OSError:
            return folder, None  # a file system without locks: nobody else can lock it, either


def _clear(parent: Path) -> None:
    """Delete what killed writers left in a folder."""
    if _left.get(parent) == parent.stat().st_mtime_ns:
        return
    for name in os.listdir(parent) if os.access(parent, os.R_OK) else ():
        if HIDDEN.fullmatch(name):
            with suppress(OSError):  # its writer lives, or nobody can tell
                lock = _lock(parent / name)
                shutil.rmtree(parent / name, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path) -> int:
    """Lock a folder until its descriptor, which is returned, is closed or this process dies.

    Raises:
        BlockingIOError: somebody else has locked it.
        FileNotFoundError: somebody else has deleted it.
        OSError: there are no locks here.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        import fcntl  # not on Windows, where folders cannot be opened

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.stat()  # it may have been deleted before it was locked
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _keep_mode(new: Path, place: Path) -> None:
    """Give `new` mode and owner of what it replaces; else, to a file, the mode of any new file."""
    old = _stat(place)
    if old is not None and stat.S_IFMT(old.st_mode) == stat.S_IFMT(new.stat().st_mode):
        with suppress(PermissionError):
            os.chown(new, old.st_uid, old.st_gid)
        new.chmod(stat.S_IMODE(old.st_mode))
    elif new.is_file() and old is None:
        usual = new.with_name(secrets.token_hex(8))
        usual.touch()
        new.chmod(stat.S_IMODE(usual.stat().st_mode))


def _put(new: Path, place: Path) -> None:
    """Rename `new` to `place`, or write over what cannot be replaced."""
    try:
        if _replaceable(place):
            _rename(new, place)
            return
    except OSError as error:  # a mount point; a folder from a lower layer of a container's image
        if error.errno not in (errno.EBUSY, errno.EXDEV) or new.is_dir() != place.is_dir():
            raise
    _write_over(new, place)


def _rename(new: Path, place: Path) -> None:
    """Rename `new` to `place`; a folder that stood there is left beside `new`."""
    while True:
        try:
            os.replace(new, place)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if _exchange(new, place):
            return
        with suppress(FileNotFoundError):  # another writer was faster
            os.replace(place, new.with_name(secrets.token_hex(8)))


def _exchange(new: Path, place: Path) -> bool:
    """Change the names of two folders for one another, so that `place` is never missing; False if it fails.

    Linux alone can do that, and not on every file system.
    """
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD of fcntl.h, RENAME_EXCHANGE of linux/fs.h
    if renameat2 is None:
        return False
    return bool(renameat2(here, bytes(new), here, bytes(place), exchange) == 0)


def _write_over(new: Path, place: Path) -> None:
    """Copy `new` to `place` where it cannot be renamed to; a full disk may break that off."""
    if not new.is_dir():
        with open(new, "rb") as source, open(place, "wb") as target:
            shutil.copyfileobj(source, target)
        return
    for child in new.iterdir():
        with writing(place / child.name) as copy:
            shutil.copytree(child, copy) if child.is_dir() else shutil.copyfile(child, copy)
    for child in place.iterdir():
        if not (new / child.name).exists():
            shutil.rmtree(child) if child.is_dir() else child.unlink()


def read_file(path: Path, most: int) -> bytes:
    """The content of a regular file.

    A pipe would block for ever and a device never end, so neither is read.

    Args:
        path: the file; a link is followed.
        most: bytes it may hold.

    Raises:
        OSError: it is missing, unreadable, no regular file, or larger than `most`.
    """
    try:
        status = path.stat()
    except ValueError as error:  # a NUL or a lone surrogate in the name
        raise OSError(errno.EINVAL, "no file can have this name") from error
    _check_file(status, most)
    # The file may have been exchanged for a pipe since: without O_NONBLOCK the opening would block.
    with open(
        os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb"
    ) as file:
        status = os.fstat(file.fileno())
        _check_file(status, most)
        return file.read(status.st_size)  # room is made for as much as is asked for


def _check_file(status: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    if status.st_size > most:
        raise OSError(errno.EFBIG, f"it holds {status.st_size:,} bytes, at most {most:,} are allowed")


def parse_json(content: bytes) -> Any:
    """What a JSON text holds.

    Raises:
        ValueError: it is not JSON in UTF-8, nested too deeply, or holds a number or a character that cannot
            be written again: NaN, infinity, a whole number beyond an int64's digits, half of a character.
    """
    try:
        text = content.decode("utf-8")
        value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(digits)} digits, at most {_LONGEST_NUMBER} are allowed")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]} is no finite number")
    return number


def is_one_line(text: str) -> bool:
    """Whether text is one line, of any script, without what steers a terminal or turns writing round."""
    return _CONTROL.search(text) is None


def is_plain_name(name: object) -> bool:
    """Whether this names a file or folder inside another and nothing further away, on any system."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and not set(name) & set("/\\:")
        and is_one_line(name)
        and len(name.encode()) <= 255
    )
