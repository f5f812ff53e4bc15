"""Packing: a prepared data set -> training shards, which can be streamed (`training_shards`)."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image.audio.front_ends import FrontEnd
from speech2image.data.listings import JsonObject
from speech2image.data.shards.array_files import open_array
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.header import HEADER, members_of, opened_shard
from speech2image.data.shards.plan import ALL, make_shards
from speech2image.data.shards.rows import LogMels
from speech2image.data.shards.training_shards import (
    TrainingSample,
    read_training_header,
    training_shard,
    training_shards,
    write_training_shard,
)
from speech2image.errors import DataError, SettingsError
from speech2image.files import check_writable


@dataclass(frozen=True)
class _Item:
    """Where the parts of a sample lie.

    Attributes:
        row: what its picture shard says of it.
        shard: that shard.
        offset: of the picture's bytes there.
        size: of the picture in bytes.
        place: its row in the teacher's features.
        utterances: numbers of what is said about it.
        spoken: caption and voice of each.
    """

    row: JsonObject
    shard: Path
    offset: int
    size: int
    place: int
    utterances: tuple[int, ...]
    spoken: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class _Task:
    """One training shard to make.

    Attributes:
        path: of the shard.
        digest: of what it is made from.
        items: its samples.
        teacher: file of the teacher's features.
        frames: files of the frames, in the speech shards' order.
        embeddings: file of the speech embeddings; None where there are none.
        front_end: of the frames.
    """

    path: Path
    digest: str
    items: tuple[_Item, ...]
    teacher: Path
    frames: tuple[Path, ...]
    embeddings: Path | None
    front_end: FrontEnd


def pack(
    arrays: PairArrays,
    out: str | os.PathLike[str],
    *,
    splits: Sequence[str] = ("train",),
    samples_per_shard: int = 1000,
    seed: int = 0,
    shuffle: bool = True,
    overwrite: bool = False,
    only: slice = ALL,
) -> list[Path]:
    """Write training shards of a prepared data set, with its speech embeddings if there are any.

    An interrupted call goes on with the shard where it stopped.

    Args:
        arrays: the data set; the teacher's features must be there. Its `workers` do the work.
        out: folder to write.
        splits: of the samples to take.
        samples_per_shard: pictures a shard.
        seed: of the samples' order.
        shuffle: mix the samples, whose classes follow one another in a data set; else keep their order.
        overwrite: replace shards that were made from something else.
        only: make these shards alone.

    Returns:
        All shards, or those.

    Raises:
        DataError: features are missing, there is no such sample, or `out` holds something else.
        SettingsError: less than one sample a shard.
        OutputError: `out` cannot be written.
    """
    if samples_per_shard < 1:
        raise SettingsError(f"samples per shard are {samples_per_shard}; give at least 1")
    out = Path(out)
    check_writable(out / "training-000000.tar")
    chosen = np.flatnonzero(np.isin(arrays.splits, list(splits)))
    if not len(chosen):
        raise DataError(f"no sample of split {' or '.join(splits)} in {arrays.folder}")
    if shuffle:
        chosen = np.random.default_rng(seed).permutation(chosen)
    tasks = _tasks(arrays, out, chosen, samples_per_shard)
    finished = _finished(out, tasks, overwrite)
    tasks = tasks[only]
    todo = [task for task in tasks if task.path not in finished]
    make_shards(_pack, todo, [len(task.items) for task in todo], "training shards", arrays.workers)
    return [task.path for task in tasks]


def _tasks(arrays: PairArrays, out: Path, chosen: NDArray[np.int64], per_shard: int) -> list[_Task]:
    folder = arrays.folder / "arrays"
    teacher, embeddings = folder / "teacher.npy", folder / arrays.embeddings_file
    assert arrays.teacher.ndim == 3  # or the error says what makes them
    spoken_of: list[list[int]] = [[] for _ in arrays.ids]
    for u, place in enumerate(arrays.utterance_sample.tolist()):
        spoken_of[place].append(u)
    frames = tuple(arrays.build_log_mels()) if len(arrays.utterance_sample) else ()
    made_from = "".join(_stamp(path) for path in (teacher, embeddings))
    items = _items(arrays, spoken_of)
    tasks = []
    for number, start in enumerate(range(0, len(chosen), per_shard)):
        part = tuple(items[place] for place in chosen[start : start + per_shard].tolist())
        text = json.dumps([arrays.front_end.describe(), [[i.row, i.spoken] for i in part]], sort_keys=True)
        identities = " ".join(header.identity for _, header in arrays.speech_headers)
        digest = hashlib.sha256(f"{made_from} {identities} {text}".encode()).hexdigest()[:16]
        stored = embeddings if embeddings.exists() and frames else None
        if stored is not None:
            assert len(arrays.embeddings) == len(arrays.utterance_sample)  # or the error says more
        tasks.append(
            _Task(training_shard(out, number), digest, part, teacher, frames, stored, arrays.front_end)
        )
    return tasks


def _stamp(path: Path) -> str:
    """What tells a file of features from another one without reading gigabytes."""
    return f"{path.stat().st_size} {path.stat().st_mtime_ns} " if path.exists() else "- "


def _items(arrays: PairArrays, spoken_of: Sequence[Sequence[int]]) -> list[_Item]:
    items: list[_Item] = []
    for shard, header in arrays.picture_headers:
        with opened_shard(shard) as tar:
            members = members_of(tar, shard)
        members.pop(HEADER, None)
        for row in header.rows:
            name = f"{row['id']}.{row['suffix']}"
            if name not in members:
                raise DataError(f"shard {shard} breaks off or is damaged: {name!r} is missing")
            place, member = len(items), members[name]
            said = tuple(spoken_of[place])
            spoken = tuple((int(arrays.utterance_caption[u]), str(arrays.utterance_voice[u])) for u in said)
            items.append(_Item(row, shard, member.offset_data, member.size, place, said, spoken))
    return items


def _finished(out: Path, tasks: Sequence[_Task], overwrite: bool) -> set[Path]:
    """Shards that are there already, made from the same."""
    wanted, finished = {task.path: task.digest for task in tasks}, set()
    for path in training_shards(out):
        try:
            same = path in wanted and read_training_header(str(path)).digest == wanted[path]
        except DataError:
            same = False
        if same:
            finished.add(path)
        elif not overwrite:
            raise DataError(
                f"{path} was packed from other data or features; choose another --out, or --overwrite"
            )
        elif path not in wanted:
            path.unlink()
    return finished


def _pack(task: _Task) -> None:
    """Read the parts of a shard's samples and write it."""
    teacher = open_array(task.teacher, np.float16, 3)
    frames = LogMels(task.frames) if task.frames else None
    embeddings = open_array(task.embeddings, np.float16, 2) if task.embeddings else None
    samples = []
    for item in task.items:
        row, said = item.row, list(item.utterances)
        samples.append(
            TrainingSample(
                id=row["id"],
                label=row["label"],
                class_name=row["class"],
                split=row["split"],
                captions=tuple(row["captions"]),
                image=_picture(item),
                suffix=row["suffix"],
                teacher=np.array(teacher[item.place]),
                spoken=item.spoken,
                frames=tuple(frames[u].T.astype(np.float16) for u in said) if frames else (),
                embeddings=np.array(embeddings[said]) if embeddings is not None and said else None,
            )
        )
    write_training_shard(task.path, samples, task.front_end.describe(), task.digest)


def _picture(item: _Item) -> bytes:
    with open(item.shard, "rb") as file:
        file.seek(item.offset)
        data = file.read(item.size)
    if item.row.get("sha256", digest := hashlib.sha256(data).hexdigest()) != digest:
        raise DataError(
            f"shard {item.shard}: the picture of {item.row['id']} is not as it was written (checksum); "
            "prepare the data set again with --overwrite"
        )
    return data
