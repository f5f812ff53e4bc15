"""Parity check: ONNX Runtime must give what torch gives, for samples alone and as one padded batch."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from speech2image import audio
from speech2image.asr.text import characters
from speech2image.audio.front_ends import PAPER, FrontEnd
from speech2image.errors import CheckpointError
from speech2image.pipeline.cascade import counts_of
from speech2image.pipeline.generator import Generator
from speech2image.pipeline.noise import noise
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.routes import PRIOR

SAME = 2e-3
"""The most ONNX with float32 weights may differ from torch; in a picture a quarter of one of 256 levels."""
SAME_MEAN = 5e-4
"""The most the mean over all pictures' values may differ, with float32 weights; a sixteenth of a level."""
LAST_DIGIT, SAME_AT_MOST = 5, 5e-2
"""A picture may differ by so many times what the last digit of its embedding changes in it, and never by more
than the second. A generator of a few steps blows rounding up: its BatchNorms divide by the spread of
conditions that hardly differ. What goes wrong in an export changes more, and everywhere (`SAME_MEAN`)."""
SAME_FLOAT16 = 1e-2
"""The most rounding the weights may change: relative for embeddings, the mean over a picture's values."""
SAME_CHANCES = 2e-2
"""The most rounding the weights may change a probability of CTC or of a domain."""
SAME_EIGHT_BIT, SAME_CHANCES_EIGHT_BIT = 1e-2, 0.1
"""The same for weights and arithmetic in eight bits: how far an embedding may turn (1 - cosine), and the mean
change of a probability."""


@dataclass(frozen=True)
class Parity:
    """How far ONNX Runtime is from torch, over all the inputs tried.

    Attributes:
        embedding: largest difference of an embedding of speech or text, relative to the largest value of all,
            float32 weights.
        picture, picture_mean: largest and mean difference of a picture's values in [-1, 1], float32 weights.
        embedding_float16, picture_float16, picture_float16_mean: the same with the weights shipped: float16,
            or float32 where rounding them would change too much.
        last_digit: the most the last digit of an embedding changes in a picture, with torch.
        embedding_eight_bit: how far an embedding turns (1 - cosine, the largest) where the encoder is shipped
            in eight bits; 0 where it is not.
    """

    embedding: float
    picture: float
    picture_mean: float
    embedding_float16: float
    picture_float16: float
    picture_float16_mean: float
    last_digit: float = 0.0
    embedding_eight_bit: float = 0.0

    def stated(self) -> dict[str, float]:
        """What `model.json` states: of eight bits only where there are any."""
        found = asdict(self)
        if not self.embedding_eight_bit:
            del found["embedding_eight_bit"]
        return found


@dataclass(frozen=True)
class Inputs:
    """What an encoder is compared on.

    Attributes:
        encoder: its network, one of `onnx.ARRAYS`; "" where embeddings are given as they are.
        count: samples.
        read: rows -> its inputs for those samples as one batch.
        arrays: of `onnx.ARRAYS`, what it takes and gives; by default what a network of its name does.
    """

    encoder: str
    count: int
    read: Callable[[slice], tuple[torch.Tensor, ...]]
    arrays: str = ""


def of_clips(log_mels: Sequence[NDArray[np.float32]]) -> Inputs:
    """Inputs of a speech encoder: frames [features, n], padded with zeros to the longest of a batch."""
    clips = [_trimmed(log_mel) for log_mel in log_mels]
    return Inputs("speech_encoder", len(clips), lambda rows: _padded(clips[rows]))


def of_captions(captions: Sequence[str]) -> Inputs:
    """Inputs of a text encoder."""
    letters = torch.from_numpy(np.stack([characters(caption) for caption in captions]))
    return Inputs("text_encoder", len(captions), lambda rows: (letters[rows],))


