"""Writing files so that nothing half-written ever stays."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speech2image.errors import OutputError


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it onto `path` on success, delete it on any failure.

    The temporary path keeps the suffix of `path`, since many writers choose a format by it. The caller may
    create a file or a folder there. An existing folder at `path` is replaced.

    Raises:
        OutputError: the parent cannot be created or written, or `path` is a folder where a file was written.
    """
    path = Path(path)
    check_writable(path)
    temporary = path.with_name(f".{path.stem[:100]}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        _replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        _remove(temporary)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Create the parent folder of `path` and check that a file can be made in it, before long work starts.

    Raises:
        OutputError: the parent is not a folder, cannot be created, or cannot be written.
    """
    parent = Path(path).parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        probe = parent / f".probe.{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot write to {parent}: {error.strerror or error}; choose a folder you may write to"
        ) from error


def _replace(temporary: Path, path: Path) -> None:
    if temporary.is_dir() and path.is_dir():
        old = temporary.with_name(temporary.name + ".old")
        os.replace(path, old)
        os.replace(temporary, path)
        _remove(old)
    else:
        os.replace(temporary, path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
