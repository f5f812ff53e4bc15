"""Reading what the publishers of Oxford-102, CUB and their captions ship: MATLAB files, lists, texts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speech2image.errors import DataError, require


def picture_folder(root: Path, name: str, pattern: str) -> list[Path]:
    """Sorted pictures `root/name/pattern`.

    Raises:
        DataError: the folder is missing or empty.
    """
    if not (root / name).is_dir():
        raise DataError(f"no folder {name}/ in {root}; unpack the published archive there")
    pictures = sorted((root / name).glob(pattern))
    if not pictures:
        raise DataError(f"{root / name} holds no {pattern}: the data set is empty")
    return pictures


def load_mat(path: Path) -> dict[str, Any]:
    """Contents of a MATLAB file.

    Raises:
        DataError: missing or damaged.
        MissingExtraError: scipy is not installed.
    """
    io = require("scipy.io", extra="train")
    if not path.is_file():
        raise DataError(f"missing {path}; download it from the publishers' page named in the docs")
    try:
        contents: dict[str, Any] = io.loadmat(path)
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise DataError(f"unreadable MATLAB file {path}: {error}") from error
    return contents


def read_text_captions(path: Path) -> tuple[str, ...]:
    """Captions of one picture, one a line, as in Reed's `text_c10`; empty when there is no such file."""
    if not path.is_file():
        return ()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def is_number(text: str) -> bool:
    """Whether a text is a whole number from 0 of at most nine digits."""
    return text.isdecimal() and len(text) < 10


def read_class_list(path: Path) -> list[str]:
    """Names, one a line; empty when there is no such file."""
    return path.read_text(encoding="utf-8", errors="replace").split() if path.is_file() else []


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield ("file line n", line without spaces around it) for every line that is not blank.

    Raises:
        DataError: missing.
    """
    if not path.is_file():
        raise DataError(f"missing {path}; it is part of the published archive")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{path} line {number}", line.strip()


def read_numbered(path: Path) -> dict[int, str]:
    """`<number> <rest>` lines, as in CUB's `images.txt`.

    Raises:
        DataError: missing, or a line without a leading number.
    """
    rows = {}
    for place, line in read_lines(path):
        head, _, rest = line.partition(" ")
        if not is_number(head) or not rest:
            raise DataError(f"{place}: expected a number and a value, got {line!r}")
        rows[int(head)] = rest.strip()
    return rows