def of_words(captions: Sequence[str], vocabulary: Sequence[str]) -> Inputs:
    """Inputs of a text encoder of word vectors."""
    places = {word: k for k, word in enumerate(vocabulary)}
    counts = torch.from_numpy(np.stack([counts_of(caption, places) for caption in captions]))
    return Inputs("text_encoder", len(captions), lambda rows: (counts[rows],), "word_vectors")


@dataclass(frozen=True)
class Expected:
    """What torch gives for all inputs as one batch.

    Attributes:
        inputs: of the encoder.
        embeddings, noise, pictures: what came of them.
        prior_noise: so much of the noise goes into the condition prior; 0 without one.
        last_digit: the most the last digit of an embedding changes in a picture.
    """

    inputs: Inputs
    embeddings: torch.Tensor
    noise: torch.Tensor
    pictures: torch.Tensor
    prior_noise: int = 0
    last_digit: float = 0.0


@torch.no_grad()
def expect(
    encoder: nn.Module, generator: nn.Module, inputs: Inputs, noise_size: int, prior_noise: int = 0
) -> Expected:
    """Run both networks with torch on all inputs as one batch."""
    z = torch.from_numpy(noise(inputs.count, noise_size, 0))
    embeddings = encoder(*inputs.read(slice(0, inputs.count)))
    pictures = generator(embeddings, z)
    beside = generator(torch.nextafter(embeddings, torch.tensor(torch.inf)), z)
    return Expected(inputs, embeddings, z, pictures, prior_noise, float((beside - pictures).abs().max()))


def compare(models: dict[str, onnx.ModelProto], expected: Expected) -> tuple[float, float, float]:
    """Run ONNX, all networks of a model, on every sample alone and on all as one batch.

    Returns:
        Largest difference of an embedding, relative to the largest value of all; largest and mean difference
        of a picture.
    """
    prior = _session(models[PRIOR], PRIOR) if PRIOR in models else None
    drawing = Generator(_session(models["generator"], "generator"), prior, expected.prior_noise)
    off = []
    for rows in _alone_and_together(expected.inputs.count):
        z = expected.noise[rows].numpy()
        drawn = drawing.pictures(drawing.conditions(expected.embeddings[rows].numpy(), z), z)
        off.append(np.abs(drawn - expected.pictures[rows].numpy()))
    encoder = models.get(expected.inputs.encoder)
    embedding = 0.0 if encoder is None else compare_encoder(encoder, expected.inputs, expected.embeddings)
    return embedding, _largest([one.max() for one in off]), _largest([one.mean() for one in off])


def compare_encoder(model: onnx.ModelProto, inputs: Inputs, embeddings: torch.Tensor) -> float:
    """The largest difference of an embedding, relative to the largest value of all; as in `compare`."""
    encoder, off = _session(model, inputs.encoder), []
    for rows in _alone_and_together(inputs.count):
        given = (tensor.numpy() for tensor in inputs.read(rows))
        off.append(np.abs(encoder(*given) - embeddings[rows].numpy()).max())
    return _largest(off) / float(embeddings.abs().max())


def compare_directions(model: onnx.ModelProto, inputs: Inputs, embeddings: torch.Tensor) -> float:
    """How far an embedding of a sample alone turns, 1 - cosine, the largest."""
    encoder, off = _session(model, inputs.encoder), []
    for k in range(inputs.count):
        found = encoder(*(tensor.numpy() for tensor in inputs.read(slice(k, k + 1))))[0].astype(np.float64)
        wanted = embeddings[k].numpy().astype(np.float64)
        off.append(1 - found @ wanted / np.sqrt((found @ found) * (wanted @ wanted)))
    return _largest(off)


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
        found = session(log_mel.numpy(), n_frames.numpy())
        off.append(np.abs(found - detector(log_mel, n_frames).numpy()).max())
    return _largest(off)


