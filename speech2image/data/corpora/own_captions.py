"""This project's own captions: 28,444 of them, two for each of 8,189 flowers and 6,033 birds.

They are not the published ones (Reed et al. 2016: ten a picture, written by people), which are hard to come
by: they were machine-written for this project by looking at each picture, and ship with it under its
licence. Say so wherever a result rests on them. With them, whoever has the photographs alone can prepare,
train and evaluate.

    oxford102   Oxford-102 flowers, all pictures; zero-shot split: classes 1-20 are test
    cub200      CUB-200, the pictures of the 2010 edition; zero-shot split: the usual 150 / 50 classes

A file holds one JSON object a class: number, species, split, and captions by picture name (no folder, no
suffix).
"""

import bz2
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any, Literal

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
    """Rows of a folder manifest (`data.folder`) -> the bytes of a shipped caption file."""
    classes: dict[int, dict[str, Any]] = {}
    for row in rows:
        head = {"class": row["class"], "species": row["species"], "split": row["split"], "captions": {}}
        captions = classes.setdefault(row["class"], head)["captions"]
        captions[PurePosixPath(row["image"]).stem] = row["captions"]
    lines = [
        json.dumps(classes[label], separators=(",", ":"), ensure_ascii=False) for label in sorted(classes)
    ]
    return bz2.compress(("\n".join(lines) + "\n").encode(), 9)
