"""Cached features: the image teacher's of every picture, a frozen backbone's states of every utterance.

Both are computed once and lie beside the shards; an interrupted call goes on where it stopped. The teacher's
are one array of all pictures, made shard by shard. States lie in one array a speech shard, as the frames they
are computed from do (`shards.rows`), named after the backbone's weights: adding speech computes the new
shards' states alone. A head that is trained on cached states takes a small part of the time.
"""

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from speech2image.data.listings import parse_json
from speech2image.data.pairs import Sample, picture_shards, stream_pictures
from speech2image.data.pictures import open_picture, to_rgb
from speech2image.data.processes import first_alone, share, wait
from speech2image.data.progress import progress
from speech2image.data.shards.array_files import ResumableArray, allocate_array, open_array
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.header import read_header
from speech2image.data.shards.plan import ALL, TaskRunner, make_shards
from speech2image.data.shards.recordings import Recordings
from speech2image.data.shards.rows import EndToEnd, LogMels, write_log_mels
from speech2image.data.training_sets import JoinedArrays, TrainingArrays, parts_of
from speech2image.errors import DataError, SettingsError
from speech2image.files import check_writable, writing
from speech2image.models.bfloat16 import multiplies_bfloat16
from speech2image.models.pretrained_speech_encoder import PretrainedSpeechEncoder
from speech2image.models.teacher.googlenet import FEATURE_SIZE, GoogLeNet, load_teacher, ten_crops
from speech2image.models.teacher.toy import ToyTeacher

Teacher = GoogLeNet | ToyTeacher

CROPS = {1: [0], 2: [0, 5], 10: list(range(10))}
"""Number of crops -> which of `ten_crops`: the centre; the centre and its flip; all ten."""


def cache_teacher_features(
    arrays: PairArrays,
    teacher: Teacher,
    *,
    crops: int = 10,
    crops_at_once: int = 20,
    only: slice = ALL,
    elsewhere: TaskRunner | None = None,
    weights: Path | None = None,
) -> Path:
    """Write the teacher's feature of every picture's crops to `arrays/teacher.npy`, float16 [N, crops, 1024].

    Pictures are the shards' own (short side resized to 256, crops of 224). Where the processor has it,
    bfloat16 is used (cosine to float32 above 0.999). An interrupted call goes on where it stopped; a finished
    one with the same teacher, crops and pictures returns at once. An older `teacher.npy` stays until the new
    one is complete. Processes of one training share the shards.

    Args:
        arrays: the prepared data set.
        teacher: on the device that shall do the work.
        crops: 10, 2 (the centre and its flip) or 1 (the centre).
        crops_at_once: how many crops one pass of the teacher takes; more on a GPU.
        only: the features of these picture shards; a call for all then puts them together.
        elsewhere: where the work is done, if not here.
        weights: file of the teacher, which is opened there anew.

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
    parts = _parts(arrays, path.with_name(f"teacher-{key}.parts"))
    at_once = max(1, crops_at_once // crops)
    if elsewhere is not None:
        assert weights is not None
        tasks = [(part, weights, crops, at_once) for part in parts[only]]
        sizes = [len(part.ids) for part in parts[only]]
        make_shards(_fill_elsewhere, tasks, sizes, "teacher features", elsewhere)
    else:
        mine, quick = share(parts[only]), _quick(teacher)
        with progress("teacher features", sum(len(part.ids) for part in mine)) as shown:
            for part in mine:
                for done in _fill(part, quick, crops, at_once):
                    shown.advance(done)
    wait()
    if only != ALL:
        return parts[0].target.parent
    with first_alone():
        if not path.exists() or _read_key(path) != key:
            _join(parts, path, key, crops)
    return path


def _fill_elsewhere(task: tuple["TeacherPart", Path, int, int]) -> None:
    """One shard's features, by a teacher that this process has opened."""
    part, weights, crops, pictures_at_once = task
    for _ in _fill(part, _opened(weights), crops, pictures_at_once):
        pass


