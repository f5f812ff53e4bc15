"""Listings: JSON, names, ids and paths in files that others wrote, checked as they are read."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speech2image import files
from speech2image.errors import DataError

JsonObject = dict[str, Any]
"""A JSON object: a row of a shard or a list, the effects of an utterance."""


def sample_id(name: str) -> str:
    """Relative file name -> sample id: no suffix, no leading `images/` or `jpg/`, fit as a name in a shard.

    Of ASCII, letters, digits, `_`, `-` and `/` stay and all else becomes `_`. Other scripts stay as they are;
    where such a name loses a character, a checksum keeps it apart from those that differ in that alone.

    >>> sample_id("images/001.Black_footed_Albatross/Black_0001.webp"), sample_id("桜.jpg")
    ('001_Black_footed_Albatross/Black_0001', '桜')
    """
    stem = re.sub(r"\.[A-Za-z0-9]+$", "", name.replace("\\", "/"))
    stem = re.sub(r"^(\./)?((images|jpg)/)?", "", stem)
    kept = "".join(character if _may_stay(character) else "_" for character in stem).strip("/")
    lossy = not stem.isascii() and kept != stem.strip("/")
    if lossy or not kept or kept.startswith("__"):  # WebDataset passes names over that begin with "__"
        digest = hashlib.sha256(stem.encode(errors="surrogatepass")).hexdigest()[:8]
        kept = f"{kept.lstrip('_/')}-{digest}".lstrip("-")
    return kept


def _may_stay(character: str) -> bool:
    if character.isascii():
        return character.isalnum() or character in "_/-"
    return character.isprintable()


def check_id(name: str, place: str = "") -> None:
    """Check a sample's id, which names members of tar files; `place` is where it was found.

    Raises:
        DataError: it is empty or absolute, begins with "__", or holds a dot, a backslash or an unprintable
            character.
    """
    unfit = not name or name.startswith(("/", "__")) or set(name) & {".", "\\"} or not name.isprintable()
    if unfit:
        raise DataError(
            f"{place}{place and ': '}sample id {name!r} must be a relative name without dots, backslashes "
            "and unprintable characters, and not begin with '__'"
        )


def check_file_name(name: str, what: str) -> None:
    """Check a name that becomes a file's, such as a reader's.

    Raises:
        DataError: it could name a file elsewhere, is hidden, or cannot be a file's name everywhere.
    """
    if not name or name.startswith(".") or set(name) & set('/\\:*?"<>|') or not name.isprintable():
        raise DataError(f"{what} is {name!r}, must be fit as a file's name: no path, no leading dot")


def listed_path(root: Path, name: str) -> Path:
    """The file that a list calls `name`, below `root`. Lists made on Windows part folders by backslashes."""
    path = root / name
    return path if "\\" not in name or os.path.isfile(path) else root / name.replace("\\", "/")


def parse_json(text: str | bytes, place: str, advice: str = "") -> Any:
    """The value that JSON text stands for; `place` is what an error calls it, `advice` what it ends in.

    Raises:
        DataError: no JSON that can be written again (see `files.parse_json`).
    """
    try:
        return files.parse_json(text.encode() if isinstance(text, str) else text)
    except UnicodeError as error:
        raise DataError(f"{place} holds text that is no Unicode: {error}{advice}") from error
    except ValueError as error:
        if isinstance(error.__cause__, RecursionError):
            raise DataError(f"{place} is nested too deep{advice}") from error
        raise DataError(f"{place} is not JSON: {error}{advice}") from error


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
        elif (own := _identity(Path(item.path))) not in above:  # else a link leads round in a circle
            yield from _below(Path(item.path), (*above, own))


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise DataError(f"cannot open {folder}: {error.strerror}; check that you may open it") from error
    return status.st_dev, status.st_ino


def read_jsonl(path: Path) -> Iterator[tuple[str, JsonObject]]:
    """Yield ("file line n", object) for every line that is not blank.

    Raises:
        DataError: not UTF-8, or a line is no JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"unreadable manifest {path}: {error}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path} line {number}"
        row = parse_json(line, place, "; a manifest has one JSON object a line")
        if not isinstance(row, dict):
            raise DataError(f"{place} is {type(row).__name__}, must be a JSON object")
        yield place, row
