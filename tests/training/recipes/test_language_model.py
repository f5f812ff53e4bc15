"""The language model: it learns what is usual from training texts alone, and goes on as if never stopped."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_sets import sample

from speech2image.asr.text import END, LETTERS, Vocabulary
from speech2image.data.pairs import write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError, SettingsError
from speech2image.pipeline.registry import Model
from speech2image.training.core.networks import load_language_model
from speech2image.training.recipes.language_model import PRESETS, contexts_of, perplexity, texts_of, train

PIECES = Vocabulary((*LETTERS, " bird", " red"))
MODEL = Model("m", Path("m"), {"files": {"words_decoder": {}}, "decoder_pieces": list(PIECES.pieces)})
TINY = replace(PRESETS["toy"], steps=60, log_every=1, precision="32-true")


class Read:
    """What a corpus says, without sound."""

    def __init__(self, texts: list[str], speakers: list[str]) -> None:
        self.texts, self.speakers = texts, np.array(speakers)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> PairArrays:
    folder = tmp_path_factory.mktemp("shards")
    splits = ("train", "train", "val", "test")
    texts = (f"A Red bird, {letter}!" for letter in "abcd")
    made = [
        replace(sample(i, split=split), captions=(text, ""), utterances=())
        for i, (split, text) in enumerate(zip(splits, texts, strict=True))
    ]
    write_shards(made, folder)
    return PairArrays.open(folder)


def test_contexts_begin_and_end_with_a_sentence() -> None:
    contexts, following = contexts_of(["red bird", "a"], PIECES, 2)
    bird, red, a = (PIECES.encode(text) for text in (" bird", " red", " a"))
    assert following.tolist() == [*red, *bird, END, *a, END]
    assert contexts.tolist() == [[END, END], [END, *red], [*red, *bird], [END, END], [END, a[0]], a]


def test_texts_are_those_of_training_and_of_readers_who_are_not_held_out(arrays) -> None:
    corpus = Read(["kept", "held", "", "kept too"], ["ann", "bob", "ann", "ann"])
    settings = replace(TINY, held_out_voices=("reader/bob",), recordings_repeated=2)
    training, tests = texts_of(settings, arrays, {"corpus": corpus})
    assert training == ["a red bird a", "a red bird b", *["kept", "kept too"] * 2]
    assert list(tests.values()) == [["a red bird d"], ["held"]]
    with pytest.raises(DataError, match="no text to learn from"):
        texts_of(settings, None, {"corpus": Read(["held"], ["bob"])})


def test_it_foretells_what_it_has_read(arrays, tmp_path) -> None:
    path = train(TINY, MODEL, arrays, {}, tmp_path / "run")
    network, vocabulary = load_language_model(path)
    assert vocabulary == PIECES
    usual, odd = (contexts_of([text], PIECES, 3) for text in ("a red bird b", "hgf edc"))
    assert perplexity(network, *usual) < 2 < 20 < perplexity(network, *odd)
    before = torch.tensor([[END, END, END]])
    assert int(network(before).argmax()) == PIECES.encode(" a")[0]
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [value for line in lines for key, value in line.items() if key.endswith("/perplexity")]


def test_resumed_equals_uninterrupted(arrays, tmp_path) -> None:
    settings = replace(TINY, steps=6, final_rate=1.0)
    whole = load_language_model(train(settings, MODEL, arrays, {}, tmp_path / "whole"))[0].state_dict()
    train(replace(settings, steps=3), MODEL, arrays, {}, tmp_path / "parts")
    parts = load_language_model(train(settings, MODEL, arrays, {}, tmp_path / "parts"))[0].state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_model_without_a_decoder_is_refused(arrays, tmp_path) -> None:
    without = Model("m", Path("m"), {"files": {}})
    with pytest.raises(SettingsError, match="'m' has no decoder"):
        train(TINY, without, arrays, {}, tmp_path / "run")
    assert not (tmp_path / "run").exists()
