"""Published Whisper weights: both layouts give the encoder; what is damaged or something else is refused."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tiny_whisper
import torch
from safetensors.torch import load_file, save_file

from speech2image import audio
from speech2image.audio.front_ends import WHISPER
from speech2image.errors import CheckpointError
from speech2image.models import whisper
from speech2image.models.whisper import load_backbone

FOLDER = os.environ.get("SPEECH2IMAGE_WHISPER")
"""A faster-whisper folder of any size, for the comparison with CTranslate2."""
CLIP = Path(__file__).parents[2] / "examples" / "recordings" / "blue-bird-kal16.opus"


def write_bin(folder: Path, **options) -> Path:
    values = tiny_whisper.variables(tiny_whisper.encoder())
    path = folder / "model.bin"
    path.write_bytes(tiny_whisper.ctranslate2_bytes(values, **options))
    return path


def test_safetensors_give_the_encoder(tmp_path: Path) -> None:
    wanted = tiny_whisper.encoder()
    path = tiny_whisper.write_safetensors(wanted, tmp_path / "model.safetensors")
    for place in (path, tmp_path):
        found = load_backbone(place)
        assert found.encoder.settings == tiny_whisper.SETTINGS and found.name == "unknown"
        assert len(found.sha256) == 64 and not found.encoder.training
        for name, value in wanted.state_dict().items():
            assert torch.equal(found.encoder.state_dict()[name], value), name


@pytest.mark.parametrize(("kind", "off"), [(0, 0.0), (4, 3e-4)])
def test_ctranslate2s_file_gives_the_encoder(tmp_path: Path, kind: int, off: float) -> None:
    write_bin(tmp_path, kind=kind)
    found = load_backbone(tmp_path).encoder.state_dict()
    for name, value in tiny_whisper.encoder().state_dict().items():
        torch.testing.assert_close(found[name], value, atol=off, rtol=0)


def test_no_file_is_an_error(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "model.bin"):
        with pytest.raises(CheckpointError, match=r"no Whisper weights at .*openai/whisper-tiny\.en"):
            load_backbone(place)


@pytest.mark.parametrize("kept", [0, 3, 20, 100, 5000, -30_000])
def test_a_file_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    path = write_bin(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="ends too early"):
        load_backbone(path)


def test_another_version_or_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="version 5"):
        load_backbone(write_bin(tmp_path, version=5))
    with pytest.raises(CheckpointError, match="no Whisper model"):
        load_backbone(write_bin(tmp_path, spec="TransformerSpec"))


def test_rounded_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="int8"):
        load_backbone(write_bin(tmp_path, kind=1))


def test_lengths_that_lie_are_refused_without_reading_so_much(tmp_path: Path) -> None:
    content = write_bin(tmp_path).read_bytes()
    name = b"encoder/conv1/weight\0"
    place = content.index(name) + len(name)
    huge = content[:place] + struct.pack("<BIII", 3, 2**31, 2**31, 2**31) + content[place + 13 :]
    many = content[:22] + struct.pack("<I", 2**31) + content[26:]
    for broken, says in ((huge, "cannot take"), (many, "variables")):
        (tmp_path / "model.bin").write_bytes(broken)
        with pytest.raises(CheckpointError, match=says):
            load_backbone(tmp_path)


def _without(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["model.encoder.layers.1.fc2.bias"]


def _other_shape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.encoder.conv2.weight"] = torch.zeros(64, 64, 5)


def _other_positions(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.encoder.embed_positions.weight"] = torch.zeros(30, 64)


def _not_finite(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.encoder.conv1.bias"][3] = torch.nan


def _no_encoder(tensors: dict[str, torch.Tensor]) -> None:
    tensors.clear()
    tensors["weight"] = torch.zeros(3)


@pytest.mark.parametrize("change", [_without, _other_shape, _other_positions, _not_finite, _no_encoder])
def test_tensors_that_are_not_whispers_are_refused(tmp_path: Path, change) -> None:
    path = tiny_whisper.write_safetensors(tiny_whisper.encoder(), tmp_path / "model.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_backbone(path)


@pytest.mark.skipif(FOLDER is None, reason="SPEECH2IMAGE_WHISPER names no faster-whisper folder")
def test_states_agree_with_ctranslate2(monkeypatch: pytest.MonkeyPatch) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    frames = WHISPER.extract(audio.load(CLIP))
    model = ctranslate2.models.Whisper(FOLDER, compute_type="float32", intra_threads=1)
    theirs = np.array(model.encode(ctranslate2.StorageView.from_array(frames[None])))
    encoder, exact = load_backbone(FOLDER or "").encoder, whisper.sinusoids

    @torch.inference_mode()
    def off() -> np.ndarray:
        states, _ = encoder(torch.from_numpy(frames)[None], torch.tensor([frames.shape[1]]))
        return np.abs(states.numpy() - theirs)

    assert off().mean() < 2e-3  # CTranslate2's file rounds the positions to float16
    monkeypatch.setattr(whisper, "sinusoids", lambda *size: exact(*size).half().float())
    assert off().max() < 5e-3  # of values up to 11
