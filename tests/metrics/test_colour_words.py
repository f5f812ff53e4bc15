"""Main colours of captions, one by one."""

import pytest

from speech2image.metrics.colour_words import COLOUR_WORDS, COLOURS, main_colours


@pytest.mark.parametrize(
    ("caption", "colours"),
    [
        ("a red flower", ("red",)),
        ("This flower has Bright YELLOW petals.", ("yellow",)),
        ("white pointed petals lie behind a ring of blue purple filaments", ("white",)),
        ("petals surround a yellow centre on a violet bloom", ("purple",)),
        ("a flower with a dark eye and green leaves has pink petals", ("pink",)),
        ("yellow and white stamens rise from magenta petals", ("pink",)),
        ("yellow stamens rise from magenta petals", ("pink",)),
        ("pale yellow orange petals", ("yellow", "orange")),
        ("an orange-red bloom", ("orange", "red")),
        ("lilac purple bells", ("purple",)),
        ("creamy white blossom with a brown middle", ("white",)),
        ("a small bird with a long tail", ()),
        ("a yellow centre", ()),
        ("a flower like a star", ()),
        ("this bird has a black beak a brown back and grey wings", ("brown",)),
        ("", ()),
    ],
)
def test_main_colours(caption, colours):
    assert main_colours(caption) == colours


def test_every_basic_colour_names_itself():
    assert len(COLOURS) == 11
    assert all(main_colours(f"a {colour} flower") == (colour,) for colour in COLOURS)


def test_shades():
    expected = {"lavender": "purple", "rose": "pink", "ivory": "white", "gray": "grey", "scarlet": "red"}
    assert {word: COLOUR_WORDS[word] for word in expected} == expected
