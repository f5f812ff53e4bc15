"""Text of captions: as speaking engines, recognizers and text encoders take it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import SettingsError

MAX_CHARACTERS = 1_000
"""Longest text spoken: about a minute."""

_SPOKEN_SIGNS = {
    "&": " and ",
    "%": " percent ",
    "+": " plus ",
    "@": " at ",
    "=": " equals ",
    "°": " degrees ",
}
LETTERS = " 'abcdefghijklmnopqrstuvwxyz"
"""What a transcript is made of."""

BLANK, END = 0, 1
"""Tokens of a recognizer: CTC's blank; the start and the end of a sentence."""

FIRST_PIECE = 2
"""The token of a vocabulary's first piece of text."""

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+-=<>()[]{} "
"""What the text encoder reads: 70 characters as published; the hyphen stands there twice, its second place
counts."""

CAPTION_LENGTH = 201
"""Characters of a caption that the text encoder reads."""

PLACES = {character: place for place, character in enumerate(ALPHABET)}
NOTHING = len(ALPHABET)
"""Stands for characters outside the alphabet and for the places behind a caption."""

_ONES = "zero one two three four five six seven eight nine"
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_SMALL_NUMBERS = (*_ONES.split(), *_TEENS.split())
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_PLAIN_SIGNS = str.maketrans("‘’‚‛“”„‟–—―×", "''''\"\"\"\"---x")  # noqa: RUF001


def speakable(text: str, accents: bool = False) -> str:
    """Reduce a caption to what every English engine speaks alike: ASCII letters, digits and pauses.

    Accents are dropped (kept with `accents`, for voices of other languages), typographic quotes and dashes
    become plain ones, a few signs become words, everything else (markup, brackets, emoji, other scripts) is
    left out, blanks are joined.

    >>> speakable("A  naïve “yellow” flower, 5 cm & <b>tall</b>")
    'A naive yellow flower, 5 cm and tall'

    Args:
        text: a caption or sentence, at most `MAX_CHARACTERS`.

    Raises:
        SettingsError: nothing speakable is in it, or it is too long.
    """
    if len(text) > MAX_CHARACTERS:
        raise SettingsError(f"the text is too long: {len(text)} characters, at most {MAX_CHARACTERS}")
    plain = re.sub(r"<[^<>]*>", " ", text.translate(_PLAIN_SIGNS))
    for sign, word in _SPOKEN_SIGNS.items():
        plain = plain.replace(sign, word)
    if accents:
        plain = re.sub(r"[^A-Za-z0-9\u00c0-\u024f.,;:!?'-]+", " ", unicodedata.normalize("NFKC", plain))
    else:
        plain = unicodedata.normalize("NFKD", plain)
        plain = "".join(c for c in plain if not unicodedata.combining(c))
        plain = re.sub(r"[^A-Za-z0-9.,;:!?'-]+", " ", plain)
    plain = re.sub(r"\s+([.,;:!?])", r"\1", plain).strip()
    if not re.search(r"[A-Za-z0-9]", plain):
        raise SettingsError(f"nothing to say in {text!r}: give an English sentence")
    return plain


def transcript(text: str) -> str:
    """The words of a sentence as spoken: lower-case, of a to z and apostrophes, numbers spelled out.

    >>> transcript("The bird's wing-bars: 12 of them, naïve & “white”.")
    "the bird's wing bars twelve of them naive and white"

    Args:
        text: of any length; one without a letter or digit gives "".
    """
    plain = text.translate(_PLAIN_SIGNS)
    for sign, word in _SPOKEN_SIGNS.items():
        plain = plain.replace(sign, word)
    plain = unicodedata.normalize("NFKD", plain.lower())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", plain)
    plain = re.sub(r"[0-9]+", lambda found: f" {_spelled(found.group())} ", plain)
    plain = re.sub(r"[^a-z']+", " ", plain)
    return " ".join(re.sub(r"(?<![a-z])'+|'+(?![a-z])", " ", plain).split())


