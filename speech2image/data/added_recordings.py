"""Recordings of captions that come in a list of their own, as a part of a prepared set."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from speech2image.data.entries import Entry, Recording, entries_digest, load_recording, sample_id
from speech2image.data.folder import read_jsonl
from speech2image.data.pairs import (
    UTTERANCES_PER_SHARD,
    Spoken,
    part_shards,
    speech_shard,
    write_speech_shard,
)
from speech2image.data.shard_plan import ShardPlan, make_shards, plan_shards, unfinished
from speech2image.errors import DataError

RECORDED = "recorded"


def write_recordings(
    manifest: Path,
    entries: Sequence[Entry],
    out: Path,
    *,
    per_shard: int = UTTERANCES_PER_SHARD,
    overwrite: bool = False,
    workers: int = 1,
) -> None:
    """Add the recordings a JSONL file lists (`audio`, `image`, `text` or `caption`, `voice`) as a part of
    their own.

    The part is named after the folder the file lies in. Rows about pictures that are not in the set are left
    out.

    Raises:
        DataError: the file is unreadable, a row lacks a field, or no row is about a picture of the set.
    """
    by_id = {entry.id: entry for entry in entries}
    items = []
    for place, row in read_jsonl(manifest):
        if entry := _entry_of(row.get("image"), by_id, place):
            items.append(_recorded(row, entry, manifest.parent, place))
    if not items:
        raise DataError(f"no recording in {manifest} is about a picture of this set")
    part = re.sub(r"[^a-z0-9-]+", "-", manifest.resolve().parent.name.lower()).strip("-") or RECORDED
    plans = plan_shards(items, per_shard, partial(speech_shard, out, part), entries_digest)
    todo = unfinished(plans, part_shards(out, part), overwrite=overwrite)
    make_shards(make_recorded_shard, todo, [len(plan.items) for plan in todo], part, workers)


def _entry_of(image: object, by_id: dict[str, Entry], place: str) -> Entry | None:
    if not isinstance(image, str):
        raise DataError(f"{place} has no 'image' that names the picture spoken of")
    return by_id.get(sample_id(image))


def _recorded(row: dict[str, object], entry: Entry, root: Path, place: str) -> Entry:
    """An entry with the row's recording alone."""
    audio, text, caption = row.get("audio"), str(row.get("text", "")).strip(), row.get("caption", -1)
    if not isinstance(audio, str) or not isinstance(caption, int):
        raise DataError(f"{place}: 'audio' must be a path and 'caption' a number")
    if text in entry.captions:
        caption = entry.captions.index(text)
    if not -1 <= caption < len(entry.captions):
        raise DataError(f"{place}: there is no caption {caption} of {entry.id}")
    recording = Recording(root / audio, caption, str(row.get("voice", RECORDED)))
    if not recording.path.is_file():
        raise DataError(f"missing recording {recording.path}, listed in {place}")
    return replace(entry, recordings=(recording,), place=place)


def make_recorded_shard(plan: ShardPlan[Entry]) -> None:
    """Read one shard's recordings and write them."""
    spoken = []
    for entry in plan.items:
        utterance = load_recording(entry.recordings[0], entry.place)
        text = entry.captions[utterance.caption] if utterance.caption >= 0 else ""
        spoken.append(Spoken(entry.id, text, utterance))
    write_speech_shard(plan.path, spoken, plan.digest)
