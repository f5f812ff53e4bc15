"""Direct models that share one generator: on disk, in memory, and when their folders change places."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_whisper
import torch
from exported import FIRST, OWN_NOISE, PRIOR_NOISE, SIZE, pixels, spoken_generator, write_with_prior
from tiny_model import make_model
from tiny_networks import MatrixGenerator
from torch import nn

import speech2image
from speech2image import cli
from speech2image.audio.front_ends import WHISPER
from speech2image.errors import CheckpointError, SettingsError
from speech2image.export import cascade, direct
from speech2image.export.direct import export_direct
from speech2image.export.folder import share_networks
from speech2image.models.condition_prior import ConditionPrior, SpokenGenerator
from speech2image.models.pretrained_speech_encoder import (
    PoolingHeadSettings,
    PretrainedEncoderSettings,
    PretrainedSpeechEncoder,
)
from speech2image.models.speech_detector import SpeechDetector, SpeechDetectorSettings
from speech2image.models.text_encoder import PRESETS, TextEncoder
from speech2image.pipeline import registry
from speech2image.pipeline.networks import open_network
from speech2image.pipeline.registry import find
from speech2image.web.registry import open_registry

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import share_networks as script


def other_prior() -> SpokenGenerator:
    """The generator of `test_prior_in_models`, behind a prior fitted to other embeddings."""
    rng = np.random.default_rng(5)
    said, features = (rng.standard_normal((60, SIZE)).astype(np.float32) for _ in range(2))
    prior = ConditionPrior.fit(said, features, features.mean(0), n_predicted=3, noise_size=PRIOR_NOISE)
    return SpokenGenerator(prior, spoken_generator().generator, OWN_NOISE).eval()


def on_whisper() -> PretrainedSpeechEncoder:
    torch.manual_seed(0)
    shape = PretrainedEncoderSettings(
        tiny_whisper.SETTINGS, PoolingHeadSettings(width=16, heads=2, output=SIZE)
    )
    return PretrainedSpeechEncoder(shape).eval()


def borrow(folder: Path, lender: Path, generator: nn.Module | None = None, **more: object) -> direct.Parity:
    whole = generator or other_prior()
    options = {
        "noise_size": PRIOR_NOISE + OWN_NOISE,
        "generator_of": find(lender),
        "front_end": WHISPER,
        **more,
    }
    return export_direct(on_whisper(), whole, folder, name=folder.name, licence="CC0", **options)  # type: ignore[arg-type]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Two models: "first" whole, with a speech detector, and "second" which draws with its generator."""
    write_with_prior(tmp_path / "first")
    torch.manual_seed(0)
    direct.add_speech_detector(tmp_path / "first", SpeechDetector(SpeechDetectorSettings()))
    borrow(tmp_path / "second", tmp_path / "first")
    return tmp_path


