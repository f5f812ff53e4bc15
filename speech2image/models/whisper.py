"""Whisper's audio encoder (Radford et al. 2022), of any size and masked: log-mels -> a state every 20 ms.

Two convolutions, of which the second halves the rate, sinusoidal positions, Transformer layers with the norm
first. OpenAI pads every clip to 30 seconds; here a clip keeps its own length, and its states depend neither
on how far its batch is padded nor on what the padding holds. Two published layouts are read, without running
anything in them; a folder that holds one of the files may be named in its place:

    model.safetensors   of openai/whisper-tiny.en and its siblings (Hugging Face's names)
    model.bin           of a faster-whisper folder: CTranslate2's format, version 6, float32 or float16
"""

import hashlib
import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.audio.front_ends import WHISPER
from speech2image.errors import CheckpointError
from speech2image.models.published import where
from speech2image.models.speech_encoder import valid_mask
from speech2image.models.weight_files import read_safetensors


@dataclass(frozen=True)
class WhisperSettings:
    """The shape of a WhisperEncoder; the default is tiny's (8.2 M parameters).

    Attributes:
        width: of the states.
        layers: Transformer layers.
        heads: of their attention; each takes 64 numbers in all of OpenAI's sizes.
    """

    width: int = 384
    layers: int = 4
    heads: int = 6


