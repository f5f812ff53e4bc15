"""Sentences about other things: steady draws, and test sentences that training never has."""

from speech2image.data.speech.other_sentences import _of_split, _words, other_sentences


def test_a_draw_is_steady_whatever_its_length():
    assert list(other_sentences(20, "train", seed=3))[:5] == list(other_sentences(5, "train", seed=3))
    assert list(other_sentences(5, "train", seed=3)) != list(other_sentences(5, "train", seed=4))


def test_kinds_have_their_shares():
    kinds = [sentence.kind for sentence in other_sentences(2000, "train")]
    assert abs(kinds.count("thing") / 2000 - 0.5) < 0.05
    assert abs(kinds.count("talk") / 2000 - 0.3) < 0.05


def test_no_thing_and_no_sentence_is_in_both_splits():
    words = _words()
    for names in [
        *(kind["names"] for kind in words["things"]),
        words["talk"]["en"],
        *words["foreign"].values(),
    ]:
        of_test = set(_of_split(names, "test"))
        assert of_test and of_test.isdisjoint(_of_split(names, "train"))
    texts = {split: {s.text for s in other_sentences(3000, split)} for split in ("train", "test")}
    assert texts["train"].isdisjoint(texts["test"])


def test_nothing_is_about_flowers_birds_or_rooms_in_english():
    domain = {
        "flower",
        "flowers",
        "petal",
        "petals",
        "bird",
        "birds",
        "beak",
        "bedroom",
        "kitchen",
        "blossom",
    }
    for sentence in other_sentences(3000, "train"):
        assert sentence.language != "en" or domain.isdisjoint(sentence.text.split()), sentence.text
        assert "  " not in sentence.text and "{" not in sentence.text
