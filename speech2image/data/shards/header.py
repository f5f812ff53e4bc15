"""Shard header: the first member of a shard, which repeats the rows of all others, with checksums."""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speech2image.data.listings import JsonObject, check_id, parse_json
from speech2image.errors import DataError

HEADER = "__shard__"
SPLITS = ("train", "val", "test")
ADVICE = "prepare the data set again with --overwrite"

_COMMON = {"id": str, "suffix": str}
_FIELDS: dict[str, dict[str, type]] = {
    "pictures": {**_COMMON, "label": int, "class": str, "split": str, "captions": list, "source": str},
    "speech": {**_COMMON, "key": str, "caption": int, "text": str, "voice": str},
}


@dataclass(frozen=True)
class Header:
    """What a shard says of itself.

    Attributes:
        kind: "pictures" or "speech".
        digest: of the plan it was made from.
        rows: one a sample or utterance; `sha256` is that of its picture or recording (not in older shards).
        sources: digest of the bytes of the files it was made from; "" where there were none (or an older
            shard).
        skipped: what was left out, and why, since it could not be read.
        checked: whether the header's own checksum was there and right; older shards state none.
    """

    kind: str
    digest: str
    rows: list[JsonObject]
    sources: str = ""
    skipped: tuple[str, ...] = ()
    checked: bool = False

    @property
    def identity(self) -> str:
        """Digest of plan and sources: what is computed from the shard is named after it."""
        if not self.sources:
            return self.digest
        return hashlib.sha256(f"{self.digest} {self.sources}".encode()).hexdigest()[:16]


def header_bytes(header: Header) -> bytes:
    """The header as it is written."""
    fields: JsonObject = {"kind": header.kind, "digest": header.digest, "rows": header.rows}
    if header.sources:
        fields["sources"] = header.sources
    if header.skipped:
        fields["skipped"] = list(header.skipped)
    return json.dumps({**fields, "checksum": _checksum(fields)}, ensure_ascii=False).encode()


def _checksum(fields: JsonObject) -> str:
    return hashlib.sha256(json.dumps(fields, ensure_ascii=False).encode()).hexdigest()


def read_header(path: str | os.PathLike[str], kind: str | None = None) -> Header:
    """Read what a shard on disk holds, from its first member alone.

    Raises:
        DataError: the file is no shard of this package, is damaged, or not of this kind.
    """
    with opened_shard(path) as tar:
        return header_of(tar, Path(path), kind)


@contextmanager
def opened_shard(path: str | os.PathLike[str]) -> Iterator[tarfile.TarFile]:
    """A shard as a tar file. Any error that tarfile raises for a damaged one becomes a `DataError`."""
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            yield tar
    except DataError:
        raise
    except Exception as error:  # tarfile raises half a dozen kinds on damaged headers
        raise DataError(
            f"unreadable shard {path}: {error or type(error).__name__}; delete it, or {ADVICE}"
        ) from error


def header_of(tar: tarfile.TarFile, path: Path, kind: str | None = None) -> Header:
    """The header of an open shard; see `read_header`."""
    first = tar.next()
    if first is None or first.name != HEADER:
        raise DataError(f"{path} is not a shard of speech2image: its first member is not {HEADER}")
    header = _parsed(contents(tar, first, path), path)
    if kind not in (None, header.kind):
        raise DataError(f"shard {path} is of kind {header.kind!r}, must be {kind}; {ADVICE}")
    return header


def contents(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bytes:
    """Bytes of a member, which lies inside the file in full."""
    file = tar.extractfile(member) if _inside(member, path) else None
    if file is None:
        raise DataError(f"shard {path} breaks off in {member.name}; {ADVICE}")
    return file.read()


def _inside(member: tarfile.TarInfo, path: Path) -> bool:
    return member.isreg() and 0 <= member.size <= path.stat().st_size - member.offset_data


def members_of(tar: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    """The members from the next one on, by name.

    Raises:
        DataError: the shard is cut short or damaged, or two members have one name.
    """
    found: dict[str, tarfile.TarInfo] = {}
    while (member := tar.next()) is not None:
        if not _inside(member, path):
            raise DataError(f"shard {path} breaks off in {member.name!r}, or is damaged there; {ADVICE}")
        if member.name in found:
            raise DataError(f"shard {path} holds {member.name!r} twice; {ADVICE}")
        found[member.name] = member
    return found


def _parsed(data: bytes, path: Path) -> Header:
    fields = parse_json(data, f"the header of shard {path}", f"; {ADVICE}")
    if not isinstance(fields, dict):
        raise DataError(
            f"the header of shard {path} is {type(fields).__name__}, must be a JSON object; {ADVICE}"
        )
    stated = fields.pop("checksum", None)  # shards of the first versions state none
    if stated is not None and stated != _checksum(fields):
        raise DataError(f"the header of shard {path} is not as it was written (checksum); {ADVICE}")
    try:
        header = Header(**fields, checked=stated is not None)
    except TypeError as error:
        raise DataError(
            f"the header of shard {path} lacks a part or has one too many: {error}; {ADVICE}"
        ) from error
    _check(header, path)
    return header


def _check(header: Header, path: Path) -> None:
    if header.kind not in _FIELDS:
        raise DataError(
            f"shard {path} is of kind {header.kind!r}, must be one of {', '.join(_FIELDS)}; {ADVICE}"
        )
    # Digests become parts of file names in `arrays/`.
    for name in (header.digest, header.sources or "none"):
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name):
            raise DataError(f"shard {path} states the digest {name!r}, must be letters and digits; {ADVICE}")
    if not isinstance(header.rows, list):
        raise DataError(f"the header of shard {path} has no list of rows; {ADVICE}")
    if not isinstance(header.skipped, list | tuple) or not all(isinstance(s, str) for s in header.skipped):
        raise DataError(f"the header of shard {path} has no list of texts for what was skipped; {ADVICE}")
    for number, row in enumerate(header.rows):
        _check_row(row, header.kind, f"shard {path} row {number}")


def _check_row(row: Any, kind: str, place: str) -> None:
    if not isinstance(row, dict):
        raise DataError(f"{place} is {type(row).__name__}, must be a JSON object; {ADVICE}")
    for name, type_ in _FIELDS[kind].items():
        if type(row.get(name)) is not type_:
            raise DataError(f"{place}: {name!r} is {row.get(name)!r:.80}, must be {type_.__name__}; {ADVICE}")
    check_id(row["id"], place)
    if not re.fullmatch("[a-z0-9]{1,8}", row["suffix"]):
        raise DataError(f"{place}: 'suffix' is {row['suffix']!r}, must be letters and digits; {ADVICE}")
    if kind == "speech":
        check_id(row["key"], place)
        _check_number(row["caption"], "caption", -1, place)
        if not isinstance(row.get("effects", {}), dict):
            raise DataError(f"{place}: 'effects' is {row['effects']!r:.80}, must be a JSON object; {ADVICE}")
        return
    _check_number(row["label"], "label", -(2**31), place)
    if row["split"] not in SPLITS:
        raise DataError(f"{place}: split is {row['split']!r}, must be one of {', '.join(SPLITS)}; {ADVICE}")
    if not all(isinstance(text, str) for text in row["captions"]):
        raise DataError(f"{place}: 'captions' must be texts; {ADVICE}")


def _check_number(value: int, name: str, least: int, place: str) -> None:
    if not least <= value < 2**31:
        raise DataError(f"{place}: {name!r} is {value}, must lie between {least} and 2^31; {ADVICE}")
