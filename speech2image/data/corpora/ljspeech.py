"""LJSpeech: one woman reads seven non-fiction books.

What:       13,100 clips of 1 to 10 s, 24 hours, one reader, 22,050 Hz (2.6 GB).
Where:      https://keithito.com/LJ-Speech-Dataset/
Licence:    public domain, the books as well.
Citation:   K. Ito and L. Johnson, "The LJ Speech Dataset", 2017.
Layout:     root/metadata.csv "<id>|text|text with numbers and abbreviations in words", one a line, no header;
            root/wavs/<id>.wav  (other kinds of recording, such as .opus, are found as well);
            or root/utterances.jsonl: audio, speaker, text (`corpora.transcribed`).
"""

import os
from pathlib import Path

from speech2image.data.corpora.transcribed import Transcribed, checked, clip_at, read_utterances, utterance
from speech2image.errors import DataError

SPEAKER = "ljspeech"


def ljspeech(root: str | os.PathLike[str], *, skip_bad: bool = False) -> list[Transcribed]:
    """List the clips of LJSpeech or of a part of it.

    Raises:
        DataError: metadata.csv is missing or unreadable, a line has no three fields, or its clip is missing.
    """
    root = Path(root)
    if (root / "utterances.jsonl").is_file():
        return read_utterances(root / "utterances.jsonl", skip_bad=skip_bad)
    metadata = root / "metadata.csv"
    try:
        lines = metadata.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"unreadable {metadata}: {error}; give the folder that holds metadata.csv and wavs/"
        ) from error
    rows = [(f"{metadata} line {n}", line) for n, line in enumerate(lines, start=1) if line.strip()]
    return checked((_clip(root, line, place) for place, line in rows), str(root), skip_bad=skip_bad)


def _clip(root: Path, line: str, place: str) -> Transcribed:
    fields = line.split("|")
    if len(fields) != 3:
        raise DataError(f"{place} has {len(fields)} fields parted by '|', must be 3: id, text, text in words")
    return utterance(clip_at(root / "wavs" / fields[0]), SPEAKER, fields[2] or fields[1], place)
