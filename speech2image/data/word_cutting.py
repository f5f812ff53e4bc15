"""Building a word bank: recordings of people are aligned with their words, and the words are cut out."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image import audio
from speech2image.data.corpora.transcribed import Transcribed, words_of
from speech2image.data.listings import check_file_name
from speech2image.data.progress import progress_bar
from speech2image.data.speech.alignment import AlignedWord, Aligner
from speech2image.data.speech.word_bank import MARGIN, Clip, Reader
from speech2image.errors import DataError, SettingsError, SpeechError
from speech2image.files import writing

Waveform = NDArray[np.float32]
FILLERS = frozenset({"uh", "um", "er", "ah", "oh", "please"})
"""Words kept beside the captions', for hesitations."""


@dataclass(frozen=True)
class Cutting:
    """Which aligned words go into a bank.

    Attributes:
        vocabulary: only these words; empty: all.
        takes: most takes of a word a reader.
        confidence: least `AlignedWord.confidence`.
        phone_seconds: shortest and longest mean duration of a word's sounds.
        least_seconds: shortest word.
    """

    vocabulary: frozenset[str] = frozenset()
    takes: int = 30
    confidence: float = 0.07
    phone_seconds: tuple[float, float] = (0.035, 0.25)
    least_seconds: float = 0.05

    def __post_init__(self) -> None:
        if self.takes < 1:
            raise SettingsError(f"takes is {self.takes}, must be at least 1")
        if not 0 < self.phone_seconds[0] <= self.phone_seconds[1]:
            raise SettingsError(f"phone_seconds must go from low to high, got {self.phone_seconds}")


@dataclass
class Report:
    """What became of the recordings: how many were read, how many did not fit their text, words found in
    them, clips kept, and why words were left out."""

    utterances: int = 0
    failed: int = 0
    words: int = 0
    kept: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Cut:
    """A word's sound with `MARGIN` samples on either side."""

    word: str
    samples: NDArray[np.int16]
    confidence: float


def vocabulary_of(captions: Sequence[str]) -> frozenset[str]:
    """Every word of the captions, and `FILLERS`."""
    return frozenset(word for caption in captions for word in words_of(caption)) | FILLERS


def prepare_words(roots: Sequence[Path], out: Path, captions: Sequence[Path] = ()) -> Report:
    """Build a word bank out of speech corpora; what `speech2image prepare words` does.

    Args:
        roots: of LJSpeech, LibriSpeech or a part of it, or of utterances.jsonl.
        out: the bank's folder.
        captions: manifests of captions (`data.folder`) or the folders they lie in; only their words are kept.
            Without any, all words are.

    Raises:
        DataError: a corpus or manifest is not there or damaged, or no word was kept.
        OutputError, MissingExtraError: see `build_word_bank`.
    """
    from speech2image.data.corpora.folder import folder_entries
    from speech2image.data.shards.recordings import list_recordings

    recordings = [item for root in roots for item in list_recordings(root)]
    texts = [text for manifest in captions for entry in folder_entries(manifest) for text in entry.captions]
    return build_word_bank(recordings, out, Cutting(vocabulary_of(texts) if captions else frozenset()))


def build_word_bank(
    recordings: Sequence[Transcribed],
    folder: str | os.PathLike[str],
    cutting: Cutting | None = None,
    aligner: Aligner | None = None,
) -> Report:
    """Align recordings with their words, cut the words out, and save them as a bank.

    Args:
        recordings: of any number of readers.
        folder: made anew, or replaced; `word_bank` tells what it holds.
        cutting: which words are kept.
        aligner: finds the words; None makes one.

    Returns:
        How much was kept and why the rest was not. A recording whose text does not fit is left out.

    Raises:
        DataError: no word was kept, or a speaker's name is unfit for a file.
        OutputError: the folder cannot be written.
        MissingExtraError: pocketsphinx is not installed.
    """
    cutting, aligner, report = cutting or Cutting(), aligner or Aligner(), Report()
    by_reader: dict[str, list[Transcribed]] = defaultdict(list)
    for recording in recordings:
        by_reader[recording.speaker].append(recording)
    for name in by_reader:
        check_file_name(name, "a speaker's name")
    with writing(folder) as temporary, progress_bar() as progress:
        temporary.mkdir()
        bar = progress.add_task("words", total=len(recordings))
        for name, listed in by_reader.items():
            _write_reader(name, listed, cutting, aligner, report, temporary)
            progress.advance(bar, len(listed))
        if not report.kept:
            raise DataError(f"no word of {len(recordings)} recordings was kept: {dict(report.left_out)}")
    return report


