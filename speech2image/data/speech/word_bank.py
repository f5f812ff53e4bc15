"""Word bank: single words cut out of recordings of people, from which new sentences are put together.

A bank is a folder:

    readers.jsonl    one row a reader: reader, n_clips, pitch (Hz), brightness (Hz)
    index.jsonl      one row a clip: reader, word, start, end (samples in the reader's file), confidence
    <reader>.npy     int16 samples at 16 kHz of all clips of that reader, one after another

It is built by aligning recordings with their words (`speech.alignment`) and cutting these out. A clip begins
and ends `MARGIN` samples outside its word, for cross-fades. Voices of a bank are named "reader/<reader>".
"""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from speech2image import audio
from speech2image.data.corpora.transcribed import Transcribed, words_of
from speech2image.data.listings import check_file_name, read_jsonl
from speech2image.data.progress import progress
from speech2image.data.shards.array_files import open_array
from speech2image.data.speech.alignment import AlignedWord, Aligner
from speech2image.errors import DataError, SettingsError, SpeechError
from speech2image.files import writing

Waveform = NDArray[np.float32]
VOICE_PREFIX = "reader/"
MARGIN = 160
"""Samples kept before and after a word: 10 ms."""


@dataclass(frozen=True)
class Clip:
    """One take of a word: samples `start` to `end` of its reader's file, margins included."""

    reader: str
    word: str
    start: int
    end: int
    confidence: float


@dataclass(frozen=True)
class Reader:
    """A person whose words are in the bank: mean pitch and mean frequency of the sound's power, in Hz."""

    reader: str
    n_clips: int
    pitch: float
    brightness: float


Row = TypeVar("Row", Reader, Clip)


def _checked(row: Row, place: str) -> Row:
    """The row, if its values are of their kinds and its reader's name is one of a file in the bank."""
    for part in fields(row):
        value, kinds = getattr(row, part.name), (int, float) if part.type is float else (part.type,)
        if type(value) not in kinds:
            raise DataError(f"{place}: {part.name!r} is {value!r:.80}, of a wrong kind")
    check_file_name(row.reader, f"{place}: the reader's name")
    if isinstance(row, Clip) and not 0 <= row.start < row.end:
        raise DataError(f"{place}: a clip from sample {row.start} to {row.end}")
    return row


class WordBank:
    """Clips by reader and word; sound is read from disk when asked for.

    Attributes:
        folder: where it lies.
        readers: by name.
        clips: reader -> word -> takes.
    """

    def __init__(self, folder: Path, readers: Iterable[Reader], clips: Iterable[Clip]) -> None:
        self.folder = folder
        self.readers = {reader.reader: reader for reader in readers}
        self.clips: dict[str, dict[str, list[Clip]]] = {name: {} for name in self.readers}
        for clip in clips:
            if clip.reader in self.clips:
                self.clips[clip.reader].setdefault(clip.word, []).append(clip)
        self._samples: dict[str, NDArray[np.int16]] = {}

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "WordBank":
        """Open a bank that `build_word_bank` wrote.

        Raises:
            DataError: it is not there or damaged.
        """
        folder = Path(folder)
        try:
            readers = [_checked(Reader(**row), place) for place, row in read_jsonl(folder / "readers.jsonl")]
            clips = [_checked(Clip(**row), place) for place, row in read_jsonl(folder / "index.jsonl")]
        except (DataError, TypeError) as error:
            raise DataError(f"{folder} is no word bank: {error}") from error
        return cls(folder, readers, clips)

    def only(self, readers: Collection[str]) -> "WordBank":
        """The same bank with these readers alone, so that no sound of the others can be used."""
        kept = [reader for name, reader in self.readers.items() if name in readers]
        clips = (clip for name in self.readers for takes in self.clips[name].values() for clip in takes)
        return WordBank(self.folder, kept, clips)

    def samples(self, clip: Clip) -> Waveform:
        """A clip's sound in [-1, 1], shape [end - start].

        Raises:
            DataError: the reader's file is missing or too short.
        """
        return self._sound(clip.reader, clip.start, clip.end)

    def stretch(self, reader: str, rng: np.random.Generator, length: int) -> Waveform:
        """Up to `length` samples of a reader's clips, one after another, from a random place on."""
        end = self._ends[reader]
        start = int(rng.integers(max(1, end - length)))
        return self._sound(reader, start, min(end, start + length))

    @cached_property
    def _ends(self) -> dict[str, int]:
        return {
            name: max(clip.end for takes in said.values() for clip in takes)
            for name, said in self.clips.items()
        }

    def _sound(self, reader: str, start: int, end: int) -> Waveform:
        path = self.folder / f"{reader}.npy"
        if reader not in self._samples:
            self._samples[reader] = open_array(path, np.int16, 1, advice="build the word bank again")
        part = self._samples[reader][start:end]
        if len(part) != end - start:
            raise DataError(f"{path} is too short; build the word bank again")
        return part.astype(np.float32) / np.float32(32768)

    @property
    def voices(self) -> list[str]:
        """The readers' names as voices, "reader/251"."""
        return [VOICE_PREFIX + name for name in self.readers]

    @cached_property
    def words(self) -> frozenset[str]:
        """Every word that some reader says."""
        return frozenset(word for said in self.clips.values() for word in said)

    def alike(self, name: str) -> list[str]:
        """The other readers, those who sound most like `name` first (pitch and brightness, relative)."""
        me = self.readers[name]

        def distance(other: str) -> float:
            reader = self.readers[other]
            pitch, brightness = reader.pitch / me.pitch, reader.brightness / me.brightness
            return abs(np.log(pitch)) + 0.5 * abs(np.log(brightness))

        return sorted((other for other in self.readers if other != name), key=distance)

    @cached_property
    def digest(self) -> str:
        """Digest of what the bank holds, apart from where it lies."""
        digest = hashlib.sha256((self.folder / "index.jsonl").read_bytes())
        return digest.hexdigest()[:16]