@lru_cache(maxsize=1)
def _opened(weights: Path) -> Teacher:
    return _quick(load_teacher(weights).to("cuda" if torch.cuda.is_available() else "cpu"))


@dataclass(frozen=True)
class TeacherPart:
    """Features of one picture shard's pictures, in a file of their own until all are there.

    Attributes:
        shard: holds the pictures.
        ids: their names, in order.
        target: array file to write, float16 [len(ids), crops, 1024].
    """

    shard: Path
    ids: list[str]
    target: Path


def _parts(arrays: PairArrays, folder: Path) -> list[TeacherPart]:
    counts = EndToEnd(len(header.rows) for _, header in arrays.picture_headers)
    return [
        TeacherPart(shard, arrays.ids[start:stop], folder / f"{shard.stem}.npy")
        for (shard, _), (start, stop) in zip(
            arrays.picture_headers, pairwise(counts.starts.tolist()), strict=True
        )
    ]


def _fill(part: TeacherPart, teacher: Teacher, crops: int, pictures_at_once: int) -> Iterator[int]:
    """Compute the rows not yet there; yields how many pictures were done since."""
    features = ResumableArray(part.target, (len(part.ids), crops, FEATURE_SIZE), np.float16)
    done = features.done
    yield done
    samples = islice(stream_pictures([part.shard]), done, None)
    while batch := list(islice(samples, pictures_at_once)):
        if [sample.id for sample in batch] != part.ids[done : done + len(batch)]:
            raise DataError(f"the pictures in {part.shard} changed since it was opened; start again")
        features.write(done, _features(batch, teacher, crops))
        cast(np.memmap, features.array).flush()
        done = features.done
        yield len(batch)
    if done < len(part.ids):
        raise DataError(f"{part.shard} holds {done} pictures, not {len(part.ids)} as when it was opened")


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


def _join(parts: Sequence[TeacherPart], path: Path, key: str, crops: int) -> None:
    """Put all features in place as one file; the note of what it was made from is never older than the
    file."""
    # In this order, an interruption at any place leaves a file without a note, which is made again.
    _note(path).unlink(missing_ok=True)
    with writing(path) as temporary:
        shape = (sum(len(part.ids) for part in parts), crops, FEATURE_SIZE)
        allocate_array(temporary, shape, np.float16, called=path)
        whole, start = open_array(temporary, np.float16, 3, mode="r+"), 0
        for part in parts:
            whole[start : start + len(part.ids)] = open_array(part.target, np.float16, 3)
            start += len(part.ids)
        cast(np.memmap, whole).flush()
    with writing(_note(path)) as temporary:
        temporary.write_text(json.dumps({"made_from": key}))
    for stale in path.parent.glob("teacher-*.parts"):
        shutil.rmtree(stale)
    for stale in path.parent.glob("teacher-*.part.npy"):  # of versions before 0.3
        stale.unlink()


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


UTTERANCES_AT_ONCE = 16


def with_states(arrays: TrainingArrays, encoder: PretrainedSpeechEncoder) -> TrainingArrays:
    """The same data sets, whose `log_mel` gives the backbone's states, float32 [width, steps of 40 ms].

    Args:
        arrays: opened with the encoder's front end.
        encoder: its backbone, on the device that shall do the work, counts alone.

    Raises:
        DataError: there is no speech, or an utterance cannot be used.
        OutputError: a folder cannot be written.
    """
    parts = [_part_with_states(part, encoder) for part in parts_of(arrays)]
    return parts[0] if len(parts) == 1 else JoinedArrays(parts)


