"""Names in messages: a terminal obeys nothing that stands in them."""

import pytest

from speech2image.errors import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("blue bird.wav", "blue bird.wav"),
        ("桜 Ärger 🌸", "桜 Ärger 🌸"),
        ("\x1b]0;owned\x07.wav", r"\x1b]0;owned\x07.wav"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x9b31m", r"\x9b31m"),
        ("gnp.\u202ewav", r"gnp.\u202ewav"),
        ("two\u2028lines", r"two\u2028lines"),
        ("undecodable \udcff", r"undecodable \udcff"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()