FILLERS = frozenset({"uh", "um", "er", "ah", "oh", "please"})
"""Words kept beside the captions', for hesitations."""


@dataclass(frozen=True)
class CuttingSettings:
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
class WordBankReport:
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


def prepare_words(roots: Sequence[Path], out: Path, captions: Sequence[Path] = ()) -> WordBankReport:
    """Build a word bank out of speech corpora; what `speech2image prepare words` does.

    Args:
        roots: of LJSpeech, LibriSpeech or a part of it, or of utterances.jsonl.
        out: the bank's folder.
        captions: manifests of captions (`corpora.folder`) or the folders they lie in; only their words are
            kept. Without any, all words are.

    Raises:
        DataError: a corpus or manifest is not there or damaged, or no word was kept.
        OutputError, MissingExtraError: see `build_word_bank`.
    """
    from speech2image.data.corpora.folder import folder_entries
    from speech2image.data.corpora.registry import list_recordings

    recordings = [item for root in roots for item in list_recordings(root)]
    texts = [text for manifest in captions for entry in folder_entries(manifest) for text in entry.captions]
    return build_word_bank(
        recordings, out, CuttingSettings(vocabulary_of(texts) if captions else frozenset())
    )


def build_word_bank(
    recordings: Sequence[Transcribed],
    folder: str | os.PathLike[str],
    cutting: CuttingSettings | None = None,
    aligner: Aligner | None = None,
) -> WordBankReport:
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
    cutting, aligner, report = cutting or CuttingSettings(), aligner or Aligner(), WordBankReport()
    by_reader: dict[str, list[Transcribed]] = defaultdict(list)
    for recording in recordings:
        by_reader[recording.speaker].append(recording)
    for name in by_reader:
        check_file_name(name, "a speaker's name")
    with writing(folder) as temporary, progress("words", len(recordings)) as shown:
        temporary.mkdir()
        for name, listed in by_reader.items():
            _write_reader(name, listed, cutting, aligner, report, temporary, shown.advance)
        # Raising within `writing` leaves no empty bank behind.
        if not report.kept:
            raise DataError(f"no word of {len(recordings)} recordings was kept: {dict(report.left_out)}")
    return report


def _write_reader(
    name: str,
    recordings: Sequence[Transcribed],
    cutting: CuttingSettings,
    aligner: Aligner,
    report: WordBankReport,
    folder: Path,
    done: Callable[[], None],
) -> None:
    cuts: list[Cut] = []
    measures: list[tuple[float, float]] = []
    taken: Counter[str] = Counter()
    for waveform, words in _aligned(recordings, aligner, report, done):
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
    recordings: Sequence[Transcribed], aligner: Aligner, report: WordBankReport, done: Callable[[], None]
) -> Iterator[tuple[Waveform, list[AlignedWord]]]:
    for recording in recordings:
        report.utterances += 1
        done()
        try:
            waveform = audio.load(recording.audio)
            words = aligner.align(waveform, recording.text)
        except SpeechError:
            report.failed += 1
            continue
        report.words += len(words)
        yield waveform, words


def _cuts(
    waveform: Waveform,
    words: Sequence[AlignedWord],
    cutting: CuttingSettings,
    taken: Counter[str],
    report: WordBankReport,
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


def _unfit(item: AlignedWord, cutting: CuttingSettings) -> str:
    """Why a word is no good, or ""."""
    seconds = (item.end - item.start) / audio.SAMPLE_RATE
    shortest, longest = (item.n_phones * phone for phone in cutting.phone_seconds)
    if item.guessed:  # where the sounds are guesses, the word's ends are, too
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
    # Forced alignment may give silence around a word to the word; in a new sentence it would be a gap.
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
    # Autocorrelation by FFT, zero-padded to more than twice the length so that it does not wrap round.
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
