"""Piper: its files, its seeded draws; with a real voice where one lies in the folder of voice files."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from speech2image import tts
from speech2image.errors import CheckpointError, MissingExtraError, SettingsError
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.onnx_check import VOICE
from speech2image.tts import Voice, piper

SENTENCE = "this flower has bright yellow petals and long green leaves"
REAL = piper.names()
needs_voice = pytest.mark.skipif(
    not (REAL and importlib.util.find_spec("piper")),
    reason="needs pip install 'speech2image[tts]' and a voice in $SPEECH2IMAGE_VOICES/piper",
)


def small_network(file: Path, draws: int = 2) -> Path:
    """A network that returns its draws: [tokens, values] of noise one after the other."""
    names = [f"draw_{i}" for i in range(draws)]
    nodes = [helper.make_node("Cast", ["input"], ["shaped"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("RandomNormalLike", ["shaped"], [name], seed=1.0) for name in names]
    nodes += [helper.make_node("Concat", names, ["output"], axis=0)]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["m"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.save(model, file)
    return file


def test_draws_become_inputs_used_over_and_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piper, "_DRAWS", 5)
    model = piper._with_noise_inputs(small_network(tmp_path / "voice.onnx"))
    session = Session(model, ("input", "duration_noise", "sound_noise"), ("output",), "voice", 1, VOICE)
    first, second = np.arange(5, dtype=np.float32), np.arange(5, dtype=np.float32) + 10
    for n in (3, 12):
        drawn = session(np.zeros(n, np.int64), first, second)
        expected = np.concatenate([np.resize(first, n), np.resize(second, n)])
        np.testing.assert_array_equal(drawn, expected)


def test_what_is_no_piper_voice_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"voice\.onnx is not a Piper voice: it has 1 draws"):
        piper._with_noise_inputs(small_network(tmp_path / "voice.onnx", draws=1))
    (tmp_path / "voice.onnx").write_bytes(b"no network")
    with pytest.raises(CheckpointError, match=r"voice\.onnx cannot be opened as an ONNX network"):
        piper._with_noise_inputs(tmp_path / "voice.onnx")


def test_weights_in_another_file_are_not_read(tmp_path: Path) -> None:
    """The package onnx would read them into the network."""
    model = onnx.load(small_network(tmp_path / "voice.onnx", draws=2))
    weight = model.graph.initializer.add()
    weight.name, weight.data_type, weight.data_location = "w", TensorProto.FLOAT, TensorProto.EXTERNAL
    weight.dims.append(2)
    (tmp_path / "secret.bin").write_bytes(bytes(8))
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "secret.bin"
    (tmp_path / "voice.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="takes weights from another file"):
        piper._with_noise_inputs(tmp_path / "voice.onnx")


def test_files_are_found_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECH2IMAGE_VOICES", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda *args: True)
    model = tmp_path / "piper" / "joe.onnx"
    model.parent.mkdir()
    for id in (f"piper/{model}", "piper/joe"):
        with pytest.raises(SettingsError, match=r"no Piper voice file.*rhasspy/piper-voices"):
            tts.find_voice(id)
    model.touch()
    assert piper.names() == []
    for id in (f"piper/{model}", "piper/joe"):
        with pytest.raises(SettingsError, match=r"joe\.onnx\.json beside it"):
            tts.find_voice(id)
    (model.parent / "joe.onnx.json").write_text("{}")
    assert tts.find_voice(f"piper/{model}") == Voice("piper", str(model))
    assert tts.find_voice("piper/joe") in tts.available_voices()


def test_without_package_and_program_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piper.shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda *args: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'speech2image\[tts\]'"):
        tts.speak(SENTENCE, Voice("piper", str(tmp_path / "voice.onnx")))


@pytest.mark.skipif(not importlib.util.find_spec("piper"), reason="needs pip install 'speech2image[tts]'")
@pytest.mark.parametrize("settings", ["", "[]", "{}", '{"audio": 3}'])
def test_damaged_settings_are_named(tmp_path: Path, settings: str) -> None:
    (tmp_path / "voice.onnx").touch()
    (tmp_path / "voice.onnx.json").write_text(settings)
    with pytest.raises(CheckpointError, match=r"voice\.onnx\.json is not the settings of a Piper voice"):
        tts.speak(SENTENCE, Voice("piper", str(tmp_path / "voice.onnx")))


@needs_voice
def test_a_real_voice_speaks_and_a_seed_decides_how() -> None:
    voice = tts.find_voice(f"piper/{REAL[0]}")
    speech = tts.speak(SENTENCE, voice, seed=1)
    assert 2.0 < len(speech) / 16_000 < 6.0 and 0.5 < np.abs(speech).max() < 1.0
    np.testing.assert_array_equal(tts.speak(SENTENCE, voice, seed=1), speech)
    other = tts.speak(SENTENCE, voice, seed=2)
    assert len(other) != len(speech) or not np.array_equal(other, speech)


@needs_voice
def test_a_real_voice_without_variation_draws_nothing_and_keeps_to_the_rate() -> None:
    voice = tts.find_voice(f"piper/{REAL[0]}")
    plain, again = (tts.speak(SENTENCE, voice, seed=seed, variation=0.0) for seed in (1, 2))
    np.testing.assert_array_equal(plain, again)
    fast = tts.speak(SENTENCE, voice, variation=0.0, rate=1.5)
    assert 1.3 < len(plain) / len(fast) < 1.55  # Piper rounds the length of every sound up
