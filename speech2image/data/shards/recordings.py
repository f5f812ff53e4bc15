"""Transcribed recordings as memory-mapped frames: of speech corpora, and spoken captions beside them.

    FOLDER/recordings.jsonl              the front end (of spoken sentences the split, too), then speaker
                                         and text of every recording, in order
    FOLDER/log_mel-<part>-<digest>.npy   log-mels of some hundred recordings (`shards.rows`), or another
                                         front end's frames under its name

Built once; an interrupted build goes on where it stopped.
"""

import copy
import hashlib
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from speech2image.asr.text import transcript
from speech2image.audio.front_ends import PAPER, FrontEnd, stated_front_end
from speech2image.data.corpora.transcribed import Transcribed
from speech2image.data.entries import file_digest, report_bad_files
from speech2image.data.listings import check_file_name, parse_json
from speech2image.data.shards.plan import counted, make_shards
from speech2image.data.shards.rows import EndToEnd, LogMels, frames_of, write_log_mels
from speech2image.data.training_sets import TrainingArrays
from speech2image.errors import DataError
from speech2image.files import writing

RECORDINGS_PER_PART = 200
LISTING = "recordings.jsonl"


class TranscribedSpeech(Protocol):
    """Log-mels with their words: what a recognizer is trained on.

    Attributes:
        texts: what each utterance says, as `text.transcript` gives it.
        speakers: who says it.
    """

    @property
    def texts(self) -> Sequence[str]: ...

    @property
    def speakers(self) -> NDArray[np.str_]: ...

    def log_mel(self, u: int) -> NDArray[np.float32]: ...

    def n_frames(self) -> NDArray[np.int64]: ...


class Recordings:
    """Recordings that `build_recordings` turned into log-mels, without those that were left out as bad.

    Args:
        folder: where they lie.

    Attributes:
        split: "train" or "test" where the listing states one (`speech.other_sentences`); None for a corpus.

    Raises:
        DataError: there are none, or some are missing.
        CheckpointError: this version computes their front end in another way.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        try:
            lines = (self.folder / LISTING).read_text(encoding="utf-8").splitlines()
            rows = [parse_json(line, f"line {number}") for number, line in enumerate(lines, start=1)]
            first = rows.pop(0)
            self.paths = [self.folder / _part(name) for name in first["parts"]]
            self._log_mels = LogMels(self.paths)
            texts, speakers = ([_text(row, name) for row in rows] for name in ("text", "speaker"))
            if len(rows) != len(self._log_mels):
                raise DataError(f"{len(rows)} texts of {len(self._log_mels)} recordings")
            # What --skip-bad left out has a row without frames: parts keep the corpus's numbering.
            self._kept = np.flatnonzero(self._log_mels.n_frames())
            self.split: str | None = first.get("split")
            if self.split not in (None, "train", "test"):
                raise DataError(f"the split {self.split!r:.80} is neither train nor test")
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise DataError(
                f"no usable recordings in {folder} ({error}); make them with: "
                f"speech2image prepare recordings --root CORPUS --out {folder}"
            ) from error
        self.front_end = stated_front_end(first.get("front_end"), str(self.folder / LISTING))
        self.texts: list[str] = [texts[i] for i in self._kept]
        self.speakers: NDArray[np.str_] = np.array(speakers, dtype=np.str_)[self._kept]

    def log_mel(self, u: int) -> NDArray[np.float32]:
        """Log-mel of recording `u`, float32 [40, n_frames]."""
        return self._log_mels[int(self._kept[u])]

    def n_frames(self) -> NDArray[np.int64]:
        """Number of frames of every recording, int64 [n]."""
        return self._log_mels.n_frames()[self._kept]

    def with_frames(self, paths: Sequence[Path]) -> "Recordings":
        """The same recordings, whose `log_mel` gives what `write_log_mels` wrote, one file a part."""
        other = copy.copy(self)
        other._log_mels = LogMels(paths)
        return other


def _part(name: object) -> str:
    """The name of a file in the folder of recordings."""
    if not isinstance(name, str) or not name.endswith(".npy"):
        raise DataError(f"{name!r:.80} is no .npy file")
    check_file_name(name, "a part's name")
    return name


def _text(row: object, name: str) -> str:
    value = row.get(name) if isinstance(row, dict) else None
    if not isinstance(value, str):
        raise DataError(f"{name!r} is {value!r:.80}, must be a text")
    return value


class SpokenCaptions:
    """Utterances of a prepared data set whose words are known.

    Args:
        arrays: the data set.
        utterances: which of its utterances; those without a caption are left out.
    """

    def __init__(self, arrays: TrainingArrays, utterances: NDArray[np.int64]) -> None:
        self.arrays = arrays
        self.utterances = utterances[arrays.utterance_caption[utterances] >= 0]
        samples, captions = arrays.utterance_sample, arrays.utterance_caption
        self.texts = [transcript(arrays.captions[samples[u]][captions[u]]) for u in self.utterances]
        self.speakers = arrays.utterance_voice[self.utterances]

    def log_mel(self, u: int) -> NDArray[np.float32]:
        """Log-mel of utterance `u` of these, float32 [40, n_frames]."""
        return self.arrays.log_mel(int(self.utterances[u]))

    def n_frames(self) -> NDArray[np.int64]:
        """Number of frames of every utterance, int64 [n]."""
        return self.arrays.n_frames()[self.utterances]


class JoinedSpeech:
    """Parts of several sources as one.

    Args:
        parts: each a source with the utterances to take from it; one may come several times.
    """

    def __init__(self, parts: Sequence[tuple[TranscribedSpeech, NDArray[np.int64]]]) -> None:
        self.parts = list(parts)
        self.texts = [source.texts[u] for source, chosen in parts for u in chosen]
        self.speakers = np.concatenate([source.speakers[chosen] for source, chosen in parts])
        self._place = EndToEnd(len(chosen) for _, chosen in parts)

    def log_mel(self, u: int) -> NDArray[np.float32]:
        """Log-mel of utterance `u`, float32 [40, n_frames]."""
        part, i = self._place(u)
        source, chosen = self.parts[part]
        return source.log_mel(int(chosen[i]))

    def n_frames(self) -> NDArray[np.int64]:
        """Number of frames of every utterance, int64 [n]."""
        return np.concatenate([source.n_frames()[chosen] for source, chosen in self.parts])


def kept_out(speakers: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Which recordings of a corpus are kept to test on: every eighth speaker's; of fewer than eight speakers,
    every twentieth recording."""
    names = np.unique(speakers)
    if len(names) >= 8:
        return np.isin(speakers, names[::8])
    return np.arange(len(speakers)) % 20 == 0


