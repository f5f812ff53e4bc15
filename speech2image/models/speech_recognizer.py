"""Speech recognizer: log-mel frames of a spoken sentence -> its characters (the cascade's first step).

An encoder-decoder Transformer (Vaswani et al., "Attention is all you need", 2017) for speech (Dong et al.,
"Speech-Transformer", ICASSP 2018): strided convolutions shorten time, an encoder reads the whole clip, a
decoder writes one token after the other. A second head reads the encoder alone (CTC, Graves et
al. 2006); trained together they align sooner (Kim et al. 2017). An encoder layer may hold a convolution over
time (Conformer, Gulati et al. 2020), which learns faster from little speech.

Padding changes no output. The decoder reads a cache of keys and values, so that each step costs one token.

Presets: `paper` (Speech-Transformer's base size), `cpu` (6 M parameters: the shipped one), `toy`.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.audio import N_MELS
from speech2image.errors import SettingsError
from speech2image.models.speech_encoder import MaskedConvolution, check_lengths, valid_mask


@dataclass(frozen=True)
class SpeechRecognizerSettings:
    """The shape of a SpeechRecognizer.

    Attributes:
        tokens: size of the vocabulary, the blank and the end token included.
        strided: convolutions of stride 2 before the encoder: 2 make a step of 40 ms (paper), 3 one of 80 ms,
            long enough for groups of characters and half the work.
        channels: of each of them.
        width: of all vectors between layers.
        heads: of every attention; divides `width`.
        feed_forward: width inside a layer's two linear maps.
        encoder_layers, decoder_layers: how many.
        convolution: width in steps (odd) of a convolution over time in each encoder layer; 0 for none, as in
            the paper.
        dropout: in training, on embeddings and on what each sublayer adds.
    """

    tokens: int = 30
    strided: int = 2
    channels: int = 64
    width: int = 256
    heads: int = 4
    feed_forward: int = 2048
    encoder_layers: int = 12
    decoder_layers: int = 6
    convolution: int = 0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.strided not in (1, 2, 3):
            raise SettingsError(f"strided is {self.strided}; choose 1, 2 or 3 convolutions")
        if self.width % (2 * self.heads):
            raise SettingsError(f"width is {self.width}; choose a multiple of twice the {self.heads} heads")
        if self.convolution and self.convolution % 2 == 0:
            raise SettingsError(f"convolution is {self.convolution} steps wide; choose an odd number, or 0")


PRESETS = {
    "paper": SpeechRecognizerSettings(),
    "cpu": SpeechRecognizerSettings(
        strided=3,
        channels=32,
        width=192,
        feed_forward=768,
        encoder_layers=8,
        decoder_layers=3,
        convolution=9,
    ),
    "toy": SpeechRecognizerSettings(
        channels=8,
        width=48,
        heads=2,
        feed_forward=96,
        encoder_layers=2,
        decoder_layers=1,
        convolution=7,
        dropout=0.0,
    ),
}


class EncoderOutput(NamedTuple):
    """The recognizer encoder's output for a batch of clips.

    Attributes:
        memory: [batch, steps, width].
        n_steps: valid steps of each clip, [batch].
        ctc: log-probabilities of every token at every step, [batch, steps, tokens].
    """

    memory: Tensor
    n_steps: Tensor
    ctc: Tensor


class Cache(NamedTuple):
    """Keys and values a decoder has seen; each [layers, batch, heads, length, width / heads].

    Attributes:
        keys, values: of the tokens written so far; length 0 at the start.
        memory_keys, memory_values: of the encoder's steps.
    """

    keys: Tensor
    values: Tensor
    memory_keys: Tensor
    memory_values: Tensor


def sinusoids(positions: Int[Tensor, " length"], width: int) -> Float[Tensor, "length {width}"]:
    """Positions as sines and cosines of geometrically growing wavelengths, 2 pi to 20,000 pi (Vaswani)."""
    scale = math.log(10_000.0) / max(1, width // 2 - 1)
    rates = torch.exp(-scale * torch.arange(width // 2, device=positions.device))
    angles = positions[:, None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Attention(nn.Module):
    """Multi-head scaled dot-product attention whose keys and values may come from a cache."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def keys_values(
        self, source: Float[Tensor, "batch length width"]
    ) -> tuple[Float[Tensor, "batch heads length slice"], Float[Tensor, "batch heads length slice"]]:
        """Keys and values of what is attended to."""
        return self._split(self.key(source)), self._split(self.value(source))

    def forward(
        self,
        x: Float[Tensor, "batch queries width"],
        keys: Float[Tensor, "#batch heads length slice"],
        values: Float[Tensor, "#batch heads length slice"],
        mask: Bool[Tensor, "#batch 1 #queries length"] | None = None,
    ) -> Float[Tensor, "batch queries width"]:
        """Attend from `x`; `mask` is True where a query may look.

        Written out: on CPUs the gradient of torch's fused attention takes several times as long.
        """
        scores = self._split(self.query(x)) @ keys.transpose(2, 3) / math.sqrt(keys.shape[3])
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        heads = scores.float().softmax(dim=3).to(values.dtype) @ values
        return self.out(heads.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Two linear maps with an activation between them."""

    def __init__(self, width: int, hidden: int, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__(nn.Linear(width, hidden), activation(), nn.Linear(hidden, width))


class TimeConvolution(nn.Module):
    """Gate, depthwise convolution over time, norm, SiLU, linear (Conformer's convolution module).

    Layer normalisation stands for its batch normalisation, which would let clips change one another.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "batch steps width"], valid: Bool[Tensor, "batch steps"]
    ) -> Float[Tensor, "batch steps width"]:
        gated = F.glu(self.gate(x), dim=2) * valid[..., None].to(x.dtype)
        mixed = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        return self.out(F.silu(self.norm(mixed)))


