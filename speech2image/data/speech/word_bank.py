"""A word bank: single words cut out of recordings of people, to be put together to new sentences.

A bank is a folder:

    readers.jsonl    one row a reader: reader, n_clips, pitch (Hz), brightness (Hz)
    index.jsonl      one row a clip: reader, word, start, end (samples in the reader's file), confidence
    <reader>.npy     int16 samples at 16 kHz of all clips of that reader, one after another

A clip begins and ends `MARGIN` samples outside its word, for cross-fades. Voices made of a bank are named
"reader/<reader>".
"""

import hashlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from speech2image.data.corpora.folder import read_jsonl
from speech2image.data.listings import check_file_name
from speech2image.data.shards.array_files import open_array
from speech2image.errors import DataError

Waveform = NDArray[np.float32]
VOICE_PREFIX = "reader/"
MARGIN = 160
"""Samples kept before and after a word: 10 ms."""


@dataclass(frozen=True)
class Clip:
    """One take of a word: samples `start` to `end` of its reader's file, margins included."""

    reader: str
    word: str
    start: int
    end: int
    confidence: float


@dataclass(frozen=True)
class Reader:
    """Somebody whose words are in the bank: mean pitch and mean frequency of the sound's power, in Hz."""

    reader: str
    n_clips: int
    pitch: float
    brightness: float


Row = TypeVar("Row", Reader, Clip)


def _checked(row: Row, place: str) -> Row:
    """The row, if its values are of their kinds and its reader's name is one of a file in the bank."""
    for field in fields(row):
        value, kinds = getattr(row, field.name), (int, float) if field.type is float else (field.type,)
        if type(value) not in kinds:
            raise DataError(f"{place}: {field.name!r} is {value!r:.80}, of a wrong kind")
    check_file_name(row.reader, f"{place}: the reader's name")
    if isinstance(row, Clip) and not 0 <= row.start < row.end:
        raise DataError(f"{place}: a clip from sample {row.start} to {row.end}")
    return row


class WordBank:
    """Clips by reader and word; sound is read from disk when asked for.

    Attributes:
        folder: where it lies.
        readers: by name.
        clips: reader -> word -> takes.
    """

    def __init__(self, folder: Path, readers: Iterable[Reader], clips: Iterable[Clip]) -> None:
        self.folder = folder
        self.readers = {reader.reader: reader for reader in readers}
        self.clips: dict[str, dict[str, list[Clip]]] = {name: {} for name in self.readers}
        for clip in clips:
            if clip.reader in self.clips:
                self.clips[clip.reader].setdefault(clip.word, []).append(clip)
        self._samples: dict[str, NDArray[np.int16]] = {}

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "WordBank":
        """Open a bank that `build_word_bank` wrote.

        Raises:
            DataError: it is not there or damaged.
        """
        folder = Path(folder)
        try:
            readers = [_checked(Reader(**row), place) for place, row in read_jsonl(folder / "readers.jsonl")]
            clips = [_checked(Clip(**row), place) for place, row in read_jsonl(folder / "index.jsonl")]
        except (DataError, TypeError) as error:
            raise DataError(f"{folder} is no word bank: {error}") from error
        return cls(folder, readers, clips)

    def only(self, readers: Collection[str]) -> "WordBank":
        """The same bank with these readers alone: nothing of the others can be heard through it."""
        kept = [reader for name, reader in self.readers.items() if name in readers]
        clips = (clip for name in self.readers for takes in self.clips[name].values() for clip in takes)
        return WordBank(self.folder, kept, clips)

    def samples(self, clip: Clip) -> Waveform:
        """A clip's sound in [-1, 1], shape [end - start].

        Raises:
            DataError: the reader's file is missing or too short.
        """
        return self._sound(clip.reader, clip.start, clip.end)

    def stretch(self, reader: str, rng: np.random.Generator, length: int) -> Waveform:
        """Up to `length` samples of a reader's clips, one after another, from a random place on."""
        end = self._ends[reader]
        start = int(rng.integers(max(1, end - length)))
        return self._sound(reader, start, min(end, start + length))

    @cached_property
    def _ends(self) -> dict[str, int]:
        return {
            name: max(clip.end for takes in said.values() for clip in takes)
            for name, said in self.clips.items()
        }

    def _sound(self, reader: str, start: int, end: int) -> Waveform:
        path = self.folder / f"{reader}.npy"
        if reader not in self._samples:
            self._samples[reader] = open_array(path, np.int16, 1, advice="build the word bank again")
        part = self._samples[reader][start:end]
        if len(part) != end - start:
            raise DataError(f"{path} is too short; build the word bank again")
        return part.astype(np.float32) / np.float32(32768)

    @property
    def voices(self) -> list[str]:
        """The readers' names as voices, "reader/251"."""
        return [VOICE_PREFIX + name for name in self.readers]

    @cached_property
    def words(self) -> frozenset[str]:
        """Every word that some reader says."""
        return frozenset(word for said in self.clips.values() for word in said)

    def alike(self, name: str) -> list[str]:
        """The other readers, those who sound most like `name` first (pitch and brightness, relative)."""
        me = self.readers[name]

        def distance(other: str) -> float:
            reader = self.readers[other]
            pitch, brightness = reader.pitch / me.pitch, reader.brightness / me.brightness
            return abs(np.log(pitch)) + 0.5 * abs(np.log(brightness))

        return sorted((other for other in self.readers if other != name), key=distance)

    @cached_property
    def digest(self) -> str:
        """Digest of what the bank holds, apart from where it lies."""
        digest = hashlib.sha256((self.folder / "index.jsonl").read_bytes())
        return digest.hexdigest()[:16]
