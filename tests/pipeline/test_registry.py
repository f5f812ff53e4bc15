import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_model import encoder_network, make_model, speech

from speech2image.errors import CheckpointError, SettingsError, SpeechError
from speech2image.pipeline import loading, registry

EXAMPLES = Path(__file__).parents[2] / "examples" / "recordings"

SHIPPED = registry.available_models()


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> Path:
    """Two tiny models in the place of the shipped ones."""
    monkeypatch.setattr(registry, "MODELS_FOLDER", tmp_path / "models")
    for name in ("birds", "flowers-and-birds"):
        make_model(tmp_path / "models" / name)
    return tmp_path / "models"


def test_by_name(shipped: Path) -> None:
    assert registry.available_models() == ["birds", "flowers-and-birds"]
    assert loading.load("birds").name == "birds"
    assert loading.load().name == "flowers-and-birds"


def test_a_model_of_several_domains_answers_to_each(shipped: Path) -> None:
    assert loading.load("flowers").name == "flowers-and-birds"
    shutil.rmtree(shipped / "flowers-and-birds")
    with pytest.raises(CheckpointError, match="unknown model 'flowers'"):
        loading.load("flowers")


@pytest.mark.parametrize("part", ["", "model.json", "generator.onnx"])
def test_by_path(tmp_path, part: str) -> None:
    folder = make_model(tmp_path / "mine")
    assert loading.load(folder / part).name == "mine"
    assert loading.load(str(folder / part), threads=1).picture_size == 8


def test_unknown_name_lists_and_suggests(shipped: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"unknown model 'flower'.*did you mean 'flowers-and-birds'\?.*birds, flowers-and-birds",
    ):
        loading.load("flower")
    with pytest.raises(CheckpointError, match="unknown model 'xyz'") as caught:
        loading.load("xyz")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", ["a" * 5000, "a" * 300 + ".onnx", "a\0b", "\ud800"])
def test_names_no_folder_can_have(shipped: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"unknown model|there is no file"):
        registry.find(name)


@pytest.mark.parametrize("network", ["speech_encoder", "generator"])
def test_flipped_byte(tmp_path, network: str) -> None:
    folder = make_model(tmp_path / "mine")
    path = folder / f"{network}.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{network}\.onnx is damaged"):
        loading.load(folder)


@pytest.mark.parametrize("stated", [None, "", "0" * 63, "A" * 64, 5, ["0" * 64]])
def test_without_checksum(tmp_path, stated: object) -> None:
    """Every export has stated it; a folder without could have been exchanged by anyone."""
    files = {name: {"file": f"{name}.onnx", "sha256": stated} for name in ("speech_encoder", "generator")}
    with pytest.raises(CheckpointError, match=r"does not state the SHA-256 of 'speech_encoder'"):
        loading.load(make_model(tmp_path / "mine", files=files))


def test_a_foreign_network_with_its_checksum_is_refused(tmp_path) -> None:
    folder = make_model(tmp_path / "mine")
    content = encoder_network().SerializeToString()
    (folder / "generator.onnx").write_bytes(content)
    card = json.loads((folder / "model.json").read_text())
    card["files"]["generator"]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="is not this project's"):
        loading.load(folder)


def test_network_that_contradicts_its_card(tmp_path) -> None:
    model = loading.load(make_model(tmp_path / "a", picture_size=64))
    with pytest.raises(CheckpointError, match=r"\[1, 3, 64, 64\]"):
        model.translate((speech(), 16000))
    model = loading.load(make_model(tmp_path / "b", embedding_size=1024))
    with pytest.raises(CheckpointError, match=r"\[1, 1024\]"):
        model.translate((speech(), 16000))
    model = loading.load(make_model(tmp_path / "c", noise_size=100))
    with pytest.raises(CheckpointError, match="does not run"):
        model.translate((speech(), 16000))


def test_missing_parts(tmp_path) -> None:
    folder = make_model(tmp_path / "mine")
    (folder / "generator.onnx").unlink()
    with pytest.raises(CheckpointError, match=r"generator\.onnx is missing"):
        loading.load(folder)
    (folder / "model.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.json"):
        loading.load(folder)


def test_other_files(tmp_path) -> None:
    checkpoint = tmp_path / "speech_encoder.safetensors"
    checkpoint.write_bytes(b"x")
    with pytest.raises(CheckpointError, match="speech2image export"):
        loading.load(checkpoint)
    with pytest.raises(CheckpointError, match="no file"):
        loading.load(tmp_path / "absent.onnx")


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("{", "not JSON"),
        ("[]", "format None"),
        ('{"format": "other"}', "format 'other'"),
        ({"files": {}}, "does not name the file of 'speech_encoder'"),
        ({"files": {"speech_encoder": {"file": "../../etc/passwd"}}}, "does not name the file"),
        ({"noise_size": 0}, "'noise_size' is 0"),
        ({"picture_size": "big"}, "'picture_size' is 'big'"),
    ],
)
def test_damaged_card(tmp_path, card: str | dict[str, object], message: str) -> None:
    folder = make_model(tmp_path / "mine")
    path = folder / "model.json"
    path.write_text(card if isinstance(card, str) else json.dumps(json.loads(path.read_text()) | card))
    with pytest.raises(CheckpointError, match=re.escape(message)):
        loading.load(folder)


def test_threads(tmp_path) -> None:
    with pytest.raises(SettingsError, match="threads"):
        loading.load(make_model(tmp_path / "mine"), threads=0)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_model(name: str) -> None:
    """Whole, small enough, licensed, repeatable; it listens, and hears what is no speech."""
    one, other = sorted(EXAMPLES.glob("*.opus"))[:2]
    model = registry.find(name)
    assert model.name == name
    assert all(model.path(network).stat().st_size <= 25e6 for network in model.networks)
    assert model.size <= 60e6
    assert model.card["licence"]
    assert all(model.sha256.values())
    route = loading.load(name)
    first, again = (route.translate(one, n=2, seed=3) for _ in range(2))
    assert [image.tobytes() for image in first.images] == [image.tobytes() for image in again.images]
    assert first.images[0].tobytes() != first.images[1].tobytes()
    assert not np.allclose(first.speech_embedding, route.embed(other), atol=1e-3)
    with pytest.raises(SpeechError, match="no speech heard"):
        route.translate((speech(2.0), 16000))
