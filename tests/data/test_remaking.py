"""Prepared sets whose shards or sources changed: what has to be is prepared anew, nothing else."""

import shutil
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_sets import encoded, own_folder, picture, tone

from speech2image.data.corpora.registry import list_recordings
from speech2image.data.pairs import picture_shard, read_shards, speech_shard
from speech2image.data.prepare import PrepareSettings, prepare
from speech2image.data.shards import header
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.recordings import build_recordings
from speech2image.errors import DataError


@pytest.fixture
def settings(tmp_path: Path) -> PrepareSettings:
    source = tmp_path / "source"
    source.mkdir()
    manifest = own_folder(source, 6, recordings=True)
    for i in range(6):
        (source / f"{i}.bmp").write_bytes(encoded(picture((25 * i, 30, 30)), "BMP"))
        write_wav(source / f"{i}.wav", 150 + 20 * i)
    manifest.write_text(manifest.read_text().replace(".png", ".bmp").replace(".flac", ".wav"))
    settings = PrepareSettings("folder", tmp_path / "out", manifest, speak=False, samples_per_shard=2)
    prepare(settings)
    return settings


def write_wav(path: Path, pitch: float) -> None:
    """A tone of 0.8 s; all such files are of one size."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((tone(pitch) * 32767).astype("<i2").tobytes())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": truncate,
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.filterwarnings("ignore:pictures-000001.tar is made anew")
@pytest.mark.parametrize("what", DAMAGES)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_truncated_picture_shard(settings: PrepareSettings, what: str, overwrite: bool) -> None:
    before = contents(settings.out)
    DAMAGES[what](picture_shard(settings.out, 1))
    prepare(replace(settings, overwrite=overwrite))
    assert contents(settings.out) == before


@pytest.mark.parametrize("damage", [truncate, lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_a_truncated_shard_of_recordings(settings: PrepareSettings, damage: Callable[[Path], object]) -> None:
    before = contents(settings.out)
    damage(speech_shard(settings.out, "recorded", 1))
    with pytest.warns(UserWarning, match=r"pictures-000001\.tar is made anew: speech-recorded-000001\.tar"):
        prepare(settings)
    assert contents(settings.out) == before


def test_a_source_replaced_by_one_of_equal_size(settings: PrepareSettings) -> None:
    assert settings.root is not None
    before, arrays = contents(settings.out), PairArrays.open(settings.out)
    old = arrays.pictures(8).copy()
    path = settings.root.parent / "3.bmp"
    size = path.stat().st_size
    path.write_bytes(encoded(picture((200, 200, 0)), "BMP"))
    assert path.stat().st_size == size
    with pytest.warns(UserWarning, match=r"pictures-000001\.tar is made anew: .* was replaced"):
        prepare(settings)
    changed = {name for name, data in contents(settings.out).items() if data != before[name]}
    assert changed == {"pictures-000001.tar", "speech-recorded-000001.tar"}
    differ = (PairArrays.open(settings.out).pictures(8) != old).any(axis=(1, 2, 3))
    assert differ.tolist() == [False, False, False, True, False, False]


def test_a_recording_replaced_by_one_of_equal_size(settings: PrepareSettings) -> None:
    assert settings.root is not None
    arrays = PairArrays.open(settings.out)
    old = [arrays.log_mel(u) for u in range(6)]
    write_wav(settings.root.parent / "3.wav", 900)
    with pytest.warns(UserWarning, match="made anew"):
        prepare(settings)
    arrays = PairArrays.open(settings.out)
    same = [np.array_equal(arrays.log_mel(u), old[u]) for u in range(6)]
    assert same == [True, True, True, False, True, True]


def test_flipped_bits_are_told_when_read_and_overwritten(settings: PrepareSettings) -> None:
    before = contents(settings.out)
    path = picture_shard(settings.out, 0)
    data = bytearray(path.read_bytes())
    place = data.index(b"WEBP") + 20
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"not as it was written \(checksum\); prepare .* with --overwrite"):
        PairArrays.open(settings.out).pictures(8)
    assert not list((settings.out / "arrays").glob("pictures-*"))
    prepare(replace(settings, overwrite=True))
    assert contents(settings.out) == before


def test_overwriting_leaves_what_is_as_it_was_written(settings: PrepareSettings) -> None:
    times = {path: path.stat().st_mtime_ns for path in settings.out.glob("*.tar")}
    prepare(replace(settings, overwrite=True))
    assert times == {path: path.stat().st_mtime_ns for path in settings.out.glob("*.tar")}


@pytest.mark.filterwarnings("ignore:.*training classes have a single picture")
def test_overwriting_leaves_no_recordings_of_before(settings: PrepareSettings) -> None:
    assert settings.root is not None
    prepare(replace(settings, limit=4, overwrite=True))
    assert [path.name for path in sorted(settings.out.glob("speech-*"))] == [
        f"speech-recorded-00000{i}.tar" for i in (0, 1)
    ]
    assert PairArrays.open(settings.out).utterance_sample.tolist() == [0, 1, 2, 3]
    rows = [line.partition(', "recordings"')[0] + "}" for line in settings.root.read_text().splitlines()]
    settings.root.write_text("\n".join(rows))
    prepare(replace(settings, overwrite=True))
    assert not list(settings.out.glob("speech-*")) and len(PairArrays.open(settings.out).ids) == 6


def test_a_corpus_that_moved_is_the_same(settings: PrepareSettings, tmp_path: Path) -> None:
    assert settings.root is not None
    times = {path: path.stat().st_mtime_ns for path in settings.out.glob("*.tar")}
    moved = tmp_path / "elsewhere" / "source"
    shutil.copytree(settings.root.parent, moved)
    prepare(replace(settings, root=moved / settings.root.name))
    assert times == {path: path.stat().st_mtime_ns for path in settings.out.glob("*.tar")}


def test_shards_from_before_checksums_stay(
    settings: PrepareSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(header, "_checksum", lambda said: None)
        older = replace(settings, out=settings.out.with_name("older"))
        prepare(older)
    times = {path: path.stat().st_mtime_ns for path in older.out.glob("*.tar")}
    assert len(list(read_shards(older.out))) == 6
    prepare(older)
    assert times == {path: path.stat().st_mtime_ns for path in older.out.glob("*.tar")}
    prepare(replace(older, overwrite=True))
    assert contents(older.out) == contents(settings.out)


def test_log_mels_of_a_corpus_follow_its_recordings(settings: PrepareSettings, tmp_path: Path) -> None:
    assert settings.root is not None
    folder = settings.root.parent
    rows = [f'{{"audio": "{i}.wav", "speaker": "ann", "text": "number {i}"}}' for i in range(3)]
    (folder / "utterances.jsonl").write_text("\n".join(rows))
    first = build_recordings(list_recordings(folder), tmp_path / "built").log_mel(1)
    write_wav(folder / "1.wav", 900)
    again = build_recordings(list_recordings(folder), tmp_path / "built").log_mel(1)
    assert not np.array_equal(first, again)
