"""Corpus registry: the data sets that `speech2image prepare` knows by name, and what lists each.

A new corpus is one module beside this one, with a docstring as the others have (what, where, licence,
citation, layout, protocol) and a function that lists its `Entry`s, and one row here.
"""

import os
from collections.abc import Callable
from pathlib import Path

from speech2image.data.corpora.cub import cub_entries
from speech2image.data.corpora.flickr8k import flickr8k_entries
from speech2image.data.corpora.folder import folder_entries
from speech2image.data.corpora.librispeech import librispeech
from speech2image.data.corpora.ljspeech import ljspeech
from speech2image.data.corpora.oxford102 import oxford102_entries
from speech2image.data.corpora.released_lists import released_entries
from speech2image.data.corpora.transcribed import Transcribed
from speech2image.data.entries import Entry

CORPORA: dict[str, Callable[..., list[Entry]]] = {
    "oxford102": oxford102_entries,
    "cub": cub_entries,
    "flickr8k": flickr8k_entries,
    "lists": released_entries,
    "folder": folder_entries,
}
"""Name -> lists the pictures below a folder; `corpora.toy` makes its own."""

SPEECH_CORPORA: dict[str, Callable[..., list[Transcribed]]] = {
    "metadata.csv": ljspeech,
    "": librispeech,
}
"""A file by which a corpus of transcribed speech is known -> lists its recordings; "" is any other folder."""


def list_recordings(root: str | os.PathLike[str], *, skip_bad: bool = False) -> list[Transcribed]:
    """A corpus in LJSpeech's layout (metadata.csv), LibriSpeech's, or this project's (utterances.jsonl).

    Args:
        root: its folder.
        skip_bad: leave out recordings that are not there.

    Raises:
        DataError: it is none of these, or not whole.
    """
    known = next(name for name in SPEECH_CORPORA if not name or (Path(root) / name).is_file())
    return SPEECH_CORPORA[known](root, skip_bad=skip_bad)
