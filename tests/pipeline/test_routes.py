"""The table of routes, and the names of networks' inputs and outputs, which a model's card states."""

import hashlib
import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_cascade import make_cascade
from tiny_model import encoder_network, make_model, speech

import speech2image
from speech2image.audio.front_ends import FRONT_ENDS, PAPER
from speech2image.errors import CheckpointError, SettingsError
from speech2image.pipeline.base import Capabilities
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.registry import find
from speech2image.pipeline.routes import ROUTES

CLIP = (speech(), 16000)


def test_every_route_has_its_own_format_and_opener() -> None:
    assert len({kind.format for kind in ROUTES.values()}) == len(ROUTES)
    for kind in ROUTES.values():
        assert callable(importlib.import_module(kind.module).open_route)


def test_routes_say_what_they_can_do(tmp_path: Path) -> None:
    direct = speech2image.load(make_model(tmp_path / "direct"))
    assert direct.capabilities == Capabilities(False, False, False, False)
    for work in (direct.draw_text, direct.embed_text, direct.transcribe):
        with pytest.raises(SettingsError, match="of the direct route, which reads no text"):
            work("a red flower")
    cascade = speech2image.load(make_cascade(tmp_path / "cascade"))
    assert cascade.capabilities == Capabilities(True, True, False, False)
    assert cascade.draw_text("a red flower").images


def renamed(folder: Path, names: dict[str, str]) -> None:
    """Rename inputs and outputs of a model's speech encoder; its card states the new names."""
    network = encoder_network()
    for node in network.graph.node:
        for arrays in (node.input, node.output):
            arrays[:] = [names.get(name, name) for name in arrays]
    for array in (*network.graph.input, *network.graph.output):
        array.name = names[array.name]
    content = network.SerializeToString()
    onnx.checker.check_model(network)
    (folder / "speech_encoder.onnx").write_bytes(content)
    card = json.loads((folder / "model.json").read_text())
    card["files"]["speech_encoder"] |= {
        "sha256": hashlib.sha256(content).hexdigest(),
        "inputs": [array.name for array in network.graph.input],
        "outputs": [array.name for array in network.graph.output],
    }
    (folder / "model.json").write_text(json.dumps(card))


def test_a_network_may_call_its_arrays_what_it_likes_if_the_card_says_so(tmp_path: Path) -> None:
    old = make_model(tmp_path / "old")  # states no names, as those of version 0.1
    assert find(old).signature("speech_encoder") == (("log_mel", "n_frames"), ("speech_embedding",))
    new = make_model(tmp_path / "new")
    renamed(new, {"log_mel": "frames", "n_frames": "lengths", "speech_embedding": "vector"})
    assert find(new).signature("speech_encoder") == (("frames", "lengths"), ("vector",))
    expected, found = (speech2image.load(folder).translate(CLIP, seed=3) for folder in (old, new))
    assert expected.images[0].tobytes() == found.images[0].tobytes()


@pytest.mark.parametrize("inputs", [[], "log_mel", ["a", "a"], ["a\nb"], [""], [1], ["x"] * 17, None])
def test_names_that_no_network_has_are_refused(tmp_path: Path, inputs: object) -> None:
    folder = make_model(tmp_path / "m")
    card = json.loads((folder / "model.json").read_text())
    card["files"]["generator"] |= {"inputs": inputs, "outputs": ["picture"]}
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="'inputs' of 'generator' is no list"):
        find(folder)


def test_a_network_with_other_arrays_than_its_card_states_is_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    card = json.loads((folder / "model.json").read_text())
    card["files"]["generator"] |= {"inputs": ["condition", "z"], "outputs": ["picture"]}
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="not this project's"):
        speech2image.load(folder)


def test_a_new_front_end_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose card states it is opened and fed by it; loading and routes know none by name."""

    def upside_down(samples: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(PAPER.function(samples)[::-1])

    new = replace(PAPER, name="upside-down", array_name="upside-down", function=upside_down)
    folder = make_model(tmp_path / "m", front_end=new.describe())
    with pytest.raises(CheckpointError, match="needs the front end 'upside-down'"):
        find(folder)
    monkeypatch.setitem(FRONT_ENDS, new.name, new)
    route = speech2image.load(folder)
    model = route.model
    encoder = Session(model.read("speech_encoder"), *model.signature("speech_encoder"), "encoder")
    frames = upside_down(CLIP[0])
    expected = encoder(frames[None], np.array([frames.shape[1]]))[0]
    np.testing.assert_array_equal(route.embed(CLIP), expected)
    assert not np.allclose(expected, speech2image.load(make_model(tmp_path / "paper")).embed(CLIP))
