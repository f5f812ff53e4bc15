"""Released lists of the direct route's paper: birds, flowers and Places-subset as `{train,test}.json`.

What:       CUB-200-2011 and Oxford-102 with ten spoken captions a picture (synthesized), and Places-subset:
            13,803 pictures of seven kinds of rooms, each described once by a person.
Where:      lists and synthesized speech: the paper's page, https://smallflyingpig.github.io/speech-to-image/;
            recordings of Places: https://groups.csail.mit.edu/sls/downloads/placesaudio/
Licence:    that of the pictures and recordings (Places and Places Audio: for research).
Citation:   J. Li et al., "Direct Speech-to-Image Translation", IEEE JSTSP 14(3), 2020; D. Harwath et al.,
            "Unsupervised learning of spoken language with visual context", NIPS 2016 (Places Audio); B. Zhou
            et al., "Learning deep features for scene recognition using Places database", NIPS 2014.
Layout:     root/train.json, root/test.json: {"image_base_path": ..., "audio_base_path": ..., "data": [...]},
            a row of `data` one of
                birds     {"image": "001.X/Y.jpg", "class": "001.X", "text": [...], "audio": [...]}
                flowers   {"img": "jpg/image_06734.jpg", "class": "1", "text": [...], "wav": [...]}
                places    {"image": "./bedroom/Y.jpg", "wav": "wavs/1/Z.wav", "asr_text": ..., "speaker": ...}
            The base paths are those of the machine that wrote the lists; where they are not there, pictures
            and recordings are looked for in root itself and in the folders named in `PICTURES` and `CLIPS`.
            Recordings may be missing altogether: `prepare` then speaks the captions.
Protocol:   zero-shot for birds and flowers (the lists hold different classes); for Places pictures of the
            same seven classes, 10,933 and 2,870.
Pictures:   birds are cropped to their box, as in `corpora.cub`, if images.txt and bounding_boxes.txt lie
            beside them; the others are whole. The paper draws Places at 128 x 128.
"""

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from speech2image.data.corpora.cub import boxes_2011
from speech2image.data.corpora.publishers import is_number
from speech2image.data.entries import Entry, Recording
from speech2image.data.listings import JsonObject, listed_path, parse_json, sample_id
from speech2image.data.pictures import Box
from speech2image.data.speech.word_bank import VOICE_PREFIX
from speech2image.errors import DataError

PICTURES = ("", "images", "jpg", "CUB_200_2011/images", "data")
CLIPS = ("", "audio", "audios", "wavs", "wav")
SYNTHESIZED = "published"
"""The voice of the released synthesized captions, of which the lists do not say who speaks."""


@dataclass(frozen=True)
class _Row:
    """A row of a list; `image` and `clips` as written there."""

    image: str
    class_name: str
    captions: tuple[str, ...]
    clips: tuple[str, ...]
    voice: str
    split: str
    place: str


def released_entries(root: str | os.PathLike[str]) -> list[Entry]:
    """List the pictures of `train.json` and `test.json`; rows of one picture are joined.

    Raises:
        DataError: a list is missing, is no JSON of that form, or no picture it names can be found.
    """
    root = Path(root)
    entries: dict[Path, Entry] = {}
    found = [_read(root / f"{split}.json", split) for split in ("train", "test")]
    rows = [row for _, listed in found for row in listed]
    labels = _labels(row.class_name for row in rows)
    for base, listed in found:
        pictures = _folder(root, base.get("image_base_path"), PICTURES, [row.image for row in listed])
        if pictures is None:
            raise DataError(
                f"{listed[0].place}: the picture {listed[0].image} is neither in image_base_path "
                f"({base.get('image_base_path')!r}) nor in {root} or its folders {', '.join(PICTURES[1:])}"
            )
        names = [clip for row in listed for clip in row.clips]
        clips = _folder(root, base.get("audio_base_path"), CLIPS, names)
        if names and clips is None:
            warnings.warn(
                f"{listed[0].place}: the recording {names[0]} is neither in audio_base_path "
                f"({base.get('audio_base_path')!r}) nor in {root} or its folders {', '.join(CLIPS[1:])}; "
                "all recordings of the list are left out",
                stacklevel=2,
            )
        boxes = _boxes(pictures)
        for row in listed:
            entry = _entry(row, pictures, clips, labels, boxes)
            before = entries.get(entry.image)
            entries[entry.image] = entry if before is None else _joined(before, entry)
    return list(entries.values())


