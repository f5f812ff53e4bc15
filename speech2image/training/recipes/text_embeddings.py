"""Text embeddings of a data set's captions, from any source, stored for the generators of the text routes."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image.data.condition_pairs import CaptionPairs
from speech2image.data.embedding_pickles import (
    EMBEDDINGS,
    PublishedEmbeddings,
    read_published,
    write_published,
)
from speech2image.errors import OutputError
from speech2image.files import writing
from speech2image.models.word_vectors import WordVectors
from speech2image.training.recipes.text_encoder import embed_captions, load_text_encoder

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
    return arrays.save_embeddings(embeddings)


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
