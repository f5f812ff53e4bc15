"""Word error rates against edits counted by hand."""

import pytest

from speech2image.errors import DataError
from speech2image.metrics.word_errors import content_word_error_rate, word_error_rate, words


@pytest.mark.parametrize(
    ("hypothesis", "edits"),
    [
        ("the bird has a red belly", 0),
        ("the bird has a read belly", 1),  # substitution
        ("the bird has a belly", 1),  # deletion
        ("the bird has a very red belly", 1),  # insertion
        ("", 6),
        ("a bird with a blue belly and wings", 5),  # the -> a, has -> with, red -> blue, + and, + wings
    ],
)
def test_edits_by_hand(hypothesis, edits):
    assert word_error_rate(["the bird has a red belly"], [hypothesis]) == pytest.approx(edits / 6)


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("this flower has red petals", "this flour has red petals"),
        ("a bird with a white belly", "a bird with a white jelly"),
        ("a room with blue shelves and a bed", "a room with blue elves and a bed"),
    ],
)
def test_parts_of_every_domain_are_content_words(said, heard):
    assert content_word_error_rate([said], [heard]) > 0
    assert content_word_error_rate(["this " + said], ["that " + said]) == 0


def test_sums_over_sentences_not_means():
    assert word_error_rate(["a", "b c d"], ["x", "b c d"]) == pytest.approx(1 / 4)


def test_case_and_punctuation_do_not_count():
    assert word_error_rate(["The bird's belly is RED."], ["the bird's belly, is red"]) == 0
    assert words("A light-blue “bloom”; the bird\u2019s") == ["a", "light", "blue", "bloom", "the", "bird's"]


@pytest.mark.parametrize(
    ("british", "american"),
    [
        ("grey petals and greyish centres", "gray petals and grayish centers"),
        (
            "a five petalled, bicoloured bloom centred on a leaf",
            "a five petaled bicolored bloom centered on a leaf",
        ),
        ("The neighbour's favourite colour", "the neighbor's favorite color"),
    ],
)
def test_spellings_that_sound_alike_do_not_count(british, american):
    assert word_error_rate([british], [american]) == word_error_rate([american], [british]) == 0
    assert word_error_rate(["grey"], ["great"]) == 1


def test_content_words_count_in_either_spelling():
    assert content_word_error_rate(["a grey centre"], ["a gray center"]) == 0
    assert content_word_error_rate(["a grey centre"], ["a green center"], {"grey", "centre"}) == 0.5


def test_may_exceed_one():
    assert word_error_rate(["red"], ["a b c"]) == pytest.approx(3)


def test_content_words_alone():
    reference = "this flower has bright yellow petals and a green center"
    # content: flower yellow petals green center
    assert (
        content_word_error_rate([reference], ["the flower had bright yellow petals in a green center"]) == 0
    )
    assert content_word_error_rate([reference], ["this flower has bright pink petals"]) == pytest.approx(
        3 / 5
    )
    assert content_word_error_rate(["red", "the a"], ["red", "blue"]) == pytest.approx(1)  # one insertion


def test_content_words_can_be_given():
    assert content_word_error_rate(["a big cat"], ["a big dog"], {"cat", "dog"}) == 1
    assert content_word_error_rate(["a big cat"], ["a big dog"], {"big"}) == 0


def test_bad_input():
    with pytest.raises(DataError, match="2 references but 1 hyp"):
        word_error_rate(["a", "b"], ["a"])
    with pytest.raises(DataError, match="no reference has a word"):
        word_error_rate(["", "..."], ["a", "b"])
    with pytest.raises(DataError, match="no reference has a content word"):
        content_word_error_rate(["the and of"], ["red"])
    with pytest.raises(DataError):
        word_error_rate([], [])
