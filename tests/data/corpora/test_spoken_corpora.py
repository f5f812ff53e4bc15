"""Flickr8k and the released lists (birds, flowers, Places-subset) in small trees as published."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_sets import encoded, load_entry, picture, tone

from speech2image import audio
from speech2image.data.corpora.flickr8k import flickr8k_entries
from speech2image.data.corpora.released_lists import released_entries
from speech2image.data.entries import check_entries
from speech2image.data.pictures import Box
from speech2image.data.prepare import PrepareSettings, prepare
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError

CLIP = audio.encode_flac(tone())


def put(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def photograph(path: Path, size: tuple[int, int] = (60, 50)) -> None:
    put(path, encoded(picture(size=size), "JPEG"))


@pytest.fixture
def flickr(tmp_path: Path) -> Path:
    """Pictures a, b, c, d; d is in no list, c has no recording, caption 1 of a is missing."""
    tokens, clips, speakers = [], [], []
    for name in "abcd":
        photograph(tmp_path / "Flicker8k_Dataset" / f"{name}.jpg")
        for number in (0, 2) if name == "a" else (0, 1):
            tokens.append(f"{name}.jpg#{number}\tA dog {number} runs .")
            if name != "c":
                clips.append(f"{name}_{number}.wav {name}.jpg #{number}")
                speakers.append(f"{name}_{number}.wav {4 + number}")
                put(tmp_path / "flickr_audio" / "wavs" / f"{name}_{number}.wav", CLIP)
    put(tmp_path / "Flickr8k_text" / "Flickr8k.token.txt", "\n".join(tokens))
    put(tmp_path / "flickr_audio" / "wav2capt.txt", "\n".join(clips))
    put(tmp_path / "flickr_audio" / "wav2spk.txt", "\n".join(speakers))
    for split, names in (("train", "ac"), ("dev", ""), ("test", "b")):
        lines = "\n".join(f"{name}.jpg" for name in names)
        put(tmp_path / "Flickr8k_text" / f"Flickr_8k.{split}Images.txt", lines)
    return tmp_path


def test_flickr8k(flickr: Path) -> None:
    entries = flickr8k_entries(flickr)
    check_entries(entries, "flickr8k")
    assert [(e.id, e.split, e.label) for e in entries] == [
        ("a", "train", 1),
        ("c", "train", 2),
        ("b", "test", 3),
    ]
    assert entries[0].captions == ("A dog 0 runs .", "A dog 2 runs .")
    assert [(r.path.name, r.caption, r.voice) for r in entries[0].recordings] == [
        ("a_0.wav", 0, "reader/4"),
        ("a_2.wav", 1, "reader/6"),
    ], "numbered among the captions that are there"
    assert entries[1].recordings == () and len(load_entry(entries[2]).utterances) == 2


def test_flickr8k_becomes_shards_to_train_on(flickr: Path) -> None:
    out = prepare(PrepareSettings("flickr8k", flickr / "shards", root=flickr, speak=False))
    arrays = PairArrays.open(out)
    assert len(arrays.utterance_sample) == 4 and sorted(arrays.voices) == ["reader/4", "reader/5", "reader/6"]
    assert arrays.log_mel(0).shape[0] == 40 and len(arrays.samples_of("test")) == 1


def test_flickr8k_without_recordings_and_with_texts_in_the_root(flickr: Path) -> None:
    for path in (flickr / "Flickr8k_text").iterdir():
        path.rename(flickr / path.name)
    (flickr / "Flickr8k_text").rmdir()
    (flickr / "flickr_audio").rename(flickr / "elsewhere")
    assert [entry.recordings for entry in flickr8k_entries(flickr)] == [()] * 3


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("Flickr8k_text/Flickr8k.token.txt", "a.jpg#0 no tab", r"token\.txt line 1: expected <picture>"),
        (
            "Flickr8k_text/Flickr_8k.testImages.txt",
            "z.jpg",
            r"testImages\.txt line 1: .* caption of z\.jpg",
        ),
        ("flickr_audio/wav2capt.txt", "a_0.wav a.jpg", r"wav2capt\.txt line 1: expected"),
        ("flickr_audio/wav2capt.txt", "q_0.wav a.jpg #0", r"does not say who speaks q_0\.wav"),
        ("flickr_audio/wav2spk.txt", "a_0.wav", r"wav2spk\.txt line 1: expected"),
        ("Flickr8k_text/Flickr_8k.devImages.txt", None, r"missing .*devImages"),
        ("Flicker8k_Dataset", None, "no folder Flicker8k_Dataset/"),
    ],
)
def test_flickr8k_says_what_is_wrong(flickr: Path, file: str, content: str | None, message: str) -> None:
    if content is None:
        (flickr / file).rename(flickr / "gone")
    else:
        put(flickr / file, content)
    with pytest.raises(DataError, match=message):
        flickr8k_entries(flickr)


def test_flickr8k_recording_that_is_missing_is_named(flickr: Path) -> None:
    (flickr / "flickr_audio" / "wavs" / "b_1.wav").unlink()
    with pytest.raises(DataError, match=r"missing recording .*b_1\.wav"):
        check_entries(flickr8k_entries(flickr), "flickr8k")


def lists(root: Path, train: list[Any], test: list[Any], images: str, clips: str) -> Path:
    for split, rows in (("train", train), ("test", test)):
        content = {"image_base_path": images, "audio_base_path": clips, "data": rows}
        put(root / f"{split}.json", json.dumps(content))
    return root


def room(kind: str, name: str, speaker: str = "7") -> dict[str, str]:
    text = f"a {kind} with a chair"
    return {
        "image": f"./{kind}/{name}.jpg",
        "wav": f"wavs/1/{name}.wav",
        "asr_text": text,
        "speaker": speaker,
    }


@pytest.fixture
def places(tmp_path: Path) -> Path:
    train = [room("bedroom", "a"), room("kitchenette", "b"), room("kitchenette", "c", "8")]
    for row in [*train, room("bedroom", "d")]:
        photograph(tmp_path / "data" / row["image"])
        put(tmp_path / "audio" / row["wav"].removeprefix("wavs/"), CLIP)
    return lists(tmp_path, train, [room("bedroom", "d")], "/gone/data", "/gone/wavs")


def test_places(places: Path) -> None:
    entries = released_entries(places)
    with pytest.warns(UserWarning, match="single picture"):
        check_entries(entries, "places")
    assert [(e.id, e.split, e.label, e.class_name) for e in entries] == [
        ("bedroom/a", "train", 1, "bedroom"),
        ("kitchenette/b", "train", 2, "kitchenette"),
        ("kitchenette/c", "train", 2, "kitchenette"),
        ("bedroom/d", "test", 1, "bedroom"),
    ]
    assert entries[2].captions == ("a kitchenette with a chair",)
    assert [(r.caption, r.voice) for r in entries[2].recordings] == [(0, "reader/8")]
    assert load_entry(entries[3]).utterances[0].caption == 0


def test_places_become_shards_whose_test_classes_are_trained_on(places: Path) -> None:
    with pytest.warns(UserWarning, match="single picture"):
        out = prepare(PrepareSettings("lists", places / "shards", root=places))
    arrays = PairArrays.open(out)
    assert arrays.classes_of("test") == "seen classes (test pictures)"
    assert arrays.voices == ["reader/7", "reader/8"] and len(arrays.utterances_of("test")) == 1
    assert arrays.log_mel(0).shape[0] == 40


def test_a_picture_described_twice_is_one(places: Path) -> None:
    train = [room("bedroom", "a"), room("bedroom", "a", "9"), room("kitchenette", "b")]
    train[1]["wav"] = "wavs/1/c.wav"
    first = released_entries(lists(places, train, [room("bedroom", "d")], "data", "audio"))[0]
    assert len(first.captions) == 2
    assert [(r.path.name, r.caption, r.voice) for r in first.recordings] == [
        ("a.wav", 0, "reader/7"),
        ("c.wav", 1, "reader/9"),
    ]
    with pytest.raises(DataError, match=r"test\.json row 1: the picture bedroom/a came before"):
        released_entries(lists(places, train, [room("bedroom", "a")], "data", "audio"))


def test_birds_are_cropped_where_their_boxes_are(tmp_path: Path) -> None:
    names = ["001.Black_footed_Albatross/A_1", "002.Laysan_Albatross/B_1"]
    for name in names:
        photograph(tmp_path / "CUB_200_2011" / "images" / f"{name}.jpg", size=(100, 80))
    rows = [
        {
            "image": f"{name}.jpg",
            "class": name.partition("/")[0],
            "text": ["one", "two"],
            "audio": [f"{name}_0.wav", f"{name}_1.wav"],
        }
        for name in names
    ]
    for name in names:
        for number in range(2):
            put(tmp_path / "speech" / f"{name}_{number}.wav", CLIP)
    lists(tmp_path, rows[:1], rows[1:], "CUB_200_2011", "speech")
    plain = released_entries(tmp_path)
    assert plain[0].box is None and (plain[1].label, plain[1].class_name) == (2, "Laysan Albatross")
    assert [(r.caption, r.voice) for r in plain[0].recordings] == [(0, "published"), (1, "published")]
    put(tmp_path / "CUB_200_2011" / "images.txt", "\n".join(f"{i} {n}.jpg" for i, n in enumerate(names, 1)))
    put(tmp_path / "CUB_200_2011" / "bounding_boxes.txt", "1 40.0 30.0 20.0 10.0\n2 1.0 2.0 30.0 40.0")
    assert [entry.box for entry in released_entries(tmp_path)] == [Box(40, 30, 20, 10), Box(1, 2, 30, 40)]


def test_flowers_without_their_recordings(tmp_path: Path) -> None:
    rows = [
        {"img": f"jpg/image_0000{i}.jpg", "class": str(i), "text": ["x"], "wav": [f"{i}_0.wav"]}
        for i in (1, 2, 3)
    ]
    for row in rows:
        photograph(tmp_path / row["img"])  # type: ignore[operator]
    with pytest.warns(UserWarning, match=r"[13]_0\.wav is neither in audio_base_path .* left out"):
        entries = released_entries(lists(tmp_path, rows[:2], rows[2:], "elsewhere", "elsewhere"))
    assert [(e.id, e.label, e.class_name, e.recordings) for e in entries] == [
        (f"image_0000{i}", i, f"class {i}", ()) for i in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"class": "1", "text": ["x"]}, r"row 1: 'image' or 'img' is None"),
        ({"image": "a.jpg", "text": ["x"]}, "'class' is None"),
        ({"image": "a.jpg", "class": "1", "text": [1]}, "'text' must be a text or a list"),
        ({"image": "a.jpg", "class": "1", "text": ["x"], "wav": ["1.wav", "2.wav"]}, "1 captions and 2 rec"),
        ({"image": "a.jpg", "class": "1", "text": ["x"]}, r"picture a\.jpg is neither in image_base_path"),
        (7, "is int, must be a JSON object"),
    ],
)
def test_lists_say_what_is_wrong(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        released_entries(lists(tmp_path, [row], [row], "pictures", "clips"))


def test_lists_without_base_paths(places: Path) -> None:
    for split in ("train", "test"):
        content = json.loads((places / f"{split}.json").read_text())
        put(places / f"{split}.json", json.dumps({"image_base_path": None, "data": content["data"]}))
    assert all(entry.image.is_file() and entry.recordings for entry in released_entries(places))


def test_lists_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing .*train\.json"):
        released_entries(tmp_path)
    put(tmp_path / "train.json", "[]")
    with pytest.raises(DataError, match="no rows under 'data'"):
        released_entries(tmp_path)
    put(tmp_path / "train.json", "{")
    with pytest.raises(DataError, match="is not JSON"):
        released_entries(tmp_path)
