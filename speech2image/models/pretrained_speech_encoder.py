"""Speech encoder on a pretrained backbone: Whisper's encoder, then a small head that pools its states.

Frames -> Whisper's states -> mean of each two -> one Transformer layer -> attention pooling beside the mean
-> a vector in the image teacher's feature space. Masked like `speech_encoder.SpeechEncoder`, and used in its
place: both are called with (frames, valid frames) and have `embed_dim` and `front_end`. Two optional heads
read the same states: a words head (transcription by CTC) and a domain head (which domain the clip is about).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from speech2image.audio.front_ends import DECADES, WHISPER
from speech2image.models.speech_encoder import MaskedMean, check_lengths, valid_mask
from speech2image.models.whisper import TransformerLayer, WhisperEncoder, WhisperSettings
from speech2image.models.whisper_decoder import WhisperDecoder, WhisperDecoderSettings

LOUDEST = 1.2
"""The level that every clip's loudest value is moved to, so that recording levels change nothing: that of
speech near full scale, which suits Whisper best."""
FLOOR = LOUDEST - DECADES / 4
"""The quietest value after that, and silence: 80 dB less."""


@dataclass(frozen=True)
class PoolingHeadSettings:
    """The shape of a PoolingHead.

    Attributes:
        width: of its Transformer layer.
        heads: of that layer's attention, and of the pooling: each pools the whole state with its own weights.
        output: size of the embedding.
        dropout: on the states, on what the layer adds and on what is pooled, in training.
    """

    width: int = 256
    heads: int = 4
    output: int = 1024
    dropout: float = 0.1


@dataclass(frozen=True)
class WordsSettings:
    """The shape of a WordsHead.

    Attributes:
        tokens: in the vocabulary, with CTC's blank and the end; follows from the texts.
        width: of its Transformer layer.
        heads: of that layer's attention.
        dropout: on the states and on what the layer adds, in training.
    """

    tokens: int = 0
    width: int = 256
    heads: int = 4
    dropout: float = 0.1


@dataclass(frozen=True)
class DomainSettings:
    """The shape of a DomainHead.

    Attributes:
        domains: number of classes; follows from their names.
        width: of the states that are pooled.
        dropout: on the states and on what is pooled, in training.
    """

    domains: int = 0
    width: int = 128
    dropout: float = 0.1


@dataclass(frozen=True)
class PretrainedEncoderSettings:
    """The shape of a PretrainedSpeechEncoder; the backbone's is that of the weights it starts from.

    Attributes:
        backbone: of Whisper's encoder.
        head: of the embedding.
        words: of the words head; None without.
        domain: of the domain head; None without.
        decoder: of Whisper's decoder; None without.
    """

    backbone: WhisperSettings = field(default_factory=WhisperSettings)
    head: PoolingHeadSettings = field(default_factory=PoolingHeadSettings)
    words: WordsSettings | None = None
    domain: DomainSettings | None = None
    decoder: WhisperDecoderSettings | None = None

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "PretrainedEncoderSettings":
        """The settings that `dataclasses.asdict` turned into `stored`."""
        words, domain, decoder = (stored.get(part) for part in ("words", "domain", "decoder"))
        return cls(
            WhisperSettings(**stored["backbone"]),
            PoolingHeadSettings(**stored["head"]),
            None if words is None else WordsSettings(**words),
            None if domain is None else DomainSettings(**domain),
            None if decoder is None else WhisperDecoderSettings(**decoder),
        )


class PoolingHead(nn.Module):
    """States of a backbone, one every 40 ms -> an embedding.

    Attributes:
        teacher_mean: as of `SpeechEncoder`.
    """

    teacher_mean: Tensor

    def __init__(self, inputs: int, settings: PoolingHeadSettings) -> None:
        super().__init__()
        self.embed_dim = settings.output
        self.norm = nn.LayerNorm(inputs)
        self.narrow = nn.Linear(inputs, settings.width)
        self.layer = TransformerLayer(settings.width, settings.heads, settings.dropout)
        self.scores = nn.Linear(settings.width, settings.heads)
        self.mean = MaskedMean()
        self.dropout = nn.Dropout(settings.dropout)
        self.projection = nn.Linear((settings.heads + 1) * settings.width, settings.output)
        self.register_buffer("teacher_mean", torch.zeros(settings.output))

    def set_teacher_mean(self, mean: Float[Tensor, " size"]) -> None:
        """Stores the mean teacher feature and starts the output's bias there."""
        self.teacher_mean.copy_(mean)
        with torch.no_grad():
            self.projection.bias.copy_(mean)

    def forward(
        self, states: Float[Tensor, "batch inputs steps"], n_steps: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch size"]:
        """Embeds a batch.

        Args:
            states: from `PretrainedSpeechEncoder.states`, padded on the right with anything finite.
            n_steps: valid steps of each clip.
        """
        valid = valid_mask(n_steps, states.shape[2])
        x = self.narrow(self.dropout(self.norm(states.transpose(1, 2))))
        x = self.layer(x, valid[:, None, None])
        x = x.masked_fill(~valid[..., None], 0.0)
        weights = self.scores(x).float().masked_fill(~valid[..., None], float("-inf")).softmax(dim=1)
        pooled = torch.einsum("btc,bth->bhc", x, weights.to(x.dtype)).flatten(1)
        return self.projection(self.dropout(torch.cat([pooled, self.mean(x, n_steps)], dim=1)))


class WordsHead(nn.Module):
    """States of a backbone, one every 40 ms -> log-probabilities of the tokens at each, for CTC."""

    def __init__(self, inputs: int, settings: WordsSettings) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.narrow = nn.Linear(inputs, settings.width)
        self.layer = TransformerLayer(settings.width, settings.heads, settings.dropout)
        self.last_norm = nn.LayerNorm(settings.width)
        self.dropout = nn.Dropout(settings.dropout)
        self.read = nn.Linear(settings.width, settings.tokens)

    def forward(
        self, states: Float[Tensor, "batch inputs steps"], n_steps: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch steps tokens"]:
        """Log-probabilities of the tokens at every step; arguments as of `PoolingHead`."""
        valid = valid_mask(n_steps, states.shape[2])
        x = self.narrow(self.dropout(self.norm(states.transpose(1, 2))))
        x = self.last_norm(self.layer(x, valid[:, None, None]))
        return self.read(x).float().log_softmax(dim=2)


class DomainHead(nn.Module):
    """States of a backbone, one every 40 ms -> log-probabilities of the domains."""

    def __init__(self, inputs: int, settings: DomainSettings) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.narrow = nn.Linear(inputs, settings.width)
        self.scores = nn.Linear(settings.width, 1)
        self.dropout = nn.Dropout(settings.dropout)
        self.decide = nn.Linear(settings.width, settings.domains)

    def forward(
        self, states: Float[Tensor, "batch inputs steps"], n_steps: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch domains"]:
        """Log-probabilities of the domains; arguments as of `PoolingHead`."""
        padding = ~valid_mask(n_steps, states.shape[2])[..., None]
        x = nn.functional.gelu(self.narrow(self.dropout(self.norm(states.transpose(1, 2)))))
        weights = self.scores(x).float().masked_fill(padding, float("-inf")).softmax(dim=1)
        pooled = (x.masked_fill(padding, 0.0) * weights.to(x.dtype)).sum(dim=1)
        return self.decide(self.dropout(pooled)).float().log_softmax(dim=1)


class PretrainedSpeechEncoder(nn.Module):
    """Frames of `front_ends.WHISPER` -> a vector in the teacher's raw feature space.

    Attributes:
        backbone: Whisper's encoder.
        head: gives the embedding; trained first, alone.
        words: transcribes by CTC; None without.
        domain: classifies the domain; None without.
        decoder: Whisper's decoder, which transcribes from the states of every 20 ms; None without.
    """

    front_end = WHISPER

    def __init__(self, settings: PretrainedEncoderSettings = PretrainedEncoderSettings()) -> None:
        super().__init__()
        self.settings = settings
        self.embed_dim = settings.head.output
        self.backbone = WhisperEncoder(settings.backbone)
        self.head = PoolingHead(settings.backbone.width, settings.head)
        words, domain = settings.words, settings.domain
        self.words = None if words is None else WordsHead(settings.backbone.width, words)
        self.domain = None if domain is None else DomainHead(settings.backbone.width, domain)
        self.decoder = None if settings.decoder is None else WhisperDecoder(settings.decoder)

    @property
    def teacher_mean(self) -> Tensor:
        """Mean teacher feature of the training pictures, [size]."""
        return self.head.teacher_mean

    def forward(
        self, log_mel: Float[Tensor, "batch 80 frames"], n_frames: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch size"]:
        """Embeds a batch of clips.

        Args:
            log_mel: from `front_ends.WHISPER`, padded on the right with anything.
            n_frames: valid frames of each clip.

        Raises:
            SpeechError: a clip is shorter than the front end's shortest, or than the batch holds.
        """
        return self.head(*self.states(log_mel, n_frames))

    def states(
        self, log_mel: Float[Tensor, "batch 80 frames"], n_frames: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch width steps"], Int[Tensor, " batch"]]:
        """The backbone's state of every 40 ms, what the head takes, and the valid steps of each clip."""
        return mean_of_pairs(*self.frame_states(log_mel, n_frames))

    def frame_states(
        self, log_mel: Float[Tensor, "batch 80 frames"], n_frames: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch steps width"], Int[Tensor, " batch"]]:
        """The backbone's state of every 20 ms, and the valid steps of each clip."""
        if not (torch.compiler.is_exporting() or torch.jit.is_tracing()):
            check_lengths(n_frames, log_mel.shape[-1], self.front_end.min_frames)
        return self.backbone(levelled(log_mel, n_frames), n_frames)


class WithHeads(nn.Module):
    """An encoder as one network for export: its embedding, and the outputs of further heads.

    Args:
        encoder: that has them.
        heads: their names, in the order of the outputs.
    """

    def __init__(
        self, encoder: PretrainedSpeechEncoder, heads: Sequence[Literal["words", "domain", "states"]]
    ) -> None:
        super().__init__()
        self.encoder, self.heads = encoder, tuple(heads)

    def forward(
        self, log_mel: Float[Tensor, "batch 80 frames"], n_frames: Int[Tensor, " batch"]
    ) -> tuple[Tensor, ...]:
        """[batch, size], then [batch, steps, tokens] for "words", [batch, domains] for "domain" and what the
        decoder takes, [batch, steps of 20 ms, width], for "states"."""
        frame_states, n_steps = self.encoder.frame_states(log_mel, n_frames)
        states = mean_of_pairs(frame_states, n_steps)
        further = (
            frame_states if head == "states" else getattr(self.encoder, head)(*states) for head in self.heads
        )
        return self.encoder.head(*states), *further


def with_new_head(
    encoder: PretrainedSpeechEncoder, **head: WordsSettings | DomainSettings | WhisperDecoderSettings
) -> PretrainedSpeechEncoder:
    """The same encoder with a new `words`, `domain` or `decoder` in place of the one it has, if any."""
    whole = PretrainedSpeechEncoder(replace(encoder.settings, **head))  # type: ignore[arg-type]
    old = {key: value for key, value in encoder.state_dict().items() if key.split(".")[0] not in head}
    whole.load_state_dict(whole.state_dict() | old)
    return whole


def levelled(
    log_mel: Float[Tensor, "batch bands frames"], n_frames: Int[Tensor, " batch"]
) -> Float[Tensor, "batch bands frames"]:
    """Moves every clip's loudest value to `LOUDEST`."""
    padding = ~valid_mask(n_frames, log_mel.shape[-1])[:, None]
    loudest = log_mel.masked_fill(padding, float("-inf")).amax((1, 2), keepdim=True)
    return log_mel - loudest + LOUDEST


def mean_of_pairs(
    states: Float[Tensor, "batch steps width"], n_steps: Int[Tensor, " batch"]
) -> tuple[Float[Tensor, "batch width half_steps"], Int[Tensor, " batch"]]:
    """Means of each two steps; a last step without a partner stays as it is."""
    valid = valid_mask(n_steps, states.shape[1])[..., None]
    counted = torch.cat([states.masked_fill(~valid, 0.0), valid.to(states.dtype)], dim=2)
    second = nn.functional.pad(counted, (0, 0, 0, 1))[:, 1::2]
    both = counted[:, ::2] + second
    means = both[..., :-1] / both[..., -1:].clamp(min=1.0)
    return means.transpose(1, 2), torch.div(n_steps + 1, 2, rounding_mode="floor")
