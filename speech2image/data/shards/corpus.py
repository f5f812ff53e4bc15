"""Shards of a corpus: its pictures with its own recordings, and further recordings that a list names."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from speech2image.data.entries import (
    Entry,
    Recording,
    check_classes,
    entries_digest,
    load_recording,
    load_usable,
    report_bad_files,
    sources_digest,
)
from speech2image.data.listings import listed_path, read_jsonl, sample_id
from speech2image.data.pairs import (
    RECORDED,
    SAMPLES_PER_SHARD,
    UNFINISHED,
    UTTERANCES_PER_SHARD,
    ShardUtterance,
    part_shards,
    picture_shard,
    picture_shards,
    shard_utterances,
    speech_shard,
    write_picture_shard,
    write_speech_shard,
)
from speech2image.data.shards.header import read_header
from speech2image.data.shards.plan import (
    ALL,
    ShardPlan,
    Workers,
    counted,
    make_shards,
    plan_shards,
    unfinished,
)
from speech2image.errors import DataError


def write_pictures(
    entries: Sequence[Entry],
    out: Path,
    name: str,
    *,
    per_shard: int = SAMPLES_PER_SHARD,
    overwrite: bool = False,
    workers: Workers = 1,
    skip_bad: bool = False,
    only: slice = ALL,
) -> list[Entry]:
    """Write the picture shards still missing, with speech shards of the corpus's own recordings.

    Args:
        entries: the corpus.
        out: shards folder.
        name: what errors call the corpus.
        per_shard: pictures a shard.
        overwrite: see `unfinished`.
        workers: processes, or where else the work is done.
        skip_bad: leave out what cannot be read.
        only: make these shards alone; the folder stays unfinished until a call for all.

    Returns:
        The entries whose pictures are in the shards.

    Raises:
        DataError: pictures or recordings cannot be read (all are named), or `out` holds something else.
    """
    plans = plan_shards(entries, per_shard, partial(picture_shard, out), entries_digest)
    todo = unfinished(
        plans,
        picture_shards(out),
        overwrite=overwrite,
        sources_of=sources_digest,
        companion_of=_recorded_shard,
    )
    if overwrite:
        for path in set(part_shards(out, RECORDED)) - {_beside(plan.path) for plan in plans}:
            path.unlink()
    # While this file is there, `PairArrays.open` refuses the folder: a part would pass for all.
    if todo:
        (out / UNFINISHED).touch()
    finished = not todo
    todo = _among(todo, plans[only])
    make = partial(make_picture_shard, skip_bad=skip_bad)
    problems = make_shards(make, todo, [len(plan.items) for plan in todo], "pictures", workers)
    if not skip_bad:
        report_bad_files([problem for found in problems for problem in found], skip=False)
    if only == ALL:
        (out / UNFINISHED).unlink(missing_ok=True)
    elif not finished:
        return _of_part(plans, entries, skip_bad)
    return _kept(plans, entries, name)


def _among(todo: Sequence[ShardPlan[Entry]], chosen: Sequence[ShardPlan[Entry]]) -> list[ShardPlan[Entry]]:
    paths = {plan.path for plan in chosen}
    return [plan for plan in todo if plan.path in paths]


def _of_part(plans: Sequence[ShardPlan[Entry]], entries: Sequence[Entry], skip_bad: bool) -> list[Entry]:
    """The entries while other jobs still make their shards; which are left out as bad is known at the end
    alone, and then the speech that follows is another."""
    missing = sum(not plan.path.exists() for plan in plans)
    if skip_bad and missing:
        raise DataError(
            f"{missing} picture shards are still to be made, and with --skip-bad what is spoken depends on "
            "them: start this job again when the others are done"
        )
    return list(entries)


def _kept(plans: Sequence[ShardPlan[Entry]], entries: Sequence[Entry], name: str) -> list[Entry]:
    """The entries that finished shards hold; says what was left out of these, now or when they were made."""
    headers = [read_header(plan.path) for plan in plans]
    skipped = [problem for header in headers for problem in header.skipped]
    if not skipped:
        return list(entries)
    report_bad_files(skipped, skip=True)
    ids = {row["id"] for header in headers for row in header.rows}
    kept = [entry for entry in entries if entry.id in ids]
    check_classes(kept, name)
    return kept


def _recorded_shard(plan: ShardPlan[Entry]) -> Path | None:
    """The speech shard that goes with a picture shard, if its pictures have recordings."""
    return _beside(plan.path) if any(entry.recordings for entry in plan.items) else None


def _beside(pictures: Path) -> Path:
    """Where recordings of a picture shard's own lie."""
    return speech_shard(pictures.parent, RECORDED, int(pictures.stem.rpartition("-")[2]))


def make_picture_shard(plan: ShardPlan[Entry], skip_bad: bool = False) -> list[str]:
    """Read one shard's pictures and recordings and write them; the pictures last, as they say that all is
    done. Nothing is written if some cannot be read, unless `skip_bad` leaves these out.

    Returns:
        What is wrong with those that cannot be read.
    """
    loaded = [load_usable(entry) for entry in counted(plan.items)]
    samples = [sample for sample, _ in loaded if sample is not None]
    problems = [problem for _, found in loaded for problem in found]
    if problems and not skip_bad:
        return problems
    path, sources = _beside(plan.path), sources_digest(plan.items)
    if spoken := [item for sample in samples for item in shard_utterances(sample)]:
        write_speech_shard(path, spoken, plan.digest, sources=sources)
    else:
        path.unlink(missing_ok=True)
    write_picture_shard(plan.path, samples, plan.digest, sources=sources, skipped=problems)
    return problems


def write_recordings(
    manifest: Path,
    entries: Sequence[Entry],
    out: Path,
    *,
    per_shard: int = UTTERANCES_PER_SHARD,
    overwrite: bool = False,
    workers: Workers = 1,
    skip_bad: bool = False,
    only: slice = ALL,
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
    todo = _among(todo, plans[only])
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
    for entry in counted(plan.items):
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
