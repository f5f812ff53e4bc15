"""Names in data sets: sample ids out of file names in any script, and checks of names read from files."""

import hashlib
import os
import re
from pathlib import Path

from speech2image.errors import DataError


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
