"""Reading shards: each member is found by the name its row states, and checked against that row."""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from speech2image.data.json_text import parse_json
from speech2image.data.pairs import Sample, ShardUtterance, Utterance, picture_shards, speech_shards
from speech2image.data.shards.header import (
    ADVICE,
    contents,
    header_of,
    members_of,
    opened_shard,
    read_header,
)
from speech2image.errors import DataError


def stream_pictures(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Sample]:
    """Samples of picture shards, without utterances, one after another in the order of the headers' rows.

    Raises:
        DataError: a shard is missing, damaged, cut short, or of speech.
    """
    for row, image in _rows(paths, "pictures"):
        yield Sample(
            id=row["id"],
            image=image,
            image_suffix=row["suffix"],
            label=row["label"],
            class_name=row["class"],
            split=row["split"],
            captions=tuple(row["captions"]),
            source=row["source"],
        )


def stream_speech(paths: Iterable[str | os.PathLike[str]]) -> Iterator[ShardUtterance]:
    """Utterances of speech shards, likewise."""
    for row, audio in _rows(paths, "speech"):
        utterance = Utterance(row["caption"], row["voice"], audio, row["suffix"])
        yield ShardUtterance(row["id"], row["text"], utterance, row.get("effects", {}))


def read_shards(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, speech: bool = True
) -> Iterator[Sample]:
    """Read samples back, each with its utterances.

    Args:
        source: a shards folder, or a list of shards (file names as written).
        speech: join the utterances; all their audio is held in memory (`stream_speech` holds none).

    Raises:
        DataError: there is no picture shard, or a shard is damaged.
    """
    if isinstance(source, str | os.PathLike):
        paths = [*picture_shards(source), *speech_shards(source)]
    else:
        paths = [Path(path) for path in source]
    pictures = [path for path in paths if path.name.startswith("pictures-")]
    if not pictures:
        raise DataError(
            f"no picture shards (pictures-*.tar) in {source}; make them with: speech2image prepare"
        )
    utterances: dict[str, list[Utterance]] = {}
    if speech:
        for item in stream_speech(path for path in paths if path.name.startswith("speech-")):
            utterances.setdefault(item.sample, []).append(item.utterance)
    for sample in stream_pictures(pictures):
        yield replace(sample, utterances=tuple(utterances.get(sample.id, ())))


def _rows(paths: Iterable[str | os.PathLike[str]], kind: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    for path in map(Path, paths):
        with opened_shard(path) as tar:
            header = header_of(tar, path, kind)
            members = members_of(tar, path)
            for row in header.rows:
                yield row, _checked(tar, members, row, path)


def _checked(
    tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], row: dict[str, Any], path: Path
) -> bytes:
    """The picture or recording of a row, if it and the row beside it are as they were written."""
    said, named = _names(row)
    for name in (said, named):
        if name not in members:
            raise DataError(f"shard {path} breaks off or is damaged: {name!r} is missing; {ADVICE}")
    repeated = parse_json(contents(tar, members[said], path), f"{said!r} in shard {path}", f"; {ADVICE}")
    if json.dumps(repeated) != json.dumps(row):
        raise DataError(f"shard {path}: {said!r} and the header say different things; {ADVICE}")
    data = contents(tar, members[named], path)
    if row.get("sha256", digest := hashlib.sha256(data).hexdigest()) != digest:
        raise DataError(f"shard {path}: {named!r} is not as it was written (checksum); {ADVICE}")
    return data


def _names(row: dict[str, Any]) -> tuple[str, str]:
    """Names of a row's two members: itself, and its picture or recording."""
    key = row.get("key", row["id"])
    return f"{key}.json", f"{key}.{row['suffix']}"


def is_whole(path: Path) -> bool:
    """Whether every member that a shard's header names is there in full; bytes are not looked at."""
    try:
        header = read_header(path)
        with opened_shard(path) as tar:
            members = members_of(tar, path)
    except DataError:
        return False
    return all(name in members for row in header.rows for name in _names(row))


def is_intact(path: Path) -> bool:
    """Whether all of a shard is as it was written; a shard that states no checksums cannot show it."""
    try:
        header = read_header(path)
        return header.checked and sum(1 for _ in _rows([path], header.kind)) == len(header.rows)
    except DataError:
        return False