def _spelled(digits: str) -> str:
    """A whole number in words; beyond 999,999, or with a leading zero, digit by digit."""
    number = int(digits)
    if number > 999_999 or (len(digits) > 1 and digits.startswith("0")):
        return " ".join(_SMALL_NUMBERS[int(digit)] for digit in digits)
    return _number(number)


def _number(number: int) -> str:
    if number < 20:
        return _SMALL_NUMBERS[number]
    if number < 100:
        ten, one = divmod(number, 10)
        return _TENS[ten - 2] + (f" {_SMALL_NUMBERS[one]}" if one else "")
    unit, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    many, rest = divmod(number, unit)
    return f"{_number(many)} {name}" + (f" {_number(rest)}" if rest else "")


def characters(caption: str) -> NDArray[np.int64]:
    """A caption as places in the alphabet, in lower case, cut at 201 characters: what the text encoder reads.

    Args:
        caption: of any length; a character outside the alphabet counts as `NOTHING`.

    Returns:
        int64 [201], from 0 to `NOTHING`.

    Raises:
        SettingsError: it holds no character of the alphabet but blanks.
    """
    lower = caption[:CAPTION_LENGTH].lower()[:CAPTION_LENGTH]
    if not any(character in PLACES for character in lower if character != " "):
        raise SettingsError(f"no known character in {caption[:40]!r}: give an English sentence")
    row = np.full(CAPTION_LENGTH, NOTHING, dtype=np.int64)
    row[: len(lower)] = [PLACES.get(character, NOTHING) for character in lower]
    return row


def words_of(captions: Iterable[str]) -> set[str]:
    """The words of captions as a transcript has them."""
    return {word for caption in captions for word in transcript(caption).split()}


@dataclass(frozen=True)
class Vocabulary:
    """The pieces of text that tokens 2, 3, ... stand for."""

    pieces: tuple[str, ...]

    def __len__(self) -> int:
        return FIRST_PIECE + len(self.pieces)

    def text(self, tokens: Iterable[int]) -> str:
        """Tokens -> text, blanks at its ends and doubled ones taken away."""
        return " ".join("".join(self.pieces[t - FIRST_PIECE] for t in tokens if t >= FIRST_PIECE).split())

    @cached_property
    def _index(self) -> tuple[dict[str, int], int]:
        """The token of every piece, and the length of the longest piece."""
        index = {piece: FIRST_PIECE + i for i, piece in enumerate(self.pieces)}
        return index, max(map(len, self.pieces))

    def encode(self, text: str) -> list[int]:
        """Text -> tokens, the longest piece first at every place.

        Raises:
            SettingsError: a character no piece begins with.
        """
        index, longest = self._index
        tokens, place = [], 0
        while place < len(text):
            ends = range(min(len(text), place + longest), place, -1)
            end = next((end for end in ends if text[place:end] in index), None)
            if end is None:
                raise SettingsError(f"the recognizer cannot write {text[place]!r}; see text.transcript")
            tokens.append(index[text[place:end]])
            place = end
        return tokens


def learn_pieces(texts: Sequence[str], number: int) -> tuple[str, ...]:
    """The pieces of text to write in: the characters and, up to `number`, frequent groups of them.

    Groups grow by joining the most frequent pair of neighbours within words (byte-pair encoding, Sennrich et
    al. 2016); a group may begin with the blank before a word.

    Args:
        texts: of the training, as `transcript` gives them.
        number: of pieces; 0 for the characters alone.
    """
    counts = Counter(word for text in texts for word in text.split())
    words = {word: [" ", *word] for word in counts}
    pieces = list(LETTERS)
    while len(pieces) < number:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in words.items():
            for pair in pairwise(parts):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        pieces.append("".join(best))
        words = {word: _joined(parts, best) for word, parts in words.items()}
    return tuple(pieces)


def _joined(parts: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined
