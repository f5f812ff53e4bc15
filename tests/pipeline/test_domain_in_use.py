"""What a recording is about, as both routes tell it: in Python, on the command line, by HTTP, on the page."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_whisper
import torch
from tiny_model import make_model, speech, write_wav
from tiny_networks import MatrixGenerator

import speech2image
from speech2image import cli
from speech2image.asr.text import LETTERS
from speech2image.audio.front_ends import WHISPER
from speech2image.commands import drawing
from speech2image.errors import CheckpointError
from speech2image.export import direct
from speech2image.models.pretrained_speech_encoder import (
    DomainSettings,
    PoolingHeadSettings,
    PretrainedEncoderSettings,
    PretrainedSpeechEncoder,
    WordsSettings,
)
from speech2image.pipeline import registry
from speech2image.pipeline.domains import Domains
from speech2image.pipeline.live import LiveTranslation

CLIP = (speech(1.5), 16_000)
NAMES = ("flower", "bird", "other")
WARNING = "this model draws flowers and birds; this sounded like something else"


def chances(encoder: PretrainedSpeechEncoder) -> np.ndarray:
    frames = torch.from_numpy(WHISPER.extract(CLIP[0]))[None]
    assert encoder.domain is not None
    with torch.no_grad():
        return encoder.domain(*encoder.states(frames, torch.tensor([frames.shape[2]])))[0].exp().numpy()


def make_encoder(words: bool) -> PretrainedSpeechEncoder:
    torch.manual_seed(3)
    made = PretrainedSpeechEncoder(
        PretrainedEncoderSettings(
            tiny_whisper.SETTINGS,
            PoolingHeadSettings(width=16, heads=2, output=16),
            WordsSettings(2 + len(LETTERS), width=16, heads=2) if words else None,
            DomainSettings(3, width=16),
        )
    ).eval()
    made.backbone.load_state_dict(tiny_whisper.encoder().state_dict())
    if made.words is not None:
        torch.nn.init.normal_(made.words.read.weight, std=0.5)
    assert made.domain is not None
    with torch.no_grad():
        made.domain.decide.bias.copy_(torch.tensor([1.0, 2.0, 0.0]))
    return made


def write(folder: Path, words: bool = True, called_other: bool = False) -> Path:
    """A model whose encoder tells domain and words; its threshold decides whether the clip is about other."""
    encoder = make_encoder(words)
    other = float(chances(encoder)[2])
    direct.export_direct(
        encoder,
        MatrixGenerator(),
        folder,
        name=folder.name,
        licence="CC0-1.0",
        noise_size=7,
        front_end=WHISPER,
        pieces=tuple(LETTERS) if words else (),
        domains=Domains(NAMES, other * 0.8 if called_other else min(1.0, other * 1.2)),
    )
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    made = {
        "known": write(folder / "known"),
        "other": write(folder / "other", called_other=True),
        "wordless": write(folder / "wordless", words=False, called_other=True),
    }
    from exported import write_cascade

    write_cascade(folder / "other-cascade", shared_recognizer="other")
    return made


@pytest.mark.parametrize("name", ["known", "other", "wordless"])
def test_the_result_tells_domain_and_confidence(models, name) -> None:
    result = speech2image.load(models[name]).translate(CLIP)
    expected = chances(make_encoder(name != "wordless"))
    place = int(expected[:2].argmax()) if name == "known" else 2
    assert result.domain == NAMES[place] and result.domains == NAMES
    assert result.confidence == pytest.approx(expected[place], rel=0.05)  # weights are float16
    assert (result.transcript is None) == (name == "wordless")
    assert len(result.images) == 1


def test_the_cascade_whose_recognizer_is_such_an_encoder_tells_it_too(models) -> None:
    cascade = speech2image.load(models["other"], route="cascade")
    direct = speech2image.load(models["other"]).translate(CLIP)
    result = cascade.translate(CLIP)
    assert (result.domain, result.confidence, result.domains) == ("other", direct.confidence, NAMES)
    assert result.words and result.route == "cascade"
    text = cascade.draw_text("a red flower")
    assert (text.domain, text.confidence, text.domains) == (None, None, ())


def test_a_model_without_tells_none(tmp_path) -> None:
    result = speech2image.load(make_model(tmp_path / "plain")).translate(CLIP)
    assert (result.domain, result.confidence, result.domains) == (None, None, ())


def test_a_network_that_lacks_what_its_card_states(models, tmp_path) -> None:
    plain = make_model(tmp_path / "plain", domains=list(NAMES), other_threshold=0.5)
    with pytest.raises(CheckpointError, match=r"'speech_embedding', 'domain' are needed"):
        speech2image.load(plain)
    path = models["known"] / "model.json"
    card = json.loads(path.read_text())
    try:
        path.write_text(json.dumps(card | {"domains": ["flower", "other"]}))
        with pytest.raises(CheckpointError, match="2 domains; it does not fit its card"):
            speech2image.load(models["known"]).translate(CLIP)
    finally:
        path.write_text(json.dumps(card))


def test_the_command_line_draws_and_warns(models, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / name, 1.5)
    heard = speech2image.load(models["other"]).translate("a.wav").transcript
    assert cli.main(["translate", "a.wav", "--model", str(models["other"])]) == 0
    shown = capsys.readouterr()
    assert shown.err == f'speech2image: warning: {WARNING} (heard: "{heard}")\n'
    assert (tmp_path / "picture.png").exists() and "1 picture" in shown.out
    assert cli.main(["translate", "a.wav", "b.wav", "--json", "--model", str(models["wordless"])]) == 0
    shown = capsys.readouterr()
    assert shown.err == "".join(f"speech2image: warning: {clip}: {WARNING}\n" for clip in ("a.wav", "b.wav"))
    told = json.loads(shown.out)
    assert told["domains"] == ["other", "other"] and "transcripts" not in told
    assert all(0 < confidence < 1 for confidence in told["confidences"])
    assert cli.main(["translate", "a.wav", "--model", str(models["known"])]) == 0
    assert "warning" not in capsys.readouterr().err


def test_through_text_the_warning_is_one_line_too(models, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write_wav(tmp_path / "a.wav", 1.5)
    words = ["translate", "a.wav", "--model", str(models["other"]), "--route", "cascade"]
    assert cli.main(words) == 0
    assert re.fullmatch(rf'speech2image: warning: {WARNING} \(heard: ".+"\)\n', capsys.readouterr().err)
    assert cli.main([*words[:1], "--text", "a red flower", *words[2:], "--json"]) == 0
    shown = capsys.readouterr()
    assert not shown.err and "domains" not in json.loads(shown.out)


def test_the_beginning_of_a_recording_tells_no_domain(models) -> None:
    following = LiveTranslation(speech2image.load(models["known"]))
    assert following.update((CLIP[0][:4_800], CLIP[1])).domain is None
    assert following.update(CLIP).domain in NAMES


def test_every_clip_has_its_domain(models) -> None:
    result = speech2image.load(models["known"]).translate(CLIP)
    without = replace(result, domain=None, confidence=None)
    told = drawing.speech_as_json([without, result])
    assert told["domains"] == [None, result.domain]
    assert told["confidences"] == [None, round(result.confidence or 0, 4)]


def test_http_tells_it(models, tmp_path) -> None:
    pytest.importorskip("fastapi")
    from web_server import client_of

    content = write_wav(tmp_path / "a.wav", 1.5).read_bytes()
    for name in ("known", "other"):
        result = speech2image.load(models[name]).translate(CLIP)
        with client_of(models[name]) as client:
            answer = client.post("/v1/images?format=json&route=direct", content=content).json()
            assert answer["domain"] == result.domain
            assert answer["confidence"] == pytest.approx(result.confidence, abs=0.05)
            schema = client.get("/openapi.json").json()["components"]["schemas"]["Pictures"]
            assert {"domain", "confidence"} <= set(schema["properties"])


def test_the_card_states_what_was_exported(models) -> None:
    assert registry.find(models["other"]).further_outputs == ("ctc", "domain")
    assert registry.find(models["wordless"]).further_outputs == ("domain",)
