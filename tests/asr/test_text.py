"""What is tidied in a caption before it is spoken."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech2image.asr import text
from speech2image.asr.text import speakable, transcript
from speech2image.errors import SettingsError


def test_the_documentation_example() -> None:
    assert doctest.testmod(text).failed == 0


@pytest.mark.parametrize(
    ("caption", "spoken"),
    [
        ("this flower is yellow.", "this flower is yellow."),
        ("  two\n\tlines ", "two lines"),
        ("“red” petals\N{EM DASH}and a bird\N{RIGHT SINGLE QUOTATION MARK}s crème crown…",
         "red petals-and a bird's creme crown..."),
        ("pink & white, 50%", "pink and white, 50 percent"),
        ("[[h@loU]] <b>blue</b> ; `rm -rf`", "h at loU blue; rm -rf"),
        ("a 花 \N{HIBISCUS} flower", "a flower"),
    ],
)  # fmt: skip
def test_examples(caption: str, spoken: str) -> None:
    assert speakable(caption) == spoken


@pytest.mark.parametrize("nothing", ["", "  \n", "...", "花", "\N{HIBISCUS}", "<b></b>"])
def test_nothing_to_say(nothing: str) -> None:
    with pytest.raises(SettingsError, match="nothing to say"):
        speakable(nothing)


def test_too_long() -> None:
    with pytest.raises(SettingsError, match="too long: 1001 characters, at most 1000"):
        speakable("a" * 1001)


@given(st.text(max_size=200))
def test_any_text_becomes_plain_or_is_refused(caption: str) -> None:
    try:
        spoken = speakable(caption)
    except SettingsError:
        return
    assert spoken.isascii() and spoken == " ".join(spoken.split())
    assert not set(spoken) & set('[]<>`$"\\(){}|&')
    assert speakable(spoken) == spoken


@pytest.mark.parametrize(
    ("given_text", "heard"),
    [
        ("The bird's WING-bars.", "the bird's wing bars"),
        ("'quoted' and don't", "quoted and don't"),
        ("about 5 cm, 1,250 of 20", "about five cm one thousand two hundred fifty of twenty"),
        ("in 1905, no. 007", "in one thousand nine hundred five no zero zero seven"),
        ("310,000 or 1234567", "three hundred ten thousand or one two three four five six seven"),
        ("caf\u00e9 \u2014 \u201cna\u00efve\u201d 50%", "cafe naive fifty percent"),
        ("...!? \U0001f33c", ""),
        ("", ""),
    ],
)
def test_transcript_is_what_one_hears(given_text: str, heard: str) -> None:
    assert transcript(given_text) == heard


@given(st.text(max_size=60))
def test_transcript_holds_letters_alone_and_stays_itself(anything: str) -> None:
    once = transcript(anything)
    assert set(once) <= set(text.LETTERS) and transcript(once) == once
