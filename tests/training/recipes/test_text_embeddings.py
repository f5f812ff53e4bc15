"""Word vectors in the three formats, and the mean of a caption's."""

import struct
from pathlib import Path

import numpy as np
import pytest

from speech2image.errors import DataError, SettingsError
from speech2image.training.recipes.text_embeddings import WordVectors

GLOVE = "red 1 0 0.5\nbird 0 1 -0.5\nbeak 3 3 3\n"


def write(folder: Path, kind: str) -> Path:
    path = folder / ("v.bin" if kind == "binary" else "v.txt")
    rows = [line.split() for line in GLOVE.splitlines()]
    if kind == "binary":
        body = b"".join(w.encode() + b" " + struct.pack("<3f", *map(float, v)) + b"\n" for w, *v in rows)
        path.write_bytes(b"3 3\n" + body)
    else:
        path.write_text(("3 3\n" if kind == "word2vec" else "") + GLOVE)
    return path


@pytest.mark.parametrize("kind", ["glove", "word2vec", "binary"])
def test_mean_of_known_words(tmp_path, kind):
    vectors = WordVectors.read(write(tmp_path, kind))
    assert vectors.size == 3
    np.testing.assert_allclose(vectors(["A RED xyzzy bird!", "beak"]), [[0.5, 0.5, 0], [3, 3, 3]])
    few = WordVectors.read(write(tmp_path, kind), only=["the red ones"])
    assert set(few.words) == {"red"}


def test_no_known_word_is_an_error(tmp_path):
    vectors = WordVectors.read(write(tmp_path, "glove"))
    for caption in ("xyzzy", ""):
        with pytest.raises(SettingsError, match="none of the words"):
            vectors([caption])


def test_damaged_files_are_named(tmp_path):
    path = write(tmp_path, "binary")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="breaks off"):
        WordVectors.read(path)
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(DataError, match="no binary word2vec"):
        WordVectors.read(path)
    text = tmp_path / "w.txt"
    text.write_text("red 1 2 3\nbird 1 2\n")
    with pytest.raises(DataError, match="line 2"):
        WordVectors.read(text)
    with pytest.raises(DataError, match="unreadable"):
        WordVectors.read(tmp_path / "absent.txt")
    text.write_text(GLOVE)
    with pytest.raises(DataError, match="no vector"):
        WordVectors.read(text, only=["qqq"])
