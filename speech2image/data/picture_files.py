"""A folder of picture files, a few pictures at a time; a broken file is named and passed over."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from speech2image.data.file_trees import files_below
from speech2image.data.pictures import central_square, open_picture, to_rgb
from speech2image.errors import DataError, SettingsError

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
"""Files with another suffix are no pictures (captions, hidden files) and are not looked at."""
_HELD = 64_000_000
"""Bytes of pixels after which a batch ends early, so that large photographs do not fill the memory."""


class PictureBatch(NamedTuple):
    """Some pictures of a folder.

    Attributes:
        names: paths within the folder, with "/", of the pictures.
        pictures: uint8 RGB [h, w, 3] each, sizes as they are in the files unless one was asked for.
        broken: (name, what is wrong) of the files met on the way that are no pictures.
    """

    names: list[str]
    pictures: list[NDArray[np.uint8]]
    broken: list[tuple[str, str]]


def list_pictures(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the picture files in a folder and its subfolders, linked ones included, sorted.

    Hidden files are left out. A link that leads nowhere is listed, so that reading names it as broken.

    Raises:
        DataError: no such folder, one in it cannot be listed, or no picture file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; name one that holds pictures")
    paths = (path.relative_to(folder) for path in files_below(folder) if _is_file_or_broken_link(path))
    names = sorted(path.as_posix() for path in paths if path.suffix.lower() in SUFFIXES)
    if not names:
        raise DataError(f"no pictures in {folder}; it should hold {', '.join(sorted(SUFFIXES))} files")
    return names


def _is_file_or_broken_link(path: Path) -> bool:
    return path.is_file() or not path.exists()


def stream_pictures(
    folder: str | os.PathLike[str],
    size: int | None = None,
    batch_size: int = 16,
    names: Sequence[str] | None = None,
) -> Iterator[PictureBatch]:
    """Read the pictures of a folder in order of their names, never more than a batch at a time.

    Grey, palette, 16-bit, CMYK and transparent (on white) pictures become 8-bit RGB, turned upright; of an
    animation the first picture counts.

    Args:
        folder: where the pictures lie, subfolders included.
        size: side in pixels of the central square each is cut and scaled to; by default nothing is done.
        batch_size: pictures a batch, fewer where they are large.
        names: only these, of what `list_pictures` gives.

    Yields:
        Batches that together name every file once; the pictures of the last may be none.

    Raises:
        DataError: no such folder, or no picture file in it.
        SettingsError: `size` or `batch_size` below 1.
    """
    if batch_size < 1 or (size is not None and size < 1):
        raise SettingsError(f"size and batch_size are whole numbers from 1, got {size} and {batch_size}")
    return _batches(Path(folder), size, batch_size, list_pictures(folder) if names is None else names)


def _batches(folder: Path, size: int | None, batch_size: int, names: Sequence[str]) -> Iterator[PictureBatch]:
    batch, held = PictureBatch([], [], []), 0
    for name in names:
        try:
            picture = read_picture(folder / name, size)
        except DataError as error:
            batch.broken.append((name, str(error)))
            continue
        batch.names.append(name)
        batch.pictures.append(picture)
        held += picture.nbytes
        if len(batch.names) >= batch_size or held >= _HELD:
            yield batch
            batch, held = PictureBatch([], [], []), 0
    if batch.names or batch.broken:
        yield batch


def read_picture(path: Path, size: int | None = None) -> NDArray[np.uint8]:
    """A picture file as uint8 RGB [h, w, 3]; with `size` its central square, scaled to that side.

    Raises:
        DataError: the file cannot be read or is no picture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check that you may open the file") from error
    try:
        if size is not None:
            return central_square(data, size, str(path))
        return np.asarray(to_rgb(open_picture(data, str(path))))
    except DataError:
        raise
    except Exception as error:  # one file of thousands must not end the run, whatever Pillow stumbles upon
        raise DataError(
            f"unreadable picture {path}: {error}; replace the file or take it out of the set"
        ) from error
