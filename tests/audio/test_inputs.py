"""Paths and file objects of every kind: read from the beginning, or refused in one line."""

import io
from pathlib import Path

import numpy as np
import pytest
from spoken import SENTENCE, sentence

from speech2image import audio
from speech2image.audio.inputs import Window
from speech2image.errors import SpeechError


class OnlyRead:
    """A file object with nothing but `read`, of which it gives `block`."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1) -> object:
        return self._file.read(size)


class Greedy(io.BytesIO):
    """Gives more than it was asked for."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size) + bytes(100_000)


class Broken(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        raise OSError("the cable was pulled")


class GivesText(OnlyRead):
    def read(self, size: int = -1) -> object:
        return "text"


def test_file_objects_are_read_from_their_beginning() -> None:
    file = io.BytesIO(SENTENCE.read_bytes())
    for position in (0, 4, 1_000, 10**6):
        file.seek(position)
        np.testing.assert_array_equal(audio.load(file), sentence())
    file.seek(0, io.SEEK_END)
    np.testing.assert_array_equal(audio.load(file), sentence())


def test_file_objects_without_seek() -> None:
    np.testing.assert_array_equal(audio.load(OnlyRead(SENTENCE.read_bytes())), sentence())  # type: ignore[arg-type]


def test_file_objects_that_give_too_much() -> None:
    np.testing.assert_array_equal(audio.load(Greedy(SENTENCE.read_bytes())), sentence())


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (Broken(b"RIFF" * 99), "cannot be read.*the cable was pulled"),
        (GivesText(b""), "gave str, not bytes"),
        (OnlyRead(b""), "is empty"),
    ],
)
def test_file_objects_that_cannot_be_read(file: object, message: str) -> None:
    with pytest.raises(SpeechError, match=message):
        audio.load(file)  # type: ignore[arg-type]


def test_file_objects_that_are_not_open(tmp_path: Path) -> None:
    with SENTENCE.open("rb") as file:
        pass
    with pytest.raises(SpeechError, match="is closed; open it again"):
        audio.load(file)
    with (tmp_path / "new.wav").open("wb") as file, pytest.raises(SpeechError, match="not open for reading"):
        audio.load(file)  # type: ignore[arg-type]


def test_a_path_where_nothing_lies_is_named_once() -> None:
    with pytest.raises(SpeechError, match=r"^nowhere/absent\.wav: no such file$"):
        audio.load("nowhere/absent.wav")


@pytest.mark.parametrize("name", ["a" * 300 + ".wav", "a\0b.wav", "/".join(["a" * 200] * 30)])
def test_paths_that_no_file_can_have(name: str) -> None:
    with pytest.raises(SpeechError, match="no such file"):
        audio.load(name)


def test_a_window_is_a_file_of_its_own() -> None:
    window = Window(io.BytesIO(b"0123456789"), 2, 8, header=b"ab")
    assert window.read() == b"ab234567" and window.size == 8
    window.seek(-3, io.SEEK_END)
    assert (window.tell(), window.read(2), window.read(9), window.read(1)) == (
        5,
        b"56"[0:0] + b"56"[0:2],
        b"7",
        b"",
    )
    assert window.seek(1) == 1 and window.read(2) == b"b2" and window.read(2) == b"34"
