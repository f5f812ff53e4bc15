"""Publishers' files: MATLAB files, lists and texts of Oxford-102, CUB and Flickr8k; this project's captions.

This project's own captions, 28,444 of them, two for each of 8,189 flowers and 6,033 birds, are not the
published ones (Reed et al. 2016: ten a picture, written by people), which are hard to come by: they were
machine-written for this project by looking at each picture, and ship with it under its licence. Say so
wherever a result rests on them. With them, whoever has the photographs alone can prepare, train and evaluate.

    oxford102   Oxford-102 flowers, all pictures; zero-shot split: classes 1-20 are test
    cub200      CUB-200, the pictures of the 2010 edition; zero-shot split: the usual 150 / 50 classes

A file of them holds one JSON object a class: number, species, split, and captions by picture name (no folder,
no suffix).
"""

import bz2
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from speech2image.data.listings import JsonObject
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


def captions_folder(root: Path, *archives: str) -> Path | None:
    """Where Reed's captions lie: the first `text_c10/` in `root`, beside it, or in what his archive unpacks
    to in either of these; None if there is none.

    Args:
        root: the corpus's folder.
        archives: folders that his archive unpacks to, such as "cvpr2016_cub".
    """
    around = (root, root.absolute().parent)
    places = [place / archive for archive in ("", *archives) for place in around]
    return next((place / "text_c10" for place in places if (place / "text_c10").is_dir()), None)


def class_list_file(root: Path, captions: Path | None) -> Path | None:
    """Reed's `testclasses.txt`: in `root`, in the folder of captions or beside it; None if there is none."""
    folders = (root, *((captions, captions.parent) if captions else ()))
    return next((f / "testclasses.txt" for f in folders if (f / "testclasses.txt").is_file()), None)


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


SOURCE = "captions machine-written for speech2image (not Reed et al. 2016)"


@dataclass(frozen=True)
class OwnClass:
    """One class: number from 1, species for people, split ("train" / "test"), captions by picture name."""

    label: int
    species: str
    split: str
    captions: Mapping[str, tuple[str, ...]]


@cache
def own_captions(corpus: Literal["oxford102", "cub200"]) -> dict[int, OwnClass]:
    """The shipped classes of a corpus by number.

    >>> own_captions("oxford102")[77].species
    'passion flower'
    """
    file = resources.files("speech2image.data") / "captions" / f"{corpus}.jsonl.bz2"
    rows = map(json.loads, bz2.decompress(file.read_bytes()).decode().splitlines())
    classes = {}
    for row in rows:
        captions = {name: tuple(texts) for name, texts in row["captions"].items()}
        classes[row["class"]] = OwnClass(row["class"], row["species"], row["split"], captions)
    return classes


def pack(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows of a folder manifest (`corpora.folder`) -> the bytes of a shipped caption file."""
    classes: dict[int, JsonObject] = {}
    for row in rows:
        head = {"class": row["class"], "species": row["species"], "split": row["split"], "captions": {}}
        captions = classes.setdefault(row["class"], head)["captions"]
        captions[PurePosixPath(row["image"]).stem] = row["captions"]
    lines = [
        json.dumps(classes[label], separators=(",", ":"), ensure_ascii=False) for label in sorted(classes)
    ]
    return bz2.compress(("\n".join(lines) + "\n").encode(), 9)
