"""Export of the decoder beside a speech encoder: two ONNX networks that `asr/decoder.py` runs without torch.

    words_memory.onnx    states -> memory_keys, memory_values; float16 weights
    words_decoder.onnx   tokens, keys, values, memory_keys, memory_values -> next, new_keys, new_values

The decoder's weights are eight-bit numbers, a scale for each output of a layer, and so is the arithmetic
(ONNX Runtime's dynamic quantisation): a quarter of the size and half the time of float32.
"""

from collections.abc import Sequence

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from speech2image.asr.backends import ENCODER
from speech2image.asr.ctc import DECODER
from speech2image.asr.decoder import WordsDecoder
from speech2image.asr.text import BLANK, END, Vocabulary
from speech2image.errors import CheckpointError
from speech2image.export.onnx import trace, with_eight_bit_weights, with_float16_weights
from speech2image.export.parity import check_same
from speech2image.export.recognizer import FREE, LIKELY, SAME, STEPS
from speech2image.models.pretrained_speech_encoder import PretrainedSpeechEncoder
from speech2image.models.speech_recognizer import Cache
from speech2image.models.whisper_decoder import WhisperDecoder
from speech2image.pipeline.card import Card
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.registry import DECODER_PIECES, STATES, Model
from speech2image.pipeline.routes import LANGUAGE_MODEL, WORDS_DECODER, WORDS_MEMORY

SAME_EIGHT_BIT = 0.25
"""The most the mean of those differences may be with eight-bit numbers."""
SAME_STATES = 1e-2
"""How far the states of an encoder may turn from those that a decoder was trained on (1 - cosine, the mean of
a clip): what eight bits change, and not what a training changes."""
MEASURED = ("decoder", "language_model")
"""How a card's figures of parity begin that are of these networks."""
MEMORY = (STATES,), ("memory_keys", "memory_values")
"""Inputs and outputs of the first network; those of the second are `ctc.DECODER`."""
_FREE = FREE | {STATES: {1: "steps"}, "tokens": {0: "hypotheses", 1: "new"}}


