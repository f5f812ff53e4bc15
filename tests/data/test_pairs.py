"""Shards: what is written is read back; nothing half-written; damage is told."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import webdataset
from small_sets import sample

from speech2image.data import pairs
from speech2image.data.pairs import read_shards, stream_speech, write_shards
from speech2image.data.shards.header import read_header
from speech2image.errors import DataError, OutputError


def test_samples_come_back_as_they_went_in(tmp_path: Path) -> None:
    samples = [sample(i) for i in range(5)]
    write_shards(samples, tmp_path, samples_per_shard=2)
    assert list(read_shards(tmp_path)) == samples
    assert [path.name for path in pairs.picture_shards(tmp_path)] == [
        f"pictures-00000{i}.tar" for i in range(3)
    ]


def test_list_of_shards_reads_like_the_folder(tmp_path: Path) -> None:
    write_shards([sample(i) for i in range(3)], tmp_path)
    paths = [str(path) for path in sorted(tmp_path.glob("*.tar"))]
    assert list(read_shards(paths)) == list(read_shards(tmp_path))


def test_without_speech_utterances_are_left_out(tmp_path: Path) -> None:
    write_shards([sample(0)], tmp_path)
    assert next(iter(read_shards(tmp_path, speech=False))).utterances == ()


def test_speech_of_another_part_is_joined_and_leaves_pictures_alone(tmp_path: Path) -> None:
    write_shards([sample(i) for i in range(3)], tmp_path)
    before = pairs.picture_shard(tmp_path, 0).read_bytes()
    more = replace(sample(1).utterances[0], voice="new")
    path = pairs.speech_shard(tmp_path, "more", 0)
    pairs.write_speech_shard(path, [pairs.ShardUtterance("set/001", "caption 1", more, {"rate": 1.1})])
    samples = {s.id: s for s in read_shards(tmp_path)}
    assert sorted(u.voice for u in samples["set/001"].utterances) == ["new", "v0", "v1"]
    assert pairs.picture_shard(tmp_path, 0).read_bytes() == before
    assert next(stream_speech([path])).effects == {"rate": 1.1}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # WebDataset leaves the shard open
def test_plain_webdataset_reads_the_shards(tmp_path: Path) -> None:
    write_shards([sample(i) for i in range(3)], tmp_path)
    url = str(pairs.speech_shard(tmp_path, "recorded", 0))
    members = list(webdataset.WebDataset(url, shardshuffle=False).decode())
    assert [member["json"]["text"] for member in members[:2]] == ["caption 0", "other 0"]
    assert members[0]["flac"] == sample(0).utterances[0].audio


def test_manifest_has_a_row_a_sample_and_no_bytes(tmp_path: Path) -> None:
    write_shards([sample(i) for i in range(3)], tmp_path, samples_per_shard=2)
    rows = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["set/000", "set/001", "set/002"]
    assert rows[2]["shard"] == "pictures-000001.tar" and rows[2]["captions"] == ["caption 2", "other 2"]
    audio = rows[2]["utterances"][1]
    with tarfile.open(tmp_path / audio["shard"]) as tar:
        member = tar.extractfile(audio["audio"])
        assert member is not None and member.read() == sample(2).utterances[1].audio


def test_shards_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shards([sample(i) for i in range(3)], tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_empty_set_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        write_shards([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_interrupted_write_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = webdataset.TarWriter.write, []

    def stop_at_the_third(self: object, member: dict) -> int:
        calls.append(member)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(self, member)

    monkeypatch.setattr(webdataset.TarWriter, "write", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        pairs.write_picture_shard(tmp_path / "pictures-000000.tar", [sample(i) for i in range(4)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [({"split": "dev"}, "split"), ({"id": "a.b"}, "dots"), ({"captions": ()}, "utterance of caption")],
)
def test_unfit_samples_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_shards([replace(sample(0), **change)], tmp_path)
    assert not list(tmp_path.glob("*.tar"))


def test_truncated_shard_is_told(tmp_path: Path) -> None:
    write_shards([sample(i) for i in range(3)], tmp_path)
    path = pairs.picture_shard(tmp_path, 0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="shard"):
        list(read_shards(tmp_path, speech=False))


def test_foreign_files_are_no_shards(tmp_path: Path) -> None:
    path = tmp_path / "pictures-000000.tar"
    path.write_text("not a tar file")
    with pytest.raises(DataError, match="unreadable shard"):
        read_header(path)
    with tarfile.open(path, "w") as tar:
        tar.add(__file__, "something.py")
    with pytest.raises(DataError, match="not a shard"):
        read_header(path)


def test_folder_without_shards_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="speech2image prepare"):
        list(read_shards(tmp_path))


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_shards([sample(0)], tmp_path / "file")
