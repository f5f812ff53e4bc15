"""Recordings of captions that come in a list of their own, as a part of a prepared set."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from speech2image.data.bad_files import report_bad_files
from speech2image.data.corpora.folder import read_jsonl
from speech2image.data.entries import Entry, Recording, entries_digest, load_recording, sources_digest
from speech2image.data.listings import listed_path, sample_id
from speech2image.data.pairs import (
    RECORDED,
    UTTERANCES_PER_SHARD,
    ShardUtterance,
    part_shards,
    speech_shard,
    write_speech_shard,
)
from speech2image.data.shards.plan import ShardPlan, make_shards, plan_shards, unfinished
from speech2image.errors import DataError


def write_recordings(
    manifest: Path,
    entries: Sequence[Entry],
    out: Path,
    *,
    per_shard: int = UTTERANCES_PER_SHARD,
    overwrite: bool = False,
    workers: int = 1,
    skip_bad: bool = False,
) -> None:
    """Add the recordings a JSONL file lists (`audio`, `image`, `text` or `caption`, `voice`) as a part of
    their own.

    The part is named after the folder the file lies in. Rows about pictures that are not in the set are left
    out.

    Raises:
        DataError: the file is unreadable, rows lack a field, recordings cannot be used (unless `skip_bad`
            leaves them out), or no row is about a picture of the set.
    """
    items = _listed(manifest, entries, skip_bad)
    part = part_name(manifest.resolve().parent.name)
    plans = plan_shards(items, per_shard, partial(speech_shard, out, part), entries_digest)
    todo = unfinished(plans, part_shards(out, part), overwrite=overwrite, sources_of=sources_digest)
    make = partial(make_recorded_shard, skip_bad=skip_bad)
    problems = make_shards(make, todo, [len(plan.items) for plan in todo], part, workers)
    report_bad_files([problem for found in problems for problem in found], skip=skip_bad)


def part_name(folder: str) -> str:
    """The part that recordings listed in a folder of this name become: letters of any script, digits.

    >>> part_name("Spoken Captions"), part_name("話し_言葉")
    ('spoken-captions', '話し-言葉')
    """
    return re.sub(r"(?:[^\w-]|_)+", "-", folder.lower()).strip("-") or "added"


def _listed(manifest: Path, entries: Sequence[Entry], skip_bad: bool) -> list[Entry]:
    """An entry for every recording of a picture of the set."""
    by_id = {entry.id: entry for entry in entries}
    items, problems = [], []
    for place, row in read_jsonl(manifest):
        try:
            if entry := _entry_of(row.get("image"), by_id, place):
                items.append(_recorded(row, entry, manifest.parent, place))
        except DataError as error:
            problems.append(str(error))
    report_bad_files(problems, skip=skip_bad)
    if not items:
        raise DataError(f"no recording in {manifest} is about a picture of this set")
    return items


def _entry_of(image: object, by_id: dict[str, Entry], place: str) -> Entry | None:
    if not isinstance(image, str):
        raise DataError(f"{place} has no 'image' that names the picture spoken of")
    return by_id.get(sample_id(image))


def _recorded(row: dict[str, object], entry: Entry, root: Path, place: str) -> Entry:
    """An entry with the row's recording alone."""
    audio, text, caption = row.get("audio"), str(row.get("text", "")).strip(), row.get("caption", -1)
    if not isinstance(audio, str) or type(caption) is not int:
        raise DataError(f"{place}: 'audio' must be a path and 'caption' a number")
    if text in entry.captions:
        caption = entry.captions.index(text)
    if not -1 <= caption < len(entry.captions):
        raise DataError(f"{place}: there is no caption {caption} of {entry.id}")
    recording = Recording(listed_path(root, audio), caption, str(row.get("voice", RECORDED)))
    if not os.path.isfile(recording.path):
        raise DataError(f"missing recording {recording.path}, listed in {place}")
    return replace(entry, recordings=(recording,), place=place)


def make_recorded_shard(plan: ShardPlan[Entry], skip_bad: bool = False) -> list[str]:
    """Read one shard's recordings and write them, unless some cannot be read and are not to be left out.

    Returns:
        What is wrong with those.
    """
    spoken, problems = [], []
    for entry in plan.items:
        try:
            utterance = load_recording(entry.recordings[0], entry.place)
        except DataError as error:
            problems.append(str(error))
            continue
        text = entry.captions[utterance.caption] if utterance.caption >= 0 else ""
        spoken.append(ShardUtterance(entry.id, text, utterance))
    if skip_bad or not problems:
        sources = sources_digest(plan.items)
        write_speech_shard(plan.path, spoken, plan.digest, sources=sources, skipped=problems)
    return problems
