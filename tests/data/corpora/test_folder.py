"""A user's own manifest: what it may say, and what is told when it is wrong."""

from pathlib import Path
from typing import Any

import pytest
from small_sets import encoded, load_entry, own_folder, picture, write_manifest

from speech2image.data.corpora.folder import folder_entries
from speech2image.data.entries import check_entries
from speech2image.errors import DataError


def one_row(folder: Path, **changes: Any) -> Path:
    (folder / "a.png").write_bytes(encoded(picture()))
    return write_manifest(folder, [{"image": "a.png", "class": 1, **changes}])


def test_full_manifest(tmp_path: Path) -> None:
    entries = folder_entries(own_folder(tmp_path, recordings=True))
    check_entries(entries, "set")
    assert [entry.split for entry in entries] == ["train"] * 4 + ["test"] * 2
    assert [entry.label for entry in entries] == [1, 2] * 3  # "dark", "red": numbered by name
    sample = load_entry(entries[1])
    assert sample.class_name == "red" and sample.captions[0] == "flower number 1"
    assert [(u.caption, u.voice, u.suffix) for u in sample.utterances] == [(0, "ann", "flac")]


def test_folder_is_searched_for_its_manifest(tmp_path: Path) -> None:
    own_folder(tmp_path).rename(tmp_path / "captions.jsonl")
    assert len(folder_entries(tmp_path)) == 6


def test_shared_captions_are_a_manifest(shared: Path) -> None:
    entries = folder_entries(shared / "data" / "oxford102" / "captions.jsonl")
    check_entries(entries, "flowers")
    assert len(entries) == 8189 and sum(entry.split == "test" for entry in entries) == 1155
    assert entries[0].id == "image_00001" and entries[0].class_name == "passion flower"


@pytest.mark.parametrize(
    ("recordings", "expected"),
    [
        ({"audio": "a.wav"}, [(-1, "recorded")]),
        ({"audio": ["a.wav", "b.wav"]}, [(-1, "recorded")] * 2),
        ({"captions": "one", "audio": "a.wav"}, [(0, "recorded")]),
        ({"captions": ["one", "two"], "recordings": [{"audio": "a.wav", "text": "two"}]}, [(1, "recorded")]),
        (
            {"captions": ["one"], "recordings": [{"audio": "a.wav", "text": "three", "voice": "v"}]},
            [(-1, "v")],
        ),
    ],
)
def test_forms_of_recordings(tmp_path: Path, recordings: dict, expected: list) -> None:
    entry = folder_entries(one_row(tmp_path, **recordings))[0]
    assert [(r.caption, r.voice) for r in entry.recordings] == expected
    assert entry.recordings[0].path == tmp_path / "a.wav"


def test_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = write_manifest(tmp_path, [{"image": "a.png", "class": 1}, "", "{image: b.png}"])
    with pytest.raises(DataError, match=r"manifest\.jsonl line 3 is not JSON"):
        folder_entries(path)


