"""Readers of a word bank as voices: whose words each may use, and which engine speaks missing words."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image.data.speech.splicing import Fallback, Spliced, splice, towards
from speech2image.data.speech.word_bank import VOICE_PREFIX, WordBank, pitch_of

Waveform = NDArray[np.float32]


@dataclass(frozen=True)
class SpeakerPool:
    """Whom a reader's sentences are put together from: readers of the bank (their names), and engine voices
    for words that none of them says."""

    readers: tuple[str, ...]
    engines: tuple[str, ...]


@dataclass(frozen=True)
class SpeakerPools:
    """The readers seen in training and those held out of it: neither uses words of the other.

    Attributes:
        bank: digest of the word bank.
        seen: for training captions.
        held_out: for test captions in held-out voices.
    """

    bank: str
    seen: SpeakerPool
    held_out: SpeakerPool

    @classmethod
    def of(
        cls,
        bank: WordBank,
        held_out_voices: Sequence[str],
        engines: Sequence[str],
        held_out_engines: Sequence[str],
    ) -> "SpeakerPools":
        """Part a bank's readers by the names of the held-out voices ("reader/251")."""
        apart = tuple(name for name in bank.readers if VOICE_PREFIX + name in held_out_voices)
        seen = tuple(name for name in bank.readers if name not in apart)
        return cls(
            bank.digest, SpeakerPool(seen, tuple(engines)), SpeakerPool(apart, tuple(held_out_engines))
        )

    def pool_of(self, reader: str) -> SpeakerPool:
        """The pool that a reader belongs to."""
        return self.held_out if reader in self.held_out.readers else self.seen


def say(text: str, reader: str, bank: Path, pool: SpeakerPool, rng: np.random.Generator) -> Spliced:
    """Let a reader say a text with the words of that pool alone."""
    part = _bank(bank, pool.readers)
    return splice(text, reader, part, rng, fallback_for(part.readers[reader].pitch, pool.engines))


@lru_cache(maxsize=4)
def _bank(folder: Path, readers: tuple[str, ...]) -> WordBank:
    return WordBank.open(folder).only(readers)


def fallback_for(pitch: float, engines: Sequence[str]) -> Fallback:
    """Speaks single words in the engine voice nearest in pitch, moved half-way to `pitch`."""
    engine = min(engines, key=lambda name: abs(np.log(_engine_pitch(name) / pitch)))
    return lambda word, rng: towards(_engine_word(word, engine), _engine_pitch(engine), pitch, rng)


@cache
def _engine_pitch(name: str) -> float:
    from speech2image import tts

    return pitch_of(tts.speak("a yellow flower with many small petals", tts.find_voice(name)))


@lru_cache(maxsize=20_000)
def _engine_word(word: str, name: str) -> Waveform:
    """A word as an engine speaks it, without the silence around it; faster, as alone it is spoken slowly."""
    from speech2image import tts

    waveform = tts.speak(word, tts.find_voice(name), rate=1.15)
    audible = np.flatnonzero(np.abs(waveform) > 0.02 * np.abs(waveform).max())
    return waveform[max(0, audible[0] - 160) : audible[-1] + 160]


def babble(bank: Path, readers: tuple[str, ...], rng: np.random.Generator, seconds: float) -> list[Waveform]:
    """Five readers' words one after another, as background voices."""
    part = _bank(bank, readers)
    names = rng.choice(readers, size=min(5, len(readers)), replace=False).tolist()
    return [part.stretch(name, rng, round(seconds * 16_000)) for name in names]
