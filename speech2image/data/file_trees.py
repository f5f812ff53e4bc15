"""Files below a folder, those in linked folders among them."""

import os
from collections.abc import Iterator
from pathlib import Path

from speech2image.errors import DataError


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file below `folder`, in no certain order, apart from hidden ones and hidden folders.

    Links to folders are followed, but never in a circle.

    Raises:
        DataError: a folder in it cannot be listed, so that its files would be missed.
    """
    yield from _below(folder, (_identity(folder),))


def _below(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    try:
        items = list(os.scandir(folder))
    except OSError as error:
        raise DataError(
            f"cannot list {folder}: {error.strerror}; check that you may open the folder"
        ) from error
    for item in items:
        if item.name.startswith("."):
            continue
        if not item.is_dir():
            yield Path(item.path)
        elif (own := _identity(Path(item.path))) not in above:
            yield from _below(Path(item.path), (*above, own))


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise DataError(f"cannot open {folder}: {error.strerror}; check that you may open it") from error
    return status.st_dev, status.st_ino