class TransformerLayer(nn.Module):
    """Self-attention over the valid steps and a two-layer network, each after a norm and added to its input.

    Args:
        width: of the states.
        heads: of the attention.
        dropout: on what each part adds, in training.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch steps width"], valid: Bool[Tensor, "batch 1 1 steps"]
    ) -> Float[Tensor, "batch steps width"]:
        x = x + self.dropout(self._attend(self.attention_norm(x), valid))
        return x + self.dropout(self.narrow(F.gelu(self.widen(self.mlp_norm(x)))))

    def _attend(self, x: Tensor, valid: Tensor) -> Tensor:
        parts = self.query_key_value(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=valid)
        return self.attention_out(mixed.transpose(1, 2).flatten(2))


class WhisperEncoder(nn.Module):
    """Frames of `front_ends.WHISPER` -> states."""

    def __init__(self, settings: WhisperSettings = WhisperSettings()) -> None:
        super().__init__()
        self.settings = settings
        self.conv1 = nn.Conv1d(WHISPER.n_features, settings.width, 3, padding=1)
        self.conv2 = nn.Conv1d(settings.width, settings.width, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(
            TransformerLayer(settings.width, settings.heads) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(settings.width)

    def forward(
        self, log_mel: Float[Tensor, "batch 80 frames"], n_frames: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch steps width"], Int[Tensor, " batch"]]:
        """States of every 20 ms and the valid steps of each clip, ceil(frames / 2).

        Args:
            log_mel: from `front_ends.WHISPER`, padded on the right with anything.
            n_frames: valid frames of each clip.
        """
        inside = valid_mask(n_frames, log_mel.shape[-1])[:, None]
        x = F.gelu(self.conv1(log_mel.masked_fill(~inside, 0.0))).masked_fill(~inside, 0.0)
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        n_steps = torch.div(n_frames + 1, 2, rounding_mode="floor")
        valid = valid_mask(n_steps, x.shape[1])[:, None, None]
        x = x + sinusoids(x.shape[1], self.settings.width, x.device)
        for layer in self.layers:
            x = layer(x, valid)
        return self.norm(x), n_steps


def sinusoids(
    length: int | Tensor, channels: int, device: torch.device | None = None
) -> Float[Tensor, "length channels"]:
    """Whisper's position encodings: sines, then cosines, of wavelengths from 2 pi to 10,000 times that."""
    step = math.log(10_000) / (channels // 2 - 1)
    rates = torch.exp(-step * torch.arange(channels // 2, device=device))
    angles = torch.arange(length, device=device)[:, None] * rates  # type: ignore[arg-type]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


ALLOWED = (
    "give model.safetensors of openai/whisper-tiny.en (or another size), or a faster-whisper folder with "
    "model.bin in float16 or float32"
)
PUBLISHED = {
    "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a": "Whisper tiny.en (faster-whisper)",
    "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9": "Whisper base (faster-whisper)",
}
"""SHA-256 -> what it is, of the files that were compared with CTranslate2's own output."""
FILES = ("model.safetensors", "model.bin")
HEAD_WIDTH = 64
LONGEST_NAME = 512
MOST_VARIABLES = 10_000
MOST_NUMBERS = 2**28
CTRANSLATE2_VERSION = 6
TYPES: dict[int, type[np.generic]] = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
"""CTranslate2's numbers of data types."""


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder and where it came from.

    Attributes:
        encoder: in evaluation mode.
        sha256: of the file.
        name: what the file is known as; "unknown" for one that this version does not know.
    """

    encoder: WhisperEncoder
    sha256: str
    name: str


def load_backbone(path: str | os.PathLike[str]) -> Backbone:
    """Whisper's encoder from a published file, or from a folder that holds one.

    Raises:
        CheckpointError: no such file; it is damaged or something else.
    """
    file = weights_file(Path(path))
    with open(file, "rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    if file.suffix == ".bin":
        tensors, names = read_ctranslate2(file), _ctranslate2_names
    else:
        tensors, names = read_safetensors(file, ALLOWED), _hugging_face_names
    encoder = _filled(tensors, names, file)
    return Backbone(encoder.eval(), sha256, PUBLISHED.get(sha256, "unknown"))


def weights_file(path: Path) -> Path:
    """The file of published weights that is named, or that lies in the folder named.

    Raises:
        CheckpointError: there is none.
    """
    candidates = [path / name for name in FILES] if path.is_dir() else [path]
    found = next((file for file in candidates if file.is_file()), None)
    if found is None:
        raise CheckpointError(f"no Whisper weights at {path}; {ALLOWED}; {where('whisper-tiny.en')}")
    return found


def _filled(
    tensors: dict[str, Tensor], names: Callable[[dict[str, Tensor]], dict[str, Tensor]], file: Path
) -> WhisperEncoder:
    """An encoder of the size that the tensors show, with their weights."""
    try:
        state = names(tensors)
        width = len(state["norm.weight"])
        layers = len([name for name in state if name.endswith("widen.weight")])
        encoder = WhisperEncoder(WhisperSettings(width, layers, width // HEAD_WIDTH))
        positions = state.pop("positions").float()
        encoder.load_state_dict({name: value.float() for name, value in state.items()})
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise CheckpointError(f"{file} does not hold Whisper's encoder ({reason}); {ALLOWED}") from error
    expected = sinusoids(len(positions), width)
    if positions.shape != expected.shape or not torch.allclose(positions, expected, atol=2e-3):
        raise CheckpointError(f"{file} has other position encodings than Whisper's; {ALLOWED}")
    if not all(bool(torch.isfinite(value).all()) for value in encoder.state_dict().values()):
        raise CheckpointError(f"{file} is damaged: it holds weights that are not finite; {ALLOWED}")
    return encoder


_OURS_AND_HUGGING_FACES = {
    "attention_norm": "self_attn_layer_norm",
    "attention_out": "self_attn.out_proj",
    "mlp_norm": "final_layer_norm",
    "widen": "fc1",
    "narrow": "fc2",
}
_OURS_AND_CTRANSLATE2S = {
    "attention_norm": "self_attention/layer_norm",
    "query_key_value": "self_attention/linear_0",
    "attention_out": "self_attention/linear_1",
    "mlp_norm": "ffn/layer_norm",
    "widen": "ffn/linear_0",
    "narrow": "ffn/linear_1",
}
_PARTS = ("weight", "bias")


def _hugging_face_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors under this project's names; queries, keys (without bias) and values joined."""
    inside = [name.partition("encoder.")[2] for name in tensors]
    own = {name: value for name, value in zip(inside, tensors.values(), strict=True) if name}
    layers = len([name for name in own if name.endswith("fc1.weight")])
    state = {"positions": own["embed_positions.weight"]}
    for part in _PARTS:
        state |= {f"{conv}.{part}": own[f"{conv}.{part}"] for conv in ("conv1", "conv2")}
        state[f"norm.{part}"] = own[f"layer_norm.{part}"]
        for i in range(layers):
            for ours, theirs in _OURS_AND_HUGGING_FACES.items():
                state[f"layers.{i}.{ours}.{part}"] = own[f"layers.{i}.{theirs}.{part}"]
    for i in range(layers):
        attention = f"layers.{i}.self_attn."
        joined = [own[f"{attention}{which}_proj.weight"] for which in "qkv"]
        biases = [own[f"{attention}q_proj.bias"], torch.zeros(len(joined[1])), own[f"{attention}v_proj.bias"]]
        state[f"layers.{i}.query_key_value.weight"] = torch.cat(joined)
        state[f"layers.{i}.query_key_value.bias"] = torch.cat([bias.to(joined[0].dtype) for bias in biases])
    return state


def _ctranslate2_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors under this project's names."""
    layers = len([name for name in tensors if name.endswith("ffn/linear_0/weight")])
    state = {"positions": tensors["encoder/position_encodings/encodings"]}
    pairs = {"conv1": "conv1", "conv2": "conv2", "norm": "layer_norm"}
    for i in range(layers):
        pairs |= {f"layers.{i}.{ours}": f"layer_{i}/{name}" for ours, name in _OURS_AND_CTRANSLATE2S.items()}
    for ours, theirs in pairs.items():
        weight, bias = ("gamma", "beta") if theirs.endswith("layer_norm") else _PARTS
        state[f"{ours}.weight"] = tensors[f"encoder/{theirs}/{weight}"]
        state[f"{ours}.bias"] = tensors[f"encoder/{theirs}/{bias}"]
    return state


def read_ctranslate2(path: Path, prefix: str = "encoder/") -> dict[str, Tensor]:
    """The variables of a CTranslate2 file whose names begin with `prefix`.

    Every length is checked against what the file holds.

    Raises:
        CheckpointError: it is cut short, of another version, or something else.
    """
    with open(path, "rb") as file:
        reader = _Reader(file, path, prefix)
        version = reader.number("<I")
        if version != CTRANSLATE2_VERSION:
            raise reader.error(f"it is of version {version}, not {CTRANSLATE2_VERSION}")
        if reader.text() != "WhisperSpec":
            raise reader.error("it is no Whisper model")
        reader.number("<I")  # the specification's revision
        count = reader.number("<I")
        if count > MOST_VARIABLES:
            raise reader.error(f"it says it holds {count} variables")
        found = dict(reader.variable() for _ in range(count))
    return {name: value for name, value in found.items() if value is not None}


class _Reader:
    """Reads the pieces of a CTranslate2 file, none of which may reach beyond its end."""

    def __init__(self, file: BinaryIO, path: Path, prefix: str) -> None:
        self.file, self.path, self.prefix = file, path, prefix
        self.left = path.stat().st_size

    def error(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self.path} is damaged or no CTranslate2 model: {reason}; {ALLOWED}")

    def take(self, size: int) -> bytes:
        content = self.file.read(size) if size <= self.left else b""
        self.left -= size
        if len(content) != size:
            raise self.error("it ends too early")
        return content

    def number(self, kind: str) -> int:
        (value,) = struct.unpack(kind, self.take(struct.calcsize(kind)))
        return int(value)

    def text(self) -> str:
        size = self.number("<H")
        if size > LONGEST_NAME:
            raise self.error(f"a name of {size} bytes")
        return self.take(size).rstrip(b"\0").decode("ascii", errors="replace")

    def variable(self) -> tuple[str, Tensor | None]:
        """A variable whose name begins with the prefix, or another one's name alone."""
        name = self.text()
        shape = [self.number("<I") for _ in range(self.number("<B"))]
        kind, size = self.number("<B"), self.number("<I")
        numbers = int(np.prod(shape, dtype=object)) if shape else 1
        dtype = np.dtype(TYPES[kind]) if kind in TYPES else None
        if dtype is None or numbers > MOST_NUMBERS or numbers * dtype.itemsize != size:
            raise self.error(f"'{name}' of the type {kind} and the shape {shape} cannot take {size} bytes")
        content = self.take(size)
        if not name.startswith(self.prefix) or numbers == 1:  # single numbers are options, not weights
            return name, None
        if dtype not in (np.float16, np.float32):
            raise self.error(f"'{name}' is stored as {dtype}, which rounds too much to learn from")
        return name, torch.from_numpy(np.frombuffer(content, dtype).reshape(shape).astype(np.float32))
