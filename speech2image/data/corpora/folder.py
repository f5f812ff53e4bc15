"""Own data set: a JSONL manifest of pictures with captions and/or recordings.

One JSON object a line; paths are relative to the manifest:

    {"image": "pictures/0001.jpg", "class": "rose", "split": "train",
     "captions": ["a red rose with a dark heart", "deep red petals"],
     "recordings": [{"audio": "clips/0001.wav", "caption": 0, "voice": "ann"}, "clips/0002.m4a"]}

    image       required: any picture Pillow reads
    class       required: a number or a name; pictures of other classes serve as mismatched ones
    species     optional: the class's name for people, where `class` is a number
    split       optional: "train" (default), "val" or "test"
    captions    optional: text or list of texts. Captions without a recording can be spoken by `prepare`.
    recordings  optional: list of paths or of objects; `caption` is the number of the caption spoken,
                `text` its words instead; `voice` the speaker. `audio`: one path, or a list of paths.
    id, source  optional
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from speech2image.data.entries import Entry, Recording
from speech2image.data.listings import JsonObject, listed_path, read_jsonl, sample_id
from speech2image.errors import DataError

_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


def folder_entries(manifest: str | os.PathLike[str]) -> list[Entry]:
    """List the pictures of a manifest (or of `captions.jsonl` / `manifest.jsonl` in a folder).

    Raises:
        DataError: no such manifest, a line that is no JSON object, or a field that is missing or of a wrong
            kind; the message names the line.
    """
    path = _manifest_path(Path(manifest))
    rows = list(read_jsonl(path))
    labels = _labels([(_field(row, "class", (int, str), place)) for place, row in rows])
    return [_entry(row, place, path, labels) for place, row in rows]


def _manifest_path(path: Path) -> Path:
    if path.is_dir():
        for name in ("manifest.jsonl", "captions.jsonl"):
            if (path / name).is_file():
                return path / name
        raise DataError(f"no manifest.jsonl or captions.jsonl in {path}; the docs tell their form")
    if not path.is_file():
        raise DataError(f"no such manifest: {path}")
    return path


def _labels(classes: Sequence[int | str]) -> dict[int | str, int]:
    """Numbers stay as they are when all are numbers; otherwise names are numbered from 1 in sorted order."""
    numbers = [value for value in classes if isinstance(value, int)]
    if len(numbers) == len(classes):
        return {number: number for number in numbers}
    return {value: i for i, value in enumerate(sorted(set(classes), key=str), start=1)}


def _entry(row: JsonObject, place: str, manifest: Path, labels: dict[int | str, int]) -> Entry:
    image = _field(row, "image", str, place)
    captions = _captions(row, place)
    split = _field(row, "split", str, place, "train")
    if split not in _SPLITS:
        raise DataError(f"{place}: split is {split!r}, must be one of {', '.join(_SPLITS)}")
    return Entry(
        id=sample_id(_field(row, "id", str, place, image)),
        image=listed_path(manifest.parent, image),
        label=labels[row["class"]],
        class_name=str(row.get("species", row["class"])),
        split=_SPLITS[split],
        captions=captions,
        recordings=tuple(_recordings(row, captions, place, manifest.parent)),
        source=_field(row, "source", str, place, manifest.parent.resolve().name),
        place=place,
    )


def _field(
    row: JsonObject, name: str, kind: type | tuple[type, ...], place: str, default: str | None = None
) -> Any:
    value = row.get(name, default)
    if value is None:
        raise DataError(f"{place} has no {name!r}")
    if not isinstance(value, kind) or isinstance(value, bool):  # true is an int to Python
        raise DataError(f"{place}: {name!r} is {value!r:.200}, of a wrong kind")
    if isinstance(value, int) and abs(value) >= 2**31:
        raise DataError(f"{place}: {name!r} is {value}, must lie within 31 bits")
    return value


def _captions(row: JsonObject, place: str) -> tuple[str, ...]:
    captions = row.get("captions", [])
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
        raise DataError(f"{place}: 'captions' must be a text or a list of texts")
    return tuple(text.strip() for text in captions if text.strip())


def _recordings(row: JsonObject, captions: tuple[str, ...], place: str, root: Path) -> Iterator[Recording]:
    audio = row.get("audio", [])
    listed = row.get("recordings", [])
    if not isinstance(listed, list) or not isinstance(audio, str | list):
        raise DataError(f"{place}: 'recordings' must be a list, 'audio' a path or a list of paths")
    for item in [*listed, *([audio] if isinstance(audio, str) else audio)]:
        item = {"audio": item} if isinstance(item, str) else item
        if not isinstance(item, dict) or not isinstance(item.get("audio"), str):
            raise DataError(f"{place}: a recording must be a path or an object with 'audio', got {item!r}")
        caption = _caption_number(item, captions, place)
        yield Recording(listed_path(root, item["audio"]), caption, str(item.get("voice", "recorded")))


def _caption_number(item: JsonObject, captions: tuple[str, ...], place: str) -> int:
    if "text" in item:
        text = str(item["text"]).strip()
        return captions.index(text) if text in captions else -1
    number = item.get("caption", 0 if len(captions) == 1 else -1)
    if not isinstance(number, int) or not -1 <= number < len(captions):
        raise DataError(f"{place}: recording of caption {number!r}, but there are {len(captions)} captions")
    return number
