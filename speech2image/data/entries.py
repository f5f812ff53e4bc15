"""Entries: pictures of a corpus on disk, as corpus modules list them and `prepare` checks them."""

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from speech2image.data.listings import check_id
from speech2image.data.pairs import Sample, Utterance
from speech2image.data.pictures import Box, Crop, shard_picture
from speech2image.data.shards.header import SPLITS
from speech2image.errors import DataError, SpeechError

SHOWN = 10


def report_bad_files(problems: Sequence[str], *, skip: bool) -> None:
    """Report files that cannot be used, by an error or a warning; `problems` says of each what is wrong.

    Raises:
        DataError: there are some and `skip` is off.

    Warns:
        UserWarning: there are some and `skip` is on.
    """
    if not problems:
        return
    more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    listed = "; ".join(problems[:SHOWN]) + more
    if skip:
        count = "1 bad file was" if len(problems) == 1 else f"{len(problems)} bad files were"
        warnings.warn(f"{count} left out: {listed}", stacklevel=3)
        return
    if len(problems) == 1:
        raise DataError(f"{listed}; mend it or take it out of the set, or go on without it: --skip-bad")
    raise DataError(
        f"{len(problems)} files cannot be used: {listed}; mend them or take them out of the set, "
        "or go on without them: --skip-bad"
    )


@dataclass(frozen=True)
class Recording:
    """A recording on disk of caption number `caption` (-1: of no caption known) by `voice`."""

    path: Path
    caption: int
    voice: str


@dataclass(frozen=True)
class Entry:
    """One picture of a corpus on disk.

    Attributes:
        id: see `Sample.id`.
        image: picture file.
        label: class number.
        class_name: class name.
        split: "train", "val" (classes of training, pictures kept out) or "test".
        captions: descriptions.
        recordings: recordings on disk.
        source: where it comes from.
        box: crop to the object in this box.
        crop: how far around the box, see `pictures.object_square`.
        place: where the corpus lists it, for errors, e.g. "manifest.jsonl line 3".
    """

    id: str
    image: Path
    label: int
    class_name: str
    split: str
    captions: tuple[str, ...] = ()
    recordings: tuple[Recording, ...] = ()
    source: str = ""
    box: Box | None = None
    place: str = ""
    crop: Crop = "stackgan"


def load_usable(entry: Entry) -> tuple[Sample | None, list[str]]:
    """What can be read of an entry, None if its picture cannot, and what is wrong with the rest."""
    utterances, problems = [], []
    for recording in entry.recordings:
        try:
            utterances.append(load_recording(recording, entry.place))
        except DataError as error:
            problems.append(str(error))
    try:
        return _sample(entry, tuple(utterances)), problems
    except DataError as error:
        return None, [str(error), *problems]


def _sample(entry: Entry, utterances: tuple[Utterance, ...]) -> Sample:
    where = f"{entry.image} ({entry.place})" if entry.place else str(entry.image)
    image, suffix = shard_picture(_read(entry.image, "picture", entry.place), where, entry.box, entry.crop)
    return Sample(
        id=entry.id,
        image=image,
        image_suffix=suffix,
        label=entry.label,
        class_name=entry.class_name,
        split=entry.split,
        captions=entry.captions,
        utterances=utterances,
        source=entry.source,
    )


def load_recording(recording: Recording, place: str) -> Utterance:
    """Read a recording; its bytes are kept when they are Opus or FLAC, and become FLAC otherwise.

    Raises:
        DataError: missing, unreadable, too short or silent.
    """
    from speech2image import audio

    data = _read(recording.path, "recording", place)
    try:
        waveform = audio.load(data)
        audio.log_mel(waveform)
    except SpeechError as error:
        raise DataError(f"recording {recording.path} ({place}): {error}") from error
    suffix = recording.path.suffix.lower().lstrip(".")
    if suffix not in ("opus", "flac"):
        data, suffix = audio.encode_flac(waveform), "flac"
    return Utterance(recording.caption, recording.voice, data, suffix)


