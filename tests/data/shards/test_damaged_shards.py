"""Damaged shards: a clear error each, or what was written; never another error, never other data."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_sets import sample

from speech2image.data.pairs import Sample, picture_shard, read_shards, speech_shard, write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.header import HEADER, read_header
from speech2image.errors import DataError

SAMPLES = [sample(i, n_utterances=1) for i in range(3)]
Members = dict[str, bytes]
Change = Callable[[Any], Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    write_shards(SAMPLES, folder)
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


@pytest.fixture
def shards(whole: dict[str, bytes], tmp_path: Path) -> Path:
    for name, data in whole.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def read_all(folder: Path) -> list[Sample]:
    """Everything that is read of a set: its index, its arrays, its samples."""
    arrays = PairArrays.open(folder)
    arrays.pictures(8)
    arrays.log_mel(0)
    return list(read_shards(folder))


def members(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]


def pack(path: Path, contents: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in contents:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def change_header(path: Path, change: Change, *, as_before: bool = False) -> None:
    """Change the header's JSON; `as_before`: of a shard without any checksum, so that nothing else tells."""
    contents = members(path)
    said = json.loads(contents[HEADER])
    del said["checksum"]
    said = change(said)
    if not as_before and isinstance(said, dict):
        text = json.dumps(said, ensure_ascii=False)
        said["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    contents[HEADER] = json.dumps(said).encode()
    pack(path, list(contents.items()))


def with_row(**changes: Any) -> Change:
    def change(said: dict[str, Any]) -> dict[str, Any]:
        said["rows"][1].update(changes)
        return said

    return change


def without(name: str) -> Change:
    def change(said: dict[str, Any]) -> dict[str, Any]:
        said["rows"][1].pop(name, None)
        said.pop(name, None)
        return said

    return change


def with_part(**changes: Any) -> Change:
    return lambda said: {**said, **changes}


WRONG: dict[str, Change] = {
    "a list": lambda said: [said],
    "a number": lambda said: 7,
    "nothing": lambda said: None,
    "no rows": without("rows"),
    "rows are a text": with_part(rows="abc"),
    "rows are numbers": with_part(rows=[1, 2]),
    "a row too few": lambda said: {**said, "rows": [*said["rows"][:2], {}]},
    "no kind": without("kind"),
    "another kind": with_part(kind="music"),
    "kind is a list": with_part(kind=[]),
    "no digest": without("digest"),
    "digest leads elsewhere": with_part(digest="../../../elsewhere"),
    "digest is absolute": with_part(digest="/tmp/elsewhere"),
    "digest is a number": with_part(digest=5),
    "sources lead elsewhere": with_part(sources="../x"),
    "skipped is a text": with_part(skipped="a"),
    "skipped are numbers": with_part(skipped=[1]),
    "one part too many": with_part(more=1),
    "no id": without("id"),
    "id is a number": with_row(id=3),
    "id leads elsewhere": with_row(id="../../x"),
    "id with a NUL": with_row(id="a\0b"),
    "id of nobody": with_row(id="set/nobody"),
    "no suffix": without("suffix"),
    "suffix leads elsewhere": with_row(suffix="/../x"),
    "suffix of another kind": with_row(suffix="xyz"),
    "checksum of something else": with_row(sha256="0" * 64),
    "checksum is a number": with_row(sha256=1),
}
WRONG_PICTURES: dict[str, Change] = {
    "no label": without("label"),
    "label is a text": with_row(label="1"),
    "label is true": with_row(label=True),
    "label is huge": with_row(label=10**30),
    "label is a fraction": with_row(label=1.5),
    "class is a number": with_row(**{"class": 3}),
    "another split": with_row(split="dev"),
    "captions are a text": with_row(captions="abc"),
    "captions are numbers": with_row(captions=[1]),
    "no source": without("source"),
    "another label than beside the picture": with_row(label=77),
}
WRONG_SPEECH: dict[str, Change] = {
    "no key": without("key"),
    "key leads elsewhere": with_row(key="../x"),
    "caption is a text": with_row(caption="0"),
    "caption below -1": with_row(caption=-2),
    "caption that is not there": with_row(caption=99),
    "no voice": without("voice"),
    "voice is a list": with_row(voice=["a"]),
    "text is a number": with_row(text=1),
    "effects are a list": with_row(effects=[1]),
    "of another picture than beside the recording": with_row(id="set/002"),
}


@pytest.mark.parametrize("what", WRONG | WRONG_PICTURES)
@pytest.mark.parametrize("as_before", [False, True], ids=["checksums", "older"])
def test_header_of_pictures(shards: Path, what: str, as_before: bool) -> None:
    path = picture_shard(shards, 0)
    change_header(path, (WRONG | WRONG_PICTURES)[what], as_before=as_before)
    with pytest.raises(DataError, match=r"pictures-000000|set/"):
        read_all(shards)
    assert not list(shards.parent.glob("elsewhere*"))


@pytest.mark.parametrize("what", WRONG | WRONG_SPEECH)
@pytest.mark.parametrize("as_before", [False, True], ids=["checksums", "older"])
def test_header_of_speech(shards: Path, what: str, as_before: bool) -> None:
    change_header(speech_shard(shards, "recorded", 0), (WRONG | WRONG_SPEECH)[what], as_before=as_before)
    with pytest.raises(DataError, match=r"speech-recorded-000000|set/"):
        read_all(shards)


def test_header_changed_under_its_checksum(shards: Path) -> None:
    path = picture_shard(shards, 0)
    path.write_bytes(path.read_bytes().replace(b'"class 2"', b'"class 3"'))
    with pytest.raises(DataError, match=r"header of shard .* is not as it was written \(checksum\)"):
        PairArrays.open(shards)


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"rows": ' + "1" * 5000 + "}", '"\\ud800"', "\xff"]
)
def test_header_that_is_no_json(shards: Path, text: str) -> None:
    path = picture_shard(shards, 0)
    pack(path, [(HEADER, text.encode("latin-1")), *list(members(path).items())[1:]])
    with pytest.raises(DataError, match=r"the header of shard .*pictures-000000"):
        read_all(shards)


