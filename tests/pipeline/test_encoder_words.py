"""A speech encoder that writes down words, too: one file serves the direct route and the cascade."""

import base64
import copy
import io
import json
import shutil
from dataclasses import replace
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_whisper
import torch
from PIL import Image
from tiny_model import make_model, speech, write_wav
from tiny_networks import MatrixGenerator
from torch import nn

import speech2image
from speech2image import cli
from speech2image.asr.backends import EncoderAsr, open_recognizer
from speech2image.asr.ctc import (
    CtcAlone,
    Search,
    best_path,
    best_path_words,
    transcribe,
)
from speech2image.asr.decoder import WordsDecoder
from speech2image.asr.text import BLANK, END, LETTERS, Vocabulary
from speech2image.audio.front_ends import WHISPER
from speech2image.commands import drawing
from speech2image.errors import CheckpointError, SettingsError
from speech2image.export import direct
from speech2image.export.language_model import add_language_model
from speech2image.models.language_model import LanguageModel, LanguageModelSettings
from speech2image.models.pretrained_speech_encoder import (
    PoolingHeadSettings,
    PretrainedEncoderSettings,
    PretrainedSpeechEncoder,
    WordsSettings,
    with_new_head,
)
from speech2image.pipeline import registry

CLIP = speech(1.5)


@pytest.fixture(scope="module")
def encoder() -> PretrainedSpeechEncoder:
    shape = PretrainedEncoderSettings(
        tiny_whisper.SETTINGS,
        PoolingHeadSettings(width=16, heads=2, output=16),
        WordsSettings(2 + len(LETTERS), width=16, heads=2),
    )
    torch.manual_seed(3)
    made = PretrainedSpeechEncoder(shape).eval()
    made.backbone.load_state_dict(tiny_whisper.encoder().state_dict())
    assert made.words is not None
    nn.init.normal_(made.words.read.weight, std=0.5)  # so that some letter is likely at every step
    return made


