"""Samples of a prepared data set, pictures with spoken captions, and WebDataset tar shards of them.

A shards folder holds

    pictures-000000.tar ...        per sample `<id>.webp|jpg|png`, `<id>.json`: label, class, split, captions
    speech-<part>-000000.tar ...   per utterance `<id>-<n>.opus|flac`, `<id>-<n>.json`: text, caption, voice
    manifest.jsonl                 one row a sample, without bytes, listing both kinds
    arrays/                        made from the shards by `shards.arrays`

Speech lies beside the pictures, not among them, so voices are added without rewriting a picture. The first
member of every shard, `__shard__`, repeats the shard's rows as JSON, so that its content is known from one
short read; WebDataset skips members of such names. Shards appear whole or not at all. Each row states the
SHA-256 of its picture or recording, the header that of its rows (`shards.header`); reading finds each member
by the name that its row states, and checks both.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from speech2image.data.listings import JsonObject, check_id, parse_json
from speech2image.data.shards.header import (
    ADVICE,
    HEADER,
    SPLITS,
    Header,
    contents,
    header_bytes,
    header_of,
    members_of,
    opened_shard,
    read_header,
)
from speech2image.errors import DataError, require
from speech2image.files import writing

SAMPLES_PER_SHARD = 1000
UTTERANCES_PER_SHARD = 500
RECORDED = "recorded"
"""The part of a corpus's own recordings."""
UNFINISHED = "pictures-unfinished"
"""A file that lies beside picture shards while some are missing."""


@dataclass(frozen=True)
class Utterance:
    """One recording that describes a picture.

    Attributes:
        caption: which of the sample's captions is spoken, -1 if none is known.
        voice: name of the speaker or speaking engine, e.g. "flite/slt".
        audio: the encoded recording (Opus in Ogg, FLAC, or any container PyAV opens).
        suffix: "opus", "flac" ...
    """

    caption: int
    voice: str
    audio: bytes = field(repr=False)
    suffix: str


