"""Splicing: sentences put together from recorded single words.

Each word is a take of the one reader. A word missing from that reader's recordings comes from one of the
readers who sound most alike, moved half-way to the reader's pitch; a word missing from all is spoken by a
synthesizer. Words are joined by cross-fades of 10 ms, short gaps and now and then a pause, over a faint noise
floor.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from speech2image.audio import SAMPLE_RATE
from speech2image.data.augment.effects import play_faster
from speech2image.data.corpora.transcribed import words_of
from speech2image.data.speech.word_bank import MARGIN, WordBank
from speech2image.errors import SettingsError

Waveform = NDArray[np.float32]
Fallback = Callable[[str, np.random.Generator], Waveform]
OWN, OTHER, SYNTHESIZER = "own", "other", "synthesizer"
LENDERS = 4
"""Readers a missing word is taken from: more give variety, fewer sound more like one person."""
LEVEL = 0.06
"""Root mean square that words are brought towards."""


@dataclass(frozen=True)
class JoiningSettings:
    """How words follow each other.

    Attributes:
        gap_share: share of words after which there is a gap rather than a cross-fade.
        gap_seconds: length of such a gap.
        pause_share: share of words after which the reader stops.
        pause_seconds: for how long.
        level_db: how far a word's level is moved at random, up or down.
        floor_db: loudness of the noise floor relative to the words.
    """

    gap_share: float = 0.5
    gap_seconds: tuple[float, float] = (0.0, 0.08)
    pause_share: float = 0.03
    pause_seconds: tuple[float, float] = (0.3, 0.6)
    level_db: float = 2.0
    floor_db: tuple[float, float] = (-65.0, -45.0)


@dataclass(frozen=True)
class Spliced:
    """A sentence as spoken: samples in [-1, 1] at 16 kHz, and for each of its words who said it: "own",
    "other" or "synthesizer"."""

    waveform: Waveform
    origins: tuple[tuple[str, str], ...]

    @property
    def shares(self) -> dict[str, int]:
        """How many words are of each origin."""
        return dict(Counter(origin for _, origin in self.origins))


def splice(
    text: str,
    reader: str,
    bank: WordBank,
    rng: np.random.Generator,
    fallback: Fallback,
    joining: JoiningSettings | None = None,
) -> Spliced:
    """Let a reader of the bank say a text.

    Args:
        text: an English sentence.
        reader: a name in `bank.readers`.
        bank: whose words may be used; pass `bank.only(...)` to keep other readers out.
        rng: draws takes, gaps and levels.
        fallback: speaks a word nobody in the bank says, 16 kHz; it may draw.
        joining: how words follow each other.

    Raises:
        SettingsError: no such reader, or no words in the text.
    """
    if reader not in bank.readers:
        raise SettingsError(f"no reader {reader!r} in this bank; there are: {', '.join(bank.readers)}")
    if not (words := words_of(text)):
        raise SettingsError(f"no words in {text!r}")
    joining = joining or JoiningSettings()
    said = [_said(word, reader, bank, rng, fallback) for word in words]
    parts = [_levelled(samples, rng, joining) for samples, _ in said]
    waveform = _joined(parts, rng, joining)
    waveform = np.clip(waveform + _floor(len(waveform), rng, joining), -1.0, 1.0)
    return Spliced(waveform, tuple((word, origin) for word, (_, origin) in zip(words, said, strict=True)))


def _said(
    word: str, reader: str, bank: WordBank, rng: np.random.Generator, fallback: Fallback
) -> tuple[Waveform, str]:
    if takes := bank.clips[reader].get(word):
        return bank.samples(takes[rng.integers(len(takes))]), OWN
    takes = [clip for other in _lenders(bank, reader, word) for clip in bank.clips[other][word]]
    if not takes:
        return fallback(word, rng), SYNTHESIZER
    clip = takes[rng.integers(len(takes))]
    samples = bank.samples(clip)
    return towards(samples, bank.readers[clip.reader].pitch, bank.readers[reader].pitch, rng), OTHER


def _lenders(bank: WordBank, reader: str, word: str) -> list[str]:
    """The readers who say a word, at most `LENDERS`, those most like `reader`."""
    return [other for other in _alike(bank, reader) if word in bank.clips[other]][:LENDERS]


@lru_cache(maxsize=256)
def _alike(bank: WordBank, reader: str) -> tuple[str, ...]:
    return tuple(bank.alike(reader))


def towards(samples: Waveform, pitch: float, wanted: float, rng: np.random.Generator) -> Waveform:
    """A word of a voice of one pitch, played faster or slower half the way to another pitch, and a little at
    random."""
    # Half the way alone: playing faster moves the formants, too, and all the way would make another speaker.
    factor = float(np.clip((wanted / pitch) ** 0.5, 0.85, 1.18)) * float(np.exp(rng.normal(0, 0.03)))
    return play_faster(samples, factor)


def _levelled(samples: Waveform, rng: np.random.Generator, joining: JoiningSettings) -> Waveform:
    """Brought most of the way to `LEVEL` (quiet words stay a little quieter), faded at its ends."""
    level = float(np.sqrt(np.mean(np.square(samples)))) + 1e-9
    # To the power of 1, unstressed words ("of", "the") would be as loud as nouns.
    gain = (LEVEL / level) ** 0.8 * 10 ** (rng.uniform(-joining.level_db, joining.level_db) / 20)
    part = samples * np.float32(gain)
    fade = min(MARGIN, len(part) // 2)
    # Raised cosines: the falling and the rising one of two joined words add up to 1.
    ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(fade) + 0.5) / fade)).astype(np.float32)
    part[:fade] *= ramp
    part[len(part) - fade :] *= ramp[::-1]
    return part


def _joined(parts: list[Waveform], rng: np.random.Generator, joining: JoiningSettings) -> Waveform:
    starts, position = [], 0
    for part in parts:
        starts.append(position)
        # Each clip has a margin at both ends; overlapping by one margin cross-fades the two.
        position += max(1, len(part) - MARGIN + _gap(rng, joining))
    waveform = np.zeros(starts[-1] + len(parts[-1]), np.float32)
    for start, part in zip(starts, parts, strict=True):
        waveform[start : start + len(part)] += part[: len(waveform) - start]
    return waveform


def _gap(rng: np.random.Generator, joining: JoiningSettings) -> int:
    """Samples of silence before the next word; 0 joins by cross-fade."""
    kind = rng.random()
    if kind < joining.pause_share:
        return round(rng.uniform(*joining.pause_seconds) * SAMPLE_RATE)
    if kind < joining.pause_share + joining.gap_share:
        return round(rng.uniform(*joining.gap_seconds) * SAMPLE_RATE)
    return 0


def _floor(length: int, rng: np.random.Generator, joining: JoiningSettings) -> Waveform:
    # One steady floor hides that words come from recordings with different silences between them.
    level = LEVEL * 10 ** (rng.uniform(*joining.floor_db) / 20)
    return rng.standard_normal(length, dtype=np.float32) * np.float32(level)