@pytest.fixture(scope="module")
def folder(encoder: PretrainedSpeechEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "mine"
    options = {"noise_size": 7, "front_end": WHISPER, "pieces": tuple(LETTERS)}
    direct.export_direct(encoder, MatrixGenerator(), path, name="mine", licence="CC0-1.0", **options)
    return path


@pytest.fixture(scope="module")
def with_decoder(encoder: PretrainedSpeechEncoder) -> PretrainedSpeechEncoder:
    """The encoder with a decoder whose vocabulary is that of the words head."""
    whole = with_new_head(encoder, decoder=replace(tiny_whisper.DECODER, tokens=2 + len(LETTERS)))
    assert whole.decoder is not None
    for parameter in whole.decoder.parameters():
        nn.init.normal_(parameter, std=0.15)
    with torch.no_grad():
        whole.decoder.embedding.weight[[END, END + 1]] = 0.0  # neither the end nor a blank is likely
    return whole.eval()


@pytest.fixture(scope="module")
def decoder_folder(with_decoder: PretrainedSpeechEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "decoding"
    options = {
        "noise_size": 7,
        "front_end": WHISPER,
        "pieces": tuple(LETTERS),
        "decoder_pieces": tuple(LETTERS),
    }
    direct.export_direct(with_decoder, MatrixGenerator(), path, name="decoding", licence="CC0-1.0", **options)
    return path


class InTorch:
    """The encoder's words as its ONNX form gives them."""

    name = "torch"

    def __init__(self, encoder: PretrainedSpeechEncoder) -> None:
        self.encoder = encoder

    @torch.no_grad()
    def all(self, log_mel: np.ndarray, n_frames: np.ndarray) -> list[np.ndarray]:
        assert self.encoder.words is not None
        heard = self.encoder.states(torch.from_numpy(log_mel), torch.from_numpy(n_frames))
        return [self.encoder.words(*heard).numpy()]


def test_the_words_are_those_of_torch(encoder, folder) -> None:
    recognizer = open_recognizer(f"own:{folder}")
    assert isinstance(recognizer, EncoderAsr)
    said, vocabulary = recognizer.transcribe(CLIP), Vocabulary(tuple(LETTERS))
    frames = WHISPER.extract(CLIP)
    (ctc,) = InTorch(encoder).all(frames[None], np.array([frames.shape[1]]))
    expected = transcribe(CtcAlone(ctc[0]), vocabulary, frames, Search(ctc_weight=1.0)).text
    assert len(said) > 3 and set(said) <= set(LETTERS)
    assert SequenceMatcher(None, said, expected, autojunk=False).ratio() > 0.8  # weights are float16


def test_the_direct_route_embeds_with_the_same_file(encoder, folder) -> None:
    frames = torch.from_numpy(WHISPER.extract(CLIP))[None]
    with torch.no_grad():
        expected = encoder(frames, torch.tensor([frames.shape[2]]))[0].numpy()
    found = speech2image.load(folder).embed((CLIP, 16_000))
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_the_direct_route_tells_the_words_it_heard(encoder, folder) -> None:
    result = speech2image.load(folder).translate((CLIP, 16_000))
    (ctc,) = InTorch(encoder).all(WHISPER.extract(CLIP)[None], np.array([WHISPER.extract(CLIP).shape[1]]))
    path = Vocabulary(tuple(LETTERS)).text(best_path(ctc[0]))
    assert result.transcript == " ".join(word.text for word in result.words)
    assert SequenceMatcher(None, result.transcript, path, autojunk=False).ratio() > 0.8
    assert all(0 < word.confidence <= 1 for word in result.words) and result.route == "direct"


def test_every_clip_of_the_json_has_its_words(folder, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write_wav(tmp_path / "a.wav", 1.5)
    assert cli.main(["translate", "a.wav", "--model", str(folder), "--json"]) == 0
    shown, expected = capsys.readouterr(), speech2image.load(folder).translate("a.wav")
    told = json.loads(shown.out)
    assert told["transcripts"] == [expected.transcript]
    assert [word["text"] for word in told["words"][0]] == [word.text for word in expected.words]
    assert all(0 <= word["confidence"] <= 1 for word in told["words"][0])
    assert shown.err == f'heard: "{expected.transcript}" (not used: drawn from the sound)\n'
    silent = replace(expected, transcript=None, words=())
    aligned = drawing.speech_as_json([silent, expected])
    assert aligned["transcripts"] == [None, expected.transcript]
    assert aligned["words"][0] == [] and len(aligned["words"][1]) == len(expected.words)
    assert drawing.speech_as_json([silent]) == {}


def test_http_tells_the_words(folder, tmp_path) -> None:
    pytest.importorskip("fastapi")
    from web_server import client_of

    content = write_wav(tmp_path / "a.wav", 1.5).read_bytes()
    result = speech2image.load(folder).translate(content)
    with client_of(folder) as client:
        answer = client.post("/v1/images?format=json", content=content).json()
        assert (answer["route"], answer["transcript"]) == ("direct", result.transcript)
        assert [word["text"] for word in answer["words"]] == [word.text for word in result.words]
        schema = client.get("/openapi.json").json()["components"]["schemas"]
        assert set(schema["Word"]["properties"]) == {"text", "confidence"}
        assert "no picture depends on them" in schema["Pictures"]["properties"]["transcript"]["description"]


def test_a_picture_file_needs_no_decoder(decoder_folder, tmp_path, monkeypatch) -> None:
    pytest.importorskip("fastapi")
    from web_server import client_of

    content, decoded = write_wav(tmp_path / "a.wav", 1.5).read_bytes(), []
    decode = WordsDecoder.__call__
    monkeypatch.setattr(WordsDecoder, "__call__", lambda *given: decoded.append(1) or decode(*given))
    with client_of(decoder_folder) as client:
        picture = client.post("/v1/images", content=content).content
        assert not decoded
        answer = client.post("/v1/images?format=json", content=content).json()
    assert decoded == [1]
    shown = Image.open(io.BytesIO(base64.b64decode(answer["pictures"][0]["png"])))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture))), np.asarray(shown))


def test_words_and_how_sure_they_are() -> None:
    pieces = Vocabulary(("a", " ", "re", " d", "b"))
    ctc = np.log(np.full((9, 7), 1e-3, np.float32))
    for step, (token, chance) in enumerate(
        [(4, 0.5), (4, 0.8), (0, 0.9), (2, 0.2), (5, 0.9), (5, 0.4), (3, 0.7), (0, 0.9), (6, 0.6)]
    ):
        ctc[step, token] = np.log(chance)
    found = best_path_words(ctc, pieces)
    assert [word.text for word in found] == ["rea", "d", "b"]  # re re . a " d" " d" " " . b
    sure = [(0.8 * 0.2) ** 0.5, 0.9, 0.6]
    np.testing.assert_allclose([word.confidence for word in found], sure, rtol=1e-5)
    assert best_path_words(np.log(np.array([[0.9, 0.05, 0.05]], np.float32)), Vocabulary(("a",))) == ()


