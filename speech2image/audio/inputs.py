"""What a recording may be handed in as (path, bytes, file object, standard input) -> a seekable file."""

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


@contextmanager
def opened(source: Any) -> Iterator[tuple[Any, str]]:
    """A seekable file with the recording, and a name for it in error messages.

    Raises:
        SpeechError: there is no such file, it is empty or no file, or the pipe never ends.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        if not len(source):
            raise SpeechError("the recording is empty (0 bytes)")
        yield io.BytesIO(source), "the recording"
    elif isinstance(source, str) and source == "-":
        if sys.stdin is None:
            raise SpeechError("standard input is closed; name a file, or send the recording through a pipe")
        with _spooled(sys.stdin.buffer) as file:
            yield file, "standard input"
    elif isinstance(source, str | os.PathLike):
        with _checked_path(Path(source)).open("rb") as file, _spooled(file) as seekable:
            yield seekable, str(source)
    elif hasattr(source, "read"):
        name = getattr(source, "name", None)  # None or a number for temporary files
        name = name if isinstance(name, str) else "the recording"
        if isinstance(source, io.TextIOBase):
            raise SpeechError(f"{name} is open as text; open it with mode 'rb'")
        with _spooled(source) as file:
            yield file, name
    else:
        raise SpeechError(
            "expected a path, bytes, a binary file object, '-' or (samples, rate), "
            f"got {type(source).__name__}"
        )


def _checked_path(path: Path) -> Path:
    if not os.path.exists(path):  # Path.exists raises an error for names that are too long
        raise SpeechError(f"{path}: no such file")
    if path.is_dir():
        raise SpeechError(f"{path} is a folder; name one recording in it")
    if path.is_file() and path.stat().st_size == 0:
        raise SpeechError(f"{path} is empty (0 bytes)")
    if not os.access(path, os.R_OK):
        raise SpeechError(f"{path} may not be read; check its permissions")
    return path


@contextmanager
def _spooled(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """The rest of `file` as a seekable file; pipes are copied (on disk beyond 16 MiB)."""
    if file.seekable():
        yield file
        return
    with tempfile.SpooledTemporaryFile(max_size=16 * 2**20) as copy:
        for block in iter(lambda: file.read(2**20), b""):
            copy.write(block)
            if copy.tell() > MAX_PIPE_BYTES:
                raise SpeechError(f"more than {MAX_PIPE_BYTES // 2**20} MiB came through the pipe; cut it")
        if copy.tell() == 0:
            raise SpeechError("the recording is empty (0 bytes)")
        copy.seek(0)
        yield copy
