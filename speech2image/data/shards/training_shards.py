"""Training shards: pictures with all that trainings read of them, complete in themselves, to be streamed.

    training-000000.tar ...      per sample (WebDataset)
        <id>.json                label, class, split, captions; of each utterance caption, voice, n_frames
        <id>.webp|jpg|png        the picture
        <id>.teacher.npy         the teacher's features of its crops, float16 [crops, 1024]
        <id>.frames.npy          frames of all its utterances end to end, float16 [frames, 40]
        <id>.embeddings.npy      their speech embeddings, float16 [utterances, 1024], where there are any

The first member, `__shard__`, says how many samples and utterances follow, with sums over the teacher's
features, so that a training learns what it has to know of the whole from one short read a shard. It states
the SHA-256 of all that follows: a shard is taken in full or not at all.
"""

import base64
import hashlib
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from speech2image.data.listings import JsonObject, check_id, parse_json
from speech2image.data.shards.header import HEADER, SPLITS
from speech2image.data.shards.urls import opened, persistently
from speech2image.errors import DataError, require
from speech2image.files import writing

KIND = "training"
ADVICE = "pack it again (prepare stream)"
_SUFFIX = re.compile("[a-z0-9]{1,8}")


@dataclass(frozen=True)
class TrainingSample:
    """A picture, what is said about it, and what networks made of both.

    Attributes:
        id: as in the prepared data set.
        label: class number there.
        class_name: for people.
        split: "train", "val" or "test".
        captions: descriptions in words.
        image: picture file bytes.
        suffix: "webp", "jpg" or "png".
        teacher: features of its crops, float16 [crops, 1024].
        spoken: caption (-1 if unknown) and voice of each utterance.
        frames: of each utterance, float16 [n_frames, n].
        embeddings: of the utterances, float16 [utterances, 1024]; None before they were made.
    """

    id: str
    label: int
    class_name: str
    split: str
    captions: tuple[str, ...]
    image: bytes = field(repr=False)
    suffix: str
    teacher: NDArray[np.float16] = field(repr=False)
    spoken: tuple[tuple[int, str], ...]
    frames: tuple[NDArray[np.float16], ...] = field(repr=False)
    embeddings: NDArray[np.float16] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class TrainingHeader:
    """What a shard says of itself before its samples.

    Attributes:
        samples: number of samples of each split.
        utterances: split -> voice -> number of utterances.
        classes: label and name of every class in it.
        teacher_sum: split -> sum over the samples of the mean feature of their crops, float64 [1024], base64.
        crops: of each sample.
        embeddings: whether speech embeddings are in it.
        front_end: what `FrontEnd.describe` gives for its frames.
        content: SHA-256 of all members that follow.
        digest: of what it was packed from.
    """

    samples: dict[str, int]
    utterances: dict[str, dict[str, int]]
    classes: list[tuple[int, str]]
    teacher_sum: dict[str, str]
    crops: int
    embeddings: bool
    front_end: JsonObject
    content: str
    digest: str

    def sum_of(self, split: str) -> NDArray[np.float64]:
        """Sum of the samples' teacher features of a split, float64 [1024]."""
        if split not in self.teacher_sum:
            return np.zeros(1, np.float64)
        return np.frombuffer(base64.b64decode(self.teacher_sum[split]), np.float64)


def training_shard(folder: Path, index: int) -> Path:
    """Path of training shard `index`."""
    return folder / f"training-{index:06d}.tar"


def training_shards(folder: Path) -> list[Path]:
    """All training shards of a folder, in order."""
    return sorted(folder.glob(f"training-{'[0-9]' * 6}.tar"))