class EncoderLayer(nn.Module):
    """Self-attention, a convolution if asked for, feed-forward; each after a norm, added to its input."""

    def __init__(self, settings: SpeechRecognizerSettings) -> None:
        super().__init__()
        width = settings.width
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width, settings.heads)
        self.convolution_norm: nn.LayerNorm | None = None
        self.convolution: TimeConvolution | None = None
        if settings.convolution:
            self.convolution_norm = nn.LayerNorm(width)
            self.convolution = TimeConvolution(width, settings.convolution)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, settings.feed_forward)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(
        self, x: Float[Tensor, "batch steps width"], valid: Bool[Tensor, "batch steps"]
    ) -> Float[Tensor, "batch steps width"]:
        normed = self.attention_norm(x)
        attended = self.attention(normed, *self.attention.keys_values(normed), valid[:, None, None])
        x = x + self.dropout(attended)
        if self.convolution is not None and self.convolution_norm is not None:
            x = x + self.dropout(self.convolution(self.convolution_norm(x), valid))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class DecoderLayer(nn.Module):
    """Attention to earlier tokens, attention to the encoder's steps, feed-forward; norms first."""

    def __init__(
        self, width: int, heads: int, feed_forward: int, dropout: float, activation: type[nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.memory_norm, self.memory_attention = nn.LayerNorm(width), Attention(width, heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, feed_forward, activation)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, cache: tuple[Tensor, ...], seen: Tensor | None, audible: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read new tokens.

        Args:
            x: new tokens [batch, new, width].
            cache: keys and values of earlier tokens, then of the memory, each [batch, heads, length, slice].
            seen: which tokens each new one may look at, [1, 1, new, earlier + new]; None for all.
            audible: which steps are valid, [batch, 1, 1, steps].

        Returns:
            [batch, new, width], and the keys and values of earlier and new tokens.
        """
        keys, values, memory_keys, memory_values = cache
        normed = self.attention_norm(x)
        new_keys, new_values = self.attention.keys_values(normed)
        keys, values = torch.cat([keys, new_keys], dim=2), torch.cat([values, new_values], dim=2)
        x = x + self.dropout(self.attention(normed, keys, values, seen))
        attended = self.memory_attention(self.memory_norm(x), memory_keys, memory_values, audible)
        x = x + self.dropout(attended)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x))), keys, values


class DecoderLayers(nn.ModuleList):
    """The `DecoderLayer`s of a decoder, one after the other, with their cache."""

    def start(self, memory: Float[Tensor, "batch steps width"]) -> Cache:
        """The cache before the first token."""
        pairs = [layer.memory_attention.keys_values(memory) for layer in map(_decoder_layer, self)]
        memory_keys, memory_values = (torch.stack(parts) for parts in zip(*pairs, strict=True))
        empty = memory_keys[:, :, :, :0]
        return Cache(empty, empty, memory_keys, memory_values)

    def read(
        self, x: Float[Tensor, "batch new width"], cache: Cache, seen: Tensor, n_steps: Int[Tensor, " #batch"]
    ) -> tuple[Float[Tensor, "batch new width"], list[Tensor], list[Tensor]]:
        """The last layer's output for new tokens, and every layer's keys and values of all tokens.

        Args:
            x: embeddings of the tokens that follow those in the cache.
            cache: from `start` or an earlier call.
            seen: which tokens each new one may look at, [new, earlier + new].
            n_steps: valid steps of the memory. One clip's memory may serve several rows of tokens.
        """
        audible = valid_mask(n_steps, cache.memory_keys.shape[3])[:, None, None]
        keys, values = [], []
        for index, layer in enumerate(self):
            x, k, v = layer(x, tuple(part[index] for part in cache), seen[None, None], audible)
            keys.append(k)
            values.append(v)
        return x, keys, values


class RecognizerEncoder(nn.Module):
    """Log-mel frames -> one vector every 40 or 80 ms, and CTC's log-probabilities of tokens."""

    def __init__(self, settings: SpeechRecognizerSettings) -> None:
        super().__init__()
        self.width = settings.width
        self.convolutions = nn.ModuleList(
            MaskedConvolution(inputs, settings.channels, 3, 2, over_bands=True)
            for inputs in (1, *[settings.channels] * (settings.strided - 1))
        )
        self.projection = nn.Linear(settings.channels * N_MELS // 2**settings.strided, settings.width)
        self.layers = nn.ModuleList(EncoderLayer(settings) for _ in range(settings.encoder_layers))
        self.norm = nn.LayerNorm(settings.width)
        self.ctc = nn.Linear(settings.width, settings.tokens)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(
        self, log_mel: Float[Tensor, "batch 40 frames"], n_frames: Int[Tensor, " batch"]
    ) -> EncoderOutput:
        """Encode clips of `n_frames` valid frames each, at least 64, padded on the right with anything.

        Raises:
            SpeechError: a clip has fewer than 64 frames, or more than the batch holds.
        """
        if not (torch.compiler.is_exporting() or torch.jit.is_tracing()):
            check_lengths(n_frames, log_mel.shape[-1])
        x, n_steps = normalised(log_mel, n_frames)[:, None], n_frames
        for convolution in self.convolutions:
            x, n_steps = convolution(x, n_steps)
        x = self.projection(x.flatten(1, 2).transpose(1, 2))
        x = self.dropout(x + sinusoids(torch.arange(x.shape[1], device=x.device), self.width).to(x.dtype))
        valid = valid_mask(n_steps, x.shape[1])
        for layer in self.layers:
            x = layer(x, valid)
        memory = self.norm(x)
        return EncoderOutput(memory, n_steps, self.ctc(memory).float().log_softmax(dim=2))


class RecognizerDecoder(nn.Module):
    """Tokens so far and the encoder's memory -> log-probabilities of the next token."""

    def __init__(self, settings: SpeechRecognizerSettings) -> None:
        super().__init__()
        self.settings = settings
        self.embedding = nn.Embedding(settings.tokens, settings.width)
        nn.init.normal_(self.embedding.weight, 0.0, settings.width**-0.5)
        self.layers = DecoderLayers(
            DecoderLayer(settings.width, settings.heads, settings.feed_forward, settings.dropout)
            for _ in range(settings.decoder_layers)
        )
        self.norm = nn.LayerNorm(settings.width)
        self.dropout = nn.Dropout(settings.dropout)

    def start(self, memory: Float[Tensor, "batch steps width"]) -> Cache:
        """The cache before the first token."""
        return self.layers.start(memory)

    def forward(
        self, tokens: Int[Tensor, "batch new"], cache: Cache, n_steps: Int[Tensor, " #batch"]
    ) -> tuple[Float[Tensor, "batch new tokens"], Cache]:
        """Read new tokens.

        Args:
            tokens: the tokens that follow those in the cache; a sentence starts with the end token.
            cache: from `start` or an earlier call.
            n_steps: valid steps of the memory. One clip's memory may serve several rows of tokens.

        Returns:
            Log-probabilities of what follows each new token, and the cache with these tokens.
        """
        earlier, new = cache.keys.shape[3], tokens.shape[1]
        position = earlier + torch.arange(new, device=tokens.device)
        embedded = self.embedding(tokens) * math.sqrt(self.settings.width)
        x = self.dropout(embedded + sinusoids(position, self.settings.width).to(embedded.dtype))
        seen = torch.arange(earlier + new, device=tokens.device) <= position[:, None]
        x, keys, values = self.layers.read(x, cache, seen, n_steps)
        # The order of these lines gives the weights of exported files their names (`export/checkpoint.py`).
        logits = F.linear(self.norm(x), self.embedding.weight).float()
        cache = Cache(torch.stack(keys), torch.stack(values), cache.memory_keys, cache.memory_values)
        return logits.log_softmax(dim=2), cache


class SpeechRecognizer(nn.Module):
    """Encoder and decoder; `forward` is what training needs, the parts are for writing down speech."""

    def __init__(self, settings: SpeechRecognizerSettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder, self.decoder = RecognizerEncoder(settings), RecognizerDecoder(settings)

    def forward(
        self,
        log_mel: Float[Tensor, "batch 40 frames"],
        n_frames: Int[Tensor, " batch"],
        tokens: Int[Tensor, "batch length"],
    ) -> tuple[EncoderOutput, Float[Tensor, "batch length tokens"]]:
        """The encoder's output, and log-probabilities of what follows each of `tokens` (the true ones)."""
        encoded = self.encoder(log_mel, n_frames)
        written, _ = self.decoder(tokens, self.decoder.start(encoded.memory), encoded.n_steps)
        return encoded, written


def normalised(
    log_mel: Float[Tensor, "batch 40 frames"], n_frames: Int[Tensor, " batch"]
) -> Float[Tensor, "batch 40 frames"]:
    """Each clip's bands with mean 0 over its valid frames and a common spread of 1; padding is 0.

    A band's mean holds the channel and the microphone; what is left holds the words.
    """
    valid = valid_mask(n_frames, log_mel.shape[-1])[:, None]
    n = n_frames[:, None, None].to(log_mel.dtype)
    x = log_mel.masked_fill(~valid, 0.0)
    x = (x - x.sum(dim=2, keepdim=True) / n).masked_fill(~valid, 0.0)
    variance = x.square().sum(dim=(1, 2), keepdim=True) / (N_MELS * n)
    return x * torch.rsqrt(variance + 1e-5)


def _decoder_layer(module: nn.Module) -> DecoderLayer:
    assert isinstance(module, DecoderLayer)
    return module