@pytest.mark.parametrize("name", ["set/001.png", "set/001.json", HEADER])
def test_member_that_is_missing(shards: Path, name: str) -> None:
    path = picture_shard(shards, 0)
    pack(path, [item for item in members(path).items() if item[0] != name])
    with pytest.raises(DataError, match=r"is missing|first member is not __shard__"):
        read_all(shards)


def test_member_that_is_there_twice(shards: Path) -> None:
    path = picture_shard(shards, 0)
    pack(path, [*members(path).items(), ("set/001.png", b"another")])
    with pytest.raises(DataError, match=r"holds 'set/001\.png' twice"):
        read_all(shards)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_member_that_is_no_file(shards: Path, kind: bytes) -> None:
    path = picture_shard(shards, 0)
    contents = members(path)
    del contents["set/001.png"]
    pack(path, list(contents.items()))
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("set/001.png")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(DataError, match="breaks off in 'set/001"):
        read_all(shards)


def test_members_are_found_by_their_names_in_any_order(shards: Path) -> None:
    for path in sorted(shards.glob("*.tar")):
        header, *rest = members(path).items()
        pack(path, [header, *reversed(rest)])
    assert read_all(shards) == SAMPLES
    np.testing.assert_array_equal(PairArrays.open(shards).pictures(8)[:, 0, 0, 0], [0, 10, 20])


def test_pictures_that_changed_places(shards: Path) -> None:
    path = picture_shard(shards, 0)
    contents = members(path)
    contents["set/000.png"], contents["set/001.png"] = contents["set/001.png"], contents["set/000.png"]
    pack(path, list(contents.items()))
    with pytest.raises(DataError, match=r"'set/000\.png' is not as it was written \(checksum\)"):
        read_all(shards)