@torch.no_grad()
def compare_further(
    model: onnx.ModelProto, network: nn.Module, inputs: Inputs, further: Sequence[str], mean: bool = False
) -> dict[str, float]:
    """The largest difference of a probability, of each further output of a speech encoder, on every clip
    alone; or, with `mean`, the largest of the clips' means.

    Args:
        model: the encoder in ONNX.
        network: the same in torch: embedding, then log-probabilities.
        inputs: clips.
        further: names of the outputs, in that order.
    """
    session = _session(model, inputs.encoder)
    off: dict[str, list[np.floating]] = {name: [] for name in further}
    for k in range(inputs.count):
        given = inputs.read(slice(k, k + 1))
        found = session.all(*(tensor.numpy() for tensor in given))
        for name, one in zip(further, network(*given)[1:], strict=True):
            differences = np.abs(np.exp(one.numpy()) - np.exp(found[name]))
            off[name].append(differences.mean() if mean else differences.max())
    return {name: _largest(differences) for name, differences in off.items()}


def _session(model: onnx.ModelProto, network: str) -> Session:
    inputs, outputs = ([one.name for one in arrays] for arrays in (model.graph.input, model.graph.output))
    return Session(model.SerializeToString(), inputs, outputs, f"{network}.onnx")


def _alone_and_together(count: int) -> list[slice]:
    """Every sample alone, then all as one batch."""
    return [*(slice(k, k + 1) for k in range(count)), slice(0, count)]


def _largest(values: Sequence[np.floating]) -> float:
    """The largest value, NaN if there is one among them (which `max` may overlook)."""
    return float(np.max(values))


def check_parity(parity: Parity) -> None:
    """Refuse networks that changed on the way."""
    check_same("embedding", parity.embedding, SAME)
    check_same("picture", parity.picture, min(max(SAME, LAST_DIGIT * parity.last_digit), SAME_AT_MOST))
    check_same("picture_mean", parity.picture_mean, SAME_MEAN)
    check_same("embedding_float16", parity.embedding_float16, SAME_FLOAT16)
    check_same("picture_float16_mean", parity.picture_float16_mean, SAME_FLOAT16)


def fits_float16(parity: Parity) -> bool:
    """Whether the weights may be rounded to float16."""
    return parity.embedding_float16 <= SAME_FLOAT16 and parity.picture_float16_mean <= SAME_FLOAT16


def check_same(what: str, difference: float, bound: float) -> None:
    """Refuse a network that changed on the way; `not <=` so that NaN is refused too."""
    if not difference <= bound:
        raise CheckpointError(
            f"ONNX Runtime gives something else than torch: {what} differs by {difference:.3g}, "
            f"at most {bound:g} is allowed; nothing was written"
        )


def made_up_log_mels(front_end: FrontEnd = PAPER) -> list[NDArray[np.float32]]:
    """Frames of `made_up_clips`."""
    return [front_end.extract(clip) for clip in made_up_clips()]


def made_up_clips() -> list[NDArray[np.float32]]:
    """Buzzing sounds of 0.7 to 4 seconds at 16 kHz, for when no recording is at hand."""
    rng = np.random.default_rng(0)
    clips = []
    for seconds in (0.7, 1.3, 2.5, 4.0):
        t = np.arange(int(seconds * audio.SAMPLE_RATE)) / audio.SAMPLE_RATE
        phase = 2 * np.pi * np.cumsum(150 + 50 * np.sin(3 * seconds * t)) / audio.SAMPLE_RATE
        buzz = sum(np.sin(k * phase) / k for k in range(1, 20))
        clips.append((0.1 * buzz + 0.01 * rng.standard_normal(t.size)).astype(np.float32))
    return clips


def _trimmed(log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first ten seconds are enough to compare on."""
    return np.asarray(log_mel[:, :1000], dtype=np.float32)


def _padded(clips: Sequence[NDArray[np.float32]]) -> tuple[torch.Tensor, torch.Tensor]:
    n_frames = [clip.shape[1] for clip in clips]
    batch = torch.zeros(len(clips), clips[0].shape[0], max(n_frames))
    for row, clip in zip(batch, clips, strict=True):
        row[:, : clip.shape[1]] = torch.from_numpy(clip)
    return batch, torch.tensor(n_frames)
