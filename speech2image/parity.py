"""Does ONNX Runtime give what torch gives? Compared on clips or captions, alone and as one padded batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from speech2image import audio
from speech2image.errors import CheckpointError
from speech2image.painter import Brush
from speech2image.pretrained import PRIOR, SIGNATURES
from speech2image.runtime import Session, noise
from speech2image.text import characters

SAME = 2e-3
"""The most ONNX with float32 weights may differ from torch; in a picture a quarter of one of 256 levels."""
SAME_FLOAT16 = 1e-2
"""The most rounding the weights may change: relative for embeddings, the mean over a picture's values."""


@dataclass(frozen=True)
class Parity:
    """How far ONNX Runtime is from torch, over all the inputs tried.

    Attributes:
        embedding: largest difference of an embedding of speech or text, relative to the largest value of all,
            float32 weights.
        picture, picture_mean: largest and mean difference of a picture's values in [-1, 1], float32 weights.
        embedding_float16, picture_float16, picture_float16_mean: the same with the float16 weights shipped.
    """

    embedding: float
    picture: float
    picture_mean: float
    embedding_float16: float
    picture_float16: float
    picture_float16_mean: float


@dataclass(frozen=True)
class Inputs:
    """What an encoder is compared on.

    Attributes:
        encoder: its network, one of `pretrained.SIGNATURES`.
        count: samples.
        read: rows -> its inputs for those samples as one batch.
    """

    encoder: str
    count: int
    read: Callable[[slice], tuple[torch.Tensor, ...]]


def of_clips(log_mels: Sequence[NDArray[np.float32]]) -> Inputs:
    """Inputs of a speech encoder: log-mels [40, frames], padded with zeros to the longest of a batch."""
    clips = [_trimmed(log_mel) for log_mel in log_mels]
    return Inputs("speech_encoder", len(clips), lambda rows: _padded(clips[rows]))


def of_captions(captions: Sequence[str]) -> Inputs:
    """Inputs of a text encoder."""
    letters = torch.from_numpy(np.stack([characters(caption) for caption in captions]))
    return Inputs("text_encoder", len(captions), lambda rows: (letters[rows],))


@dataclass(frozen=True)
class Expected:
    """What torch gives for all inputs as one batch.

    Attributes:
        inputs: of the encoder.
        embeddings, noise, pictures: what came of them.
        prior_noise: so much of the noise goes into the condition prior; 0 without one.
    """

    inputs: Inputs
    embeddings: torch.Tensor
    noise: torch.Tensor
    pictures: torch.Tensor
    prior_noise: int = 0


@torch.no_grad()
def expect(
    encoder: nn.Module, generator: nn.Module, inputs: Inputs, noise_size: int, prior_noise: int = 0
) -> Expected:
    """Run both networks with torch on all inputs as one batch."""
    z = torch.from_numpy(noise(inputs.count, noise_size, 0))
    embeddings = encoder(*inputs.read(slice(0, inputs.count)))
    return Expected(inputs, embeddings, z, generator(embeddings, z), prior_noise)


def compare(models: dict[str, onnx.ModelProto], expected: Expected) -> tuple[float, float, float]:
    """Run ONNX, all networks of a model, on every sample alone and on all as one batch.

    Returns:
        Largest difference of an embedding, relative to the largest value of all; largest and mean difference
        of a picture.
    """
    prior = _session(models[PRIOR], PRIOR) if PRIOR in models else None
    brush = Brush(_session(models["generator"], "generator"), prior, expected.prior_noise)
    off = []
    for rows in _alone_and_together(expected.inputs.count):
        z = expected.noise[rows].numpy()
        drawn = brush.pictures(brush.conditions(expected.embeddings[rows].numpy(), z), z)
        off.append(np.abs(drawn - expected.pictures[rows].numpy()))
    embedding = compare_encoder(models[expected.inputs.encoder], expected.inputs, expected.embeddings)
    return embedding, _largest([one.max() for one in off]), _largest([one.mean() for one in off])