def test_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 1 is list"):
        folder_entries(write_manifest(tmp_path, ["[1, 2]"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": None}, "line 1 has no 'image'"),
        ({"class": None}, "line 1 has no 'class'"),
        ({"class": 1.5}, "'class' is 1.5"),
        ({"image": 7}, "'image' is 7"),
        ({"split": "dev"}, "split is 'dev', must be one of train"),
        ({"captions": [1]}, "'captions' must be"),
        ({"recordings": "a.wav"}, "'recordings' must be a list"),
        ({"recordings": [{"voice": "v"}]}, "object with 'audio'"),
        ({"captions": ["x"], "recordings": [{"audio": "a.wav", "caption": 3}]}, "recording of caption 3"),
    ],
)
def test_wrong_fields_are_named(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        folder_entries(one_row(tmp_path, **changes))


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such manifest"):
        folder_entries(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"no manifest\.jsonl"):
        folder_entries(tmp_path)


def test_missing_picture_is_named_with_its_line(tmp_path: Path) -> None:
    path = own_folder(tmp_path)
    (tmp_path / "3.png").unlink()
    with pytest.raises(DataError, match=r"missing picture .*3\.png, listed in .*line 4"):
        check_entries(folder_entries(path), "set")


def test_missing_recording_is_named_with_its_line(tmp_path: Path) -> None:
    path = own_folder(tmp_path, recordings=True)
    (tmp_path / "2.flac").unlink()
    with pytest.raises(DataError, match=r"missing recording .*2\.flac, listed in .*line 3"):
        check_entries(folder_entries(path), "set")


def test_unreadable_picture_is_named_with_its_line(tmp_path: Path) -> None:
    path = own_folder(tmp_path)
    (tmp_path / "0.png").write_text("not a picture")
    with pytest.raises(DataError, match=r"unreadable picture .*0\.png .*line 1"):
        load_entry(folder_entries(path)[0])


def test_unusable_recording_is_named_with_its_line(tmp_path: Path) -> None:
    path = own_folder(tmp_path, recordings=True)
    (tmp_path / "1.flac").write_text("not a recording")
    with pytest.raises(DataError, match=r"1\.flac .*line 2"):
        load_entry(folder_entries(path)[1])


def test_same_picture_twice_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    path = write_manifest(tmp_path, [{"image": "a.png", "class": c} for c in (1, 2)])
    with pytest.raises(DataError, match=r"line 2: the picture id 'a' came before, in .*line 1"):
        check_entries(folder_entries(path), "set")


def test_empty_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        check_entries(folder_entries(write_manifest(tmp_path, [])), "set")


def test_a_single_training_class_is_an_error(tmp_path: Path) -> None:
    rows = []
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(encoded(picture()))
        rows.append(
            {"image": f"{i}.png", "class": 2 if i == 2 else 1, "split": "test" if i == 2 else "train"}
        )
    with pytest.raises(DataError, match="one class"):
        check_entries(folder_entries(write_manifest(tmp_path, rows)), "set")


def test_a_class_with_one_picture_is_warned_of(tmp_path: Path) -> None:
    rows = []
    for i, label in enumerate((1, 1, 2)):
        (tmp_path / f"{i}.png").write_bytes(encoded(picture()))
        rows.append({"image": f"{i}.png", "class": label})
    with pytest.warns(UserWarning, match=r"1 training classes have a single picture \(2\)"):
        check_entries(folder_entries(write_manifest(tmp_path, rows)), "set")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000, "line 1 is nested too deep"),
        ('{"image": "a.png", "class": ' + "1" * 5000 + "}", "line 1 is not JSON: a number of 5000 digits"),
        ('{"image": "a.png", "class": ' + "1" * 18 + "}", "'class' is 1+, must lie within 31 bits"),
        ('{"image": "a.png", "class": 1, "captions": "\\ud800"}', "line 1 holds text that is no Unicode"),
    ],
)
def test_json_of_others_gives_one_error(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        folder_entries(write_manifest(tmp_path, [line]))


def test_backslashes_part_folders_of_pictures_and_recordings(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.png").write_bytes(encoded(picture()))
    (tmp_path / "a" / "b.flac").write_bytes(b"")
    rows = [{"image": "a\\b.png", "class": 1, "audio": "a\\b.flac", "recordings": [{"audio": "a\\b.flac"}]}]
    entry = folder_entries(write_manifest(tmp_path, rows))[0]
    assert entry.id == "a/b" and entry.image == tmp_path / "a" / "b.png"
    assert [r.path for r in entry.recordings] == [tmp_path / "a" / "b.flac"] * 2


def test_a_backslash_in_a_files_name_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a\\b.png").write_bytes(encoded(picture()))
    entry = folder_entries(write_manifest(tmp_path, [{"image": "a\\b.png", "class": 1}]))[0]
    assert entry.image == tmp_path / "a\\b.png"


def test_ids_of_other_scripts_do_not_collide(tmp_path: Path) -> None:
    for name in ("桜", "菊"):
        (tmp_path / f"{name}.png").write_bytes(encoded(picture()))
    rows = [{"id": "桜", "image": "桜.png", "class": "a"}, {"image": "菊.png", "class": "b"}]
    entries = check_entries(folder_entries(write_manifest(tmp_path, rows)), "set")
    assert [entry.id for entry in entries] == ["桜", "菊"]
