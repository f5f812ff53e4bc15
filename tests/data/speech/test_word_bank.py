"""Words cut out of recordings, kept in a bank, found again; with a stand-in for the aligner, and with it."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from small_sets import tone

from speech2image import audio
from speech2image.data.corpora.transcribed import Transcribed, words_of
from speech2image.data.speech.alignment import AlignedWord, spelled_sounds
from speech2image.data.speech.word_bank import (
    MARGIN,
    CuttingSettings,
    WordBank,
    brightness_of,
    build_word_bank,
    pitch_of,
    vocabulary_of,
)
from speech2image.errors import DataError, SettingsError, SpeechError

WORD = 4_800
"""Samples of a word in the made-up recordings: 0.3 s."""


class HalfSecondAligner:
    """Takes the k-th word to begin at k times half a second and to last 0.3 s."""

    def __init__(self, **changes: float) -> None:
        self.changes = changes

    def align(self, waveform: np.ndarray, text: str) -> list[AlignedWord]:
        if text.startswith("nonsense"):
            raise SpeechError("does not fit")
        values = {"confidence": 0.4, "n_phones": 3, "guessed": False, **self.changes}
        return [
            AlignedWord(word, 8_000 * k, 8_000 * k + WORD, **values) for k, word in enumerate(words_of(text))
        ]


def recording(folder: Path, speaker: str, text: str, pitch: float) -> Transcribed:
    """Word k is a tone of (k + 1) times `pitch`, 0.3 s of each half second."""
    parts = [np.pad(tone(pitch * (k + 1), 0.3), (0, 3_200)) for k, _ in enumerate(words_of(text))]
    path = folder / f"{speaker}-{text.replace(' ', '-')}.flac"
    path.write_bytes(audio.encode_flac(np.concatenate(parts)))
    return Transcribed(path, speaker, text)


def frequency(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * 16_000 / len(samples))


@pytest.fixture
def recordings(tmp_path: Path) -> list[Transcribed]:
    return [
        recording(tmp_path, "low", "red blue red", 110),
        recording(tmp_path, "high", "blue bird", 220),
        recording(tmp_path, "high", "red sky", 230),
    ]


def test_a_bank_gives_each_word_as_its_reader_said_it(tmp_path: Path, recordings: list[Transcribed]) -> None:
    report = build_word_bank(recordings, tmp_path / "bank", aligner=HalfSecondAligner())
    bank = WordBank.open(tmp_path / "bank")
    assert (report.utterances, report.failed, report.words, report.kept) == (3, 0, 7, 7)
    assert bank.voices == ["reader/low", "reader/high"]
    assert bank.words == {"red", "blue", "bird", "sky"}
    takes = bank.clips["low"]["red"]
    assert [round(frequency(bank.samples(clip)), -1) for clip in takes] == [110, 330]
    (bird,) = bank.clips["high"]["bird"]
    assert frequency(bank.samples(bird)) == pytest.approx(440, abs=5)
    assert bird.end - bird.start == WORD + 2 * MARGIN


def test_silence_at_the_ends_of_a_word_is_cut(tmp_path: Path) -> None:
    waveform = np.concatenate([np.zeros(800), tone(200, 0.2), np.zeros(8_000)]).astype(np.float32)
    (tmp_path / "a.flac").write_bytes(audio.encode_flac(np.tile(waveform, 2)))
    build_word_bank([Transcribed(tmp_path / "a.flac", "a", "red")], tmp_path / "b", None, HalfSecondAligner())
    (clip,) = WordBank.open(tmp_path / "b").clips["a"]["red"]
    assert clip.end - clip.start == 3_200 + 2 * MARGIN


def test_only_the_vocabulary_and_so_many_takes(tmp_path: Path, recordings: list[Transcribed]) -> None:
    cutting = CuttingSettings(vocabulary=vocabulary_of(["Red, sky!"]), takes=1)
    report = build_word_bank(recordings, tmp_path / "bank", cutting, HalfSecondAligner())
    bank = WordBank.open(tmp_path / "bank")
    assert {name: set(said) for name, said in bank.clips.items()} == {"low": {"red"}, "high": {"red", "sky"}}
    assert report.left_out == {"not in the vocabulary": 3, "enough takes": 1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"confidence": 0.01}, "does not sound like the word"),
        ({"guessed": True}, "not in the dictionary"),
        ({"n_phones": 30}, "too short"),
        ({"n_phones": 0.1}, "too long"),
    ],
)
def test_unfit_words_are_counted(
    tmp_path: Path, recordings: list[Transcribed], changes: dict[str, float], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        build_word_bank(recordings, tmp_path / "bank", aligner=HalfSecondAligner(**changes))
    assert not (tmp_path / "bank").exists()


def test_a_recording_that_does_not_fit_its_text_is_left_out(
    tmp_path: Path, recordings: list[Transcribed]
) -> None:
    recordings.append(recording(tmp_path, "low", "nonsense here", 100))
    report = build_word_bank(recordings, tmp_path / "bank", aligner=HalfSecondAligner())
    assert (report.utterances, report.failed, report.kept) == (4, 1, 7)


def test_nothing_of_other_readers_is_left_in_a_part(tmp_path: Path, recordings: list[Transcribed]) -> None:
    build_word_bank(recordings, tmp_path / "bank", aligner=HalfSecondAligner())
    part = WordBank.open(tmp_path / "bank").only(["low"])
    assert part.voices == ["reader/low"]
    assert part.words == {"red", "blue"}
    assert part.alike("low") == []


def test_readers_who_sound_alike_come_first(tmp_path: Path) -> None:
    said = [
        recording(tmp_path, name, "red red", pitch) for name, pitch in (("a", 100), ("b", 300), ("c", 120))
    ]
    build_word_bank(said, tmp_path / "bank", aligner=HalfSecondAligner())
    assert WordBank.open(tmp_path / "bank").alike("a") == ["c", "b"]


def test_damaged_banks(tmp_path: Path, recordings: list[Transcribed]) -> None:
    with pytest.raises(DataError, match="no word bank"):
        WordBank.open(tmp_path / "nothing")
    build_word_bank(recordings, tmp_path / "bank", aligner=HalfSecondAligner())
    np.save(tmp_path / "bank" / "low.npy", np.zeros(10, np.int16))
    bank = WordBank.open(tmp_path / "bank")
    with pytest.raises(DataError, match=r"low\.npy is too short"):
        bank.samples(bank.clips["low"]["blue"][0])
    (tmp_path / "bank" / "low.npy").unlink()
    with pytest.raises(DataError, match=r"unreadable .*low\.npy"):
        WordBank.open(tmp_path / "bank").samples(bank.clips["low"]["blue"][0])


@pytest.mark.parametrize(
    ("file", "row"),
    [
        ("readers.jsonl", '{"reader": "../low", "n_clips": 1, "pitch": 1.0, "brightness": 1.0}'),
        ("readers.jsonl", '{"reader": "a/b", "n_clips": 1, "pitch": 1.0, "brightness": 1.0}'),
        ("readers.jsonl", '{"reader": "low", "n_clips": 1, "pitch": "high", "brightness": 1.0}'),
        ("readers.jsonl", '{"reader": "low"}'),
        ("readers.jsonl", "[" * 100_000),
        ("index.jsonl", '{"reader": "low", "word": "a", "start": -5, "end": 3, "confidence": 1.0}'),
        ("index.jsonl", '{"reader": "low", "word": "a", "start": 0, "end": 1.5, "confidence": 1.0}'),
        ("index.jsonl", '{"reader": "low", "word": 3, "start": 0, "end": 3, "confidence": 1.0}'),
    ],
)
def test_rows_are_checked_where_they_are_read(
    tmp_path: Path, recordings: list[Transcribed], file: str, row: str
) -> None:
    build_word_bank(recordings, tmp_path / "bank", aligner=HalfSecondAligner())
    with open(tmp_path / "bank" / file, "a") as lines:
        lines.write(row + "\n")
    with pytest.raises(DataError, match="is no word bank: "):
        WordBank.open(tmp_path / "bank")


def test_speakers_names_lead_nowhere(tmp_path: Path, recordings: list[Transcribed]) -> None:
    away = [replace(item, speaker="../outside") for item in recordings]
    with pytest.raises(DataError, match=r"a speaker's name is '\.\./outside', must be fit as a file's name"):
        build_word_bank(away, tmp_path / "bank", aligner=HalfSecondAligner())
    assert not list(tmp_path.glob("outside*")) and not (tmp_path / "bank").exists()


def test_cutting_checks_its_settings() -> None:
    with pytest.raises(SettingsError, match="takes is 0"):
        CuttingSettings(takes=0)
    with pytest.raises(SettingsError, match="low to high"):
        CuttingSettings(phone_seconds=(0.2, 0.1))


@pytest.mark.parametrize("pitch", [80.0, 130.0, 210.0, 300.0])
def test_pitch_of_a_buzz(pitch: float) -> None:
    buzz = sum(tone(pitch * k, 0.6) / k for k in range(1, 8))
    assert pitch_of(buzz) == pytest.approx(pitch, rel=0.03)


def test_noise_has_no_pitch_and_bright_sounds_are_bright() -> None:
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    assert np.isnan(pitch_of(noise))
    assert brightness_of(tone(500)) < brightness_of(tone(3_000)) == pytest.approx(3_000, rel=0.1)


def test_sounds_guessed_from_letters() -> None:
    assert spelled_sounds("quince") == "K W IH N K EH"
    assert spelled_sounds("'") == ""


# ---- with the real aligner ---------------------------------------------------------------------------


def test_words_of_a_reader_are_found_where_they_are(shared: Path) -> None:
    pytest.importorskip("pocketsphinx")
    from speech2image.data.corpora.librispeech import librispeech
    from speech2image.data.speech.alignment import Aligner

    item = librispeech(shared / "data" / "librispeech-dev-clean")[0]
    waveform = audio.load(item.audio)
    words = Aligner().align(waveform, item.text)
    assert [word.word for word in words] == words_of(item.text)
    assert all(a.end <= b.start for a, b in pairwise(words))
    # "he was young no spear": a pause lies before "no", none within "no spear"
    young, no, spear = words[2:5]
    assert no.start - young.end > 3_000
    assert spear.start - no.end < 800
    assert np.mean(waveform[young.end : no.start] ** 2) < 0.1 * np.mean(waveform[no.start : no.end] ** 2)


def test_a_name_no_dictionary_holds_is_bridged_and_marked(shared: Path) -> None:
    pytest.importorskip("pocketsphinx")
    from speech2image.data.corpora.librispeech import librispeech
    from speech2image.data.speech.alignment import Aligner

    listed = librispeech(shared / "data" / "librispeech-dev-clean")
    item = next(item for item in listed if "schismatics" in item.text)
    words = Aligner().align(audio.load(item.audio), item.text)
    assert next(word for word in words if word.word == "schismatics").guessed
    assert sum(word.guessed for word in words) < len(words) / 2


def test_a_text_that_cannot_be_said_in_time_is_an_error() -> None:
    pytest.importorskip("pocketsphinx")
    from speech2image.data.speech.alignment import Aligner

    with pytest.raises(SpeechError):
        Aligner().align(tone(200, 0.5), "a very long sentence about flowers that goes on and on " * 3)
    with pytest.raises(SpeechError, match="write numbers in words"):
        Aligner().align(tone(200, 0.5), "5")
