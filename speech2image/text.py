"""Captions as text: what is tidied before an engine speaks them."""

from __future__ import annotations

import re
import unicodedata

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
_PLAIN_SIGNS = str.maketrans("‘’‚‛“”„‟–—―×", "''''\"\"\"\"---x")  # noqa: RUF001


def speakable(text: str) -> str:
    """Reduce a caption to what every English engine speaks alike: ASCII letters, digits and pauses.

    Accents are dropped, typographic quotes and dashes become plain ones, a few signs become words,
    everything else (markup, brackets, emoji, other scripts) is left out, blanks are joined.

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
    plain = unicodedata.normalize("NFKD", plain)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = re.sub(r"[^A-Za-z0-9.,;:!?'-]+", " ", plain)
    plain = re.sub(r"\s+([.,;:!?])", r"\1", plain).strip()
    if not re.search(r"[A-Za-z0-9]", plain):
        raise SettingsError(f"nothing to say in {text!r}: give an English sentence")
    return plain