def compare_encoder(model: onnx.ModelProto, inputs: Inputs, embeddings: torch.Tensor) -> float:
    """The largest difference of an embedding, relative to the largest value of all; as in `compare`."""
    names, encoder = SIGNATURES[inputs.encoder][0], _session(model, inputs.encoder)
    off = []
    for rows in _alone_and_together(inputs.count):
        given = dict(zip(names, (tensor.numpy() for tensor in inputs.read(rows)), strict=True))
        off.append(np.abs(encoder(**given) - embeddings[rows].numpy()).max())
    return _largest(off) / float(embeddings.abs().max())


@torch.no_grad()
def compare_detector(
    model: onnx.ModelProto, detector: nn.Module, log_mels: Sequence[NDArray[np.float32]]
) -> float:
    """The largest difference of a probability of speech, on every clip alone and on all as one batch."""
    clips = [_trimmed(log_mel) for log_mel in log_mels]
    session = _session(model, "speech_detector")
    off = []
    for rows in _alone_and_together(len(clips)):
        log_mel, n_frames = _padded(clips[rows])
        found = session(log_mel=log_mel.numpy(), n_frames=n_frames.numpy())
        off.append(np.abs(found - detector(log_mel, n_frames).numpy()).max())
    return _largest(off)


def _session(model: onnx.ModelProto, network: str) -> Session:
    return Session(model.SerializeToString(), *SIGNATURES[network], name=f"{network}.onnx")


def _alone_and_together(count: int) -> list[slice]:
    """Every sample alone, then all as one batch."""
    return [*(slice(k, k + 1) for k in range(count)), slice(0, count)]


def _largest(values: Sequence[np.floating]) -> float:
    """The largest value, NaN if there is one among them (which `max` may overlook)."""
    return float(np.max(values))


def check_parity(parity: Parity) -> None:
    """Refuse networks that changed on the way."""
    bounds = {
        "embedding": SAME,
        "picture": SAME,
        "embedding_float16": SAME_FLOAT16,
        "picture_float16_mean": SAME_FLOAT16,
    }
    for key, bound in bounds.items():
        check_same(key, getattr(parity, key), bound)


def check_same(what: str, difference: float, bound: float) -> None:
    """Refuse a network that changed on the way; `not <=` so that NaN is refused too."""
    if not difference <= bound:
        raise CheckpointError(
            f"ONNX Runtime gives something else than torch: {what} differs by {difference:.3g}, "
            f"at most {bound:g} is allowed; nothing was written"
        )


def made_up_log_mels() -> list[NDArray[np.float32]]:
    """Log-mels of buzzing sounds of 0.7 to 4 seconds, for when no recording is at hand."""
    rng = np.random.default_rng(0)
    clips = []
    for seconds in (0.7, 1.3, 2.5, 4.0):
        t = np.arange(int(seconds * audio.SAMPLE_RATE)) / audio.SAMPLE_RATE
        phase = 2 * np.pi * np.cumsum(150 + 50 * np.sin(3 * seconds * t)) / audio.SAMPLE_RATE
        buzz = sum(np.sin(k * phase) / k for k in range(1, 20))
        clips.append(audio.log_mel((0.1 * buzz + 0.01 * rng.standard_normal(t.size)).astype(np.float32)))
    return clips


def _trimmed(log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first ten seconds are enough to compare on."""
    return np.asarray(log_mel[:, :1000], dtype=np.float32)


def _padded(clips: Sequence[NDArray[np.float32]]) -> tuple[torch.Tensor, torch.Tensor]:
    n_frames = [clip.shape[1] for clip in clips]
    batch = torch.zeros(len(clips), audio.N_MELS, max(n_frames))
    for row, clip in zip(batch, clips, strict=True):
        row[:, : clip.shape[1]] = torch.from_numpy(clip)
    return batch, torch.tensor(n_frames)
