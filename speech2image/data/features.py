"""The teacher's features of every picture, computed once and cached beside the shards."""

import copy
import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from speech2image.data.json_text import parse_json
from speech2image.data.pairs import Sample, picture_shards
from speech2image.data.pictures import open_picture, to_rgb
from speech2image.data.progress import track
from speech2image.data.resumable_array import ResumableArray
from speech2image.data.shard_reading import stream_pictures
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.header import read_header
from speech2image.errors import DataError, SettingsError
from speech2image.files import check_writable, writing
from speech2image.models.teacher.googlenet import FEATURE_SIZE, GoogLeNet, ten_crops
from speech2image.models.teacher.toy import ToyTeacher

Teacher = GoogLeNet | ToyTeacher

CROPS = {1: [0], 2: [0, 5], 10: list(range(10))}
"""Number of crops -> which of `ten_crops`: the centre; the centre and its flip; all ten."""


def cache_teacher_features(
    arrays: PairArrays, teacher: Teacher, *, crops: int = 10, crops_at_once: int = 20
) -> Path:
    """Write the teacher's feature of every picture's crops to `arrays/teacher.npy`, float16 [N, crops, 1024].

    Pictures are the shards' own (short side resized to 256, crops of 224). Where the processor has it,
    bfloat16 is used (cosine to float32 above 0.999). An interrupted call goes on where it stopped; a finished
    one with the same teacher, crops and pictures returns at once. An older `teacher.npy` stays until the new
    one is complete.

    Args:
        arrays: the prepared data set.
        teacher: on the device that shall do the work.
        crops: 10, 2 (the centre and its flip) or 1 (the centre).
        crops_at_once: how many crops one pass of the teacher takes; more on a GPU.

    Raises:
        SettingsError: `crops` or `crops_at_once` out of range.
        DataError: a picture cannot be read, or the shards changed since `arrays` was opened.
        OutputError: the folder cannot be written.
    """
    if crops not in CROPS or crops_at_once < 1:
        raise SettingsError(
            f"crops is {crops}, crops at once {crops_at_once}; choose 1, 2 or 10, and 1 or more"
        )
    path = arrays.folder / "arrays" / "teacher.npy"
    check_writable(path)
    key = _key(arrays, teacher, crops)
    if path.exists() and _read_key(path) == key:
        return path
    part = path.with_name(f"teacher-{key}.part.npy")
    features = ResumableArray(part, (len(arrays.ids), crops, FEATURE_SIZE), np.float16)
    _fill(features, arrays, _quick(teacher), crops, max(1, crops_at_once // crops))
    _finish(part, path, key)
    return path


def _fill(
    features: ResumableArray, arrays: PairArrays, teacher: Teacher, crops: int, pictures_at_once: int
) -> None:
    """Compute the rows not yet there."""
    done = features.done
    samples = islice(stream_pictures(picture_shards(arrays.folder)), done, None)
    rest = track(samples, "teacher features", len(arrays.ids) - done)
    while batch := list(islice(rest, pictures_at_once)):
        if [sample.id for sample in batch] != arrays.ids[done : done + len(batch)]:
            raise DataError(f"the pictures in {arrays.folder} changed since they were opened; start again")
        features.write(done, _features(batch, teacher, crops))
        cast(np.memmap, features.array).flush()
        done = features.done
    if done < len(arrays.ids):
        raise DataError(f"{arrays.folder} holds {done} pictures, not {len(arrays.ids)} as when it was opened")


@torch.no_grad()
def _features(samples: list[Sample], teacher: Teacher, crops: int) -> NDArray[np.float16]:
    """Teacher features [samples, crops, 1024]."""
    pictures = (np.asarray(to_rgb(open_picture(sample.image, sample.id))) for sample in samples)
    batch = torch.cat([ten_crops(picture, CROPS[crops]) for picture in pictures])
    batch = batch.to(_device(teacher), memory_format=torch.channels_last)
    features = teacher.features(batch).view(len(samples), crops, FEATURE_SIZE)
    return features.cpu().numpy().astype(np.float16)


def _quick(teacher: Teacher) -> Teacher:
    """A copy in the form that runs fastest here: channels last, and bfloat16 if the CPU multiplies it."""
    teacher = copy.deepcopy(teacher)
    teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    on_cpu = _device(teacher).type == "cpu"
    return teacher.bfloat16() if on_cpu and torch.cpu._is_avx512_bf16_supported() else teacher


def _device(teacher: Teacher) -> torch.device:
    return next(teacher.parameters()).device


def _finish(part: Path, path: Path, key: str) -> None:
    """Put the complete file in place; the note of what it was made from is never older than the file."""
    _note(path).unlink(missing_ok=True)
    part.replace(path)
    for stale in path.parent.glob("teacher-*.part.npy"):
        stale.unlink()
    with writing(_note(path)) as temporary:
        temporary.write_text(json.dumps({"made_from": key}))


def _note(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_key(path: Path) -> str | None:
    try:
        return str(parse_json(_note(path).read_text(), _note(path).name)["made_from"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _key(arrays: PairArrays, teacher: Teacher, crops: int) -> str:
    """Digest of all that the features depend on: pictures, their order, the teacher's weights, the crops."""
    digest = hashlib.sha256(f"{crops} {teacher.variant}".encode())
    for shard in _headers(arrays.folder):
        digest.update(shard.encode())
    for identifier in arrays.ids:
        digest.update(f"{identifier}\n".encode())
    for weight in teacher.state_dict().values():
        digest.update(weight.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _headers(folder: Path) -> Iterator[str]:
    for shard in picture_shards(folder):
        yield f"{shard.name} {read_header(shard).identity}\n"