def _read(path: Path, split: str) -> tuple[JsonObject, list[_Row]]:
    """What a list says of folders, and its rows."""
    if not path.is_file():
        raise DataError(f"missing {path}; the released lists are train.json and test.json")
    try:
        contents = parse_json(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"unreadable list {path}: {error}") from error
    rows = contents.get("data") if isinstance(contents, dict) else None
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path} has no rows under 'data'; it is none of the released lists")
    return contents, [_row(row, f"{path} row {number}", split) for number, row in enumerate(rows, start=1)]


def _row(row: Any, place: str, split: str) -> _Row:
    if not isinstance(row, dict):
        raise DataError(f"{place} is {type(row).__name__}, must be a JSON object")
    image = _field(row, place, "image", "img").replace("\\", "/").removeprefix("./")
    clips = tuple(clip.replace("\\", "/") for clip in _texts(row, place, "wav", "audio"))
    if "asr_text" in row:
        kind = PurePosixPath(image).parts[-2] if "/" in image else ""
        speaker = str(row.get("speaker", "unknown"))
        return _Row(image, kind, _texts(row, place, "asr_text"), clips, VOICE_PREFIX + speaker, split, place)
    captions = _texts(row, place, "text")
    if clips and len(clips) != len(captions):
        raise DataError(f"{place} has {len(captions)} captions and {len(clips)} recordings of them")
    return _Row(image, _field(row, place, "class"), captions, clips, SYNTHESIZED, split, place)


def _field(row: JsonObject, place: str, *names: str) -> str:
    value = next((row[name] for name in names if name in row), None)
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value):
        raise DataError(f"{place}: {' or '.join(map(repr, names))} is {value!r}, must be a text")
    return str(value)


def _texts(row: JsonObject, place: str, *names: str) -> tuple[str, ...]:
    """One text or a list of them; none where there is no such field."""
    value: Any = next((row[name] for name in names if name in row), [])
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        raise DataError(f"{place}: {' or '.join(map(repr, names))} must be a text or a list of texts")
    return tuple(text.strip() for text in value)


def _labels(classes: Iterable[str]) -> dict[str, int]:
    """Classes like "001.Black_footed_Albatross" and "12" keep their numbers; names are numbered from 1."""
    names = sorted(set(classes))
    heads = [name.partition(".")[0] for name in names]
    if all(is_number(head) for head in heads):
        return {name: int(head) for name, head in zip(names, heads, strict=True)}
    return {name: number for number, name in enumerate(names, start=1)}


def _folder(root: Path, base: Any, folders: Sequence[str], names: Sequence[str]) -> Path | None:
    """The folder that the first of `names` lies in, None if there is none."""
    stated = listed_path(root, str(base or ""))  # an absolute path stays as it is
    for folder in (stated, stated / "images", *(root / name for name in folders)):
        if names and os.path.isfile(_inside(folder, names[0])):
            return folder
    return None


def _inside(folder: Path, name: str) -> Path:
    """A file of a folder; Places lists its recordings as "wavs/...", and "wavs" may be the folder itself."""
    path = folder / name
    return path if os.path.isfile(path) else folder / name.removeprefix("wavs/")


def _boxes(pictures: Path) -> dict[str, Box]:
    """Boxes by the pictures' names, where CUB's lists lie beside the pictures or above them."""
    for folder in (pictures, pictures.parent):
        if (folder / "images.txt").is_file() and (folder / "bounding_boxes.txt").is_file():
            return boxes_2011(folder)
    return {}


def _entry(
    row: _Row, pictures: Path, clips: Path | None, labels: dict[str, int], boxes: dict[str, Box]
) -> Entry:
    recordings = [] if clips is None else [_inside(clips, name) for name in row.clips]
    return Entry(
        id=sample_id(row.image),
        image=pictures / row.image,
        label=labels[row.class_name],
        class_name=_name(row.class_name),
        split=row.split,
        captions=row.captions,
        recordings=tuple(Recording(path, number, row.voice) for number, path in enumerate(recordings)),
        source="released lists of Li et al. 2020",
        box=boxes.get(row.image.removeprefix("images/")),
        place=row.place,
    )


def _name(class_name: str) -> str:
    """A class's name for people."""
    name = class_name.partition(".")[2] or class_name
    return f"class {name}" if is_number(name) else name.replace("_", " ")


def _joined(first: Entry, second: Entry) -> Entry:
    """One picture of two rows: the captions and recordings of both."""
    if (first.label, first.split) != (second.label, second.split):
        raise DataError(f"{second.place}: the picture {second.id} came before, in {first.place}, as another")
    shift = len(first.captions)
    moved = tuple(replace(recording, caption=recording.caption + shift) for recording in second.recordings)
    return replace(first, captions=first.captions + second.captions, recordings=first.recordings + moved)
