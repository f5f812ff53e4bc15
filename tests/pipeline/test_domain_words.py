"""What the words heard say of a recording's domain: counted, stated, weighed and refused."""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_model import make_model

import speech2image
from speech2image.asr.backends import EncoderAsr
from speech2image.audio import decode
from speech2image.errors import CheckpointError, SettingsError
from speech2image.pipeline import registry
from speech2image.pipeline.domain_words import DomainWords, check_domain_words, count_words
from speech2image.pipeline.domains import Domains
from speech2image.pipeline.registry import CARD, DEFAULT_MODEL, MODELS_FOLDER, read_card

NAMES = ("flower", "bird", "other")
SPOKEN = Path(__file__).parents[2] / "examples" / "recordings" / "red-cluster-kal16.opus"


def test_words_are_counted_once_a_sentence() -> None:
    sentences = {
        "flower": ["red red petals", "red leaves", "petals"],
        "bird": ["red wings", "a wing"],
        "other": ["a red car", "a bus"],
    }
    found = count_words(sentences, 0.5, 0.3, least=2, smoothing=0.5)
    assert set(found.frequencies) == {"red", "petals", "a"}
    # flowers have red 2, petals 2, a 0 and one unlisted: 5, and half a count for each of the four
    for word, counted in (("red", 2), ("petals", 2), ("a", 0)):
        assert found.frequencies[word][0] == pytest.approx(math.log((counted + 0.5) / 7), abs=0.006)
    assert found.unlisted[0] == pytest.approx(math.log(1.5 / 7), abs=0.006)
    assert found.unlisted[2] == pytest.approx(math.log(2.5 / 7), abs=0.006)  # car and bus


def test_the_sum_of_what_different_words_say_is_weighted() -> None:
    words = DomainWords({"red": (-1.0, -2.0), "car": (-5.0, -1.0)}, (-3.0, -3.5), 0.5, 0.3)
    np.testing.assert_allclose(words.evidence("red car red"), [-3.0, -1.5])
    np.testing.assert_allclose(words.evidence("blue van"), [-1.5, -1.75])  # both unlisted: they count once
    np.testing.assert_allclose(words.evidence(""), [0.0, 0.0])


def test_they_turn_what_the_sound_alone_decides() -> None:
    words = count_words({"flower": ["petals"] * 9, "bird": ["wings"] * 9, "other": ["car"] * 9}, 1.0, 0.4)
    domains, sound = Domains(NAMES, 0.9, words), np.log(np.array([0.8, 0.1, 0.1], np.float32))
    assert domains.decide(sound).domain == domains.decide(sound, "petals").domain == "flower"
    turned = domains.decide(sound, "car")
    assert turned.domain == "other" and turned.confidence is not None and 0.5 <= turned.confidence <= 1
    assert domains.decide(sound, "wings").domain == "bird"
    doubtful = np.log(np.array([0.3, 0.2, 0.5], np.float32))
    assert domains.decide(doubtful).domain == "flower", "the threshold of the sound alone"
    assert domains.decide(doubtful, "blue").domain == "other", "that of the words"
    assert Domains(NAMES, 0.5).decide(sound, "car").domain == "flower"


WRONG: list[Any] = [
    None,
    {},
    {"words": {"red": [0.0, 0.0]}, "unlisted": [0.0, 0.0, 0.0], "weight": 0.2, "threshold": 0.1},
    {"words": {"red": [0.0, 0.0, "0"]}, "unlisted": [0.0, 0.0, 0.0], "weight": 0.2, "threshold": 0.1},
    {"words": {}, "unlisted": [0.0, 0.0, True], "weight": 0.2, "threshold": 0.1},
    {"words": {}, "unlisted": [0.0, 0.0, 0.0], "weight": 2, "threshold": 0.1},
    {"words": {}, "unlisted": [0.0, 0.0, 0.0], "threshold": 0.1},
    {"words": {}, "unlisted": [0.0, 0.0, 0.0], "weight": 0.2},
    {"words": {}, "unlisted": [0.0, 0.0, 0.0], "weight": 0.2, "threshold": 0},
    {"words": ["red"], "unlisted": [0.0, 0.0, 0.0], "weight": 0.2, "threshold": 0.1},
]