def write_training_shard(
    path: Path, samples: Sequence[TrainingSample], front_end: JsonObject, digest: str
) -> None:
    """Write one shard.

    Args:
        path: where to.
        samples: what it holds; embeddings in all or in none.
        front_end: describes their frames.
        digest: of what it is packed from.
    """
    webdataset = require("webdataset", "train")
    members = [(name, data) for sample in samples for name, data in _members(sample)]
    header = _header_of(samples, front_end, digest, _content(members))
    with (
        writing(path) as temporary,
        open(temporary, "wb") as file,
        webdataset.TarWriter(file, mtime=0, encoder=False, format="PAX_FORMAT") as tar,
    ):
        for name, data in [(HEADER, _header_bytes(header)), *members]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.tarstream.addfile(info, io.BytesIO(data))


def _members(sample: TrainingSample) -> Iterator[tuple[str, bytes]]:
    row = {
        "label": sample.label,
        "class": sample.class_name,
        "split": sample.split,
        "captions": list(sample.captions),
        "suffix": sample.suffix,
        "spoken": [
            {"caption": caption, "voice": voice, "frames": len(frames)}
            for (caption, voice), frames in zip(sample.spoken, sample.frames, strict=True)
        ],
    }
    yield f"{sample.id}.json", json.dumps(row, ensure_ascii=False).encode()
    yield f"{sample.id}.{sample.suffix}", sample.image
    yield f"{sample.id}.teacher.npy", _npy(sample.teacher)
    if sample.frames:
        yield f"{sample.id}.frames.npy", _npy(np.concatenate(sample.frames))
        if sample.embeddings is not None:
            yield f"{sample.id}.embeddings.npy", _npy(sample.embeddings)


def _npy(array: NDArray[np.float16]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(array, np.float16), allow_pickle=False)
    return out.getvalue()


