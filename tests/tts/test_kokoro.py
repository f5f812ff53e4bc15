"""Kokoro: files as published, mixtures, tokens; the real network where its files are."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from speech2image import tts
from speech2image.errors import CheckpointError, SettingsError
from speech2image.tts import Voice, kokoro, kokoro_files

SENTENCE = "this flower has bright yellow petals and long green leaves"
REAL = kokoro.names()
needs_files = pytest.mark.skipif(
    not REAL, reason="needs pip install 'speech2image[tts]' and Kokoro in $SPEECH2IMAGE_VOICES/kokoro"
)
needs_phonemizer = pytest.mark.skipif(
    not importlib.util.find_spec("phonemizer"), reason="needs pip install 'speech2image[tts]'"
)


def styles(first: float, rows: int = 510) -> np.ndarray:
    """Styles whose row n is filled with first + n."""
    return np.repeat(first + np.arange(rows, dtype=np.float32)[:, None], 256, axis=1)


def small_network(file: Path, tokens: str = "tokens", output: str = "audio") -> None:
    """A network that returns its tokens, the style's first value and the speed, each times 1e-4."""
    values = {tokens: (TensorProto.INT64, [1, "n"]), "style": (TensorProto.FLOAT, [1, 256])}
    values["speed"] = (TensorProto.FLOAT, [1])
    nodes = [
        helper.make_node("Constant", [], ["flat"], value_ints=[-1]),
        helper.make_node("Constant", [], ["zero"], value_ints=[0]),
        helper.make_node("Constant", [], ["scale"], value_float=1e-4),
        helper.make_node("Cast", [tokens], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["numbers", "flat"], ["one"]),
        helper.make_node("Reshape", ["style", "flat"], ["two"]),
        helper.make_node("Gather", ["two", "zero"], ["first"]),
        helper.make_node("Concat", ["one", "first", "speed"], ["all"], axis=0),
        helper.make_node("Mul", ["all", "scale"], [output]),
    ]
    inputs = [helper.make_tensor_value_info(name, *value) for name, value in values.items()]
    graph = helper.make_graph(
        nodes, "small", inputs, [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["m"])]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), file)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of made-up files as the ONNX community publishes them, phonemes as letters."""
    monkeypatch.setenv("SPEECH2IMAGE_VOICES", str(tmp_path))
    monkeypatch.setattr(kokoro, "_phonemes", lambda text, language: text)
    place = tmp_path / "kokoro"
    (place / "voices").mkdir(parents=True)
    (place / "onnx").mkdir()
    small_network(place / "onnx" / "model_quantized.onnx", "input_ids", "waveform")
    letters = {letter: number for number, letter in enumerate("$abcdefghij ")}
    (place / "tokenizer.json").write_text(json.dumps({"model": {"vocab": letters}}))
    for number, name in enumerate(("af_heart", "am_adam", "bf_emma", "jf_alpha")):
        styles(1000.0 * number)[:, None].tofile(place / "voices" / f"{name}.bin")
    kokoro_files.speakers.cache_clear()
    return place


def said(text: str, name: str, rate: float = 1.0) -> np.ndarray:
    samples, sample_rate = kokoro.speak(text, name, tts.Delivery(rate=rate, threads=1))
    assert sample_rate == 24_000
    return samples * 10_000


def test_tokens_style_and_speed_reach_the_network(files: Path) -> None:
    np.testing.assert_allclose(said("ab jz", "af_heart", 1.5), [0, 1, 2, 11, 10, 0, 4, 1.5], rtol=1e-6)


def test_the_other_publisher_s_names_and_files(files: Path) -> None:
    (files / "onnx" / "model_quantized.onnx").unlink()
    (files / "tokenizer.json").unlink()
    small_network(files / "model.onnx")
    (files / "config.json").write_text(json.dumps({"vocab": {"a": 7}}))
    np.savez(files / "voices.npz", af_sky=styles(50.0, 200).astype(np.float16))
    kokoro_files.speakers.cache_clear()
    np.testing.assert_allclose(said("a", "af_sky"), [0, 7, 0, 51, 1], rtol=1e-6)
    np.testing.assert_allclose(said("a" * 300, "af_sky")[-2], 249, rtol=1e-6)  # the last style there is


def test_a_mixture_is_the_weighted_mean(files: Path) -> None:
    mixed = said("a", "af_heart*0.25+bf_emma*0.75")
    np.testing.assert_allclose(mixed[-2], 0.75 * 2000 + 1, rtol=1e-6)


def test_long_text_is_spoken_in_parts(files: Path) -> None:
    samples = said("abcdefghi " * 90, "am_adam")
    assert (samples == 0).sum() == 4 and len(samples) == 899 - 1 + 2 * 4  # without the blank between them


def test_voices_are_listed_and_found(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *args: True)
    assert kokoro.names() == ["af_heart", "am_adam", "bf_emma"]
    for name in ("af_heart", "jf_alpha", "af_heart*0.6+am_adam*0.4"):
        assert tts.find_voice(f"kokoro/{name}") == Voice("kokoro", name)
    assert tts.available_voices()[0].id == "kokoro/af_heart"
    with pytest.raises(SettingsError, match=r"no speaker 'af_nobody'.*af_heart, am_adam"):
        tts.find_voice("kokoro/af_heart+af_nobody")


@pytest.mark.parametrize(
    "name", ["", "af heart", "af_heart*", "af_heart*-1+am_adam", "a+", "a*0", "a+a", "a*b"]
)
def test_what_is_no_mixture(name: str) -> None:
    with pytest.raises(SettingsError, match="is not a voice of Kokoro"):
        kokoro.parse(name)


def test_weights_are_shares() -> None:
    assert kokoro.parse("am_adam+bf_emma*3") == [("am_adam", 0.25), ("bf_emma", 0.75)]
    assert kokoro._language(kokoro.parse("am_adam+bf_emma*3")) == "en-gb"
    assert kokoro._language(kokoro.parse("am_adam")) == "en-us"


def test_random_mixtures_are_drawn_by_the_seed_alone() -> None:
    speakers = [f"a{sex}_{letter}" for sex in "fm" for letter in "abcdefgh"]
    drawn = [kokoro.random_mixture(speakers, seed) for seed in range(300)]
    assert drawn == [kokoro.random_mixture(speakers[::-1], seed) for seed in range(300)]
    assert drawn[0] == "am_h*0.44+af_d*0.26+am_e*0.3"
    mixtures = [kokoro.parse(name) for name in drawn]
    assert {len(mixture) for mixture in mixtures} == {2, 3} and len(set(drawn)) > 295
    assert {speaker for mixture in mixtures for speaker, _ in mixture} == set(speakers)
    assert all(weight > 0.149 for mixture in mixtures for _, weight in mixture)


def test_missing_files_are_named_with_where_they_are_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEECH2IMAGE_VOICES", str(tmp_path))
    assert kokoro.names() == []
    with pytest.raises(SettingsError, match=r"no network.*kokoro.*onnx-community/Kokoro-82M"):
        tts.find_voice("kokoro/af_heart")
    place = tmp_path / "kokoro"
    place.mkdir()
    small_network(place / "model.onnx")
    kokoro_files.speakers.cache_clear()
    with pytest.raises(SettingsError, match=r"no speaker 'af_heart'.*none: put voices"):
        tts.find_voice("kokoro/af_heart")
    with pytest.raises(SettingsError, match=r"no vocabulary.*tokenizer\.json"):
        kokoro_files.vocabulary(place)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 300, np.full(256, np.nan, np.float32).tobytes(), b"PK\3\4 no"]
)
def test_damaged_styles_are_named(files: Path, content: bytes) -> None:
    (files / "voices" / "am_adam.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"am_adam\.bin does not hold the styles of am_adam"):
        kokoro_files.styles(files, "am_adam")


@pytest.mark.parametrize("content", ["", "[]", '{"vocab": 3}', '{"vocab": {"a": "b"}}'])
def test_a_damaged_vocabulary_is_named(files: Path, content: str) -> None:
    (files / "vocab.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"vocab\.json is not a vocabulary"):
        kokoro_files.vocabulary(files)


def test_another_network_is_named(files: Path) -> None:
    small_network(files / "onnx" / "model_quantized.onnx", "words", "audio")
    with pytest.raises(CheckpointError, match=r"model_quantized\.onnx.*words"):
        said("a", "af_heart")


@needs_phonemizer
def test_phonemes_have_stress_and_punctuation_of_either_country() -> None:
    american = kokoro._phonemes("a purple flower, isn't it?", "en-us")
    assert "p\u02c8\u025c" in american and "," in american and american.endswith("?")
    assert american != kokoro._phonemes("a purple flower, isn't it?", "en-gb")


@needs_files
def test_the_real_network_speaks_the_same_again() -> None:
    voice = tts.find_voice(f"kokoro/{REAL[0]}")
    speech = tts.speak(SENTENCE, voice)
    assert 2.0 < len(speech) / 16_000 < 6.0 and 0.1 < np.abs(speech).max() < 1.0
    np.testing.assert_array_equal(tts.speak(SENTENCE, voice), speech)
    assert len(speech) / len(tts.speak(SENTENCE, voice, rate=1.25)) == pytest.approx(1.25, rel=0.12)


@needs_files
def test_a_mixture_of_the_real_network_is_another_voice() -> None:
    alone = tts.speak("a red rose", tts.find_voice(f"kokoro/{REAL[0]}"))
    mixed = tts.speak("a red rose", tts.find_voice(f"kokoro/{REAL[0]}*0.5+{REAL[-1]}*0.5"))
    assert len(alone) != len(mixed) or not np.array_equal(alone, mixed)
