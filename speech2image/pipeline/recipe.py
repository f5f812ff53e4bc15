"""Recipe of a picture: what it was drawn with, kept as text in the picture's own file.

PNG files have it in an iTXt chunk called "speech2image", WebP and JPEG files in the EXIF field
ImageDescription; as JSON in both.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin

from speech2image.errors import DataError

KEY = "speech2image"
MAX_WORDS = 2_000
"""Characters of what was heard that a recipe keeps of each recording."""
MAX_TEXT = 60_000
"""Characters of a recipe; a JPEG file has room for 65,000."""


def _software() -> str:
    """This package and its version; the package itself, which imports this file, is above it."""
    return f"speech2image {sys.modules['speech2image'].__version__}"


@dataclass(frozen=True)
class Recipe:
    """What pictures were drawn with; the recording is not in it.

    Attributes:
        model: its name.
        checksum: `registry.Model.checksum`, which tells models of one name apart; "" if it is not known.
        route: direct or cascade.
        seed: where the noise came from.
        pictures: so many for each recording.
        noise_rows: the row of the seed's noise of each picture; () for the first ones, 0, 1, 2 ...
        words: what was heard in each recording, or read; None where the model tells none.
        software: this package and its version.
    """

    model: str
    checksum: str
    route: str
    seed: int
    pictures: int = 1
    noise_rows: tuple[int, ...] = ()
    words: tuple[str | None, ...] = ()
    software: str = field(default_factory=_software)

    def as_text(self) -> str:
        """The recipe as JSON in ASCII; of very many recordings without what was heard."""
        words = [None if one is None else one[:MAX_WORDS] for one in self.words]
        text = json.dumps({KEY: asdict(self) | {"words": words}})
        return (
            text
            if len(text) <= MAX_TEXT
            else json.dumps({KEY: asdict(self) | {"words": [], "noise_rows": []}})
        )

    def options(self, kind: str) -> dict[str, Any]:
        """What Pillow's `save` must be given to write the recipe into a file of a `kind` (PNG ...)."""
        if kind == "PNG":
            info = PngImagePlugin.PngInfo()
            info.add_itxt(KEY, self.as_text())
            return {"pnginfo": info}
        exif = Image.Exif()
        exif[ExifTags.Base.ImageDescription] = self.as_text()
        return {"exif": exif}


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """The recipe in a picture file.

    Raises:
        DataError: it is no picture, or has no recipe that this version can read.
    """
    try:
        with Image.open(path) as image:
            exif, info = image.getexif().get(ExifTags.Base.ImageDescription), dict(image.info)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "it is no picture"
        raise DataError(f"cannot read {os.fspath(path)}: {reason}") from error
    return _parsed(info.get(KEY, exif), os.fspath(path))


def _parsed(text: object, path: str) -> Recipe:
    try:
        found = json.loads(str(text))[KEY]
        return Recipe(
            model=_checked(found["model"], str),
            checksum=_checked(found["checksum"], str),
            route=_checked(found["route"], str),
            seed=_checked(found["seed"], int),
            pictures=_checked(found["pictures"], int),
            noise_rows=tuple(_checked(row, int) for row in found["noise_rows"]),
            words=tuple(one if one is None else _checked(one, str) for one in found["words"]),
            software=_checked(found["software"], str),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path} has no recipe: speech2image did not write it, was told not to add one (--no-recipe), or "
            "another program wrote the picture anew"
        ) from error


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(value)
    return value


def together(recipes: Sequence[Recipe]) -> Recipe:
    """The recipe of a sheet of several recordings' pictures, all drawn alike."""
    rows = tuple(row for recipe in recipes for row in recipe.noise_rows)
    words = tuple(words for recipe in recipes for words in recipe.words)
    return replace(recipes[0], noise_rows=rows, words=words)
