"""Oxford-102 and CUB in small trees of their publishers' layouts."""

import bz2
import io
import json
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from small_sets import encoded, load_entry, picture

from speech2image.data.corpora.cub import cub_entries
from speech2image.data.corpora.oxford102 import oxford102_entries
from speech2image.data.corpora.publishers import own_captions, pack
from speech2image.data.entries import check_entries
from speech2image.data.pictures import picture_size
from speech2image.data.prepare import PrepareSettings, list_entries, prepare
from speech2image.errors import DataError, SettingsError

BIRDS = {
    "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18": 1,
    "002.Laysan_Albatross/Laysan_Albatross_0002_1027": 2,
    "002.Laysan_Albatross/Laysan_Albatross_0003_1033": 2,
    "003.Sooty_Albatross/Sooty_Albatross_0001_796375": 3,
}


def put(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """Four pictures of classes 77, 1, 1, 30 (the true ones of pictures 1 and beyond do not matter here)."""
    for number in range(1, 5):
        put(tmp_path / "jpg" / f"image_{number:05d}.jpg", encoded(picture(size=(60, 50)), "JPEG"))
    savemat(tmp_path / "imagelabels.mat", {"labels": np.array([[77, 1, 77, 30]], np.uint8)})
    savemat(tmp_path / "setid.mat", {"trnid": [[1]], "valid": [[2]], "tstid": [[3, 4]]})
    return tmp_path


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """CUB-200-2011 with four pictures of 100 x 80 whose bird lies at (40, 30), 20 x 10."""
    for name in BIRDS:
        put(tmp_path / "images" / f"{name}.jpg", encoded(picture(size=(100, 80)), "JPEG"))
    lines = [f"{i} {name}.jpg" for i, name in enumerate(BIRDS, 1)]
    put(tmp_path / "images.txt", "\n".join(lines))
    put(tmp_path / "image_class_labels.txt", "\n".join(f"{i} {c}" for i, c in enumerate(BIRDS.values(), 1)))
    put(tmp_path / "bounding_boxes.txt", "\n".join(f"{i} 40.0 30.0 20.0 10.0" for i in range(1, 5)))
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*single picture")
def test_birds_are_cropped_as_the_paper_says_or_as_its_code_does(birds: Path, flowers: Path) -> None:
    """The bird is 20 x 10 pixels; the squares are of 1.5 and 1.33 times its larger side."""
    for crop, side in (("stackgan", 30), ("paper", 26)):
        entries = list_entries(PrepareSettings("cub", birds / crop, root=birds, crop=crop))  # type: ignore[arg-type]
        data = load_entry(entries[0]).image
        assert picture_size(data, "bird") == (side, side), crop
        assert ("paper's square" in entries[0].source) == (crop == "paper")
    shards = birds / "shards"
    prepare(PrepareSettings("cub", shards, root=birds, speak=False))
    with pytest.raises(DataError, match="overwrite"):
        prepare(PrepareSettings("cub", shards, root=birds, speak=False, crop="paper"))
    with pytest.raises(SettingsError, match=r"--crop paper: oxford102 in .* has no boxes"):
        list_entries(PrepareSettings("oxford102", birds / "x", root=flowers, crop="paper"))


def test_flowers_with_own_captions(flowers: Path) -> None:
    entries = oxford102_entries(flowers)
    with pytest.warns(UserWarning, match="single picture"):
        check_entries(entries, "flowers")
    assert [(e.id, e.label, e.split) for e in entries] == [
        ("image_00001", 77, "train"),
        ("image_00002", 1, "test"),
        ("image_00003", 77, "train"),
        ("image_00004", 30, "train"),
    ]
    assert entries[0].class_name == "passion flower"
    assert entries[0].captions == own_captions("oxford102")[77].captions["image_00001"]
    assert "machine-written" in entries[0].source and "machine-written" in load_entry(entries[0]).source


def test_flowers_with_reeds_captions_and_list(flowers: Path) -> None:
    put(flowers / "text_c10" / "class_00077" / "image_00001.txt", "this flower is blue.\nit has petals\n\n")
    put(flowers / "testclasses.txt", "class_00030\nclass_00077\n")
    entries = oxford102_entries(flowers)
    assert entries[0].captions == ("this flower is blue.", "it has petals")
    assert entries[0].source == "Oxford-102; captions of Reed et al. 2016"
    assert [e.split for e in entries] == ["test", "train", "test", "test"]


def test_flowers_published_split(flowers: Path) -> None:
    assert [e.split for e in oxford102_entries(flowers, "published")] == ["train", "train", "test", "test"]


def test_flowers_without_labels_or_pictures(flowers: Path) -> None:
    (flowers / "imagelabels.mat").write_text("damaged")
    with pytest.raises(DataError, match=r"unreadable MATLAB file .*imagelabels\.mat"):
        oxford102_entries(flowers)
    (flowers / "imagelabels.mat").unlink()
    with pytest.raises(DataError, match=r"missing .*imagelabels\.mat"):
        oxford102_entries(flowers)
    with pytest.raises(DataError, match="no folder jpg/"):
        oxford102_entries(flowers / "jpg")


def test_flower_beyond_the_labels(flowers: Path) -> None:
    put(flowers / "jpg" / "image_00005.jpg", encoded(picture(), "JPEG"))
    with pytest.raises(DataError, match="beyond the 4 labels"):
        oxford102_entries(flowers)


def test_birds_of_2011(birds: Path) -> None:
    put(
        birds / "text_c10" / "001.Black_footed_Albatross" / "Black_Footed_Albatross_0046_18.txt",
        "a dark bird\n",
    )
    entries = cub_entries(birds)
    assert [e.split for e in entries] == ["test", "train", "train", "train"]  # class 1 is of the usual 50
    assert entries[0].id == "001_Black_footed_Albatross/Black_Footed_Albatross_0046_18"
    assert entries[0].class_name == "Black footed Albatross" and entries[0].captions == ("a dark bird",)
    sample = load_entry(entries[0])
    assert sample.image_suffix == "webp"
    assert Image.open(io.BytesIO(sample.image)).size == (30, 30)  # half-side 0.75 * 20


@pytest.mark.parametrize("captions", ["text_c10", "cvpr2016_cub/text_c10"])
@pytest.mark.parametrize("inside", [True, False])
def test_birds_as_both_archives_unpack(birds: Path, tmp_path: Path, captions: str, inside: bool) -> None:
    listed = list(birds.iterdir())
    root = tmp_path / "unpacked"
    (root / "CUB_200_2011").mkdir(parents=True)
    for path in listed:
        path.rename(root / "CUB_200_2011" / path.name)
    text = Path("001.Black_footed_Albatross", "Black_Footed_Albatross_0046_18.txt")
    put(root / captions / text, "a dark bird\n")
    put(root / captions / "../testclasses.txt", "002.Laysan_Albatross\n")
    entries = cub_entries(root / "CUB_200_2011" if inside else root)
    assert entries[0].captions == ("a dark bird",)
    assert entries[0].image.is_file() and not entries[1].captions
    assert [entry.split for entry in entries] == ["train", "test", "test", "train"]


def test_birds_of_2010(tmp_path: Path) -> None:
    name = "001.Black_footed_Albatross/Black_footed_Albatross_0001_2950163169"
    bare = "002.Laysan_Albatross/Laysan_Albatross_0001_545148376"
    for stem in (name, bare):
        put(tmp_path / "images" / f"{stem}.jpg", encoded(picture(size=(100, 80)), "JPEG"))
    put(tmp_path / "lists" / "files.txt", f"{name}.jpg\n{bare}.jpg\n")
    annotation = tmp_path / "annotations-mat" / f"{name}.mat"
    annotation.parent.mkdir(parents=True)
    savemat(annotation, {"bbox": {"left": 40, "top": 30, "right": 60, "bottom": 40}})
    entries = cub_entries(tmp_path)
    assert entries[0].box == (40, 30, 20, 10) and entries[1].box is None
    assert entries[0].captions[1] == "a brown long winged seabird shown with its wings fully spread"
    assert entries[0].split == "test" and "2010" in entries[0].source


def test_birds_in_no_known_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither images\.txt .* nor lists/files\.txt"):
        cub_entries(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("bounding_boxes.txt", "1 40 30 20 10\n", "picture 2 has no bounding box"),
        ("bounding_boxes.txt", "1 40 30\n2 1 1 1 1\n3 1 1 1 1\n4 1 1 1 1\n", "picture 1: expected left, top"),
        ("image_class_labels.txt", "1 9\n2 2\n3 2\n4 3\n", "is labelled 9"),
        ("images.txt", "one.jpg\n", r"images\.txt line 1: expected a number"),
        ("images.txt", "1 Albatross/x.jpg\n", "must be like 001"),
    ],
)
def test_lists_of_birds_that_do_not_fit(birds: Path, file: str, content: str, message: str) -> None:
    put(birds / file, content)
    with pytest.raises(DataError, match=message):
        cub_entries(birds)


