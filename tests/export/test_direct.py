import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_whisper
import torch
from exported import save_trained
from tiny_model import make_model, speech, write_wav
from tiny_networks import MatrixGenerator
from torch import nn

import speech2image
from speech2image import audio
from speech2image.audio.front_ends import PAPER, WHISPER
from speech2image.errors import CheckpointError, OutputError, SettingsError
from speech2image.export import direct
from speech2image.export import onnx as export_onnx
from speech2image.export.parity import Parity, check_parity
from speech2image.models import speech_encoder
from speech2image.models.gan import one_stage, stackgan_v2
from speech2image.models.pretrained_speech_encoder import (
    PoolingHeadSettings,
    PretrainedEncoderSettings,
    PretrainedSpeechEncoder,
)

ENCODER = speech_encoder.PRESETS["toy"]
ONE_STAGE = one_stage.GeneratorSettings(16, noise_size=7, code_size=8, channels=(8, 8, 4))
TREE = stackgan_v2.Architecture(branches=2, generator_width=4, discriminator_width=4, noise=7, code=6)


class Encoder(nn.Module):
    """Mean over the valid frames, a recurrent layer's last state, a matrix."""

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        self.recurrent = nn.GRU(40, 32, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(64, size)

    def forward(self, log_mel: torch.Tensor, n_frames: torch.Tensor) -> torch.Tensor:
        valid = torch.arange(log_mel.shape[2])[None] < n_frames[:, None]
        mean = (log_mel * valid[:, None]).sum(2) / n_frames[:, None]
        return self.linear(self.recurrent(mean[:, None])[0][:, 0])


class Generator(nn.Module):
    """Two matrices and a convolution."""

    def __init__(self, condition: int = 16, noise: int = 7, wild: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(condition + noise, 8 * 16)
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 3, 3, padding=1)
        self.wild = wild

    def forward(self, condition: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        maps = self.linear(torch.cat([condition, noise], 1)).view(-1, 8, 4, 4)
        picture = torch.tanh(self.conv(nn.functional.interpolate(self.norm(maps), scale_factor=2)))
        return picture / 2 if self.wild and torch.onnx.is_in_onnx_export() else picture


def recordings() -> list[np.ndarray]:
    return [speech(seconds, seed) for seconds, seed in ((0.7, 0), (2.0, 1), (1.1, 2))]


def log_mels() -> list[np.ndarray]:
    return [audio.log_mel(clip) for clip in recordings()]


def write(folder: Path, generator: nn.Module | None = None, **options: object) -> direct.Parity:
    torch.manual_seed(0)
    wanted = {"name": "mine", "licence": "CC0-1.0", "noise_size": 7, "clips": recordings()} | options
    return direct.export_direct(Encoder(), generator or Generator(), folder, **wanted)  # type: ignore[arg-type]


def test_folder_runs_and_equals_torch(tmp_path) -> None:
    parity = write(tmp_path / "mine", description="a test", voices=["a", "b"])
    card = json.loads((tmp_path / "mine" / "model.json").read_text())
    assert card["parity"]["embedding"] == parity.embedding < 1e-5
    assert "embedding_eight_bit" not in card["parity"]  # the encoder is none of those
    assert parity.picture < 1e-5
    assert 0 < parity.picture_float16_mean <= parity.picture_float16 < 1e-2
    assert (card["name"], card["licence"], card["voices"]) == ("mine", "CC0-1.0", ["a", "b"])
    assert (card["picture_size"], card["embedding_size"], card["noise_size"]) == (8, 16, 7)
    torch.manual_seed(0)
    encoder, clip = Encoder().eval(), log_mels()[1]
    with torch.no_grad():
        expected = encoder(torch.from_numpy(clip)[None], torch.tensor([clip.shape[1]]))[0]
    found = speech2image.load(tmp_path / "mine").embed((speech(2.0, 1), 16000))
    assert np.allclose(found, expected.numpy(), atol=2e-3)


def test_weights_are_float16_on_disk_and_no_path_is_told(tmp_path) -> None:
    write(tmp_path / "mine")
    content = (tmp_path / "mine" / "speech_encoder.onnx").read_bytes()
    model = onnx.load_from_string(content)
    size = export_onnx.SMALLEST_HALVED
    large = [w for w in model.graph.initializer if len(w.dims) > 1 and np.prod(w.dims) >= size]
    assert large
    assert all(weight.data_type == onnx.TensorProto.FLOAT16 for weight in large)
    assert str(Path(__file__).parents[2]).encode() not in content
    assert b"site-packages" not in content


@pytest.mark.parametrize("kind", ["one_stage_gan", "stackgan_v2"])
def test_real_networks_from_checkpoints(tmp_path, kind: str) -> None:
    """Checkpoints as the trainings write them; random BatchNorm statistics, so that a lost one shows."""
    torch.manual_seed(1)
    encoder = _stirred(speech_encoder.SpeechEncoder(ENCODER))
    generator: nn.Module
    if kind == "one_stage_gan":
        generator, sizes = (
            _stirred(one_stage.OneStageGenerator(ONE_STAGE)),
            {"generator": vars(ONE_STAGE)},
        )
    else:
        generator, sizes = _stirred(stackgan_v2.TreeGenerator(TREE)), {"networks": vars(TREE)}
    save_trained(tmp_path / "e.safetensors", "speech_encoder", {"encoder": vars(ENCODER)}, encoder)
    save_trained(tmp_path / "g.safetensors", kind, sizes, generator)
    parity = direct.export_checkpoints(
        tmp_path / "e.safetensors", tmp_path / "g.safetensors", tmp_path / "m", name="m", licence="x"
    )
    assert parity.embedding < 1e-4
    assert parity.picture < 1e-4
    route = speech2image.load(tmp_path / "m")
    result = route.translate(write_wav(tmp_path / "a.wav"), n=2)
    assert result.images[0].size == ((16, 16) if kind == "one_stage_gan" else (128, 128))
    assert result.speech_embedding.shape == (1024,)
    assert result.images[0].tobytes() != result.images[1].tobytes()


def test_padding_never_changes_an_embedding(tmp_path) -> None:
    """The exported encoder gives a clip the same embedding alone and padded with anything in a batch."""
    from speech2image.pipeline.onnx import Session

    torch.manual_seed(1)
    encoder = _stirred(speech_encoder.SpeechEncoder(ENCODER))
    generator = one_stage.OneStageGenerator(ONE_STAGE)
    direct.export_direct(encoder, generator, tmp_path / "m", name="m", licence="x", noise_size=7)
    session = Session(
        (tmp_path / "m" / "speech_encoder.onnx").read_bytes(),
        ("log_mel", "n_frames"),
        ("speech_embedding",),
        "e",
    )
    clips = log_mels()
    batch = np.random.default_rng(0).standard_normal((3, 40, 400)).astype(np.float32) * 10
    for row, clip in zip(batch, clips, strict=True):
        row[:, : clip.shape[1]] = clip
    together = session(batch, np.array([clip.shape[1] for clip in clips]))
    for found, clip in zip(together, clips, strict=True):
        alone = session(clip[None], np.array([clip.shape[1]]))[0]
        assert np.allclose(found, alone, atol=1e-4)


def test_different_picture_is_refused_and_nothing_written(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="something else than torch: picture differs"):
        write(tmp_path / "new" / "mine", Generator(wild=True))
    assert list((tmp_path / "new").iterdir()) == []


class Sharp(MatrixGenerator):
    """Blows rounding up `gain` times, as a generator does after a few steps; `shift` is an export's fault."""

    def __init__(self, gain: float, shift: float = 0.0) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.gain, self.shift = gain, shift

    def forward(self, condition: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        pixels = torch.sin(self.gain * self.linear(torch.cat([condition, noise], 1))).view(-1, 3, 8, 8)
        return pixels + self.shift if torch.onnx.is_in_onnx_export() else pixels


def test_a_generator_that_blows_up_rounding_can_be_exported(tmp_path) -> None:
    """The last digit of an embedding changes as much in its pictures; see `parity.LAST_DIGIT`."""
    calm, sharp = (write(tmp_path / f"{gain}", Sharp(gain)) for gain in (1.0, 3e3))
    assert calm.last_digit < 1e-6 < 1e-4 < sharp.last_digit
    assert speech2image.load(tmp_path / "3000.0").translate((speech(), 16000), n=2).images


@pytest.mark.parametrize(
    ("picture", "mean", "last_digit", "same"),
    [
        (1.9e-3, 1e-5, 0.0, True),
        (2.1e-3, 1e-5, 0.0, False),
        (6e-3, 5e-6, 2e-3, True),  # a toy training of 2 + 2 steps
        (6e-3, 5e-6, 1e-3, False),
        (1.9e-3, 6e-4, 0.0, False),  # everywhere a little
        (6e-3, 6e-4, 2e-3, False),
        (6e-2, 5e-6, 1.0, False),
        (float("nan"), 5e-6, 1.0, False),
        (1e-3, 5e-6, float("nan"), True),
    ],
)
def test_how_far_a_picture_may_be(picture: float, mean: float, last_digit: float, same: bool) -> None:
    found = Parity(1e-6, picture, mean, 1e-3, 0.5, 3e-3, last_digit)
    if same:
        check_parity(found)
    else:
        with pytest.raises(CheckpointError, match="something else than torch: picture"):
            check_parity(found)


class Delicate(MatrixGenerator):
    """Draws from what float16 takes from its weights: the ten-thousandths by which they differ."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.linear.weight.mul_(1e-3).add_(1)
            self.linear.bias.zero_()

    def forward(self, condition: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        both = torch.cat([condition, noise], 1)
        return torch.tanh(100 * (self.linear(both) - both.sum(1, keepdim=True))).view(-1, 3, 8, 8)


def test_weights_that_float16_would_change_too_much_stay_float32(tmp_path) -> None:
    parity = write(tmp_path / "mine", Delicate())
    assert parity.picture_float16_mean == parity.picture_mean < 5e-4
    model = onnx.load(tmp_path / "mine" / "generator.onnx")
    assert not any(weight.data_type == onnx.TensorProto.FLOAT16 for weight in model.graph.initializer)
    assert speech2image.load(tmp_path / "mine").translate((speech(), 16000)).images


@pytest.mark.parametrize("gain", [1.0, 3e3])
def test_the_bound_still_finds_what_an_export_changed(tmp_path, gain: float) -> None:
    """A shift of a thousandth of the range, less than one of 256 levels, everywhere."""
    with pytest.raises(CheckpointError, match="something else than torch: picture"):
        write(tmp_path / "mine", Sharp(gain, shift=2e-3))
    assert list(tmp_path.iterdir()) == []


def test_broken_weights_are_refused(tmp_path) -> None:
    generator = Generator()
    with torch.no_grad():
        generator.linear.weight[0, 0] = float("nan")
    with pytest.raises(CheckpointError):
        write(tmp_path / "mine", generator)
    with torch.no_grad():
        generator.linear.weight[0, 0] = 1e6
    with pytest.raises(CheckpointError, match="too large"):
        write(tmp_path / "mine", generator)
    with torch.no_grad():
        generator.linear.weight[0, 0] = 0
        generator.conv.bias[0] = float("nan")
    with pytest.raises(CheckpointError, match="nan"):
        write(tmp_path / "mine", generator)
    assert list(tmp_path.iterdir()) == []


def test_too_large(tmp_path) -> None:
    with pytest.raises(SettingsError, match=r"a network is too large .* 0\.0\d MB.*nothing was written"):
        write(tmp_path / "mine", max_bytes=1000)
    assert list(tmp_path.iterdir()) == []


def test_replaces_a_model_but_nothing_else(tmp_path) -> None:
    old = make_model(tmp_path / "old")
    write(old)
    assert speech2image.load(old).name == "mine"
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("dear")
    with pytest.raises(OutputError, match="not a model folder"):
        write(tmp_path / "letters")
    with pytest.raises(OutputError, match="not a model folder"):
        write(tmp_path / "letters" / "dear.txt")
    with pytest.raises(OutputError, match="cannot write"):
        write(tmp_path / "letters" / "dear.txt" / "mine")
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["dear.txt"]


def test_checkpoints_in_the_wrong_place(tmp_path) -> None:
    encoder = speech_encoder.SpeechEncoder(ENCODER)
    path = tmp_path / "e.safetensors"
    save_trained(path, "speech_encoder", {"encoder": vars(ENCODER)}, encoder)
    with pytest.raises(CheckpointError, match="not of a generator"):
        direct.export_checkpoints(path, path, tmp_path / "m", name="m", licence="x")
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(CheckpointError):
        direct.export_checkpoints(path, tmp_path / "junk", tmp_path / "m", name="m", licence="x")
    assert not (tmp_path / "m").exists()


def _stirred(module: nn.Module) -> nn.Module:
    for name, buffer in module.named_buffers():
        if "var" in name:
            buffer.uniform_(0.5, 2)
        elif "mean" in name:
            buffer.normal_(0, 0.3)
    return module.eval()


def test_an_encoder_with_another_front_end(tmp_path) -> None:
    shape = PretrainedEncoderSettings(
        tiny_whisper.SETTINGS, PoolingHeadSettings(width=16, heads=2, output=16)
    )
    encoder = PretrainedSpeechEncoder(shape).eval()
    options = {"noise_size": 7, "clips": recordings(), "front_end": WHISPER}
    direct.export_direct(encoder, Generator(), tmp_path / "mine", name="mine", licence="CC0-1.0", **options)
    assert json.loads((tmp_path / "mine" / "model.json").read_text())["front_end"] == WHISPER.describe()
    result = speech2image.load(tmp_path / "mine").translate((speech(1.5), 16_000))
    frames = torch.from_numpy(WHISPER.extract(speech(1.5)))[None]
    with torch.no_grad():
        expected = encoder(frames, torch.tensor([frames.shape[2]]))[0].numpy()
    np.testing.assert_allclose(result.speech_embedding, expected, atol=0.02)
    assert result.log_mel.shape[0] == 40  # what is shown, and what a speech detector takes


def test_a_model_that_states_no_front_end_takes_the_papers(tmp_path) -> None:
    write(tmp_path / "mine")
    before = speech2image.load(tmp_path / "mine").embed((speech(1.5), 16_000))
    path = tmp_path / "mine" / "model.json"
    card = json.loads(path.read_text())
    assert card.pop("front_end") == PAPER.describe()
    path.write_text(json.dumps(card))
    np.testing.assert_array_equal(speech2image.load(tmp_path / "mine").embed((speech(1.5), 16_000)), before)
    path.write_text(json.dumps(card | {"front_end": {"name": "mfcc"}}))
    with pytest.raises(CheckpointError, match="needs the front end 'mfcc'"):
        speech2image.load(tmp_path / "mine")
