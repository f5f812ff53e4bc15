"""The mean of pretrained word vectors as a caption's embedding: what two-step systems also use.

Reads GloVe's text files, and word2vec's in text or binary form, which a user brings.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import DataError, SettingsError
from speech2image.text import transcript, words_of

MOST_WORDS = 4_000_000
LONGEST_WORD = 1_000


class WordVectors:
    """Vectors of words.

    Args:
        words: their vectors by word, all of one length.
    """

    def __init__(self, words: dict[str, NDArray[np.float32]]) -> None:
        self.words = words
        self.size = len(next(iter(words.values())))

    @classmethod
    def read(cls, path: str | os.PathLike[str], only: Sequence[str] | None = None) -> "WordVectors":
        """Read a file of vectors.

        Args:
            path: GloVe (`word 0.1 -0.2 ...` a line), or word2vec: text or binary (`.bin`), headed by "n d".
            only: captions whose words are kept; None keeps all.

        Raises:
            DataError: no such file, another format, it breaks off, or no vector is left.
        """
        path = Path(path)
        wanted = None if only is None else words_of(only)
        try:
            with open(path, "rb") as file:
                rows = _binary(file, path) if path.suffix == ".bin" else _text(file, path)
                words = {word: vector for word, vector in rows if wanted is None or word in wanted}
        except OSError as error:
            raise DataError(f"unreadable word vectors {path}: {error}") from error
        if not words:
            raise DataError(f"{path} holds no vector of any word asked for; is it of another language?")
        return cls(words)

    def __call__(self, captions: Sequence[str]) -> NDArray[np.float32]:
        """Mean vector of each caption's known words, float32 [n, size].

        Raises:
            SettingsError: a caption has no known word.
        """
        return np.stack([self._mean(caption) for caption in captions])

    def _mean(self, caption: str) -> NDArray[np.float32]:
        known = [self.words[word] for word in transcript(caption).split() if word in self.words]
        if not known:
            raise SettingsError(f"none of the words of {caption[:60]!r} has a vector: say it in other words")
        mean: NDArray[np.float32] = np.mean(known, axis=0, dtype=np.float32)
        return mean


def _text(file: BinaryIO, path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    size = 0
    for number, line in enumerate(file, start=1):
        word, *numbers = line.rstrip().split(b" ")
        if number == 1 and len(numbers) == 1:
            continue  # word2vec's header
        size = size or len(numbers)
        try:
            if len(numbers) != size or size < 2:
                raise ValueError(f"{len(numbers)} numbers")
            yield word.decode("utf-8", "replace"), np.array(numbers, dtype=np.float32)
        except ValueError as error:
            raise DataError(f"{path} line {number} is no word with {size} numbers ({error})") from error


def _binary(file: BinaryIO, path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    try:
        count, size = map(int, file.readline(100).split())
        if not (0 < count <= MOST_WORDS and 1 < size <= 10_000):
            raise ValueError(f"{count} words of {size} numbers")
    except ValueError as error:
        raise DataError(f"{path} is no binary word2vec file ({error})") from error
    for _ in range(count):
        word = b""
        while not word.endswith(b" "):
            byte = file.read(1)
            if not byte or len(word) > LONGEST_WORD:
                raise DataError(f"{path} breaks off or is no binary word2vec file")
            word += byte
        data = file.read(4 * size)
        if len(data) < 4 * size:
            raise DataError(f"{path} breaks off after fewer than {count} words")
        yield word.decode("utf-8", "replace").strip(), np.frombuffer(data, dtype="<f4")