def test_missing_list_of_birds(birds: Path) -> None:
    (birds / "bounding_boxes.txt").unlink()
    with pytest.raises(DataError, match=r"missing .*bounding_boxes\.txt"):
        cub_entries(birds)


@pytest.mark.parametrize(
    ("corpus", "n_classes", "n_pictures", "n_test", "n_test_pictures"),
    [("oxford102", 102, 8189, 20, 1155), ("cub200", 200, 6033, 50, 1565)],
)
def test_shipped_captions(
    corpus: Literal["oxford102", "cub200"], n_classes: int, n_pictures: int, n_test: int, n_test_pictures: int
) -> None:
    classes = own_captions(corpus)
    test = [c for c in classes.values() if c.split == "test"]
    assert len(classes) == n_classes and len(test) == n_test
    assert sum(len(c.captions) for c in classes.values()) == n_pictures
    assert sum(len(c.captions) for c in test) == n_test_pictures
    assert all(len(texts) == 2 and all(texts) for c in classes.values() for texts in c.captions.values())


@pytest.mark.parametrize("corpus", ["oxford102", "cub200"])
def test_shipped_captions_are_the_shared_ones(corpus: str, shared: Path) -> None:
    lines = (shared / "data" / corpus / "captions.jsonl").read_text().splitlines()
    shipped = resources.files("speech2image.data") / "captions" / f"{corpus}.jsonl.bz2"
    assert bz2.decompress(pack(map(json.loads, lines))) == bz2.decompress(shipped.read_bytes())
