"""Whisper's audio encoder (Radford et al. 2022), of any size and masked: log-mels -> a state every 20 ms.

Two convolutions, of which the second halves the rate, sinusoidal positions, Transformer layers with the norm
first. OpenAI fills every clip up to 30 seconds; here a clip has its own length, and its states depend neither
on how far its batch is padded nor on what stands in the padding. `whisper_weights.py` reads the weights.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.audio.front_ends import WHISPER
from speech2image.models.speech_encoder import valid_mask


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
