"""Trained networks of the route through text -> a model folder that gives what torch gives."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import TEXT_ENCODER, text_encoder, write_cascade
from tiny_cascade import HEARD, make_cascade, make_recognizer
from tiny_model import make_model, speech
from tiny_networks import MatrixGenerator
from torch import nn

import speech2image
from speech2image import cli
from speech2image.asr.text import LETTERS
from speech2image.errors import CheckpointError, OutputError, SettingsError
from speech2image.export import cascade, direct
from speech2image.models import speech_detector, speech_recognizer
from speech2image.models.gan import stackgan_v1
from speech2image.models.text_encoder import TextEncoder
from speech2image.pipeline import loading, registry
from speech2image.pipeline.cascade import CascadeRoute
from speech2image.training.core.checkpoint import save_checkpoint
from speech2image.training.recipes.text_encoder import embed_captions

STAGE = stackgan_v1.Architecture(size=64, generator_width=8, discriminator_width=8, noise=7, code=6)
TEXTS = ["a red flower", "The 2nd bird's beak is long & grey!", "x" * 300]


def _opened(folder: Path) -> CascadeRoute:
    opened = speech2image.load(folder)
    assert isinstance(opened, CascadeRoute)
    return opened


def test_folder_runs_and_equals_torch(tmp_path) -> None:
    recognizer = make_recognizer(tmp_path / "recognizer")
    (recognizer / "checkpoint.safetensors").write_bytes(b"large")
    parity = write_cascade(tmp_path / "mine", recognizer=recognizer, description="a test", captions=TEXTS)
    card = json.loads((tmp_path / "mine" / "model.json").read_text())
    assert card["parity"]["embedding"] == parity["embedding"] < 1e-4
    assert 0 < parity["embedding_float16"] < 1e-2 and parity["picture"] < 1e-5
    assert (card["route"], card["recognizer"], card["description"]) == ("cascade", "recognizer", "a test")
    assert (card["picture_size"], card["embedding_size"], card["noise_size"]) == (8, 16, 7)
    assert sorted(path.name for path in (tmp_path / "mine" / "recognizer").iterdir()) == [
        "recognizer.json",
        "recognizer_decoder.onnx",
        "recognizer_encoder.onnx",
    ]
    opened, expected = _opened(tmp_path / "mine"), embed_captions(text_encoder(), TEXTS)
    for text, vector in zip(TEXTS, expected, strict=True):
        assert np.allclose(opened.embed_text(text), vector, atol=2e-3)
    assert opened.translate((speech(), 16000)).transcript == HEARD


@pytest.mark.parametrize("kind", ["checkpoint", "folder", "shared", "none"])
def test_checkpoints(tmp_path, kind: str) -> None:
    _save_all(tmp_path)
    given: dict[str, object] = {}
    if kind == "checkpoint":
        given["recognizer"] = tmp_path / "r.safetensors"
    elif kind == "folder":
        given["recognizer"] = make_recognizer(tmp_path / "exported", "a bird")
    elif kind == "shared":
        make_recognizer(tmp_path / "words", "a flower")
        given["shared_recognizer"] = "words"
    parity = cascade.export_checkpoints(
        tmp_path / "t.safetensors", tmp_path / "g.safetensors", tmp_path / "m", name="m", licence="x", **given
    )
    assert parity["embedding"] < 1e-4 and parity["picture"] < 1e-3
    opened = _opened(tmp_path / "m")
    assert opened.draw_text("a red flower").images[0].size == (64, 64)
    with pytest.raises(SettingsError, match="no known word in 'zxqv'"):
        opened.draw_text("zxqv")
    inside = (tmp_path / "m" / "recognizer").is_dir()
    assert inside == (kind in ("checkpoint", "folder"))
    if kind in ("folder", "shared"):
        said = {"folder": "a bird", "shared": "a flower"}[kind]
        assert opened.translate((speech(), 16000)).transcript == said
    assert (opened.recognizer is None) == (kind == "none")


def test_a_generator_is_shared_with_a_model_beside(tmp_path) -> None:
    """Pictures are those of the direct model's generator, which is there once; a missing one is named."""
    make_model(tmp_path / "pictures")
    lender = speech2image.load(tmp_path / "pictures")
    size = lender.model.card["embedding_size"]
    found = cascade.export_cascade(
        text_encoder(size),
        registry.find(tmp_path / "pictures"),
        tmp_path / "pictures-cascade",
        name="pictures-cascade",
        licence="x",
        recognizer=make_recognizer(tmp_path / "recognizer"),
    )
    assert 0 < found["embedding"] < 1e-4
    opened = speech2image.load(tmp_path / "pictures", route="cascade")
    assert isinstance(opened, CascadeRoute) and opened.model.size == _size(tmp_path / "pictures-cascade")
    assert not (tmp_path / "pictures-cascade" / "generator.onnx").exists()
    drawn = opened.draw_text("a red flower", n=2, seed=3)
    same = lender.generate(drawn.speech_embedding, n=2, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(drawn.images, same, strict=True))
    torch.manual_seed(0)
    detector = speech_detector.SpeechDetector(speech_detector.SpeechDetectorSettings())
    direct.add_speech_detector(tmp_path / "pictures-cascade", detector)
    kept = speech2image.load(tmp_path / "pictures-cascade", vad=False)
    assert set(kept.model.shared) == {"generator"}
    both = [speech2image.load(tmp_path / "pictures", route=route) for route in ("direct", "cascade")]
    first, second = (route.generator._network._generator for route in both)
    assert first is second, "it is held in memory once"
    (tmp_path / "pictures").rename(tmp_path / "moved")
    with pytest.raises(
        CheckpointError, match=r"uses the generator of the model 'pictures', which lies neither"
    ):
        speech2image.load(tmp_path / "pictures-cascade")