def test_a_cascade_names_the_model_as_its_recognizer(folder, tmp_path) -> None:
    from exported import write_cascade

    write_cascade(folder.parent / "mine-cascade", shared_recognizer="mine")
    model = registry.find(folder.parent / "mine-cascade")
    assert model.recognizer is not None and model.recognizer.resolve() == folder.resolve()
    assert model.sha256["recognizer"]
    opened = speech2image.load(folder, route="cascade")
    result = opened.translate((CLIP, 16_000))
    assert result.transcript == open_recognizer(f"own:{folder}").transcribe(CLIP)
    assert result.transcript == " ".join(word.text for word in result.words)
    assert all(0 < word.confidence <= 1 for word in result.words)


def test_an_encoder_without_words_is_no_recognizer(folder, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="writes down no words"):
        open_recognizer(f"own:{make_model(tmp_path / 'plain')}")
    path = folder / "model.json"
    card = json.loads(path.read_text())
    try:
        path.write_text(json.dumps(card | {"pieces": ["a", "b"]}))
        with pytest.raises(CheckpointError, match="4 tokens at every step; it does not fit its card"):
            open_recognizer(f"own:{folder}").transcribe(CLIP)
    finally:
        path.write_text(json.dumps(card))
    for pieces in ("abc", [1], [""]):
        broken = make_model(tmp_path / f"broken{pieces!r}"[:12], pieces=pieces)
        with pytest.raises(CheckpointError, match="'pieces' is not a list"):
            registry.find(broken)
    assert card["pieces"] == list(LETTERS)


@torch.no_grad()
def _greedily(encoder: PretrainedSpeechEncoder, steps: int) -> str:
    """What the decoder writes of CLIP, in torch."""
    frames = torch.from_numpy(WHISPER.extract(CLIP))[None]
    states, n_steps = encoder.frame_states(frames, torch.tensor([frames.shape[2]]))
    assert encoder.decoder is not None
    cache, last, written = encoder.decoder.start(states), torch.tensor([[BLANK, END]]), []
    for _ in range(steps):
        following, cache = encoder.decoder(last, cache, n_steps)
        last = following[:, -1:].argmax(dim=2)
        if int(last) == END:
            break
        written.append(int(last))
    return Vocabulary(tuple(LETTERS)).text(written)


def test_the_decoder_writes_what_it_writes_in_torch(with_decoder, decoder_folder) -> None:
    route = speech2image.load(decoder_folder)
    result = route.translate((CLIP, 16_000))
    assert result.transcript and result.transcript == " ".join(word.text for word in result.words)
    expected = _greedily(with_decoder, 90)
    length = len(result.transcript)  # bounded by what CTC expects
    assert SequenceMatcher(None, result.transcript, expected[:length], autojunk=False).ratio() > 0.8
    assert all(0 < word.confidence <= 1 for word in result.words)
    greedy = EncoderAsr(registry.read_card(decoder_folder), Search(beam=1)).recognize(CLIP)
    assert greedy.text == result.transcript and greedy.words == result.words


class Scripted(WordsDecoder):
    """A decoder of the letters a and b whose probabilities are written down here, by what was written."""

    def __init__(self, chances: dict[str, dict[str, float]]) -> None:
        self.chances, self.vocabulary = chances, Vocabulary(("a", "b"))
        self.decoder, self.language_model = SimpleNamespace(name="scripted"), None

    def start(self, states: np.ndarray) -> list[str]:
        return [""]

    def follow(self, tokens: np.ndarray, state: list[str]) -> tuple[np.ndarray, list[str]]:
        state = [text + ("", "", "a", "b")[token] for text, token in zip(state, tokens, strict=True)]
        rows = [[1e-9, *(self.chances[text].get(letter, 1e-9) for letter in ".ab")] for text in state]
        return np.log(np.array(rows, dtype=np.float32)), state

    def select(self, state: list[str], rows: np.ndarray) -> list[str]:
        return [state[row] for row in rows]


