"""Sentences out of single words: whose words they are, how they are joined, and who may lend to whom."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import tone

from speech2image.data.speech.splicing import OTHER, OWN, SYNTHESIZER, JoiningSettings, splice
from speech2image.data.speech.word_bank import MARGIN, WordBank
from speech2image.errors import SettingsError

PLAIN = JoiningSettings(gap_share=0.0, pause_share=0.0, level_db=0.0, floor_db=(-90.0, -90.0))
# Each reader's words are tones: reader -> pitch as listed, word -> Hz of its takes.
SAID = {
    "ann": (200.0, {"a": [500.0], "red": [600.0, 650.0]}),
    "beth": (210.0, {"red": [700.0], "bird": [800.0]}),
    "carl": (100.0, {"bird": [900.0], "sky": [1000.0]}),
}
LENGTH = 4_000


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> WordBank:
    return write_bank(tmp_path_factory.mktemp("bank"))


def write_bank(folder: Path) -> WordBank:
    readers, index = [], []
    for reader, (pitch, said) in SAID.items():
        readers.append({"reader": reader, "n_clips": 3, "pitch": pitch, "brightness": 1000.0})
        clips = [(word, hertz) for word, takes in said.items() for hertz in takes]
        for number, (word, _) in enumerate(clips):
            row = {"reader": reader, "word": word, "start": LENGTH * number, "end": LENGTH * (number + 1)}
            index.append(row | {"confidence": 0.3})
        samples = np.concatenate([tone(hertz, LENGTH / 16_000) for _, hertz in clips])
        np.save(folder / f"{reader}.npy", np.round(samples * 32767).astype(np.int16))
    for name, rows in (("readers", readers), ("index", index)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return WordBank.open(folder)


def hum(word: str, rng: np.random.Generator) -> np.ndarray:
    """The stand-in synthesizer: 2 kHz for any word."""
    return tone(2000.0, 0.25)


def frequencies(waveform: np.ndarray, n_words: int) -> list[float]:
    """Loudest frequency in the middle of each of `n_words` words joined by cross-fades alone."""
    starts = [k * (LENGTH - MARGIN) + LENGTH // 4 for k in range(n_words)]
    spectra = [np.abs(np.fft.rfft(waveform[s : s + LENGTH // 2] * np.hanning(LENGTH // 2))) for s in starts]
    return [float(spectrum.argmax() * 16_000 / (LENGTH // 2)) for spectrum in spectra]


def test_own_words_come_first_then_those_of_others_then_the_synthesizer(bank: WordBank) -> None:
    said = splice("A red, blue bird", "ann", bank, np.random.default_rng(0), hum, PLAIN)
    assert said.origins == (("a", OWN), ("red", OWN), ("blue", SYNTHESIZER), ("bird", OTHER))
    assert said.shares == {OWN: 2, SYNTHESIZER: 1, OTHER: 1}


def test_words_are_heard_in_order(bank: WordBank) -> None:
    said = splice("a red blue a", "ann", bank, np.random.default_rng(0), hum, PLAIN)
    heard = frequencies(said.waveform, 4)
    assert [heard[0], heard[3]] == pytest.approx([500, 500], abs=10)
    assert min(abs(heard[1] - 600), abs(heard[1] - 650)) < 10
    assert heard[2] == pytest.approx(2000, abs=10)


def test_every_take_is_drawn(bank: WordBank) -> None:
    rng = np.random.default_rng(0)
    heard = {
        round(frequencies(splice("red", "ann", bank, rng, hum, PLAIN).waveform, 1)[0], -1) for _ in range(20)
    }
    assert len(heard) == 2


def test_a_spliced_word_moves_towards_the_readers_pitch(bank: WordBank) -> None:
    rng = np.random.default_rng(0)
    heard = [
        float(np.abs(np.fft.rfft(splice("sky", "ann", bank, rng, hum, PLAIN).waveform, 16_000)).argmax())
        for _ in range(20)
    ]
    assert 1_000 < np.mean(heard) < 1_250  # carl's 1000 Hz, from 100 Hz half-way to 200 Hz, at most 1.18
    assert np.std(heard) > 5


def test_a_part_of_the_bank_borrows_from_nobody_else(bank: WordBank) -> None:
    said = splice("red bird sky", "ann", bank.only(["ann"]), np.random.default_rng(0), hum)
    assert [origin for _, origin in said.origins] == [OWN, SYNTHESIZER, SYNTHESIZER]
    assert bank.only(["ann"]).words == {"a", "red"}


def test_pauses_and_gaps_lengthen_the_sentence(bank: WordBank) -> None:
    def length(**changes: float) -> int:
        joining = JoiningSettings(**{**vars(PLAIN), **changes})
        return len(splice("a a a", "ann", bank, np.random.default_rng(1), hum, joining).waveform)

    plain = 3 * LENGTH - 2 * MARGIN
    assert length() == plain
    assert plain < length(gap_share=1.0) <= plain + 2 * 0.08 * 16_000
    assert plain + 2 * 0.3 * 16_000 <= length(pause_share=1.0) <= plain + 2 * 0.6 * 16_000


def test_loud_and_quiet_words_are_brought_together(tmp_path: Path) -> None:
    bank = write_bank(tmp_path)
    path = tmp_path / "ann.npy"
    samples = np.load(path)
    samples[:LENGTH] //= 20  # "a" is 26 dB quieter than "red"
    np.save(path, samples)
    waveform = splice("a red", "ann", bank, np.random.default_rng(0), hum, PLAIN).waveform
    quiet, loud = (np.sqrt(np.mean(part**2)) for part in (waveform[800:3_000], waveform[5_000:7_000]))
    assert 3 < 20 * np.log10(loud / quiet) < 8


@given(
    st.lists(st.sampled_from(["a", "red", "bird", "sky", "blue"]), min_size=1, max_size=8), st.integers(0, 99)
)
@settings(max_examples=25, deadline=None)
def test_any_sentence_is_finite_repeatable_and_without_clicks(
    bank: WordBank, words: list[str], seed: int
) -> None:
    text = " ".join(words)
    one, two = (splice(text, "carl", bank, np.random.default_rng(seed), hum) for _ in range(2))
    np.testing.assert_array_equal(one.waveform, two.waveform)
    assert [word for word, _ in one.origins] == words
    assert one.waveform.dtype == np.float32 and np.isfinite(one.waveform).all()
    assert 0.05 < np.abs(one.waveform).max() <= 1.0
    steepest = 2 * np.pi * 2_360 / 16_000 * 0.3  # of the highest tone at twice the level
    assert np.abs(np.diff(one.waveform)).max() < steepest


def test_wrong_readers_and_texts(bank: WordBank) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(SettingsError, match="no reader 'zoe' in this bank; there are: ann, beth, carl"):
        splice("a", "zoe", bank, rng, hum)
    with pytest.raises(SettingsError, match="no words"):
        splice("...", "ann", bank, rng, hum)
