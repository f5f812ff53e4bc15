"""Short spoken forms: only what the caption says, as people say it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech2image.data.corpora.publishers import own_captions
from speech2image.data.corpora.transcribed import words_of
from speech2image.data.entries import Entry
from speech2image.data.speech.short_captions import phrases_of, short_caption, short_entries, short_forms


@pytest.mark.parametrize(
    ("caption", "domain", "phrases"),
    [
        ("pale pink petals ring a dark red centre", "flower", ["pale pink petals", "dark red centre"]),
        ("deep orange folded petals form a head", "flower", ["deep orange folded petals"]),
        ("a black and white bird with a red cap", "bird", ["black and white bird", "red cap"]),
        ("grey wings with two white wing bars", "bird", ["grey wings", "white wing bars"]),
        ("pale green bedroom with a dark red bed", "room", ["pale green bedroom", "dark red bed"]),
        ("pale green bedroom with a dark red bed", "flower", []),
        ("petals shading to yellow overlap in a cluster", "flower", []),
        ("a yellow fringed and quite unusual bloom", "flower", []),
        ("red with big petals", "flower", []),
        ("", "flower", []),
    ],
)
def test_phrases(caption: str, domain: str, phrases: list[str]) -> None:
    assert [phrase.words for phrase in phrases_of(caption, domain)] == phrases


def test_forms_of_a_flower() -> None:
    assert short_forms("pale pink petals ring a dark red centre", "flower") == [
        "pale pink petals",
        "pale pink flower",
        "a pale pink flower",
        "pale pink",
        "dark red centre",
        "a pale pink flower with a dark red centre",
        "a flower with a dark red centre",
    ]


def test_plurals_take_no_article_and_vowels_take_an() -> None:
    forms = short_forms("an orange bird with white wings and pink legs", "bird")
    assert "an orange bird with white wings" in forms
    assert "a bird with pink legs" in forms


def test_a_black_headed_bird_is_not_black() -> None:
    forms = short_forms("a black headed bird with a white belly", "bird")
    assert forms and not any(form.startswith(("black", "a black")) for form in forms)


def test_forms_of_a_room() -> None:
    forms = short_forms("blue gray kitchen with white bedding and red chairs", "room")
    assert forms[:3] == ["blue gray kitchen", "blue gray room", "a blue gray room"]
    assert "a room with white bedding" in forms and "a blue gray room with red chairs" in forms


def test_another_domain_is_a_noun_with_its_plural() -> None:
    assert "a small red car" in short_forms("two cars and a small red car", "car")
    assert "a blue car" in short_forms("blue cars in a row", "car")


_EXTRA = {*words_of("a an with show me draw i want would like please uh um er well let see flower bird")}


@given(st.integers(0, 2**32 - 1), st.integers(1, 102))
@settings(max_examples=50, deadline=None)
def test_nothing_is_said_that_the_captions_do_not_say(seed: int, label: int) -> None:
    pictures = own_captions("oxford102")[label].captions
    captions = pictures[sorted(pictures)[seed % len(pictures)]]
    said = short_caption(captions, "flower", np.random.default_rng(seed))
    if said is not None:
        assert any(set(words_of(said)) - _EXTRA <= set(words_of(caption)) for caption in captions)
        assert len(words_of(said)) <= 20


def test_nearly_every_picture_has_a_short_form() -> None:
    for corpus, domain in (("oxford102", "flower"), ("cub200", "bird")):
        captions = [texts for one in own_captions(corpus).values() for texts in one.captions.values()]
        silent = sum(not any(short_forms(text, domain) for text in texts) for texts in captions)
        assert silent < 0.05 * len(captions)


def test_a_third_are_commands_or_hesitate() -> None:
    rng = np.random.default_rng(0)
    said = [short_caption(["a red flower"], "flower", rng) for _ in range(600)]
    plain = sum(text in ("red flower", "a red flower", "red") for text in said)
    assert 0.55 < plain / 600 < 0.75
    assert any(text.startswith("uh ") for text in said) and any(text.startswith("show me") for text in said)
    assert all(
        text in ("red flower", "a red flower", "red")
        for text in (short_caption(["a red flower"], "flower", rng, dressed=0.0) for _ in range(50))
    )


def entry(name: str, *captions: str) -> Entry:
    return Entry(name, Path(f"{name}.png"), 1, "rose", "train", captions)


def test_entries_with_short_forms_are_the_same_each_time() -> None:
    entries = [entry("a", "a red flower"), entry("b", "nothing"), entry("c", "blue petals and a white eye")]
    one = short_entries(entries, "flower", seed=3, per_picture=2)
    assert [item.id for item in one] == ["a", "c"]
    assert one == short_entries(entries[::-1], "flower", seed=3, per_picture=2)[::-1]
    assert all(1 <= len(item.captions) == len(set(item.captions)) <= 2 for item in one)
    assert any(
        short_entries(entries, "flower", seed=seed) != short_entries(entries, "flower", seed=seed + 1)
        for seed in range(5)
    )