def _write_reader(
    name: str,
    recordings: Sequence[Transcribed],
    cutting: Cutting,
    aligner: Aligner,
    report: Report,
    folder: Path,
) -> None:
    cuts: list[Cut] = []
    measures: list[tuple[float, float]] = []
    taken: Counter[str] = Counter()
    for waveform, words in _aligned(recordings, aligner, report):
        measures.append((pitch_of(waveform), brightness_of(waveform)))
        cuts += _cuts(waveform, words, cutting, taken, report)
    if not cuts:
        return
    pitch, brightness = np.nanmedian(np.array(measures), axis=0)
    np.save(folder / f"{name}.npy", np.concatenate([cut.samples for cut in cuts]))
    reader = Reader(name, len(cuts), round(float(pitch), 1), round(float(brightness), 1))
    _append(folder / "readers.jsonl", [reader])
    ends = np.cumsum([len(cut.samples) for cut in cuts]).tolist()
    starts = [0, *ends[:-1]]
    _append(
        folder / "index.jsonl",
        [
            Clip(name, cut.word, start, end, round(cut.confidence, 4))
            for cut, start, end in zip(cuts, starts, ends, strict=True)
        ],
    )
    report.kept += len(cuts)


def _append(path: Path, rows: Sequence[Reader | Clip]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)


def _aligned(
    recordings: Sequence[Transcribed], aligner: Aligner, report: Report
) -> Iterator[tuple[Waveform, list[AlignedWord]]]:
    for recording in recordings:
        report.utterances += 1
        try:
            waveform = audio.load(recording.audio)
            words = aligner.align(waveform, recording.text)
        except SpeechError:
            report.failed += 1
            continue
        report.words += len(words)
        yield waveform, words


def _cuts(
    waveform: Waveform, words: Sequence[AlignedWord], cutting: Cutting, taken: Counter[str], report: Report
) -> Iterator[Cut]:
    for item in words:
        if cutting.vocabulary and item.word not in cutting.vocabulary:
            report.left_out["not in the vocabulary"] += 1
        elif taken[item.word] >= cutting.takes:
            report.left_out["enough takes"] += 1
        elif reason := _unfit(item, cutting):
            report.left_out[reason] += 1
        else:
            taken[item.word] += 1
            yield _cut(waveform, item)


def _unfit(item: AlignedWord, cutting: Cutting) -> str:
    """Why a word is no good, or ""."""
    seconds = (item.end - item.start) / audio.SAMPLE_RATE
    shortest, longest = (item.n_phones * phone for phone in cutting.phone_seconds)
    if item.guessed:
        return "not in the dictionary"
    if item.confidence < cutting.confidence:
        return "does not sound like the word"
    if seconds < max(shortest, cutting.least_seconds):
        return "too short"
    return "too long" if seconds > longest + 0.1 else ""


def _cut(waveform: Waveform, item: AlignedWord) -> Cut:
    start, end = _heard(waveform, item.start, item.end)
    start, end = start - MARGIN, end + MARGIN
    around = np.pad(waveform[max(0, start) : end], (max(0, -start), max(0, end - len(waveform))))
    return Cut(item.word, np.round(np.clip(around, -1, 1) * 32767).astype(np.int16), item.confidence)


def _heard(waveform: Waveform, start: int, end: int, *, below_peak_db: float = 35.0) -> tuple[int, int]:
    """The span without the quiet at its ends: 10 ms pieces far below the word's loudest one."""
    pieces = waveform[start:end]
    pieces = pieces[: len(pieces) // MARGIN * MARGIN].reshape(-1, MARGIN)
    power = np.mean(np.square(pieces), axis=1)
    loud = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (-below_peak_db / 10))
    if len(loud) < 3:
        return start, end
    return start + int(loud[0]) * MARGIN, start + int(loud[-1] + 1) * MARGIN


# ---- what a reader sounds like -------------------------------------------------------------------


def pitch_of(waveform: Waveform) -> float:
    """Median pitch in Hz, 60 to 400, by autocorrelation over 40 ms; NaN where nothing is voiced."""
    pieces = _loud_pieces(waveform)
    spectrum = np.fft.rfft(pieces * np.hanning(pieces.shape[1]), 2048)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)
    lags = slice(audio.SAMPLE_RATE // 400, audio.SAMPLE_RATE // 60)
    strength = correlation[:, lags] / np.maximum(correlation[:, :1], 1e-12)
    voiced = strength.max(axis=1) > 0.4
    if not voiced.any():
        return float("nan")
    return float(np.median(audio.SAMPLE_RATE / (lags.start + strength[voiced].argmax(axis=1))))


def brightness_of(waveform: Waveform) -> float:
    """Mean frequency in Hz, weighted with the amplitude spectrum, of the louder half of a recording."""
    pieces = _loud_pieces(waveform)
    amplitude = np.abs(np.fft.rfft(pieces * np.hanning(pieces.shape[1]))).mean(axis=0)
    frequencies = np.fft.rfftfreq(pieces.shape[1], 1 / audio.SAMPLE_RATE)
    return float(np.sum(amplitude * frequencies) / np.maximum(np.sum(amplitude), 1e-12))


def _loud_pieces(waveform: Waveform, length: int = 640) -> Waveform:
    """The louder half of a recording's 40 ms pieces, shape [n, 640]."""
    pieces = waveform[: len(waveform) // length * length].reshape(-1, length)
    power = np.mean(np.square(pieces), axis=1)
    return pieces[power >= np.median(power)]