def build_recordings(
    listed: Sequence[Transcribed],
    folder: str | os.PathLike[str],
    workers: int = 1,
    *,
    skip_bad: bool = False,
    front_end: FrontEnd = PAPER,
) -> Recordings:
    """Turn recordings into log-mels in `folder`, as far as they are not there yet.

    Args:
        listed: a corpus.
        folder: to write to.
        workers: processes.
        skip_bad: leave out recordings that cannot be used.
        front_end: what makes their frames.

    Raises:
        DataError: recordings cannot be used; all are named.
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    starts = range(0, len(listed), RECORDINGS_PER_PART)
    plans = [(listed[start : start + RECORDINGS_PER_PART], folder) for start in starts]
    kind = front_end.array_name
    targets = [_target(folder, kind, number, part) for number, (part, _) in enumerate(plans)]
    sources = [_sources(part) for part, _ in plans]
    finished = _finished(folder)
    todo = [
        (part, target)
        for (part, _), target, source in zip(plans, targets, sources, strict=True)
        if not target.exists() or finished.get(target.name, source) != source
    ]
    build = partial(_build_part, front_end=front_end, skip_bad=skip_bad)
    problems = make_shards(build, todo, [len(part) for part, _ in todo], "log-mels", workers)
    report_bad_files([problem for found in problems for problem in found], skip=skip_bad)
    first: dict[str, object] = {
        "parts": [target.name for target in targets],
        "sources": sources,
        "front_end": front_end.describe(),
    }
    return write_listing(folder, first, [(item.speaker, item.text) for item in listed])


def write_listing(folder: Path, first: dict[str, object], rows: Sequence[tuple[str, str]]) -> Recordings:
    """Write what makes frames in a folder `Recordings`, and open them.

    Args:
        folder: where they lie.
        first: names of the files (`parts`) and the front end (`front_end`), and more if wanted.
        rows: speaker and text of every recording, in order.
    """
    rows_written = [first, *({"speaker": speaker, "text": transcript(text)} for speaker, text in rows)]
    with writing(folder / LISTING) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows_written)
    return Recordings(folder)


def _sources(part: Sequence[Transcribed]) -> str:
    """Digest of the bytes of a part's recordings."""
    return hashlib.sha256("".join(file_digest(item.audio) for item in part).encode()).hexdigest()[:16]


def _finished(folder: Path) -> dict[str, str]:
    """What an earlier, finished build made each part from; a part from before that was noted is not in it."""
    try:
        with open(folder / LISTING, encoding="utf-8") as file:
            listed = parse_json(file.readline(), LISTING)
        return dict(zip(listed["parts"], listed["sources"], strict=True))
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _target(folder: Path, kind: str, number: int, part: Sequence[Transcribed]) -> Path:
    rows = [(item.audio.name, item.audio.stat().st_size) for item in part]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]
    return folder / f"{kind}-{number:05d}-{digest}.npy"


def _build_part(task: tuple[Sequence[Transcribed], Path], front_end: FrontEnd, skip_bad: bool) -> list[str]:
    """Recordings -> their frames, none where one is bad; what is wrong with these."""
    part, target = task
    frames, problems = [], []
    for item in counted(part):
        try:
            frames.append(frames_of(item.audio, f"recording {item.audio}", front_end))
        except DataError as error:
            frames.append(np.zeros((0, front_end.n_features), np.float16))
            problems.append(str(error))
    if skip_bad or not problems:
        write_log_mels(target, frames)
    return problems
