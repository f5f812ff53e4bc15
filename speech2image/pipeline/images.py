"""Pictures: from arrays and back, grids, and saving that never leaves half a file."""

import math
import os
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from speech2image.errors import OutputError, SettingsError
from speech2image.files import check_writable, writing
from speech2image.pipeline.recipe import Recipe

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""What a picture file may be called, and the Pillow format it is then written in."""

_LONGEST = {"JPEG": 65_500, "WEBP": 16_383}
"""Pixels a side that a format holds."""

MAX_PIXELS = 2**30
"""Of a sheet of pictures, which takes four bytes each in memory."""

# PNG: in a drawn picture, whose neighbours never repeat, a search for repetitions takes as long as all the
# rest and finds nothing; runs of one byte, in what is plain, are found at once.
_OPTIONS = {"PNG": {"compress_type": zlib.Z_RLE}, "JPEG": {"quality": 95}, "WEBP": {"quality": 95}}
_PREVIEW = {"JPEG": {"quality": 85}, "WEBP": {"quality": 85, "method": 1}}


def to_uint8(pictures: ArrayLike) -> NDArray[np.uint8]:
    """Turn a network's pictures, [..., 3, height, width] in [-1, 1], into bytes [..., height, width, 3].

    Values outside [-1, 1] are clipped; -1 becomes 0 and 1 becomes 255.
    """
    array = np.asarray(pictures, dtype=np.float32)
    if array.ndim < 3 or array.shape[-3] != 3:
        raise SettingsError(f"a picture has the shape [..., 3, height, width], not {list(array.shape)}")
    levels = np.clip((array + 1) * 127.5, 0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(levels, -3, -1))


def to_image(picture: ArrayLike) -> Image.Image:
    """Turn floats [3, height, width] in [-1, 1] or bytes [height, width, 3] into a Pillow image."""
    array = np.asarray(picture)
    return Image.fromarray(array if array.dtype == np.uint8 else to_uint8(array))


def from_uint8(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn bytes [..., height, width, 3] into what networks take, [..., 3, height, width] in [-1, 1]."""
    array = np.ascontiguousarray(np.moveaxis(pictures, -1, -3)).astype(np.float32)
    array /= 127.5
    array -= 1
    return array


def grid(images: Sequence[Image.Image], columns: int | None = None, gap: int = 2) -> Image.Image:
    """Lay pictures of one size out in rows, left to right, on white.

    Args:
        images: at least one picture; all of the size of the first.
        columns: pictures a row; by default the grid is about as wide as high, never higher than wide.
        gap: white pixels between neighbours.

    Raises:
        SettingsError: no picture, pictures of several sizes, or fewer than one column.
    """
    if not images:
        raise SettingsError("a grid needs at least one picture")
    sizes = {image.size for image in images}
    if len(sizes) > 1:
        raise SettingsError(f"a grid needs pictures of one size, got {sorted(sizes)}")
    columns = _default_columns(len(images)) if columns is None else columns
    if columns < 1:
        raise SettingsError(f"a grid needs at least 1 column, got {columns}")
    return _paste(images, min(columns, len(images)), gap)


def _default_columns(n: int) -> int:
    return math.ceil(math.sqrt(n))


def _paste(images: Sequence[Image.Image], columns: int, gap: int) -> Image.Image:
    width, height = images[0].size
    sheet = Image.new("RGB", _sheet_size(len(images), images[0].size, columns, gap), "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(image, (column * (width + gap), row * (height + gap)))
    return sheet


def _sheet_size(n: int, picture: tuple[int, int], columns: int, gap: int) -> tuple[int, int]:
    rows = math.ceil(n / columns)
    return columns * (picture[0] + gap) - gap, rows * (picture[1] + gap) - gap


def check_sheet(path: str | os.PathLike[str], n: int, side: int, columns: int | None = None) -> None:
    """Check, before `n` pictures of `side` x `side` are drawn, that their grid can be written to `path`.

    Raises:
        OutputError: it would be wider or higher than the format of `path` holds, or larger than `MAX_PIXELS`.
    """
    columns = min(_default_columns(n) if columns is None else columns, n)
    check_size(path, _sheet_size(n, (side, side), columns, gap=2))


def check_size(path: str | os.PathLike[str], size: tuple[int, int]) -> None:
    """Check that the format of `path` holds a picture of `size`, width and height.

    Args:
        path: PNG if its suffix names no format.
        size: in pixels.

    Raises:
        OutputError: as `check_sheet`.
    """
    width, height = size
    kind = FORMATS.get(Path(path).suffix.lower(), "PNG")
    longest = _LONGEST.get(kind, MAX_PIXELS)
    if max(size) > longest or width * height > MAX_PIXELS:
        what = f"{longest} pixels a side" if max(size) > longest else f"{MAX_PIXELS / 1e6:.0f} megapixels"
        raise OutputError(
            f"{path} would be {width} x {height} pixels, but a {kind} file holds at most {what} here; "
            "ask for fewer pictures, for a file each (--separate), or for a .png"
        )


def check_path(path: str | os.PathLike[str]) -> Path:
    """Check, before any work is done, that a picture can be written to `path`.

    Raises:
        OutputError: the suffix names no picture format, `path` is a folder, or its folder cannot be written.
    """
    path = Path(path)
    if os.path.isdir(path):  # Path.is_dir raises an error for names that are too long
        raise OutputError(f"{path} is a folder; name a file in it, for instance {path / 'picture.png'}")
    if path.suffix.lower() not in FORMATS:
        raise OutputError(
            f"cannot tell the picture format of '{path}'; end it in one of {', '.join(FORMATS)}"
        )
    check_writable(path)
    return path


def save(image: Image.Image, path: str | os.PathLike[str], recipe: Recipe | None = None) -> Path:
    """Write a picture in the format its suffix names; the file appears whole or not at all.

    Args:
        image: the picture.
        path: where to.
        recipe: what it was drawn with, to be kept in the file.

    Raises:
        OutputError: as `check_path` and `check_size`, or the disk is full.
    """
    path = check_path(path)
    check_size(path, image.size)
    kind = FORMATS[path.suffix.lower()]
    with writing(path) as temporary:
        image.save(temporary, kind, **_OPTIONS[kind], **(recipe.options(kind) if recipe else {}))
    return path


def encode(
    image: Image.Image, kind: str = "PNG", preview: bool = False, recipe: Recipe | None = None
) -> bytes:
    """The bytes of a picture file.

    Args:
        image: the picture.
        kind: one of `FORMATS`.
        preview: to be looked at, not to be kept: where the format loses something, it may lose more; a tenth
            of a PNG's bytes, made in a quarter of its time.
        recipe: as of `save`.
    """
    buffer = BytesIO()
    options: dict[str, Any] = (_OPTIONS | _PREVIEW if preview else _OPTIONS)[kind]
    image.save(buffer, kind, **options, **(recipe.options(kind) if recipe else {}))
    return buffer.getvalue()