def stored(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.onnx")}


def drawn(folder: Path) -> np.ndarray:
    return pixels(speech2image.load(folder, vad=False).translate(FIRST, n=2, seed=3).images)


def test_another_encoder_draws_with_the_generator_of_a_model_beside_it(models: Path) -> None:
    second = find(models / "second")
    assert stored(second.folder) == {"speech_encoder", "condition_prior"}
    assert set(second.shared) == {"generator", "speech_detector"}
    assert second.card["parity"]["picture_float16"] < 1e-2
    assert second.card["parity"]["speech"] == find(models / "first").card["parity"]["speech"]
    opened = speech2image.load(second.folder, vad=False)
    found = opened.translate(FIRST, n=2, seed=3)
    whole, embedding = other_prior(), torch.from_numpy(found.speech_embedding).expand(2, -1)
    z = torch.from_numpy(speech2image.pipeline.noise.noise(2, PRIOR_NOISE + OWN_NOISE, 3))
    with torch.no_grad():
        expected = [speech2image.pipeline.images.to_image(picture.numpy()) for picture in whole(embedding, z)]
    assert np.abs(pixels(found.images) - pixels(expected)).max() <= 2


def test_the_generator_is_open_once(models: Path) -> None:
    held = [open_network(find(models / name), "generator") for name in ("first", "second")]
    assert held[0] is held[1]
    priors = [open_network(find(models / name), "condition_prior") for name in ("first", "second")]
    assert priors[0] is not priors[1]


def test_a_generator_that_is_not_the_same_is_refused(models: Path) -> None:
    torch.manual_seed(8)
    other = SpokenGenerator(other_prior().prior, MatrixGenerator(SIZE, OWN_NOISE), OWN_NOISE)
    with pytest.raises(CheckpointError, match="the generator of 'mine' differs"):
        borrow(models / "third", models / "first", other)
    larger = SpokenGenerator(other_prior().prior, MatrixGenerator(SIZE, OWN_NOISE + 1), OWN_NOISE + 1)
    with pytest.raises(CheckpointError, match=r"8 pixels from 16 numbers and 7 of noise, .* and 8 of noise"):
        borrow(models / "third", models / "first", larger, noise_size=PRIOR_NOISE + OWN_NOISE + 1)
    for folder, lender in (("deeper/third", "first"), ("third", "second"), ("first", "first")):
        with pytest.raises(SettingsError, match="lies elsewhere, or is that model"):
            borrow(models / folder, models / lender)
    assert not (models / "third").exists() and stored(models / "first") > {"generator"}


def test_the_lender_and_the_borrower_change_places(models: Path) -> None:
    names = ("first", "second")
    before = {name: (find(models / name).sha256, drawn(models / name)) for name in names}
    shared = share_networks(find(models / "first"), [find(models / "second")], name="textfree")
    assert shared == {"generator": "second", "speech_detector": "second"}
    assert stored(models / "first") == {"speech_encoder", "condition_prior"}
    assert stored(models / "second") == {"speech_encoder", "condition_prior", "generator", "speech_detector"}
    assert find(models / "first").name == "textfree" and not find(models / "second").shared
    for name in names:
        assert find(models / name).sha256 == before[name][0]
        assert np.array_equal(drawn(models / name), before[name][1])
    again = share_networks(find(models / "first"), [find(models / "second")])
    assert again == shared and find(models / "first").name == "textfree"


def test_a_cascade_keeps_the_prior_of_one_and_the_generator_of_the_other(models: Path) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(replace(PRESETS["toy"], output=SIZE)).eval()
    cascade.export_cascade(encoder, find(models / "first"), models / "texts", name="texts", licence="x")
    before = speech2image.load(models / "texts", vad=False)
    expected = pixels(before.generate(np.ones(SIZE, np.float32), 2))
    first, second = find(models / "first"), find(models / "second")
    with pytest.raises(SettingsError, match="'texts' borrows the generator of 'mine'"):
        share_networks(first, [second])
    assert stored(first.folder) > {"generator"}
    shared = share_networks(find(models / "texts"), [find(models / "second"), first])
    assert shared == {"generator": "second", "condition_prior": "first", "speech_detector": "second"}
    share_networks(first, [find(models / "second")])
    after = speech2image.load(models / "texts", vad=False)
    assert np.array_equal(pixels(after.generate(np.ones(SIZE, np.float32), 2)), expected)


def test_a_damaged_lender_takes_nothing_away(models: Path) -> None:
    share_networks(find(models / "first"), [find(models / "second")])
    shutil.copytree(models / "second", models / "third")
    (models / "second" / "generator.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="damaged or was replaced"):
        share_networks(find(models / "third"), [find(models / "second")])
    assert stored(models / "third") > {"generator"}


def test_script_and_flag(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", str(models / "first"), "--lenders", str(models / "second")]
    assert script.main([*words, "--name", "textfree", "--description", "without text"]) == 0
    assert "generator: in second" in capsys.readouterr().out
    card = json.loads((models / "first" / "model.json").read_text())
    assert (card["name"], card["description"]) == ("textfree", "without text")
    assert script.main([*words[:2], "--lenders", str(models / "first")]) == 1
    assert "or is that model" in capsys.readouterr().err
    assert cli.main(["export", "direct", "--help"]) == 0
    assert "--generator-of" in capsys.readouterr().out


def test_a_model_beside_is_no_route_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`NAME-textfree` is a model by itself: no cascade is its companion but `NAME-textfree-cascade`."""
    from tiny_cascade import make_cascade

    monkeypatch.setattr(registry, "MODELS_FOLDER", tmp_path)
    for name in ("flowers-and-birds", "flowers-and-birds-textfree"):
        make_model(tmp_path / name)
    make_cascade(tmp_path / "flowers-and-birds-cascade")
    textfree, cascade = find("flowers-and-birds-textfree"), find("flowers-and-birds-cascade")
    assert registry.companion(textfree, "cascade") is None
    assert registry.companion(cascade, "direct") == find("flowers-and-birds") == find("flowers")
    with pytest.raises(CheckpointError, match="no 'flowers-and-birds-textfree-cascade' lies beside it"):
        registry.find_route("flowers-and-birds-textfree", "cascade")
    served = open_registry((), 1).routes
    offered = {name: list(routes) for name, routes in served.items()}
    assert offered == {
        "flowers-and-birds": ["direct", "cascade"],
        "flowers-and-birds-textfree": ["direct"],
    }