def _read(path: Path, kind: str, place: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        listed = f", listed in {place}" if place else ""
        raise DataError(f"missing {kind} {path}{listed}: {error.strerror or error}") from error


def check_entries(entries: Sequence[Entry], name: str, *, skip_bad: bool = False) -> list[Entry]:
    """Check a corpus before it is prepared.

    Args:
        entries: the corpus.
        name: what errors call it.
        skip_bad: leave out pictures and recordings that are not there.

    Returns:
        The entries whose pictures are there, with the recordings that are.

    Raises:
        DataError: it is empty, two pictures share an id, files are missing, a split is unknown, or all
            training pictures are of one class, so that no mismatched picture can be drawn.

    Warns:
        UserWarning: a training class has one picture, and others have more; or something was left out.
    """
    if not entries:
        raise DataError(f"{name} holds no pictures: the data set is empty")
    seen: dict[str, Entry] = {}
    for entry in entries:
        _check_entry(entry)
        if entry.id in seen:
            first = seen[entry.id].place or seen[entry.id].image
            raise DataError(
                f"{entry.place or entry.image}: the picture id {entry.id!r} came before, in {first}; "
                "ids come from file names without suffixes: rename one of the two, or give it another 'id'"
            )
        seen[entry.id] = entry
    report_bad_files([problem for entry in entries for problem in _missing(entry)], skip=skip_bad)
    kept = [_without_missing(entry) for entry in entries if os.path.isfile(entry.image)]
    check_classes(kept, name)
    return kept


def _check_entry(entry: Entry) -> None:
    check_id(entry.id, entry.place)
    if entry.split not in SPLITS:
        raise DataError(f"{entry.place}: split is {entry.split!r}, must be one of {', '.join(SPLITS)}")


def _missing(entry: Entry) -> list[str]:
    files = [("picture", entry.image), *(("recording", recording.path) for recording in entry.recordings)]
    return [
        f"missing {kind} {path}, listed in {entry.place}" for kind, path in files if not os.path.isfile(path)
    ]


def _without_missing(entry: Entry) -> Entry:
    there = tuple(recording for recording in entry.recordings if os.path.isfile(recording.path))
    return replace(entry, recordings=there)


def check_classes(entries: Sequence[Entry], name: str) -> None:
    """Check that training can compare pictures of different classes; see `check_entries`."""
    if not entries:
        raise DataError(f"no picture of {name} can be used")
    counts = Counter(entry.label for entry in entries if entry.split == "train")
    if len(counts) == 1:
        raise DataError(
            f"all training pictures of {name} are of one class ({next(iter(counts))}), but training compares "
            f"each picture with one of another class; give 'class' at least two values"
        )
    single = sorted(label for label, count in counts.items() if count == 1)
    if single and len(single) < len(counts):  # else each picture is a class of its own: meant so
        listed = ", ".join(map(str, single[:10])) + (" ..." if len(single) > 10 else "")
        warnings.warn(
            f"{name}: {len(single)} training classes have a single picture ({listed}); "
            f"they train, but give a poor idea of their class",
            stacklevel=3,
        )


def entries_digest(entries: Sequence[Entry]) -> str:
    """Digest of what a shard is made from, apart from where it lies: ids, classes, captions, file sizes."""
    rows = [
        [e.id, e.label, e.class_name, e.split, e.captions, e.source, _cropped(e), e.image.stat().st_size]
        + [[r.path.name, r.caption, r.voice, r.path.stat().st_size] for r in e.recordings]
        for e in entries
    ]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()[:16]


def _cropped(entry: Entry) -> Any:
    """Box and crop; of the first crop the box alone, as in shards from before there was another."""
    return entry.box if entry.box is None or entry.crop == "stackgan" else [entry.box, entry.crop]


def sources_digest(entries: Sequence[Entry]) -> str:
    """Digest of the bytes of all pictures and recordings, for files replaced by others of equal size."""
    paths = [path for e in entries for path in (e.image, *(recording.path for recording in e.recordings))]
    return hashlib.sha256("".join(map(file_digest, paths)).encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, "unreadable" where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "unreadable"
