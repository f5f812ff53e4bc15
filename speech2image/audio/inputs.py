"""Inputs of recordings: a path, bytes, a file object or standard input -> a seekable file."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from speech2image.errors import SpeechError

MAX_PIPE_BYTES = 512 * 2**20
"""Most that is read from a pipe, which must be copied (to disk beyond 16 MiB) before it can be decoded."""


class Window:
    """Part of a seekable file as a read-only file of its own, behind a header of its own if one is given.

    PyAV copies whatever `read` returns, so a file object that gives more than it was asked for would
    write past FFmpeg's buffer; all files pass through here.
    """

    def __init__(self, file: Any, start: int = 0, end: int | None = None, header: bytes = b"") -> None:
        self._file, self._start, self._header, self._position = file, start, header, 0
        file.seek(0, os.SEEK_END)
        end = file.tell() if end is None else min(end, file.tell())
        self.size = len(header) + max(0, end - start)

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.size - self._position)
        size = left if size < 0 else min(size, left)
        block = self._header[self._position : self._position + size]
        if len(block) < size:
            self._file.seek(self._start + max(0, self._position - len(self._header)))
            block += _block(self._file, size - len(block))
        self._position += len(block)
        return block

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        return self._position


@contextmanager
def opened(source: Any) -> Iterator[tuple[Window, str]]:
    """A seekable file with the recording, and a name for it in error messages.

    A file object that can seek is read from its beginning, wherever it stands; another from where it stands.

    Raises:
        SpeechError: there is no such file, it is empty, closed or no file, cannot be read, or the pipe
            never ends.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        with _spooled(io.BytesIO(source)) as file:
            yield file, "the recording"
    elif isinstance(source, str) and source == "-":
        with _spooled(_standard_input()) as file:
            yield file, "standard input"
    elif isinstance(source, str | os.PathLike):
        with (
            _checked_path(Path(os.fsdecode(source))).open("rb") as opened_file,
            _spooled(opened_file) as file,
        ):
            yield file, str(source)
    elif hasattr(source, "read"):
        name = getattr(source, "name", None)  # None or a number for temporary files
        name = name if isinstance(name, str) else "the recording"
        _check_open(source, name)
        with _spooled(source) as file:
            yield file, name
    else:
        raise SpeechError(
            "expected a path, bytes, a binary file object, '-', (samples, rate) or samples with rate=, "
            f"got {type(source).__name__}"
        )


def named(source: Any, otherwise: str) -> str:
    """What to call a recording: its path or a file's own name, or `otherwise`."""
    if isinstance(source, str | os.PathLike):
        return "standard input" if source == "-" else os.fsdecode(source)
    name = getattr(source, "name", None) if hasattr(source, "read") else None
    return name if isinstance(name, str) else otherwise


def _standard_input() -> Any:
    if sys.stdin is None or sys.stdin.closed:
        raise SpeechError("standard input is closed; name a file instead of '-'")
    return sys.stdin.buffer


def _checked_path(path: Path) -> Path:
    try:
        there = path.exists()
    except (OSError, ValueError) as error:  # longer than the system allows, or a NUL in it
        reason = getattr(error, "strerror", None) or error
        raise SpeechError(f"{str(path)[:60]!r}: no such file ({reason})") from error
    if not there:
        raise SpeechError(f"{path}: no such file")
    if path.is_dir():
        raise SpeechError(f"{path} is a folder; name one recording in it")
    if path.is_file() and path.stat().st_size == 0:
        raise SpeechError(f"{path} is empty (0 bytes)", "empty")
    if not os.access(path, os.R_OK):
        raise SpeechError(f"{path} may not be read; check its permissions")
    return path


def _check_open(file: Any, name: str) -> None:
    if isinstance(file, io.TextIOBase):
        raise SpeechError(f"{name} is open as text; open it with mode 'rb'")
    if getattr(file, "closed", False):
        raise SpeechError(f"{name} is closed; open it again with mode 'rb'")
    if hasattr(file, "readable") and not file.readable():
        raise SpeechError(f"{name} is not open for reading; open it with mode 'rb'")


def _can_seek(file: Any) -> bool:
    try:
        return bool(file.seekable())
    except (AttributeError, OSError, ValueError):
        return False


@contextmanager
def _spooled(file: IO[bytes]) -> Iterator[Window]:
    """`file` as a seekable file; pipes are copied (on disk beyond 16 MiB)."""
    with tempfile.SpooledTemporaryFile(max_size=16 * 2**20) as copy:
        if not _can_seek(file):
            for block in iter(lambda: _block(file, 2**20), b""):
                copy.write(block)
                if copy.tell() > MAX_PIPE_BYTES:
                    raise SpeechError(
                        f"more than {MAX_PIPE_BYTES // 2**20} MiB came through the pipe; cut it"
                    )
        window = Window(file if _can_seek(file) else copy)
        if window.size == 0:
            raise SpeechError("the recording is empty (0 bytes)", "empty")
        yield window


def _block(file: Any, size: int) -> bytes:
    """Up to `size` bytes of a file object, which may be anybody's: whatever it raises becomes one error."""
    try:
        block = file.read(size)
    except Exception as error:
        raise SpeechError(f"the recording cannot be read ({error}); open the file again") from error
    if not isinstance(block, bytes | bytearray | memoryview):
        raise SpeechError(
            f"reading the recording gave {type(block).__name__}, not bytes; open it with mode 'rb'"
        )
    return bytes(block[:size])
