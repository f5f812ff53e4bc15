"""Flickr8k with its spoken captions (Flickr 8k Audio Caption Corpus).

What:       8,000 photographs of everyday scenes (1.1 GB), five captions each, every one read aloud: 40,000
            recordings by 183 people (4.2 GB).
Where:      pictures and texts: Flickr8k_Dataset.zip, Flickr8k_text.zip (M. Hodosh et al.); recordings:
            https://groups.csail.mit.edu/sls/downloads/flickraudio/
Licence:    pictures and captions for non-commercial research; recordings CC BY-SA 4.0.
Citation:   D. Harwath and J. Glass, "Deep multimodal semantic embeddings for speech and images", ASRU 2015;
            M. Hodosh, P. Young and J. Hockenmaier, "Framing image description as a ranking task", JAIR 2013.
Layout:     root/Flicker8k_Dataset/<picture>.jpg             spelt so by its publishers; or Images, images,
                                                             Flickr8k_Dataset
            root/Flickr8k_text/Flickr8k.token.txt            <picture>.jpg#0 <tab> caption
            root/Flickr8k_text/Flickr_8k.{train,dev,test}Images.txt   one picture a line
            root/flickr_audio/wavs/<picture>_0.wav
            root/flickr_audio/wav2capt.txt                   <clip>.wav <picture>.jpg #0
            root/flickr_audio/wav2spk.txt                    <clip>.wav <speaker>
            The texts may lie in root itself. Without flickr_audio/ the captions are spoken by `prepare`.
Protocol:   the published 6,000 / 1,000 / 1,000 pictures as train, val and test; pictures in no list are left
            out. There are no classes: each picture is a class of its own, so a mismatched picture is any
            other one. A speaker's voice is "reader/<number>", like those of other people.
"""

import os
from pathlib import Path

from speech2image.data.corpora.publishers import is_number, read_lines
from speech2image.data.entries import Entry, Recording
from speech2image.data.listings import sample_id
from speech2image.data.speech.word_bank import VOICE_PREFIX
from speech2image.errors import DataError

PICTURES = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images")
"""Folders that pictures are found in; the first is the publishers'."""
SPLITS = {"train": "train", "dev": "val", "test": "test"}
SOURCE = "Flickr8k; captions of Hodosh et al. 2013"


def flickr8k_entries(root: str | os.PathLike[str]) -> list[Entry]:
    """List the pictures of Flickr8k in its publishers' layout, with their recordings if they are there.

    Raises:
        DataError: a folder or list is missing, or a line does not have the published form.
    """
    root = Path(root)
    folder = next((root / name for name in PICTURES if (root / name).is_dir()), None)
    if folder is None:
        raise DataError(f"no folder {PICTURES[0]}/ in {root}; unpack the published archive there")
    texts = root / "Flickr8k_text" if (root / "Flickr8k_text").is_dir() else root
    captions = _captions(texts / "Flickr8k.token.txt")
    recordings = _recordings(root / "flickr_audio") if (root / "flickr_audio").is_dir() else {}
    entries: list[Entry] = []
    for published, split in SPLITS.items():
        for place, picture in read_lines(texts / f"Flickr_8k.{published}Images.txt"):
            texts_of = captions.get(picture, {})
            if not texts_of:
                raise DataError(f"{place}: Flickr8k.token.txt has no caption of {picture}")
            numbers = sorted(texts_of)
            spoken = {numbers.index(n): r for n, r in recordings.get(picture, {}).items() if n in texts_of}
            entries.append(
                Entry(
                    id=sample_id(picture),
                    image=folder / picture,
                    label=len(entries) + 1,
                    class_name=Path(picture).stem,
                    split=split,
                    captions=tuple(texts_of[number] for number in numbers),
                    recordings=tuple(Recording(path, at, voice) for at, (path, voice) in spoken.items()),
                    source=SOURCE,
                    place=place,
                )
            )
    return entries


def _captions(path: Path) -> dict[str, dict[int, str]]:
    """Picture -> number of a caption -> caption."""
    captions: dict[str, dict[int, str]] = {}
    for place, line in read_lines(path):
        name, tab, text = line.partition("\t")
        picture, hash_, number = name.rpartition("#")
        if not tab or not hash_ or not is_number(number):
            raise DataError(f"{place}: expected <picture>.jpg#<number>, a tab and a caption, got {line!r}")
        if text.strip():
            captions.setdefault(picture, {})[int(number)] = text.strip()
    return captions


def _recordings(folder: Path) -> dict[str, dict[int, tuple[Path, str]]]:
    """Picture -> number of a caption -> recording and voice."""
    speakers = {}
    for place, line in read_lines(folder / "wav2spk.txt"):
        words = line.split()
        if len(words) != 2:
            raise DataError(f"{place}: expected <clip>.wav and a speaker, got {line!r}")
        speakers[words[0]] = words[1]
    recordings: dict[str, dict[int, tuple[Path, str]]] = {}
    for place, line in read_lines(folder / "wav2capt.txt"):
        words = line.split()
        if len(words) != 3 or not is_number(words[2].removeprefix("#")):
            raise DataError(f"{place}: expected <clip>.wav <picture>.jpg #<number>, got {line!r}")
        clip, picture, number = words
        if clip not in speakers:
            raise DataError(f"{place}: wav2spk.txt does not say who speaks {clip}")
        path, voice = folder / "wavs" / clip, f"{VOICE_PREFIX}{speakers[clip]}"
        recordings.setdefault(picture, {})[int(number.removeprefix("#"))] = path, voice
    return recordings