def _content(members: Sequence[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, data in members:
        _add(digest, name, data)
    return digest.hexdigest()


def _add(digest: Any, name: str, data: bytes) -> None:
    digest.update(f"{name} {len(data)}\n".encode())
    digest.update(data)


def _header_of(
    samples: Sequence[TrainingSample], front_end: JsonObject, digest: str, content: str
) -> TrainingHeader:
    voices: dict[str, Counter[str]] = {}
    sums: dict[str, NDArray[np.float64]] = {}
    for sample in samples:
        voices.setdefault(sample.split, Counter()).update(voice for _, voice in sample.spoken)
        mean = sample.teacher.astype(np.float32).mean(axis=0).astype(np.float64)
        sums[sample.split] = sums.get(sample.split, 0) + mean
    return TrainingHeader(
        samples=dict(Counter(sample.split for sample in samples)),
        utterances={split: dict(counts) for split, counts in voices.items()},
        classes=sorted({(sample.label, sample.class_name) for sample in samples}),
        teacher_sum={split: base64.b64encode(total.tobytes()).decode() for split, total in sums.items()},
        crops=samples[0].teacher.shape[0],
        embeddings=any(sample.embeddings is not None for sample in samples),
        front_end=front_end,
        content=content,
        digest=digest,
    )


def _header_bytes(header: TrainingHeader) -> bytes:
    fields = {"kind": KIND, **asdict(header)}
    return json.dumps({**fields, "checksum": _checksum(fields)}, ensure_ascii=False).encode()


def _checksum(fields: JsonObject) -> str:
    text = json.dumps(fields, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_training_header(url: str) -> TrainingHeader:
    """What a shard holds, from its first member alone.

    Raises:
        DataError: it is not there, or no training shard of this package.
    """

    def read() -> TrainingHeader:
        with opened(url) as file:
            return _read_header(_tar_members(file, url), url)

    return persistently(url, read)


def read_training_shard(url: str, *, pictures: bool = True, frames: bool = True) -> list[TrainingSample]:
    """All samples of a shard, in their order.

    Args:
        url: its address.
        pictures: keep the pictures' bytes; else they are b"".
        frames: keep the utterances' frames; else they have none of theirs.

    Raises:
        DataError: it is not there, is cut short, or is not as it was written.
    """

    def read() -> list[TrainingSample]:
        with opened(url) as file:
            return list(_read_samples(file, url, pictures, frames))

    return persistently(url, read)


def _tar_members(file: BinaryIO, url: str) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of a tar file that is read once, from the front."""
    try:  # WebDataset's own iterator passes the header over
        with tarfile.open(fileobj=file, mode="r|") as tar:
            while (member := tar.next()) is not None:
                data = tar.extractfile(member)
                yield member.name, data.read() if data else b""
                tar.members.clear()  # type: ignore[attr-defined]  # or it remembers all
    except tarfile.TarError as error:
        raise DataError(f"the stream {url} breaks off or is no tar file ({error})") from error


def _read_header(members: Iterator[tuple[str, bytes]], url: str) -> TrainingHeader:
    name, data = next(members, ("", b""))
    if name != HEADER:
        raise DataError(
            f"{url} is not a training shard: its first member is not {HEADER}; --data of a stream takes what "
            "prepare stream wrote"
        )
    fields = parse_json(data, f"the header of {url}", f"; {ADVICE}")
    if not isinstance(fields, dict) or fields.pop("checksum", None) != _checksum(fields):
        raise DataError(f"the header of {url} is not as it was written (checksum); {ADVICE}")
    if fields.pop("kind", None) != KIND:
        raise DataError(
            f"{url} is a shard of prepared data, not of a stream; pack these: speech2image prepare stream"
        )
    return TrainingHeader(**{**fields, "classes": [(label, name) for label, name in fields["classes"]]})


def _read_samples(file: BinaryIO, url: str, pictures: bool, frames: bool) -> Iterator[TrainingSample]:
    members = _tar_members(file, url)
    header, digest = _read_header(members, url), hashlib.sha256()

    def listed() -> Iterator[JsonObject]:
        for name, data in members:
            _add(digest, name, data)
            yield {"fname": name, "data": data, "__url__": url}

    grouped, total = require("webdataset.tariterators", "train").group_by_keys(listed()), 0
    for found in grouped:
        total += 1
        try:
            yield _sample(found, pictures, frames)
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(
                f"the stream {url} breaks off or is damaged in sample {total} ({error!r}); {ADVICE}, or "
                "copy it again"
            ) from error
    expected = sum(header.samples.values())
    if total != expected or digest.hexdigest() != header.content:
        what = (
            f"breaks off after {total} of {expected} samples" if total < expected else "is damaged (checksum)"
        )
        raise DataError(f"the stream {url} {what}; {ADVICE}, or copy it again")


def _sample(found: JsonObject, pictures: bool, frames: bool) -> TrainingSample:
    row = json.loads(found["json"])
    check_id(found["__key__"])
    if row["split"] not in SPLITS or not _SUFFIX.fullmatch(row["suffix"]):
        raise ValueError(f"split {row['split']!r:.20}, suffix {row['suffix']!r:.20}")
    sizes = [int(spoken["frames"]) for spoken in row["spoken"]]
    ends = np.cumsum(sizes)
    held: tuple[NDArray[np.float16], ...] = tuple(np.zeros((0, 0), np.float16) for _ in sizes)
    if frames and sizes:
        together = _array(found["frames.npy"], 2)
        if len(together) != ends[-1]:
            raise ValueError(f"{len(together)} frames, not {ends[-1]}")
        held = tuple(np.split(together, ends[:-1]))
    embeddings = _array(found["embeddings.npy"], 2) if "embeddings.npy" in found else None
    return TrainingSample(
        id=found["__key__"],
        label=int(row["label"]),
        class_name=row["class"],
        split=row["split"],
        captions=tuple(row["captions"]),
        image=found[row["suffix"]] if pictures else b"",
        suffix=row["suffix"],
        teacher=_array(found["teacher.npy"], 2),
        spoken=tuple((int(spoken["caption"]), spoken["voice"]) for spoken in row["spoken"]),
        frames=held,
        embeddings=embeddings,
    )


def _array(data: bytes, ndim: int) -> NDArray[np.float16]:
    array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    if array.dtype != np.float16 or array.ndim != ndim:
        raise ValueError(f"an array of {array.dtype} with {array.ndim} axes")
    return array
