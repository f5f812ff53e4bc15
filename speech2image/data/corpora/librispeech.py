"""LibriSpeech: English audiobooks read by volunteers, cut into sentences.

What:       1,000 hours of 16 kHz speech by 2,484 readers; the part dev-clean has 2,703 utterances (5.4 hours,
            40 readers, 337 MB), test-clean as much, train-clean-100 100 hours (6.3 GB).
Where:      https://www.openslr.org/12/
Licence:    CC BY 4.0; the books are in the public domain (LibriVox, Project Gutenberg).
Citation:   V. Panayotov, G. Chen, D. Povey, S. Khudanpur, "Librispeech: an ASR corpus based on public domain
            audio books", ICASSP 2015.
Layout:     root/dev-clean/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt   "<utterance id> THE WORDS", one
            a line; <utterance id>.flac beside it (other kinds of recording are found as well);
            or root/utterances.jsonl: audio, speaker, text (`corpora.transcribed`).
Text:       upper case without punctuation as published; lower case here.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from speech2image.data.corpora.transcribed import Transcribed, checked, clip_at, read_utterances, utterance
from speech2image.data.listings import files_below
from speech2image.errors import DataError


def librispeech(root: str | os.PathLike[str], *, skip_bad: bool = False) -> list[Transcribed]:
    """List the utterances below `root`: the whole corpus, one part of it, or one reader's folder.

    Raises:
        DataError: there is no transcript, a line of one is not "<id> WORDS", or its recording is missing.
    """
    root = Path(root)
    if (root / "utterances.jsonl").is_file():
        return read_utterances(root / "utterances.jsonl", skip_bad=skip_bad)
    if not root.is_dir():
        raise DataError(f"{root} is no folder; give the folder that holds dev-clean/ or a part of it")
    transcripts = sorted(path for path in files_below(root) if path.name.endswith(".trans.txt"))
    if not transcripts:
        raise DataError(
            f"neither transcripts (<speaker>/<chapter>/*.trans.txt) nor utterances.jsonl in {root}; "
            f"give the folder that holds dev-clean/ or a part of it"
        )
    return checked((item for path in transcripts for item in _chapter(path)), str(root), skip_bad=skip_bad)


def _chapter(transcript: Path) -> Iterator[Transcribed]:
    try:
        lines = transcript.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"unreadable transcript {transcript}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            name, _, text = line.strip().partition(" ")
            place = f"{transcript} line {number}"
            yield utterance(clip_at(transcript.parent / name), name.split("-")[0], text.lower(), place)
