"""Caption embeddings for generators on text: from a text encoder, word vectors or published files.

Word vectors are those of GloVe's text files or of word2vec's text or binary ones; a caption's embedding is
the mean over its words, as two-step systems use it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from speech2image.asr.text import transcript, words_of
from speech2image.data.corpora.embedding_pickles import (
    EMBEDDINGS,
    PublishedEmbeddings,
    read_published,
    write_published,
)
from speech2image.data.training_sets import CaptionPairs
from speech2image.errors import DataError, OutputError, SettingsError
from speech2image.files import writing
from speech2image.training.core.networks import load_text_encoder, space_of
from speech2image.training.recipes.text_encoder import embed_captions

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Captions -> embeddings [n, size]."""


def open_encoder(path: str | os.PathLike[str], captions: Sequence[str] | None = None) -> Embed:
    """A trained text encoder (`.safetensors`), or the word vectors of a GloVe or word2vec file.

    Args:
        path: of either.
        captions: those to embed; only their words' vectors are kept.

    Raises:
        CheckpointError, DataError: the file is damaged or something else.
    """
    if Path(path).suffix == ".safetensors":
        encoder = load_text_encoder(path)
        return lambda texts: embed_captions(encoder, texts)
    return WordVectors.read(path, captions)


def store_text_embeddings(arrays: CaptionPairs, source: str | os.PathLike[str]) -> Path:
    """Store the embedding of every caption beside the shards.

    Args:
        arrays: the data set.
        source: a checkpoint or a file of word vectors (`open_encoder`), or a folder of published pickles: one
            split's, or one whose folders are splits.

    Raises:
        CheckpointError, DataError: the source is damaged, or does not fit the data set.
        SettingsError: a caption cannot be embedded.
    """
    if Path(source).is_dir():
        embeddings = arrays.published([read_published(folder) for folder in _splits(Path(source))])
    else:
        embeddings = open_encoder(source, arrays.texts)(arrays.texts)
    is_checkpoint = Path(source).suffix == ".safetensors"
    space = space_of(source, load_text_encoder(source)) if is_checkpoint else ""
    return arrays.save_embeddings(embeddings, space)


def _splits(folder: Path) -> list[Path]:
    if (folder / EMBEDDINGS).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{EMBEDDINGS}")) or [folder]


def write_caption_embeddings(
    captions: Sequence[str], encoder: str | os.PathLike[str], out: str | os.PathLike[str]
) -> Path:
    """Embed captions of one's own: a `.npy` [n, size], or a folder of the published pickles.

    Args:
        captions: sentences.
        encoder: as of `open_encoder`.
        out: `NAME.npy`, or a folder: each caption is written as a "picture" of its own, of class 1.

    Raises:
        SettingsError: a caption cannot be embedded.
        OutputError: `out` cannot be written.
    """
    out = Path(out)
    embeddings = open_encoder(encoder, captions)(captions)
    if out.suffix == ".npy":
        with writing(out) as temporary:
            np.save(temporary, embeddings)
        return out
    if out.suffix:
        raise OutputError(f"{out}: give NAME.npy, or a folder for pickles as published")
    names = [f"{i:06d}" for i in range(len(captions))]
    write_published(out, PublishedEmbeddings(embeddings[:, None], names, np.ones(len(captions), np.int64)))
    return out


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
    def read(
        cls, path: str | os.PathLike[str], only: Sequence[str] | None = None, most: int | None = None
    ) -> "WordVectors":
        """Read a file of vectors.

        Args:
            path: GloVe (`word 0.1 -0.2 ...` a line), or word2vec: text or binary (`.bin`), headed by "n d".
            only: captions whose words are kept; None keeps all.
            most: keep the first so many that are words as captions have them: lower-case, of letters.

        Raises:
            DataError: no such file, another format, it breaks off, or no vector is left.
        """
        path = Path(path)
        wanted = None if only is None else words_of(only)
        try:
            with open(path, "rb") as file:
                rows = _binary(file, path) if path.suffix == ".bin" else _text(file, path)
                if most is not None:
                    rows = islice((row for row in rows if transcript(row[0]) == row[0]), most)
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