def test_speech_under_the_name_of_pictures(shards: Path) -> None:
    speech_shard(shards, "recorded", 0).rename(picture_shard(shards, 1))
    with pytest.raises(DataError, match=r"pictures-000001\.tar is of kind 'speech', must be pictures"):
        read_all(shards)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("name", ["pictures-000000.tar", "speech-recorded-000000.tar"])
def test_cut_short(shards: Path, name: str, share: float) -> None:
    data = (shards / name).read_bytes()
    (shards / name).write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=name):
        read_all(shards)


def test_cut_short_by_one_byte(shards: Path) -> None:
    path = speech_shard(shards, "recorded", 0)
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset_data + last.size - 1])
    with pytest.raises(DataError, match=r"breaks off|is missing"):
        read_all(shards)


@pytest.mark.parametrize("size", ["77777777777", "17777777777", "00000000000", "-0000000777", "zzz"])
@pytest.mark.parametrize("member", [0, 1])
def test_sizes_that_are_wrong(shards: Path, size: str, member: int) -> None:
    """With a right checksum of the tar header: sizes of 8 GB, negative ones, none."""
    path = picture_shard(shards, 0)
    with tarfile.open(path) as tar:
        start = tar.getmembers()[member].offset
    data = bytearray(path.read_bytes())
    data[start + 124 : start + 136] = size.encode().ljust(12, b"\0")
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    path.write_bytes(data)
    with pytest.raises(DataError, match="pictures-000000"):
        read_all(shards)


def test_negative_size_does_not_go_round_in_circles(shards: Path) -> None:
    path = picture_shard(shards, 0)
    with tarfile.open(path) as tar:
        start = tar.getmembers()[1].offset
    data = bytearray(path.read_bytes())
    data[start + 124 : start + 136] = b"\xff" * 11 + b"\x00"  # -256 in base 256
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    path.write_bytes(data)
    with pytest.raises(DataError, match="pictures-000000"):
        read_all(shards)


@pytest.mark.parametrize("name", ["pictures-000000.tar", "speech-recorded-000000.tar"])
def test_any_flipped_bit_is_noticed_or_harmless(shards: Path, whole: dict[str, bytes], name: str) -> None:
    rng = np.random.default_rng(0)
    noticed = 0
    for place in rng.integers(0, len(whole[name]), 60).tolist():
        data = bytearray(whole[name])
        data[place] ^= 1 << int(rng.integers(8))
        (shards / name).write_bytes(data)
        try:
            read = list(read_shards(shards))
        except DataError:
            noticed += 1
        else:
            assert read == SAMPLES, f"byte {place}"
    assert noticed > 20


def test_older_shards_without_checksums_are_read(shards: Path) -> None:
    for path in shards.glob("*.tar"):
        contents = members(path)
        said = json.loads(contents[HEADER])
        said.pop("checksum")
        for row in said["rows"]:
            row.pop("sha256")
        for name in [name for name in contents if name.endswith(".json")]:
            row = json.loads(contents[name])
            row.pop("sha256")
            contents[name] = json.dumps(row, ensure_ascii=False).encode()
        contents[HEADER] = json.dumps(said, ensure_ascii=False).encode()
        pack(path, list(contents.items()))
        assert not read_header(path).checked
    assert read_all(shards) == SAMPLES


def test_folders_named_like_commands_run_nothing(whole: dict[str, bytes], tmp_path: Path) -> None:
    shards = tmp_path / f"pipe:touch {tmp_path}" / "ran;"
    shards.mkdir(parents=True)
    for name, data in whole.items():
        (shards / name).write_bytes(data)
    assert read_all(shards) == SAMPLES
    with pytest.raises(DataError, match="unreadable shard pipe:"):
        list(read_shards([f"pipe:touch {tmp_path}/ran/pictures-000000.tar"]))
    assert not (tmp_path / "ran").exists()


def test_ids_of_other_scripts_are_read_back(tmp_path: Path) -> None:
    samples = [replace(SAMPLES[0], id="桜"), replace(SAMPLES[1], id="花/菊"), replace(SAMPLES[2], id="роза")]
    write_shards(samples, tmp_path)
    assert read_all(tmp_path) == samples