def test_the_search_compares_sentences_by_their_mean() -> None:
    # greedy takes "a", but "bb" is likelier; ending at once, the likeliest by the sum, loses by the mean
    chances = {
        "": {".": 0.25, "a": 0.4, "b": 0.35},
        "a": {".": 0.3, "a": 0.3, "b": 0.3},
        "b": {"b": 0.99},
        "bb": {".": 0.99},
    } | {text: {".": 1.0} for text in ("aa", "ab", "ba")}
    decoder, states = Scripted(chances), np.zeros((1, 1, 1), np.float32)
    assert decoder.search(states, 5, 1)[0] == [2]
    tokens, found = decoder.search(states, 5, 3)
    assert tokens == [3, 3]
    np.testing.assert_allclose(np.exp(found), [0.35, 0.99], rtol=1e-5)
    assert decoder.search(states, 1, 3)[0] in ([2], [3], []) and len(decoder.search(states, 1, 1)[0]) <= 1
    ctc = np.log(np.array([[0.8, 0.0, 0.1, 0.1]] * 10) + 1e-9, dtype=np.float32)  # it expects two tokens
    assert [word.text for word in decoder(states, ctc, beam=3)] == ["bb"]
    silence = np.log(np.array([[1.0, 0.0, 0.0, 0.0]] * 10) + 1e-9, dtype=np.float32)
    assert decoder(states, silence, beam=3) == ()


class Usual:
    """A language model of the letters a and b: what is usual after what was written."""

    weight, network = 0.5, SimpleNamespace(name="usual")

    def __init__(self, usual: str) -> None:
        self.usual, self.asked = usual, []

    def __call__(self, sentences: list[list[int]]) -> np.ndarray:
        self.asked += ["".join("??ab"[token] for token in sentence) for sentence in sentences]
        favoured = [1e-9, *(0.98 if letter == self.usual else 0.01 for letter in ".ab")]
        return self.weight * np.log(np.array([favoured] * len(sentences), dtype=np.float32))


def test_a_language_model_tips_the_choice_and_no_confidence() -> None:
    chances = {"": {"a": 0.55, "b": 0.45}} | {text: {".": 0.9, "a": 0.05, "b": 0.05} for text in "ab"}
    chances |= {text: {".": 1.0} for text in ("aa", "ab", "ba", "bb")}
    decoder, states = Scripted(chances), np.zeros((1, 1, 1), np.float32)
    assert decoder.search(states, 5, 1)[0] == [2]
    decoder.language_model = usual = Usual("b")
    for beam in (1, 2):
        tokens, found = decoder.search(states, 5, beam)
        assert tokens[0] == 3 and found[0] == pytest.approx(np.log(0.45), abs=1e-5)
    assert usual.asked[0] == "" and {"b", "a"} <= set(usual.asked)
    usual.weight = 0.0
    assert decoder.search(states, 5, 2)[0] == [2]


@pytest.fixture(scope="module")
def language_model() -> LanguageModel:
    torch.manual_seed(0)
    made = LanguageModel(LanguageModelSettings(2 + len(LETTERS), context=3, width=16, hidden=16))
    with torch.no_grad():
        made.bias[2 + LETTERS.index("q")] = 200.0  # whatever is said, it expects "q"
    return made.eval()


def test_a_model_is_given_a_language_model(decoder_folder, language_model, tmp_path) -> None:
    own = tmp_path / "own"
    shutil.copytree(decoder_folder, own)
    before = registry.read_card(own)
    silent = EncoderAsr(before, Search(beam=2)).recognize(CLIP).text
    vocabulary = Vocabulary(tuple(LETTERS))
    off = add_language_model(own, language_model, vocabulary, 0.0)
    assert 0 <= off["language_model"] < 1e-4
    assert EncoderAsr(registry.read_card(own), Search(beam=2)).recognize(CLIP).text == silent
    add_language_model(own, language_model, vocabulary, 1.0, training={"steps": 3})
    after = registry.read_card(own)
    assert after.card["language_model"] == {"context": 3, "weight": 1.0, "training": {"steps": 3}}
    assert after.card["parity"].items() >= (before.card["parity"] | off).items()
    unchanged = before.networks
    assert {after.sha256[name] for name in unchanged} == {before.sha256[name] for name in unchanged}
    assert set(EncoderAsr(after, Search(beam=2)).recognize(CLIP).text) == {"q"}
    assert set(speech2image.load(own).translate((CLIP, 16_000)).transcript) == {"q"}