def recordings_with_states(recordings: Recordings, encoder: PretrainedSpeechEncoder) -> Recordings:
    """The same recordings, whose `log_mel` gives the backbone's states, as `with_states` does.

    Raises:
        DataError: they were prepared with another front end than the encoder's.
        OutputError: their folder cannot be written.
    """
    if recordings.front_end != encoder.front_end:
        wanted = encoder.front_end.name
        raise DataError(
            f"the recordings in {recordings.folder} are frames of {recordings.front_end.name}, this encoder "
            f"takes {wanted}; make them with: speech2image prepare recordings --front-end {wanted}"
        )
    digest = weights_digest(encoder.backbone)
    targets = [path.with_name(f"states-{digest}-{path.name}") for path in recordings.paths]
    _build(recordings.folder.name, recordings.paths, targets, encoder)
    return recordings.with_frames(targets)


def with_cached_states(arrays: PairArrays, encoder: PretrainedSpeechEncoder) -> PairArrays | None:
    """`with_states` of one data set where all its states have been computed; else None."""
    targets = _targets(arrays, encoder)
    return arrays.with_frames(targets) if all(target.exists() for target in targets) else None


def _part_with_states(arrays: PairArrays, encoder: PretrainedSpeechEncoder) -> PairArrays:
    targets = _targets(arrays, encoder)
    _build(arrays.folder.name, arrays.build_log_mels(), targets, encoder)
    return arrays.with_frames(targets)


def _targets(arrays: PairArrays, encoder: PretrainedSpeechEncoder) -> list[Path]:
    """Where the states of a data set lie, one array a speech shard."""
    return arrays.speech_arrays(f"states-{weights_digest(encoder.backbone)}")


def _build(name: str, frames: list[Path], targets: list[Path], encoder: PretrainedSpeechEncoder) -> None:
    """States of the arrays of frames whose targets are not there yet."""
    todo = share([(f, t) for f, t in zip(frames, targets, strict=True) if not t.exists()])
    _build_states(name, [(LogMels([f]), t) for f, t in todo], encoder)
    wait()


def _build_states(name: str, missing: list[tuple[LogMels, Path]], encoder: PretrainedSpeechEncoder) -> None:
    if not missing:
        return
    training = encoder.training
    encoder.eval()
    with progress(f"{name}: states", sum(len(shard) for shard, _ in missing)) as shown:
        for shard, target in missing:
            write_log_mels(target, _shard_states(shard, encoder, shown.advance))
    encoder.train(training)  # or its head would be trained without dropout by the call that computes states


def _shard_states(
    shard: LogMels, encoder: PretrainedSpeechEncoder, done: Callable[[int], None]
) -> list[NDArray[np.float16]]:
    """States of all utterances of a shard, each [steps, width]; clips of one length go together."""
    width = encoder.settings.backbone.width
    states = [np.zeros((0, width), np.float16)] * len(shard)  # what was left out as bad has no frames
    order = np.argsort(shard.n_frames(), kind="stable")
    order = order[shard.n_frames()[order] > 0]
    for rows in np.split(order, range(UTTERANCES_AT_ONCE, len(order), UTTERANCES_AT_ONCE)):
        for row, found in zip(rows, _states(shard, rows, encoder), strict=True):
            states[row] = found
        done(len(rows))
    return states


@torch.inference_mode()
def _states(
    shard: LogMels, rows: NDArray[np.int64], encoder: PretrainedSpeechEncoder
) -> list[NDArray[np.float16]]:
    """States of some utterances, each [steps, width]; in bfloat16 where that is faster, which keeps their
    direction to a cosine of 0.9999."""
    clips = [torch.from_numpy(shard[int(row)].T) for row in rows]
    device = next(encoder.parameters()).device
    n_frames = torch.tensor([len(clip) for clip in clips], device=device)
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True).transpose(1, 2).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=multiplies_bfloat16(device.type)):
        states, n_steps = encoder.states(batch, n_frames)
    halved = states.transpose(1, 2).half().cpu().numpy()
    return [one[: int(n)] for one, n in zip(halved, n_steps, strict=True)]


def weights_digest(network: torch.nn.Module) -> str:
    """Digest of a network's weights, 12 hexadecimal digits.

    A weight of -0.0 counts as 0.0, which averaging makes of it.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        values = tensor.detach().float().cpu().contiguous().numpy() + np.float32(0)
        digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()[:12]
