"""Bad pictures and recordings: all are named at once and nothing is made of their shards, or left out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_sets import own_folder, write_manifest

from speech2image import cli
from speech2image.data.corpora.registry import list_recordings
from speech2image.data.pairs import picture_shards, read_shards, speech_shards
from speech2image.data.prepare import PrepareSettings, prepare
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.recordings import Recordings, build_recordings
from speech2image.errors import DataError


@pytest.fixture
def settings(tmp_path: Path) -> PrepareSettings:
    """Eight pictures with a recording each; pictures 1 and 6, recordings 2, 3 and 7 cannot be read."""
    source = tmp_path / "source"
    source.mkdir()
    manifest = own_folder(source, 8, recordings=True)
    for name in ("1.png", "6.png", "2.flac", "3.flac", "7.flac"):
        (source / name).write_bytes(b"damaged")
    return PrepareSettings("folder", tmp_path / "out", manifest, speak=False, samples_per_shard=2)


def test_all_bad_files_are_named_at_once(settings: PrepareSettings) -> None:
    with pytest.raises(DataError, match="5 files cannot be used: ") as raised:
        prepare(settings)
    said = str(raised.value)
    assert all(name in said for name in ("1.png", "6.png", "2.flac", "3.flac", "7.flac"))
    assert "line 8" in said and said.endswith("or go on without them: --skip-bad")
    assert sorted(path.name for path in settings.out.glob("*.tar")) == [
        "pictures-000002.tar",
        "speech-recorded-000002.tar",
    ]
    assert not list(settings.out.glob(".*")) and not (settings.out / "manifest.jsonl").exists()


def test_all_missing_files_are_named_before_any_work(settings: PrepareSettings) -> None:
    assert settings.root is not None
    for name in ("0.png", "4.flac"):
        (settings.root.parent / name).unlink()
    with pytest.raises(DataError, match=r"2 files cannot be used: .*0\.png.*; .*4\.flac"):
        prepare(settings)
    assert not list(settings.out.iterdir())


def test_the_first_ten_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [{"image": f"no{i}.png", "class": i} for i in range(25)])
    with pytest.raises(DataError, match=r"^25 files .*no9\.png, listed in .* line 10 and 15 more; mend"):
        prepare(PrepareSettings("folder", tmp_path / "out", manifest))


def test_bad_files_are_left_out_if_wanted(settings: PrepareSettings) -> None:
    assert settings.root is not None
    (settings.root.parent / "4.flac").unlink()
    with pytest.warns(UserWarning) as warned:
        prepare(replace(settings, skip_bad=True))
    said = [str(warning.message) for warning in warned]
    assert any("1 bad file was left out: missing recording" in text for text in said)
    assert any("5 bad files were left out: " in text for text in said)
    samples = {sample.id: len(sample.utterances) for sample in read_shards(settings.out)}
    assert samples == {"0": 1, "2": 0, "3": 0, "4": 0, "5": 1, "7": 0}
    assert PairArrays.open(settings.out).utterance_sample.tolist() == [0, 4]


def test_what_was_left_out_is_told_again_and_not_tried_again(settings: PrepareSettings) -> None:
    settings = replace(settings, skip_bad=True)
    with pytest.warns(UserWarning, match="5 bad files"):
        prepare(settings)
    times = {path: path.stat().st_mtime_ns for path in settings.out.glob("*.tar")}
    with pytest.warns(UserWarning, match="5 bad files"):
        prepare(settings)
    assert times == {path: path.stat().st_mtime_ns for path in settings.out.glob("*.tar")}


def test_the_mended_set_is_whole(settings: PrepareSettings, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="5 bad files"):
        prepare(replace(settings, skip_bad=True))
    assert settings.root is not None
    own_folder(settings.root.parent, 8, recordings=True)
    prepare(replace(settings, overwrite=True))
    prepare(replace(settings, out=tmp_path / "whole"))
    assert list(read_shards(settings.out)) == list(read_shards(tmp_path / "whole"))


def test_a_set_of_nothing_but_bad_files(settings: PrepareSettings) -> None:
    assert settings.root is not None
    for path in settings.root.parent.glob("*.png"):
        path.write_bytes(b"damaged")
    with pytest.warns(UserWarning), pytest.raises(DataError, match=r"no picture of folder .* can be used"):
        prepare(replace(settings, skip_bad=True))


def test_added_recordings_are_named_or_left_out(settings: PrepareSettings, tmp_path: Path) -> None:
    assert settings.root is not None
    own_folder(settings.root.parent, 8, recordings=True)
    more = tmp_path / "more"
    more.mkdir()
    (more / "bad.wav").write_bytes(b"damaged")
    (more / "good.flac").write_bytes((settings.root.parent / "0.flac").read_bytes())
    rows = [
        {"audio": name, "image": f"{i}.png", "text": "x"}
        for i, name in enumerate(["bad.wav", "good.flac", "bad.wav"])
    ]
    settings = replace(settings, recordings=(write_manifest(more, rows),))
    with pytest.raises(DataError, match=r"2 files .*bad\.wav .*line 1.*bad\.wav .*line 3"):
        prepare(settings)
    assert not list(settings.out.glob("speech-more-*"))
    with pytest.warns(UserWarning, match="2 bad files were left out"):
        prepare(replace(settings, skip_bad=True))
    assert len(list(settings.out.glob("speech-more-*"))) == 1
    assert sum(len(sample.utterances) for sample in read_shards(settings.out)) == 9


def test_corpora_of_people(settings: PrepareSettings, tmp_path: Path) -> None:
    assert settings.root is not None
    folder = settings.root.parent
    rows = [{"audio": f"{i}.flac", "speaker": "ann", "text": f"number {i}"} for i in range(8)]
    write_manifest(folder, rows, "utterances.jsonl")
    with pytest.raises(DataError, match=r"3 files .*2\.flac.*3\.flac.*7\.flac"):
        build_recordings(list_recordings(folder), tmp_path / "built")
    assert not (tmp_path / "built").exists() or not list((tmp_path / "built").iterdir())
    with pytest.warns(UserWarning, match="3 bad files were left out"):
        build_recordings(list_recordings(folder), tmp_path / "built", skip_bad=True)
    built = Recordings(tmp_path / "built")
    assert built.texts == ["number zero", "number one", "number four", "number five", "number six"]
    for i in (0, 1):
        (folder / f"{i}.flac").unlink()
    with pytest.raises(DataError, match=r"2 files .*0\.flac, listed in .*line 1; .*1\.flac, listed"):
        list_recordings(folder)
    with pytest.warns(UserWarning, match="2 bad files were left out"):
        assert len(list_recordings(folder, skip_bad=True)) == 6
    assert built.n_frames().min() > 0 and built.log_mel(2).shape[1] == built.n_frames()[2]


def test_the_command_names_them_in_one_line(
    settings: PrepareSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prepare", "folder", "--root", str(settings.root), "--out", str(settings.out), "--no-speak"]
    assert cli.main(words) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("speech2image: 5 files cannot be used: ") and "--skip-bad" in said
    with pytest.warns(UserWarning, match="5 bad files"):
        assert cli.main([*words, "--skip-bad"]) == 0
    rows = (settings.out / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(row)["id"] for row in rows] == ["0", "2", "3", "4", "5", "7"]
    assert picture_shards(settings.out) and speech_shards(settings.out)
