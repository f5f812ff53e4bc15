"""The colour reader and the agreement it measures: on discs, by hand count, on real photographs."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from speech2image.errors import CheckpointError, DataError
from speech2image.metrics.colour_agreement import ColourReader, _lab, agreement_of
from speech2image.metrics.colour_words import COLOURS

PAINT = {
    "red": (210, 30, 30),
    "yellow": (240, 210, 30),
    "blue": (50, 60, 210),
    "white": (245, 245, 240),
    "purple": (130, 50, 170),
}


def disc(colour, rng, side=40):
    """A disc of a colour, of varying shade, place and size, on noisy green ground."""
    ground = rng.integers(0, 70, (side, side, 3)) + np.array([20, 60, 20])
    y, x = np.mgrid[:side, :side] / side
    centre, radius = rng.uniform(0.4, 0.6, 2), rng.uniform(0.2, 0.45)
    inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
    ground[inside] = np.array(PAINT[colour]) + rng.integers(-20, 20, 3)
    return np.clip(ground, 0, 255).astype(np.uint8)


def discs(n, seed, side=40):
    rng = np.random.default_rng(seed)
    colours = [list(PAINT)[i % len(PAINT)] for i in range(n)]
    return [disc(colour, rng, side) for colour in colours], colours


@pytest.fixture(scope="module")
def reader():
    pictures, colours = discs(60, seed=0)
    return ColourReader.fit(pictures, [(f"a {c} flower on green leaves", "a flower") for c in colours])


@pytest.mark.parametrize("side", [40, 64, 151])
def test_reader_reads_discs_it_has_not_seen_at_any_size(reader, side):
    pictures, colours = discs(40, seed=1, side=side)
    read = reader.read(pictures)
    assert np.mean([a == b for a, b in zip(read, colours, strict=True)]) > 0.95
    assert reader.read(np.stack(pictures)) == read


def test_agreement_falls_when_captions_are_shuffled(reader):
    pictures, colours = discs(50, seed=2)
    captions = [f"{colour} petals around a brown centre" for colour in colours]
    assert agreement_of(reader.read(pictures), captions) > 0.95
    assert agreement_of(reader.read(pictures), captions[1:] + captions[:1]) < 0.1


def test_agreement_by_hand():
    """Hits: red, orange (either of a shade between two); miss: blue; captions without colour do not count."""
    read = ["red", "orange", "pink", "white", "green"]
    captions = [
        "a red flower",
        "yellow orange petals",
        "a blue flower with a pink centre",
        "a flower",
        "the green leaves of a flower",
    ]
    assert agreement_of(read, captions) == pytest.approx(2 / 3)


def test_saved_reader_reads_the_same(reader, tmp_path):
    reader.save(tmp_path / "reader.npz")
    again = ColourReader.load(tmp_path / "reader.npz")
    np.testing.assert_array_equal(again.weights, reader.weights)
    pictures, _ = discs(5, seed=3)
    assert again.read(pictures) == reader.read(pictures)


@pytest.mark.parametrize("content", [b"", b"no archive", pickle.dumps({"weights": 1})])
def test_foreign_reader_is_refused(tmp_path, content):
    (tmp_path / "reader.npz").write_bytes(content)
    with pytest.raises(CheckpointError, match="no colour reader, or damaged"):
        ColourReader.load(tmp_path / "reader.npz")


def test_absent_damaged_or_other_reader_is_refused(reader, tmp_path):
    with pytest.raises(CheckpointError, match="no colour reader"):
        ColourReader.load(tmp_path / "absent.npz")
    reader.save(tmp_path / "reader.npz")
    content = (tmp_path / "reader.npz").read_bytes()
    (tmp_path / "reader.npz").write_bytes(content[:-200])
    with pytest.raises(CheckpointError, match="damaged"):
        ColourReader.load(tmp_path / "reader.npz")
    np.savez(tmp_path / "other.npz", colours=np.array(COLOURS), weights=np.zeros((3, 11), np.float32))
    with pytest.raises(CheckpointError, match="another version"):
        ColourReader.load(tmp_path / "other.npz")


def test_what_cannot_be_read_is_refused(reader):
    with pytest.raises(DataError, match=r"float64 \(8, 8, 3\)"):
        reader.read([np.zeros((8, 8, 3))])
    with pytest.raises(DataError, match="1 pictures but captions for 2"):
        agreement_of(["red"], ["a red flower", "a blue flower"])
    with pytest.raises(DataError, match="nothing to agree with"):
        agreement_of(["red"], ["a flower"])
    with pytest.raises(DataError, match="nothing to fit"):
        ColourReader.fit([np.zeros((8, 8, 3), np.uint8)], [("a flower",)])
    assert reader.read([]) == []


def test_lab_of_known_colours():
    """Lab of sRGB white, black and red under D65, as published."""
    pixels = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], np.uint8)
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]]
    np.testing.assert_allclose(_lab(pixels), expected, atol=0.05)


def test_reader_on_real_photographs_of_unseen_classes(shared):
    """Fitted on 1,500 training photographs; 0.82 with all 7,034."""
    folder = shared / "data/oxford102"
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    rng = np.random.default_rng(0)
    parts = {}
    for split, n in (("train", 1500), ("test", 300)):
        of_split = [row for row in rows if row["split"] == split]
        parts[split] = [of_split[i] for i in rng.choice(len(of_split), n, replace=False)]
    pictures = {split: [_thumbnail(folder / row["image"]) for row in part] for split, part in parts.items()}
    reader = ColourReader.fit(pictures["train"], [row["captions"] for row in parts["train"]])
    read = reader.read(pictures["test"])
    captions = [row["captions"][0] for row in parts["test"]]
    assert agreement_of(read, captions) > 0.7
    assert agreement_of(read, list(rng.permutation(captions))) < 0.35


def _thumbnail(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB").resize((64, 64)))
