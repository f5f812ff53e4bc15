"""Speech encoder: log-mel frames of a spoken sentence -> one point in the image teacher's feature space.

Li et al., "Direct Speech-to-Image Translation", IEEE JSTSP 14(3), 2020, section III-A: convolutions over
time, a bidirectional LSTM, a mean over time. Unlike the released code, everything here is masked: a clip's
embedding depends neither on how far its batch is padded nor on what stands in the padding, and a batch of
one works in training too.

Presets: `paper` (11.7 M parameters), `released-code` (the same but for the input's normalisation), `small`
(the shipped one), `toy` (tests and the tutorial).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.audio import N_MELS
from speech2image.audio.front_ends import PAPER
from speech2image.errors import SpeechError


@dataclass(frozen=True)
class SpeechEncoderSettings:
    """The shape of a SpeechEncoder; `channels`, `kernels`, `strides`, `pools`: one entry a convolution.

    Attributes:
        stem: channels of 3x3 convolutions, stride 2 in frequency and time, before the others; none in the
            paper.
        channels: output channels of each convolution over time (the first sees all bands at once).
        kernels: widths in frames, odd.
        strides: steps in time.
        pools: whether a max-pool (width 3, stride 2) follows.
        residual: add a convolution's input to its output where the shapes allow it.
        hidden: units of the LSTM in each direction.
        pooling: `mean` over the valid steps (paper), or `attention`: a softmax over them for each head.
        heads: heads of the attention; each pools its own slice of the channels.
        output: size of the embedding; 0 leaves the pooled LSTM state as it is (paper).
        dropout: on the LSTM's input and on the pooled state, in training.
        input_normalisation: of the log-mel, for each band apart (paper), or one for all (released code).
    """

    stem: tuple[int, ...] = ()
    channels: tuple[int, ...] = (64, 64, 128, 256, 256, 512, 512, 1024)
    kernels: tuple[int, ...] = (1, 3, 17, 13, 3, 9, 3, 5)
    strides: tuple[int, ...] = (1, 1, 2, 2, 1, 2, 1, 2)
    pools: tuple[bool, ...] = (False, True, False, False, False, True, False, False)
    residual: bool = False
    hidden: int = 512
    pooling: Literal["mean", "attention"] = "mean"
    heads: int = 8
    output: int = 0
    dropout: float = 0.0
    input_normalisation: Literal["bands", "whole"] = "bands"

    @property
    def size(self) -> int:
        """Length of the embedding."""
        return self.output or 2 * self.hidden


PRESETS = {
    "paper": SpeechEncoderSettings(),
    "released-code": SpeechEncoderSettings(input_normalisation="whole"),
    "small": SpeechEncoderSettings(
        stem=(16, 32),
        channels=(256, 256, 256),
        kernels=(5, 5, 5),
        strides=(2, 1, 1),
        pools=(False,) * 3,
        residual=True,
        hidden=256,
        pooling="attention",
        output=1024,
        dropout=0.1,
    ),
    "toy": SpeechEncoderSettings(
        channels=(32, 48),
        kernels=(5, 5),
        strides=(4, 2),
        pools=(False, False),
        hidden=32,
        pooling="attention",
        heads=4,
        output=1024,
    ),
}


def valid_mask(n_steps: Int[Tensor, " batch"], length: int | Tensor) -> Bool[Tensor, "batch length"]:
    """True where a step belongs to the clip, False in its padding (`length` is a tensor while traced)."""
    return torch.arange(length, device=n_steps.device) < n_steps[:, None]  # type: ignore[arg-type]


class MaskedBatchNorm(nn.Module):
    """Batch normalisation of `[batch, channels, ..., time]` whose statistics count valid steps only.

    Statistics are taken in float32 also under bfloat16 autocast. They run over steps as well as clips, so a
    batch of one is enough for training. The input's padding must be zero; the output's padding is not.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.epsilon = momentum, epsilon
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_variance", torch.ones(channels))

    def forward(
        self, x: Float[Tensor, "batch channels *space time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch channels *space time"]:
        if not self.training:
            return F.batch_norm(
                x, self.running_mean, self.running_variance, self.weight, self.bias, eps=self.epsilon
            )
        with torch.autocast(x.device.type, enabled=False):
            return self._normalise(x.float(), mask).to(x.dtype)

    def _normalise(self, x: Tensor, mask: Tensor) -> Tensor:
        across = [axis for axis in range(x.ndim) if axis != 1]
        per_channel = [1, -1] + [1] * (x.ndim - 2)
        valid = mask.view(mask.shape[0], *[1] * (x.ndim - 2), mask.shape[1]).to(x.dtype)
        n = valid.sum() * (x[0, 0].numel() // x.shape[-1])
        mean = x.sum(across) / n
        variance = ((x - mean.view(per_channel)) * valid).square().sum(across) / n
        self._remember(mean.detach(), variance.detach() * n / (n - 1).clamp(min=1))
        scale = self.weight * torch.rsqrt(variance + self.epsilon)
        return x * scale.view(per_channel) + (self.bias - mean * scale).view(per_channel)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        self.running_mean.lerp_(mean, self.momentum)
        self.running_variance.lerp_(variance, self.momentum)


class MaskedConvolution(nn.Module):
    """Convolution over time without bias, masked batch normalisation, ReLU, then a max-pool if asked for.

    `n` valid steps become `ceil(n / stride)`, whatever the padding. With `over_bands` the input is a stack of
    spectrograms `[batch, channels, bands, time]` and the stride holds for both axes.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        pool: bool = False,
        residual: bool = False,
        over_bands: bool = False,
    ) -> None:
        super().__init__()
        convolution: type[nn.Module] = nn.Conv2d if over_bands else nn.Conv1d
        self.convolution = convolution(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        nn.init.normal_(self.convolution.weight, 0.0, 0.02)  # type: ignore[arg-type]
        self.normalisation = MaskedBatchNorm(outputs)
        self.stride, self.pool = stride, pool
        self.residual = residual and inputs == outputs and stride == 1

    def forward(
        self, x: Float[Tensor, "batch inputs *bands time"], n_steps: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch outputs *fewer_bands less_time"], Int[Tensor, " batch"]]:
        y = self.convolution(x)
        n_steps = torch.div(n_steps + self.stride - 1, self.stride, rounding_mode="floor")
        valid = valid_mask(n_steps, y.shape[-1])
        y = F.relu(self.normalisation(_zeroed(y, valid), valid))
        y = _zeroed(y, valid)
        y = y + x if self.residual else y
        if self.pool:  # after ReLU, zeros in the padding never win; a window may reach back from the padding
            n_steps = torch.div(n_steps + 1, 2, rounding_mode="floor")
            y = F.max_pool1d(y, 3, 2, 1)
            y = _zeroed(y, valid_mask(n_steps, y.shape[-1]))
        return y, n_steps


def _zeroed(x: Tensor, valid: Tensor) -> Tensor:
    """Zeros in the padding of [batch, ..., time]."""
    return x * valid.view(valid.shape[0], *[1] * (x.ndim - 2), valid.shape[1]).to(x.dtype)


def reverse_valid(
    x: Float[Tensor, "batch steps channels"], n_steps: Int[Tensor, " batch"]
) -> Float[Tensor, "batch steps channels"]:
    """Turns the valid steps of every row around and leaves its padding where it is. Its own inverse."""
    steps = torch.arange(x.shape[1], device=x.device)
    order = torch.where(valid_mask(n_steps, x.shape[1]), n_steps[:, None] - 1 - steps, steps)
    return x.gather(1, order[..., None].expand_as(x))


class MaskedBidirectionalLSTM(nn.Module):
    """A bidirectional LSTM whose backward direction starts at each row's own last step (without packing)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.ahead = nn.LSTM(inputs, hidden, batch_first=True)
        self.back = nn.LSTM(inputs, hidden, batch_first=True)

    def forward(
        self, x: Float[Tensor, "batch steps channels"], n_steps: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch steps twice_hidden"]:
        ahead = self.ahead(x)[0]
        back = self.back(reverse_valid(x, n_steps))[0]
        return torch.cat([ahead, reverse_valid(back, n_steps)], dim=2)


class MaskedMean(nn.Module):
    """Mean over the valid steps."""

    def forward(
        self, x: Float[Tensor, "batch steps channels"], n_steps: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch channels"]:
        valid = valid_mask(n_steps, x.shape[1]).to(x.dtype)
        return torch.einsum("btc,bt->bc", x, valid / n_steps[:, None].to(x.dtype))


class MaskedAttentionPooling(nn.Module):
    """Weighted mean over the valid steps; every head weighs its own slice of the channels."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scores = nn.Linear(channels, heads)

    def forward(
        self, x: Float[Tensor, "batch steps channels"], n_steps: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch channels"]:
        padding = ~valid_mask(n_steps, x.shape[1])
        scores = self.scores(x).float().masked_fill(padding[..., None], float("-inf"))
        weights = scores.softmax(dim=1).to(x.dtype)
        slices = x.unflatten(2, (self.heads, x.shape[2] // self.heads))
        return torch.einsum("bthc,bth->bhc", slices, weights).flatten(1)


class SpeechEncoder(nn.Module):
    """Log-mel frames -> a vector in the teacher's raw feature space (GoogLeNet pool5, 1024-d).

    Attributes:
        teacher_mean: mean teacher feature of the training pictures (zeros until set); retrieval compares
            the cosine of features from which it has been taken away.
        front_end: what it takes frames of.
        embed_dim: length of the embedding.
    """

    teacher_mean: Tensor
    front_end = PAPER

    def __init__(self, settings: SpeechEncoderSettings) -> None:
        super().__init__()
        self.settings, self.embed_dim = settings, settings.size
        self.input_normalisation = MaskedBatchNorm(N_MELS if settings.input_normalisation == "bands" else 1)
        self.stem, bands = self._stem(settings)
        inputs = bands * settings.stem[-1] if settings.stem else N_MELS
        self.convolutions = self._convolutions(settings, inputs)
        self.dropout = nn.Dropout(settings.dropout)
        self.recurrent = MaskedBidirectionalLSTM(settings.channels[-1], settings.hidden)
        attention = settings.pooling == "attention"
        self.pooling = (
            MaskedAttentionPooling(2 * settings.hidden, settings.heads) if attention else MaskedMean()
        )
        self.projection = (
            nn.Linear(2 * settings.hidden, settings.output) if settings.output else nn.Identity()
        )
        self.register_buffer("teacher_mean", torch.zeros(settings.size))

    @staticmethod
    def _stem(settings: SpeechEncoderSettings) -> tuple[nn.ModuleList, int]:
        inputs = (1, *settings.stem)
        layers = [
            MaskedConvolution(i, o, 3, 2, over_bands=True)
            for i, o in zip(inputs, settings.stem, strict=False)
        ]
        bands = N_MELS
        for _ in layers:
            bands = (bands + 1) // 2
        return nn.ModuleList(layers), bands

    @staticmethod
    def _convolutions(settings: SpeechEncoderSettings, inputs: int) -> nn.ModuleList:
        layers = nn.ModuleList()
        shapes = zip(settings.channels, settings.kernels, settings.strides, settings.pools, strict=True)
        for outputs, kernel, stride, pool in shapes:
            layers.append(MaskedConvolution(inputs, outputs, kernel, stride, pool, settings.residual))
            inputs = outputs
        return layers

    def set_teacher_mean(self, mean: Float[Tensor, " size"]) -> None:
        """Stores the mean teacher feature and, where there is an output layer, starts its bias there."""
        self.teacher_mean.copy_(mean)
        if isinstance(self.projection, nn.Linear):
            with torch.no_grad():
                self.projection.bias.copy_(mean)

    def forward(
        self, log_mel: Float[Tensor, "batch 40 frames"], n_frames: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch size"]:
        """Embeds a batch of clips.

        Args:
            log_mel: from `audio.log_mel`, padded on the right with anything.
            n_frames: valid frames of each clip, at least 64.

        Raises:
            SpeechError: a clip has fewer than 64 frames, or more than the batch holds.
        """
        states, n_steps = self.states(log_mel, n_frames)
        return self.projection(self.dropout(self.pooling(states, n_steps)))

    def states(
        self, log_mel: Float[Tensor, "batch 40 frames"], n_frames: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch steps twice_hidden"], Int[Tensor, " batch"]]:
        """The LSTM's state at every step, before pooling, and the valid steps of each clip."""
        if not (torch.compiler.is_exporting() or torch.jit.is_tracing()):
            check_lengths(n_frames, log_mel.shape[-1])
        mask = valid_mask(n_frames, log_mel.shape[-1])
        x = log_mel.masked_fill(~mask[:, None], 0.0)
        if self.settings.input_normalisation == "bands":
            x = self.input_normalisation(x, mask)
        else:
            x = self.input_normalisation(x[:, None], mask)[:, 0]
        x = x.masked_fill(~mask[:, None], 0.0)
        x, n_steps = self._convolve(x, n_frames)
        return self.recurrent(self.dropout(x.transpose(1, 2)), n_steps), n_steps

    def _convolve(self, x: Tensor, n_steps: Tensor) -> tuple[Tensor, Tensor]:
        if len(self.stem):
            x = x[:, None]
            for layer in self.stem:
                x, n_steps = layer(x, n_steps)
            x = x.flatten(1, 2)
        for layer in self.convolutions:
            x, n_steps = layer(x, n_steps)
        return x, n_steps


def check_lengths(n_frames: Int[Tensor, " batch"], frames: int, fewest: int = PAPER.min_frames) -> None:
    """Raises SpeechError unless every clip has between `fewest` frames and what the batch holds."""
    shortest, longest = int(n_frames.min()), int(n_frames.max())
    if shortest < fewest:
        raise SpeechError(
            f"speech is too short: {shortest} frames of 10 ms, need at least {fewest}", "too_short"
        )
    if longest > frames:
        raise SpeechError(
            f"n_frames says {longest} frames, but log_mel holds only {frames}; pass its true length"
        )


class CharacterHead(nn.Module):
    """Log-probabilities of characters at every step, for CTC: a second task beside the image teacher's.

    Few voices speak captions, many people are recorded with a transcript. Transcribing them makes the encoder
    learn their voices; the head is dropped after training. A step of the encoder lasts 80 ms (`small`), in
    which people say more than one character, and CTC writes at most one a step; so each step is split into
    `guesses` parts.

    Args:
        size: of the encoder's states.
        tokens: characters, with CTC's blank.
        guesses: parts of a step.
    """

    def __init__(self, size: int, tokens: int, guesses: int = 3) -> None:
        super().__init__()
        self.tokens, self.guesses = tokens, guesses
        self.read = nn.Linear(size, guesses * tokens)

    def forward(
        self, states: Float[Tensor, "batch steps size"], n_steps: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch guesses tokens"], Int[Tensor, " batch"]]:
        """Log-probabilities of the tokens, and the valid guesses of each clip."""
        logits = self.read(states).float()
        split = logits.unflatten(2, (self.guesses, self.tokens)).flatten(1, 2)
        return torch.log_softmax(split, dim=2), n_steps * self.guesses
