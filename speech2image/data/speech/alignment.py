"""Forced alignment: when each word of a transcript is spoken in its recording.

PocketSphinx (Huggins-Daines et al. 2006; pip package `pocketsphinx`, which brings an acoustic model of
American English and the CMU dictionary) searches the likeliest path through the words, with optional
silence between them. About 0.03 s of one core for a second of speech.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.audio import SAMPLE_RATE
from speech2image.data.corpora.transcribed import words_of
from speech2image.errors import SpeechError, require

FRAME = SAMPLE_RATE // 100
"""Samples a frame of PocketSphinx."""

# Letters to phones of the CMU set, longest first: enough to bridge a name that no dictionary holds.
_SOUNDS = {
    "tion": "SH AH N",
    **{"ough": "AO", "igh": "AY", "tch": "CH", "sch": "SH"},
    **{"ch": "CH", "sh": "SH", "th": "TH", "ph": "F", "ck": "K", "qu": "K W", "ng": "NG", "wh": "W"},
    **{"ee": "IY", "ea": "IY", "oo": "UW", "ou": "AW", "ow": "AW", "ai": "EY", "ay": "EY", "oy": "OY"},
    **{"a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH", "i": "IH"},
    **{"j": "JH", "k": "K", "l": "L", "m": "M", "n": "N", "o": "AA", "p": "P", "q": "K", "r": "R"},
    **{"s": "S", "t": "T", "u": "AH", "v": "V", "w": "W", "x": "K S", "y": "IY", "z": "Z"},
}


@dataclass(frozen=True)
class AlignedWord:
    """One word of a recording.

    Attributes:
        word: in lower case.
        start: first sample.
        end: sample after the last.
        confidence: geometric mean over its frames of the likelihood of the word's sound relative to the
            likeliest sound there, 0 to 1; 0.2 to 0.5 where the word fits.
        n_phones: sounds the word is made of.
        guessed: the dictionary lacks the word, so its sounds were guessed from its letters.
    """

    word: str
    start: int
    end: int
    confidence: float
    n_phones: int
    guessed: bool


def spelled_sounds(word: str) -> str:
    """Sounds guessed from letters, in CMU phones.

    >>> spelled_sounds("tash")
    'T AE SH'
    """
    parts = re.findall("|".join(sorted(_SOUNDS, key=len, reverse=True)), word)
    return " ".join(_SOUNDS[part] for part in parts)


class Aligner:
    """Finds words in recordings; keep one, as loading its models takes 0.2 s.

    Raises:
        MissingExtraError: pocketsphinx is not installed.
    """

    def __init__(self) -> None:
        pocketsphinx = require("pocketsphinx", extra="align")
        self._decoder: Any = pocketsphinx.Decoder(lm=None, loglevel="FATAL")
        self._guessed: set[str] = set()

    def align(self, waveform: NDArray[np.float32], text: str) -> list[AlignedWord]:
        """Where the words of `text` lie in a recording.

        Args:
            waveform: 16 kHz samples, shape [n].
            text: everything said in it, in order.

        Returns:
            The words in order; they do not overlap, and silence lies in none of them.

        Raises:
            SpeechError: the words do not fit the recording.
        """
        words = words_of(text)
        for word in words:
            self._learn(word)
        try:
            self._decoder.set_align_text(" ".join(words))
            self._decoder.start_utt()
            self._decoder.process_raw(_pcm(waveform), full_utt=True)
            self._decoder.end_utt()
            segments = list(self._decoder.seg()) if self._decoder.hyp() else []
        except RuntimeError as error:
            raise SpeechError(f"the recording cannot be aligned with {text!r}: {error}") from error
        # Segments in brackets are silence and noise that the search put between the words.
        found = [self._word(segment) for segment in segments if not segment.word.startswith(("<", "["))]
        if [item.word for item in found] != words:
            raise SpeechError(f"the recording does not fit its text {text!r}")
        return found

    def _learn(self, word: str) -> None:
        if self._decoder.lookup_word(word) is None:
            sounds = spelled_sounds(word)
            if not sounds:
                raise SpeechError(f"nothing tells how {word!r} is said; write numbers in words")
            self._decoder.add_word(word, sounds, True)
            self._guessed.add(word)

    def _word(self, segment: Any) -> AlignedWord:
        word = re.sub(r"\(\d+\)$", "", segment.word)  # "the(2)" is the second way to say "the"
        frames = segment.end_frame + 1 - segment.start_frame
        likelihood = max(segment.ascore, 1e-300)  # 0 where the product of the frames underflows
        return AlignedWord(
            word,
            segment.start_frame * FRAME,
            (segment.end_frame + 1) * FRAME,
            math.exp(math.log(likelihood) / frames),  # a mean: else long words would score lower
            len(self._decoder.lookup_word(segment.word).split()),
            word in self._guessed,
        )


def _pcm(waveform: NDArray[np.float32]) -> bytes:
    return np.round(np.clip(waveform, -1.0, 1.0) * 32767.0).astype(np.int16).tobytes()
