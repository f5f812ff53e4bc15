"""Transcribed utterances: recordings of people with their words, as speech corpora are listed."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from speech2image.data.entries import report_bad_files
from speech2image.data.listings import listed_path, read_jsonl
from speech2image.errors import DataError

SUFFIXES = (".flac", ".wav", ".opus", ".ogg", ".mp3")
"""Kinds of recording looked for beside a transcript, in this order."""


@dataclass(frozen=True)
class Transcribed:
    """One recorded utterance: the file, who speaks in it (unique over corpora), the words in lower case or as
    the corpus writes them, and where it is listed."""

    audio: Path
    speaker: str
    text: str
    place: str = field(default="", compare=False)


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; hyphens part words, apostrophes don't.

    >>> words_of("A long-tailed bird's nest, 'old'.")
    ['a', 'long', 'tailed', "bird's", 'nest', 'old']
    """
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)*", text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


def read_utterances(manifest: str | os.PathLike[str], *, skip_bad: bool = False) -> list[Transcribed]:
    """Recordings listed in this project's own form: a JSONL file of `audio`, `speaker` (or `voice`), `text`.

    Args:
        manifest: the file; paths in it are relative to it.
        skip_bad: leave out recordings that are not there.

    Raises:
        DataError: no such file, a line lacks a field, or recordings are not there.
    """
    path = Path(manifest)
    listed = [_listed(row, place, path.parent) for place, row in read_jsonl(path)]
    return checked(listed, str(path), skip_bad=skip_bad)


def _listed(row: dict[str, object], place: str, root: Path) -> Transcribed:
    audio, speaker, text = row.get("audio"), row.get("speaker", row.get("voice")), row.get("text")
    if not (isinstance(audio, str) and isinstance(speaker, str) and isinstance(text, str)):
        raise DataError(f"{place} needs 'audio', 'speaker' and 'text', each a text")
    return utterance(listed_path(root, audio), speaker, text, place)


def utterance(audio: Path, speaker: str, text: str, place: str) -> Transcribed:
    """The utterance, if something is said in it.

    Raises:
        DataError: the text holds no word; names `place`.
    """
    if not words_of(text):
        raise DataError(f"{place}: no words in the text {text!r}")
    return Transcribed(audio, speaker, text.strip(), place)


def clip_at(stem: Path) -> Path:
    """The recording `stem` plus any of `SUFFIXES`; the first kind, if none is there."""
    paths = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
    return next((path for path in paths if path.is_file()), paths[0])


def checked(listed: Iterable[Transcribed], name: str, *, skip_bad: bool = False) -> list[Transcribed]:
    """The utterances whose recordings are there.

    Raises:
        DataError: there are none; or some are missing, unless `skip_bad` leaves these out.
    """
    there, problems = [], []
    for item in listed:
        if os.path.isfile(item.audio):
            there.append(item)
        else:
            problems.append(f"missing recording {item.audio}, listed in {item.place}")
    report_bad_files(problems, skip=skip_bad)
    if not there:
        raise DataError(f"no recordings in {name}: the corpus is empty")
    return there