@dataclass(frozen=True)
class Sample:
    """A picture, its class, its captions, its recordings.

    Attributes:
        id: unique in the data set; letters, digits, `_`, `-` and `/` only.
        image: picture file bytes, RGB, short side at most 304 pixels.
        image_suffix: "webp", "jpg" or "png".
        label: class number; mismatched pictures are drawn from another label.
        class_name: for people.
        split: "train", "val" or "test".
        captions: descriptions in words, possibly none.
        utterances: recordings of the captions.
        source: where the sample comes from.
    """

    id: str
    image: bytes = field(repr=False)
    image_suffix: str
    label: int
    class_name: str
    split: str
    captions: tuple[str, ...] = ()
    utterances: tuple[Utterance, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class ShardUtterance:
    """An utterance as a speech shard holds it: `sample` is the picture's id, `text` the words, if known."""

    sample: str
    text: str
    utterance: Utterance
    effects: JsonObject = field(default_factory=dict)


def picture_shard(folder: Path, index: int) -> Path:
    """Path of picture shard `index`."""
    return folder / f"pictures-{index:06d}.tar"


def speech_shard(folder: Path, part: str, index: int) -> Path:
    """Path of speech shard `index` of `part`."""
    return folder / f"speech-{part}-{index:06d}.tar"


def picture_shards(folder: str | os.PathLike[str]) -> list[Path]:
    """All picture shards of a folder, in order."""
    return sorted(Path(folder).glob("pictures-[0-9]*.tar"))


def speech_shards(folder: str | os.PathLike[str]) -> list[Path]:
    """All speech shards of a folder, in order."""
    return sorted(Path(folder).glob("speech-*-[0-9]*.tar"))


def part_shards(folder: str | os.PathLike[str], part: str) -> list[Path]:
    """All speech shards of one part, in order."""
    return sorted(Path(folder).glob(f"speech-{part}-{'[0-9]' * 6}.tar"))


def write_shards(
    samples: Iterable[Sample],
    folder: str | os.PathLike[str],
    *,
    samples_per_shard: int = SAMPLES_PER_SHARD,
    part: str = RECORDED,
) -> None:
    """Write samples as picture shards, their utterances as speech shards of `part`, and the manifest.

    Raises:
        DataError: no sample came, or a sample is not fit (see `check_sample`).
        OutputError: the folder cannot be written.
    """
    folder, iterator, index = Path(folder), iter(samples), 0
    while chunk := list(islice(iterator, samples_per_shard)):
        write_picture_shard(picture_shard(folder, index), chunk)
        if spoken := [item for sample in chunk for item in shard_utterances(sample)]:
            write_speech_shard(speech_shard(folder, part, index), spoken)
        index += 1
    if index == 0:
        raise DataError("no samples to write: the data set is empty")
    write_manifest(folder)


def shard_utterances(sample: Sample) -> list[ShardUtterance]:
    """A sample's utterances as speech shards hold them."""
    return [
        ShardUtterance(sample.id, sample.captions[u.caption] if u.caption >= 0 else "", u)
        for u in sample.utterances
    ]


def check_sample(sample: Sample) -> None:
    """Check what shards rely on.

    Raises:
        DataError: a split other than train, val and test, an id unfit as a file name, a caption number out of
            range.
    """
    if sample.split not in SPLITS:
        raise DataError(f"sample {sample.id}: split is {sample.split!r}, must be one of {', '.join(SPLITS)}")
    check_id(sample.id)
    for utterance in sample.utterances:
        if not -1 <= utterance.caption < len(sample.captions):
            have = len(sample.captions)
            raise DataError(f"sample {sample.id}: utterance of caption {utterance.caption}, has {have}")


def write_picture_shard(
    path: Path,
    samples: Sequence[Sample],
    digest: str | None = None,
    *,
    sources: str = "",
    skipped: Sequence[str] = (),
) -> None:
    """Write one picture shard.

    Args:
        path: where to.
        samples: what it holds.
        digest: of the plan it was made from (default: digest of the content).
        sources: see `Header`.
        skipped: likewise.
    """
    rows, members = [], []
    for sample in samples:
        check_sample(sample)
        row = picture_row(sample)
        rows.append(row)
        members.append({"__key__": sample.id, "json": row, sample.image_suffix: sample.image})
    _write_tar(path, Header("pictures", digest or "", rows, sources, tuple(skipped)), members)


def picture_row(sample: Sample) -> JsonObject:
    """What a shard and the manifest say of a sample."""
    return {
        "id": sample.id,
        "suffix": sample.image_suffix,
        "label": sample.label,
        "class": sample.class_name,
        "split": sample.split,
        "captions": list(sample.captions),
        "source": sample.source,
    }


def write_speech_shard(
    path: Path,
    spoken: Sequence[ShardUtterance],
    digest: str | None = None,
    *,
    sources: str = "",
    skipped: Sequence[str] = (),
) -> None:
    """Write one speech shard; arguments as of `write_picture_shard`."""
    rows, members = [], []
    for number, item in enumerate(spoken):
        utterance = item.utterance
        row = {
            "id": item.sample,
            "key": f"{item.sample}-{number:05d}",
            "suffix": utterance.suffix,
            "caption": utterance.caption,
            "text": item.text,
            "voice": utterance.voice,
            **({"effects": item.effects} if item.effects else {}),
        }
        rows.append(row)
        members.append({"__key__": row["key"], "json": row, utterance.suffix: utterance.audio})
    _write_tar(path, Header("speech", digest or "", rows, sources, tuple(skipped)), members)


def _write_tar(path: Path, header: Header, members: list[JsonObject]) -> None:
    """Write a shard; a header without a digest gets that of the content, its rows their checksums."""
    webdataset = require("webdataset", extra="train")
    header = replace(header, digest=header.digest or _content_digest(members))
    for row, member in zip(header.rows, members, strict=True):
        row["sha256"] = hashlib.sha256(member[row["suffix"]]).hexdigest()
    with (
        writing(path) as temporary,
        open(temporary, "wb") as file,
        webdataset.TarWriter(file, mtime=0, encoder=_encode, format="PAX_FORMAT") as tar,
    ):
        _add_header(tar.tarstream, header_bytes(header))
        for member in members:
            tar.write(member)


def _encode(member: JsonObject) -> JsonObject:
    return {**member, "json": json.dumps(member["json"], ensure_ascii=False).encode()}


def _add_header(tar: tarfile.TarFile, data: bytes) -> None:
    info = tarfile.TarInfo(HEADER)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _content_digest(members: Iterable[JsonObject]) -> str:
    digest = hashlib.sha256()
    for member in members:
        for key in sorted(member):
            value = member[key]
            digest.update(key.encode())
            digest.update(
                value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
            )
    return digest.hexdigest()[:16]


def write_manifest(folder: str | os.PathLike[str]) -> Path:
    """Write `manifest.jsonl` from the shards' headers: one row a sample, naming the shards of its parts."""
    folder = Path(folder)
    rows: dict[str, JsonObject] = {}
    for path in picture_shards(folder):
        for row in read_header(path, "pictures").rows:
            image = f"{row['id']}.{row['suffix']}"
            rest = {key: row[key] for key in ("label", "class", "split", "captions", "source")}
            rows[row["id"]] = {"id": row["id"], "shard": path.name, "image": image, **rest, "utterances": []}
    for path in speech_shards(folder):
        for row in read_header(path, "speech").rows:
            if row["id"] in rows:
                rest = {key: row[key] for key in ("caption", "voice")}
                audio = {"shard": path.name, "audio": f"{row['key']}.{row['suffix']}", **rest}
                rows[row["id"]]["utterances"].append(audio)
    with writing(folder / "manifest.jsonl") as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values())
    return folder / "manifest.jsonl"


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


def _rows(paths: Iterable[str | os.PathLike[str]], kind: str) -> Iterator[tuple[JsonObject, bytes]]:
    for path in map(Path, paths):
        with opened_shard(path) as tar:
            header = header_of(tar, path, kind)
            members = members_of(tar, path)
            for row in header.rows:
                yield row, _checked(tar, members, row, path)


def _checked(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], row: JsonObject, path: Path) -> bytes:
    """The picture or recording of a row, if it and the row beside it are as they were written."""
    row_name, data_name = _names(row)
    for name in (row_name, data_name):
        if name not in members:
            raise DataError(f"shard {path} breaks off or is damaged: {name!r} is missing; {ADVICE}")
    repeated = parse_json(
        contents(tar, members[row_name], path), f"{row_name!r} in shard {path}", f"; {ADVICE}"
    )
    # Compared as text: 1 and 1.0 and true are equal to Python.
    if json.dumps(repeated) != json.dumps(row):
        raise DataError(f"shard {path}: {row_name!r} and the header say different things; {ADVICE}")
    data = contents(tar, members[data_name], path)
    if row.get("sha256", digest := hashlib.sha256(data).hexdigest()) != digest:
        raise DataError(f"shard {path}: {data_name!r} is not as it was written (checksum); {ADVICE}")
    return data


def _names(row: JsonObject) -> tuple[str, str]:
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
