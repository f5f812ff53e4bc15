"""A detector that knows hissing alone from other sounds stands for the trained one."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import make_model, speech
from tiny_networks import MatrixGenerator, MeanEncoder
from torch import nn

import speech2image
from speech2image import audio, cli
from speech2image.errors import CheckpointError, SpeechError
from speech2image.export import direct
from speech2image.pipeline.loading import open_vad
from speech2image.pipeline.registry import find


class LowSounds(nn.Module):
    """Probability 0.9 where the upper bands are not much louder than the lower ones."""

    def __init__(self, wrong: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.wrong = wrong

    def forward(self, log_mel: torch.Tensor, n_frames: torch.Tensor) -> torch.Tensor:
        steps = log_mel[:, :, :: 2 if self.wrong else 4]
        valid = torch.arange(steps.shape[2])[None] * 4 < n_frames[:, None]
        return 0.9 * self.weight * ((steps[:, :20].mean(1) > steps[:, 20:].mean(1) - 4) & valid).float()


def hiss(seconds: float = 2.0) -> np.ndarray:
    return (0.1 * np.diff(np.random.default_rng(0).standard_normal(int(seconds * 16000) + 1))).astype(
        np.float32
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = make_model(tmp_path / "mine", description="kept")
    off = direct.add_speech_detector(model, LowSounds())
    assert set(off) == {"speech", "speech_float16"} and max(off.values()) < 1e-5
    return model


def test_speech_passes_and_other_sounds_are_refused(folder: Path) -> None:
    route = speech2image.load(folder)
    assert route.translate((speech(2.0), 16000)).images
    for call in (route.translate, route.embed, lambda clip: route.interpolate(clip, (speech(), 16000))):
        with pytest.raises(
            SpeechError, match=r"no speech heard: 0\.\d s of 2\.0 s sound like speech.*speak closer"
        ):
            call((hiss(), 16000))
    assert speech2image.load(folder, vad=False).translate((hiss(), 16000)).images
    with pytest.warns(DeprecationWarning, match="vad"):
        assert speech2image.load(folder, detect_speech=False).vad is None


def test_a_fifth_of_a_second_is_enough(folder: Path) -> None:
    detector = open_vad(find(folder))
    assert detector is not None
    for seconds, heard in ((0.1, False), (0.4, True)):
        sound = np.concatenate([hiss(1.0), speech(seconds), hiss(1.0)])
        assert detector.has_speech(audio.log_mel(sound)) is heard
    assert len(detector.steps(audio.log_mel(speech(1.0)))) == 25


def test_folder_stays_what_it_was_but_for_the_detector(folder: Path, tmp_path: Path) -> None:
    plain = make_model(tmp_path / "plain")
    card = json.loads((folder / "model.json").read_text())
    content = (folder / "speech_detector.onnx").read_bytes()
    assert card["files"]["speech_detector"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert card["description"] == "kept" and "speech" in card["parity"]
    for network in ("speech_encoder", "generator"):
        assert (folder / f"{network}.onnx").read_bytes() == (plain / f"{network}.onnx").read_bytes()
    model = find(folder)
    assert set(model.sha256) == {"speech_encoder", "generator", "speech_detector"}
    assert model.size == sum(path.stat().st_size for path in folder.glob("*.onnx"))
    direct.add_speech_detector(folder, LowSounds())
    assert find(plain).networks == ("speech_encoder", "generator")
    assert open_vad(find(plain)) is None


def test_export_with_a_detector(tmp_path: Path) -> None:
    told = {"name": "m", "licence": "x", "noise_size": 7}
    direct.export_direct(
        MeanEncoder(), MatrixGenerator(), tmp_path / "m", speech_detector=LowSounds(), **told
    )
    route = speech2image.load(tmp_path / "m")
    assert route.vad is not None
    assert "speech_float16" in route.model.card["parity"]
    with pytest.raises(SpeechError, match="no speech heard"):
        route.translate((hiss(), 16000))


def test_damaged_and_foreign_detectors(folder: Path) -> None:
    path = folder / "speech_detector.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"speech_detector\.onnx is damaged"):
        speech2image.load(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"speech_detector\.onnx is missing"):
        speech2image.load(folder)
    card = json.loads((folder / "model.json").read_text())
    card["files"]["speech_detector"] = {"file": "../x.onnx"}
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="does not name the file of 'speech_detector'"):
        speech2image.load(folder)


def test_detector_of_other_steps_is_told(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "mine")
    direct.add_speech_detector(folder, LowSounds(wrong=True))
    with pytest.raises(CheckpointError, match="one probability for every 4"):
        speech2image.load(folder).translate((speech(), 16000))


def test_silence_is_refused_by_the_command_line(folder: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "hiss.flac").write_bytes(audio.encode_flac(hiss()))
    words = ["translate", str(tmp_path / "hiss.flac"), "--model", str(folder), "-o", str(tmp_path / "a.png")]
    assert cli.main(words) == 1
    assert "no speech heard" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()