def test_a_detector_is_shared_too_unless_one_is_given(tmp_path) -> None:
    torch.manual_seed(0)
    detector = speech_detector.SpeechDetector(speech_detector.SpeechDetectorSettings())
    make_model(tmp_path / "p")
    direct.add_speech_detector(tmp_path / "p", detector)
    lender = registry.find(tmp_path / "p")
    encoder = text_encoder(lender.card["embedding_size"])
    for given, shared in ((None, {"generator", "speech_detector"}), (detector, {"generator"})):
        cascade.export_cascade(encoder, lender, tmp_path / "c", name="c", licence="x", speech_detector=given)
        model = registry.find(tmp_path / "c")
        assert set(model.shared) == shared and "speech_detector" in model.networks
        assert loading.open_vad(model) is not None


def test_a_generator_that_cannot_be_shared_is_refused(tmp_path) -> None:
    make_model(tmp_path / "p")
    lender = registry.find(tmp_path / "p")
    size = lender.card["embedding_size"]

    def share(encoder: TextEncoder, model: registry.Model, folder: Path) -> None:
        cascade.export_cascade(encoder, model, folder, name="c", licence="x")

    with pytest.raises(SettingsError, match="lies elsewhere"):
        share(text_encoder(size), lender, tmp_path / "deeper" / "c")
    with pytest.raises(CheckpointError, match="this text encoder gives"):
        share(text_encoder(size + 1), lender, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    share(text_encoder(size), lender, tmp_path / "c")
    with pytest.raises(SettingsError, match="shares itself"):
        share(text_encoder(size), registry.find(tmp_path / "c"), tmp_path / "d")
    card = json.loads((tmp_path / "c" / "model.json").read_text())
    card["files"]["generator"]["of"] = "../p"
    (tmp_path / "c" / "model.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="not the name of a folder"):
        registry.find(tmp_path / "c")


def test_networks_that_change_or_do_not_fit_are_refused(tmp_path) -> None:
    class Wild(MatrixGenerator):
        def forward(self, condition: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            picture = super().forward(condition, noise)
            return picture / 2 if torch.onnx.is_in_onnx_export() else picture

    with pytest.raises(CheckpointError, match="something else than torch"):
        write_cascade(tmp_path / "m", Wild())
    with pytest.raises(CheckpointError, match="does not draw from this encoder's embeddings"):
        write_cascade(tmp_path / "m", MatrixGenerator(condition=5))
    broken = make_recognizer(tmp_path / "recognizer")
    (broken / "recognizer_encoder.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="damaged"):
        write_cascade(tmp_path / "m", recognizer=broken)
    with pytest.raises(CheckpointError, match="no recognizer in"):
        write_cascade(tmp_path / "m", recognizer=tmp_path)
    assert not (tmp_path / "m").exists()


def test_settings_out_of_range(tmp_path) -> None:
    recognizer = make_recognizer(tmp_path / "recognizer")
    with pytest.raises(SettingsError, match="or the name of a shared one"):
        write_cascade(tmp_path / "m", recognizer=recognizer, shared_recognizer="recognizer")
    for name in ("../recognizer", "", "..", "a/b"):
        with pytest.raises(SettingsError, match="without a path"):
            write_cascade(tmp_path / "m", shared_recognizer=name)
    write_cascade(tmp_path / "m", recognizer=recognizer)
    size = max(path.stat().st_size for path in (tmp_path / "m").rglob("*.onnx"))
    with pytest.raises(SettingsError, match=r"recognizer_encoder .* MB is allowed"):
        write_cascade(tmp_path / "m2", recognizer=recognizer, max_bytes=size - 1)
    write_cascade(tmp_path / "m2", recognizer=recognizer, max_bytes=size)
    with pytest.raises(OutputError, match="is not a model folder"):
        write_cascade(recognizer)


def test_a_speech_detector_is_added_and_the_rest_stays(tmp_path) -> None:
    torch.manual_seed(0)
    detector = speech_detector.SpeechDetector(speech_detector.SpeechDetectorSettings())
    write_cascade(tmp_path / "m", recognizer=make_recognizer(tmp_path / "recognizer", "two birds"))
    before = _opened(tmp_path / "m").embed_text("a")
    direct.add_speech_detector(tmp_path / "m", detector)
    opened = speech2image.load(tmp_path / "m", vad=False)
    assert opened.model.networks == ("text_encoder", "generator", "speech_detector")
    assert opened.model.route == "cascade"
    assert opened.translate((speech(), 16000)).transcript == "two birds"
    assert np.array_equal(opened.embed_text("a"), before)


def test_commands(tmp_path, capsys) -> None:
    _save_all(tmp_path)
    (tmp_path / "captions.txt").write_text("a red flower\na blue bird\n")
    words = ["export", "recognizer", "--checkpoint", str(tmp_path / "r.safetensors"), "--licence", "x"]
    assert cli.main([*words, "--out", str(tmp_path / "words")]) == 0
    assert (tmp_path / "words" / "recognizer.json").is_file()
    words = ["export", "cascade", "--text-encoder", str(tmp_path / "t.safetensors"), "--name", "m"]
    words += ["--generator", str(tmp_path / "g.safetensors"), "--licence", "x", "--out", str(tmp_path / "m")]
    words += ["--captions", str(tmp_path / "captions.txt")]
    assert cli.main([*words, "--shared-recognizer", "words"]) == 0
    assert "differs from torch by at most" in capsys.readouterr().out
    assert _opened(tmp_path / "m").recognizer is not None
    assert cli.main([*words, "--max-megabytes", "0.1"]) == 2
    assert cli.main([*words, "--recognizer", str(tmp_path / "absent.safetensors")]) == 1
    assert cli.main([*words, "--text-encoder", str(tmp_path / "g.safetensors")]) == 1
    assert "stackgan_v1" in capsys.readouterr().err


def test_tiny_models_are_what_export_writes(tmp_path) -> None:
    """The doubles of the other tests hold the same keys."""
    write_cascade(tmp_path / "m", recognizer=make_recognizer(tmp_path / "recognizer"))
    written = json.loads((tmp_path / "m" / "model.json").read_text())
    made = json.loads((make_cascade(tmp_path / "tiny") / "model.json").read_text())
    assert set(made) <= set(written) and set(made["files"]) == set(written["files"])
    assert "route" not in json.loads((make_model(tmp_path / "direct") / "model.json").read_text())


def _save_all(folder: Path) -> None:
    """Checkpoints as the trainings write them."""
    torch.manual_seed(1)
    shape = speech_recognizer.PRESETS["toy"]
    _save(
        folder / "t.safetensors",
        "text_encoder",
        {"encoder": asdict(replace(TEXT_ENCODER, output=1024))},
        text_encoder(1024),
        vocabulary=["a", "red"],
    )
    _save(folder / "g.safetensors", "stackgan_v1", {"networks": asdict(STAGE)}, stackgan_v1.StageOne(STAGE))
    recognizer = speech_recognizer.SpeechRecognizer(replace(shape, tokens=2 + len(LETTERS)))
    _save(
        folder / "r.safetensors",
        "speech_recognizer",
        {"recognizer": asdict(shape)},
        recognizer,
        pieces=list(LETTERS),
    )


def _save(path: Path, kind: str, settings: dict, module: nn.Module, **more: list[str]) -> None:
    settings = json.loads(json.dumps(settings))
    ema = {"module": module.state_dict(), "updates": 1}
    state = {"kind": kind, "settings": settings, "step": 1, "seconds": 0.0, "ema": ema}
    save_checkpoint(path, state | more)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.onnx"))
