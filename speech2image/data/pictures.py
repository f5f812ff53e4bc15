"""Picture files: any picture as shards hold it (RGB, upright, at most 304 pixels), and folders of them."""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from speech2image.data.listings import files_below
from speech2image.errors import DataError, SettingsError

SHORT_SIDE = 304
"""Largest short side kept (pixels): the paper crops 256 out of 304."""

KEPT_FORMATS = {"JPEG": "jpg", "WEBP": "webp", "PNG": "png"}
WEBP_QUALITY = 92
_EXIF_ORIENTATION = 0x0112


class Box(NamedTuple):
    """A bounding box in pixels: left, top, width, height."""

    left: float
    top: float
    width: float
    height: float


def open_picture(data: bytes, name: str) -> Image.Image:
    """Decode a picture file; `name` is what an error calls it.

    Raises:
        DataError: the bytes are no picture Pillow can read, or are cut short.
    """
    with _usable(name):
        picture = Image.open(io.BytesIO(data))
        picture.load()
        return picture


def picture_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height of a picture file as it is stored, without decoding it.

    Raises:
        DataError: the bytes are no picture Pillow knows.
    """
    with _usable(name):
        return Image.open(io.BytesIO(data)).size


@contextmanager
def _usable(name: str) -> Iterator[None]:
    """Turn any error that Pillow raises for a damaged picture into a `DataError`."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"unreadable picture {name}: {error}; replace the file or take it out of the set"
        ) from error


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode (grey, palette, RGBA, CMYK, 16 and 32 bit) as RGB, upright; transparent parts become white."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        return _deep_grey(picture).convert("RGB")
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, picture).convert("RGB")
    return picture.convert("RGB")


def _deep_grey(picture: Image.Image) -> Image.Image:
    """16-bit grey (65535 is white), or float grey (1 is white unless values are larger: then 255)."""
    values = np.asarray(picture).astype(np.float64)
    white = 65535.0
    if picture.mode == "F":
        white = 1.0 if values.max(initial=0.0) <= 1 else 255.0
    return Image.fromarray(np.clip(np.rint(values / white * 255), 0, 255).astype(np.uint8))


Crop = Literal["stackgan", "paper"]
HALF_SIDES: dict[Crop, float] = {"stackgan": 0.75, "paper": 0.5 / 0.75}
"""Crop -> half the side of the square around an object, in larger sides of its box."""


def shard_picture(
    data: bytes, name: str, box: Box | None = None, crop: Crop = "stackgan"
) -> tuple[bytes, str]:
    """Picture file -> (bytes, suffix) for a shard.

    A file that is RGB, upright, small enough and not to be cropped keeps its bytes; any other becomes WebP.

    Args:
        data: the picture file.
        name: what an error calls it.
        box: crop to the object in this box, see `object_square`.
        crop: which of the two crops.

    Raises:
        DataError: unreadable picture, or a box outside it.
    """
    with _usable(name):
        picture = open_picture(data, name)
        if box is None and _can_stay(picture):
            return data, KEPT_FORMATS[str(picture.format)]
        picture = to_rgb(picture)
        if box is not None:
            picture = picture.crop(object_square(box, picture.size, name, crop))
        return encode_webp(shrink(picture)), "webp"


def _can_stay(picture: Image.Image) -> bool:
    upright = picture.getexif().get(_EXIF_ORIENTATION, 1) == 1
    plain = picture.mode == "RGB" and "transparency" not in picture.info
    return plain and upright and picture.format in KEPT_FORMATS and min(picture.size) <= SHORT_SIDE


def shrink(picture: Image.Image, short_side: int = SHORT_SIDE) -> Image.Image:
    """Scale down so that the short side is at most `short_side` pixels; never up."""
    scale = short_side / min(picture.size)
    if scale >= 1:
        return picture
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def encode_webp(picture: Image.Image) -> bytes:
    """High-quality WebP bytes of an RGB picture."""
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=WEBP_QUALITY, method=4)
    return out.getvalue()


def object_square(
    box: Box, size: tuple[int, int], name: str = "picture", crop: Crop = "stackgan"
) -> tuple[int, int, int, int]:
    """Crop (left, top, right, bottom): a square about the centre of the box, clipped at the frame.

    "paper": the larger side of the box is at least 0.75 of the square's, as the text of StackGAN (Zhang et
    al., ICCV 2017, section 4, "greater-than-0.75 object-image size ratios") and of Li et al. (2020) says.
    "stackgan": the half-side is 0.75 max(width, height), so that side is 0.67 of the square's: what
    StackGAN's code does, and the code of both papers after it. Clipping at the frame makes either larger.

    Raises:
        DataError: the box has no part in the picture.
    """
    half = int(HALF_SIDES[crop] * max(box.width, box.height))
    x, y = int(box.left + box.width / 2), int(box.top + box.height / 2)
    left, top = max(0, x - half), max(0, y - half)
    right, bottom = min(size[0], x + half), min(size[1], y + half)
    if right <= left or bottom <= top:
        raise DataError(f"{name}: the box {tuple(box)} lies outside the picture of {size[0]} x {size[1]}")
    return left, top, right, bottom


def central_square(data: bytes, side: int, name: str) -> NDArray[np.uint8]:
    """Central square of a picture file, resized: uint8 [side, side, 3]."""
    with _usable(name):
        picture = to_rgb(open_picture(data, name))
        short = min(picture.size)
        left, top = (picture.width - short) // 2, (picture.height - short) // 2
        square = picture.crop((left, top, left + short, top + short))
        return np.asarray(square.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0))


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
    except Exception as error:  # one file of thousands must not end the run, whatever Pillow raises
        raise DataError(
            f"unreadable picture {path}: {error}; replace the file or take it out of the set"
        ) from error
