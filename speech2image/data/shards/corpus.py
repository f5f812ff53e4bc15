"""Picture shards of a corpus, made together with the speech shards of its own recordings."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from speech2image.data.bad_files import report_bad_files
from speech2image.data.entries import Entry, check_classes, entries_digest, load_usable, sources_digest
from speech2image.data.pairs import (
    RECORDED,
    SAMPLES_PER_SHARD,
    UNFINISHED,
    part_shards,
    picture_shard,
    picture_shards,
    shard_utterances,
    speech_shard,
    write_picture_shard,
    write_speech_shard,
)
from speech2image.data.shards.header import read_header
from speech2image.data.shards.plan import ShardPlan, make_shards, plan_shards, unfinished


def write_pictures(
    entries: Sequence[Entry],
    out: Path,
    name: str,
    *,
    per_shard: int = SAMPLES_PER_SHARD,
    overwrite: bool = False,
    workers: int = 1,
    skip_bad: bool = False,
) -> list[Entry]:
    """Write the picture shards still missing, with speech shards of the corpus's own recordings.

    Args:
        entries: the corpus.
        out: shards folder.
        name: what errors call the corpus.
        per_shard: pictures a shard.
        overwrite: see `unfinished`.
        workers: processes.
        skip_bad: leave out what cannot be read.

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
    if todo:
        (out / UNFINISHED).touch()
    make = partial(make_picture_shard, skip_bad=skip_bad)
    problems = make_shards(make, todo, [len(plan.items) for plan in todo], "pictures", workers)
    if not skip_bad:
        report_bad_files([problem for found in problems for problem in found], skip=False)
    (out / UNFINISHED).unlink(missing_ok=True)
    return _kept(plans, entries, name)


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
    loaded = [load_usable(entry) for entry in plan.items]
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