def test_an_encoder_with_another_head_keeps_decoder_and_language_model(
    encoder, decoder_folder, folder, language_model, tmp_path
) -> None:
    lending = tmp_path / "lending"
    shutil.copytree(decoder_folder, lending)
    add_language_model(lending, language_model, Vocabulary(tuple(LETTERS)), 0.1)
    lender = registry.read_card(lending)
    other_head = copy.deepcopy(encoder)
    for parameter in other_head.head.parameters():
        nn.init.normal_(parameter, std=0.2)
    options = {"licence": "CC0-1.0", "noise_size": 7, "front_end": WHISPER, "pieces": tuple(LETTERS)}
    export = partial(direct.export_direct, generator=MatrixGenerator(), name="again", **options)
    export(other_head, folder=tmp_path / "again", decoder_of=lender)
    again = registry.read_card(tmp_path / "again")
    for network in ("words_memory", "words_decoder", "language_model"):
        assert again.sha256[network] == lender.sha256[network]
    for key in ("decoder_pieces", "language_model"):
        assert again.card[key] == lender.card[key]
    assert again.card["parity"].items() >= {"decoder": lender.card["parity"]["decoder"]}.items()
    routes = [speech2image.load(place) for place in (lending, tmp_path / "again")]
    theirs, ours = (route.translate((CLIP, 16_000)) for route in routes)
    assert ours.words == theirs.words and ours.words
    assert ours != theirs  # another picture

    with pytest.raises(CheckpointError, match="'mine' has no decoder to take over"):
        export(other_head, folder=tmp_path / "none", decoder_of=registry.read_card(folder))
    other_states = copy.deepcopy(encoder)
    nn.init.normal_(other_states.backbone.conv1.weight, std=0.3)
    with pytest.raises(CheckpointError, match="a state of the encoder of 'decoding'"):
        export(other_states, folder=tmp_path / "none", decoder_of=lender)
    assert not (tmp_path / "none").exists()


def test_a_language_model_of_other_pieces_is_refused(decoder_folder, folder, language_model) -> None:
    with pytest.raises(CheckpointError, match="train language-model --model"):
        add_language_model(decoder_folder, language_model, Vocabulary(("a", "b")), 0.1)
    with pytest.raises(CheckpointError, match="has none"):
        add_language_model(folder, language_model, Vocabulary(tuple(LETTERS)), 0.1)
    with pytest.raises(SettingsError, match="from 0 to 1"):
        add_language_model(decoder_folder, language_model, Vocabulary(tuple(LETTERS)), 1.5)
    assert "language_model" not in registry.read_card(decoder_folder).networks


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"language_model": None}, "'context' of 'language_model' is None"),
        ({"language_model": {"context": True, "weight": 0.1}}, "'context' of 'language_model' is True"),
        ({"language_model": {"context": 3, "weight": 7}}, "'weight' of 'language_model' is 7"),
    ],
)
def test_a_damaged_card_of_a_language_model_is_refused(
    decoder_folder, language_model, tmp_path, changes, message
) -> None:
    own = tmp_path / "own"
    shutil.copytree(decoder_folder, own)
    add_language_model(own, language_model, Vocabulary(tuple(LETTERS)), 0.1)
    card = json.loads((own / "model.json").read_text())
    (own / "model.json").write_text(json.dumps(card | changes))
    with pytest.raises(CheckpointError, match=message):
        registry.read_card(own)


def test_without_words_ctc_tells_them_and_no_decoder_is_opened(decoder_folder, folder, monkeypatch) -> None:
    monkeypatch.setattr(WordsDecoder, "of_model", lambda *_: pytest.fail("the decoder was opened"))
    with_ctc, plain = (speech2image.load(place, words=False) for place in (decoder_folder, folder))
    ours, theirs = (route.translate((CLIP, 16_000)) for route in (with_ctc, plain))
    assert ours.words == theirs.words and ours.words


def test_a_model_with_half_a_decoder_is_refused(decoder_folder, tmp_path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(decoder_folder, broken)
    card = json.loads((broken / "model.json").read_text())
    for key in ("files", "decoder_pieces"):
        changed = json.loads(json.dumps(card))
        if key == "files":
            del changed["files"]["words_memory"]
        else:
            del changed[key]
        (broken / "model.json").write_text(json.dumps(changed))
        with pytest.raises(CheckpointError, match="belong together"):
            speech2image.load(broken)


def test_facts_of_a_decoder_that_is_not_there_are_refused(encoder, tmp_path) -> None:
    facts = {"pieces": tuple(LETTERS), "decoder_pieces": ("a",)}
    options = {"name": "m", "licence": "CC0-1.0", "noise_size": 7, "front_end": WHISPER}
    with pytest.raises(CheckpointError, match="has no decoder"):
        direct.export_direct(encoder, MatrixGenerator(), tmp_path / "m", **options, **facts)