class MemoryForOnnx(nn.Module):
    """Keys and values that the decoder's attention finds in the states of one clip."""

    def __init__(self, decoder: WhisperDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        start = self.decoder.start(states)
        return start.memory_keys, start.memory_values


class StepForOnnx(nn.Module):
    """One step of the decoder for several hypotheses about one clip."""

    def __init__(self, decoder: WhisperDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, tokens: Tensor, keys: Tensor, values: Tensor, memory_keys: Tensor, memory_values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        n_steps = torch.ones_like(tokens[:1, 0]) * memory_keys.shape[3]
        cache = Cache(keys, values, memory_keys, memory_values)
        following, cache = self.decoder(tokens, cache, n_steps)
        return following[:, -1], cache.keys, cache.values


def decoder_to_onnx(
    encoder: PretrainedSpeechEncoder, frames: Sequence[NDArray[np.float32]]
) -> tuple[dict[str, bytes], dict[str, float]]:
    """Both networks of the decoder of an encoder, by name, and how far they are from torch.

    Args:
        encoder: with a decoder, in evaluation mode.
        frames: of clips to compare on, [80, frames].

    Raises:
        CheckpointError: it has no decoder; ONNX Runtime gives something else than torch.
    """
    decoder = encoder.decoder
    if decoder is None:
        raise CheckpointError(
            "the speech encoder has no decoder; tune one along (--decoder), or take its facts away"
        )
    shape = decoder.settings
    states = torch.randn(1, 50, shape.width)
    cache = torch.randn(2, shape.layers, 2, shape.heads, 7, shape.width // shape.heads)
    memory = torch.randn(2, shape.layers, 1, shape.heads, 50, shape.width // shape.heads)
    whole = {
        WORDS_MEMORY: _traced(MemoryForOnnx(decoder), (states,), MEMORY),
        WORDS_DECODER: _traced(StepForOnnx(decoder), (torch.tensor([[3, 4]] * 2), *cache, *memory), DECODER),
    }
    small = {
        WORDS_MEMORY: with_float16_weights(whole[WORDS_MEMORY]),
        WORDS_DECODER: with_eight_bit_weights(whole[WORDS_DECODER]),
    }
    exact, _ = compare(encoder, decoder, whole, frames)
    _, mean = compare(encoder, decoder, small, frames)
    check_same("a log-probability of the decoder", exact, SAME)
    check_same("the mean log-probability of the decoder in eight bits", mean, SAME_EIGHT_BIT)
    contents = {name: model.SerializeToString() for name, model in small.items()}
    return contents, {"decoder": exact, "decoder_eight_bit_mean": mean}


def _traced(
    module: nn.Module, example: tuple[Tensor, ...], names: tuple[tuple[str, ...], tuple[str, ...]]
) -> onnx.ModelProto:
    inputs, outputs = names
    return trace(module.eval(), example, inputs, outputs, {name: _FREE[name] for name in (*inputs, *outputs)})


@torch.no_grad()
def compare(
    encoder: PretrainedSpeechEncoder,
    decoder: WhisperDecoder,
    models: dict[str, onnx.ModelProto],
    frames: Sequence[NDArray[np.float32]],
) -> tuple[float, float]:
    """Largest and mean difference of a log-probability that is not tiny, along the sentences torch writes.

    Two hypotheses grow over some steps with the cache; NaN counts.
    """
    memory = Session(models[WORDS_MEMORY].SerializeToString(), *MEMORY, f"{WORDS_MEMORY}.onnx")
    step_of = Session(models[WORDS_DECODER].SerializeToString(), *DECODER, f"{WORDS_DECODER}.onnx")
    other = WordsDecoder(memory, step_of, Vocabulary(("?",) * (decoder.settings.tokens - 2)))
    differences = [np.zeros(1)]
    for clip in frames:
        n_frames = torch.tensor([clip.shape[1]])
        states, n_steps = encoder.frame_states(torch.from_numpy(clip)[None], n_frames)
        cache, state = decoder.start(states), other.start(states.numpy())
        read, tokens = torch.tensor([[BLANK, END]]), np.array([END])
        for step in range(STEPS):
            expected, cache = decoder(read, cache, n_steps)
            found, state = other.follow(tokens, state)
            last = expected[:, -1].numpy()
            likely = (last > LIKELY) | (found > LIKELY)
            differences.append(np.abs(np.maximum(last, LIKELY) - np.maximum(found, LIKELY))[likely])
            rows = np.array([0, len(tokens) - 1])
            tokens = np.array([last[0, 2:].argmax() + 2, 2 + step % (last.shape[1] - 2)])
            read, state = torch.from_numpy(tokens)[:, None], other.select(state, rows)
            cache = Cache(cache.keys[:, rows], cache.values[:, rows], *cache[2:])
    off = np.concatenate(differences)
    return float(off.max()), float(off.mean())


def taken_over(
    lender: Model, encoder: bytes, outputs: Sequence[str], frames: Sequence[NDArray[np.float32]]
) -> tuple[dict[str, bytes], Card]:
    """The decoder of another model, and its language model, for an encoder that gives the same states.

    Args:
        lender: the other model.
        encoder: the encoder in ONNX.
        outputs: its outputs, `registry.STATES` among them.
        frames: of clips to compare the states on, [features, frames].

    Returns:
        The networks by name, and what the card says of them ("parity" is to be joined with what it says).

    Raises:
        CheckpointError: the other model has no decoder, or its encoder gives other states.
    """
    if not lender.decoder_pieces:
        raise CheckpointError(f"model '{lender.name}' has no decoder to take over; leave decoder_of out")
    inputs, given = lender.signature(ENCODER)
    sessions = [
        Session(lender.read(ENCODER), inputs, given, str(lender.path(ENCODER))),
        Session(encoder, inputs, outputs, f"{ENCODER}.onnx"),
    ]
    turned = []
    for clip in frames:
        n_frames = np.array([clip.shape[1]], dtype=np.int64)
        theirs, ours = (session.all(clip[None], n_frames)[STATES].astype(np.float64) for session in sessions)
        if ours.shape != theirs.shape:
            raise CheckpointError(f"the encoder gives states {ours.shape}, '{lender.name}' {theirs.shape}")
        lengths = np.sqrt((ours**2).sum(-1) * (theirs**2).sum(-1))
        turned.append(float(1 - ((ours * theirs).sum(-1) / lengths).mean()))
    check_same(f"a state of the encoder of '{lender.name}' (1 - cosine)", max(turned), SAME_STATES)
    names = [name for name in (WORDS_MEMORY, WORDS_DECODER, LANGUAGE_MODEL) if name in lender.networks]
    told = {key: lender.card[key] for key in (DECODER_PIECES, LANGUAGE_MODEL) if key in lender.card}
    measured = {key: off for key, off in lender.card.get("parity", {}).items() if key.startswith(MEASURED)}
    return {name: lender.read(name) for name in names}, {**told, "parity": measured}