@pytest.mark.parametrize("stated", WRONG)
def test_damaged_ones_are_refused(stated: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the card is damaged: 'domain_words' is"):
        check_domain_words(stated, 3, "the card")
    folder = make_model(tmp_path / "mine", domains=list(NAMES), other_threshold=0.5, domain_words=stated)
    with pytest.raises(CheckpointError, match="'domain_words' is"):
        registry.read_card(folder)


def test_a_card_gives_back_what_it_was_given(tmp_path: Path) -> None:
    words = count_words({name: [name] * 3 for name in NAMES}, 0.25, 0.1)
    card = json.loads(json.dumps(words.stated()))
    folder = make_model(tmp_path / "mine", domains=list(NAMES), other_threshold=0.5, domain_words=card)
    found = registry.read_card(folder).domains
    assert found is not None and found.words is not None
    np.testing.assert_array_equal(found.words.evidence("bird cage"), words.evidence("bird cage"))


# ---- in a model ----------------------------------------------------------------------------------


def captions(*texts: str) -> Any:
    return SimpleNamespace(captions=[texts], samples_of=lambda split: [0] if split == "train" else [])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx")
    copied = tmp_path_factory.mktemp("models") / "mine"
    shutil.copytree(MODELS_FOLDER / DEFAULT_MODEL, copied)
    return copied


def test_a_models_own_words_decide_with_the_sound(folder: Path) -> None:
    from speech2image.export.domain_words import add_domain_words

    before = speech2image.load(str(folder)).encode(SPOKEN)
    assert before.decision.domain == "flower" and before.transcript
    checksums = {path.name: path.read_bytes() for path in folder.glob("*.onnx")}
    talk: Any = SimpleNamespace(split=None, texts=[before.transcript] * 3000)
    asked: Any = SimpleNamespace(split="test", texts=["uncountable"] * 5)
    data = [captions(*["Petals, 3 of them"] * 3), captions(*["wings"] * 3)]
    found = add_domain_words(folder, data, ("flower", "bird"), (talk, asked), 1.0, 0.4)
    assert "uncountable" not in found.frequencies and set(before.transcript.split()) <= set(found.frequencies)
    of_flowers, of_birds, of_others = found.frequencies["petals"]
    assert of_flowers > max(of_birds, of_others) and found.frequencies["wings"][1] > of_birds
    model = read_card(folder)
    route = speech2image.load(str(folder))
    assert route.encode(SPOKEN).decision.domain == "other"
    assert route.encode(SPOKEN, quick=True).decision.domain == "flower", "no words of a decoder, no say"
    assert EncoderAsr(model).recognize(decode.load(SPOKEN)).decision.domain == "other"
    assert {path.name: path.read_bytes() for path in folder.glob("*.onnx")} == checksums

    add_domain_words(folder, data, ("flower", "bird"), (), 0.0, 0.4)
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    assert "domain_words" not in card
    assert speech2image.load(str(folder)).encode(SPOKEN).decision.domain == "flower"


def test_what_does_not_fit_the_model_is_refused(folder: Path) -> None:
    from speech2image.export.domain_words import add_domain_words

    data = [captions("petals"), captions("wings")]
    with pytest.raises(SettingsError, match="--domains is flower; name what each of the 2 data sets shows"):
        add_domain_words(folder, data, ("flower",), (), 0.2, 0.1)
    with pytest.raises(SettingsError, match="all of: flower bird"):
        add_domain_words(folder, data, ("flower", "flower"), (), 0.2, 0.1)
    with pytest.raises(SettingsError, match="from 0 to 1"):
        add_domain_words(folder, data, ("flower", "bird"), (), 1.5, 0.1)
    with pytest.raises(SettingsError, match="above 0"):
        add_domain_words(folder, data, ("flower", "bird"), (), 0.2, 0.0)
    with pytest.raises(CheckpointError, match="tells no domains"):
        add_domain_words(MODELS_FOLDER / "flowers-and-birds-textfree", data, ("flower", "bird"), (), 0.2, 0.1)
