"""Export of a recognizer: two ONNX networks that `asr.ctc.Networks` runs without torch.

    recognizer_encoder.onnx   log_mel, n_frames -> ctc, memory_keys, memory_values
    recognizer_decoder.onnx   tokens, keys, values, memory_keys, memory_values -> next, new_keys, new_values
    recognizer.json           the pieces of text, checksums, measured parity

One clip at a time, any number of hypotheses. Weights are stored as float16. The folder appears only if ONNX
Runtime then gives what torch gives.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from speech2image import __version__
from speech2image.asr.ctc import (
    CARD,
    DECODER,
    DECODER_FILE,
    ENCODER,
    ENCODER_FILE,
    FORMAT,
    Networks,
)
from speech2image.asr.text import END, Vocabulary
from speech2image.errors import CheckpointError, OutputError
from speech2image.export.folder import describe_content
from speech2image.export.onnx import trace, with_float16_weights
from speech2image.export.parity import made_up_log_mels
from speech2image.files import check_writable, writing
from speech2image.models.speech_recognizer import (
    Cache,
    RecognizerDecoder,
    RecognizerEncoder,
    SpeechRecognizer,
)
from speech2image.pipeline.onnx import Session
from speech2image.training.core.networks import load_recognizer
from speech2image.training.recipes.transcripts import TorchScorer

SAME = 2e-3
"""The most any log-probability that is not tiny may differ from torch, with float32 weights."""
SAME_FLOAT16 = 5e-2
"""The most rounding the weights may change them."""
STEPS = 12
"""Tokens written in the comparison."""
LIKELY = -8.0
"""Log-probabilities below this are not compared: softmax blows up what is lost in their digits."""

FREE = {
    "log_mel": {2: "frames"},
    "ctc": {1: "steps"},
    "memory_keys": {3: "steps"},
    "memory_values": {3: "steps"},
    "tokens": {0: "hypotheses"},
    "keys": {1: "hypotheses", 3: "length"},
    "values": {1: "hypotheses", 3: "length"},
    "next": {0: "hypotheses"},
    "new_keys": {1: "hypotheses", 3: "longer"},
    "new_values": {1: "hypotheses", 3: "longer"},
}


class EncoderForOnnx(nn.Module):
    """`RecognizerEncoder` of one clip with the keys and values of the decoder's attention to it."""

    def __init__(self, encoder: RecognizerEncoder, decoder: RecognizerDecoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, log_mel: Tensor, n_frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        encoded = self.encoder(log_mel, n_frames)
        start = self.decoder.start(encoded.memory)
        return encoded.ctc, start.memory_keys, start.memory_values


class DecoderForOnnx(nn.Module):
    """One step of `RecognizerDecoder` for several hypotheses about one clip."""

    def __init__(self, decoder: RecognizerDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, tokens: Tensor, keys: Tensor, values: Tensor, memory_keys: Tensor, memory_values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        n_steps = torch.ones_like(tokens[:1]) * memory_keys.shape[3]
        cache = Cache(keys, values, memory_keys, memory_values)
        following, cache = self.decoder(tokens[:, None], cache, n_steps)
        return following[:, 0], cache.keys, cache.values


def export_recognizer(
    recognizer: SpeechRecognizer,
    vocabulary: Vocabulary,
    folder: str | os.PathLike[str],
    *,
    log_mels: Sequence[NDArray[np.float32]] = (),
    **card: object,
) -> dict[str, float]:
    """Write a recognizer's folder.

    Args:
        recognizer: trained.
        vocabulary: its pieces.
        folder: to write; an older recognizer there is replaced.
        log_mels: real recordings to compare on; made-up ones by default.
        **card: more JSON values for `recognizer.json`.

    Returns:
        The largest differences from torch, with float32 and with float16 weights.

    Raises:
        CheckpointError: ONNX Runtime gives something else than torch; nothing is written.
        OutputError: the folder cannot be written, or holds something that is no recognizer.
    """
    folder = Path(folder)
    check_writable(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / CARD).is_file():
        raise OutputError(f"{folder} exists and holds no recognizer; choose a new folder")
    recognizer = recognizer.cpu().float().eval().requires_grad_(False)
    whole = to_onnx(recognizer)
    halved = {name: with_float16_weights(model) for name, model in whole.items()}
    clips = [clip[:, :1000] for clip in (log_mels or made_up_log_mels())]
    parity = {"float32": compare(recognizer, whole, clips), "float16": compare(recognizer, halved, clips)}
    for (name, found), bound in zip(parity.items(), (SAME, SAME_FLOAT16), strict=True):
        if not found <= bound:
            raise CheckpointError(
                f"ONNX Runtime gives something else than torch: with {name} weights a log-probability "
                f"differs by {found:.3g}, at most {bound:g} is allowed; nothing was written"
            )
    contents = {name: model.SerializeToString() for name, model in halved.items()}
    _write(folder, contents, {**card, "pieces": list(vocabulary.pieces), "parity": parity})
    return parity


def export_checkpoint(
    checkpoint: str | os.PathLike[str], folder: str | os.PathLike[str], **card: object
) -> dict[str, float]:
    """`export_recognizer` for a training checkpoint; its averaged weights are taken."""
    return export_recognizer(*load_recognizer(checkpoint), folder, **card)  # type: ignore[arg-type]


def compare(
    recognizer: SpeechRecognizer,
    models: dict[str, onnx.ModelProto],
    clips: Sequence[NDArray[np.float32]],
) -> float:
    """The largest difference of a log-probability that is not tiny: CTC's, and the decoder's for two
    hypotheses grown over some steps with the cache."""
    torch_scorer = TorchScorer(recognizer)
    onnx_scorer = Networks(
        Session(models[ENCODER_FILE].SerializeToString(), *ENCODER, ENCODER_FILE),
        Session(models[DECODER_FILE].SerializeToString(), *DECODER, DECODER_FILE),
    )
    differences = [0.0]
    for clip in clips:
        (ctc, state), (ctc_onnx, state_onnx) = torch_scorer.listen(clip), onnx_scorer.listen(clip)
        differences.append(_difference(ctc, ctc_onnx))
        tokens = np.array([END], dtype=np.int64)
        for step in range(STEPS):
            expected, state = torch_scorer.follow(tokens, state)
            found, state_onnx = onnx_scorer.follow(tokens, state_onnx)
            differences.append(_difference(expected, found))
            rows = np.array([0, len(tokens) - 1])
            tokens = np.array([expected[0].argmax(), 2 + step % (expected.shape[1] - 2)], dtype=np.int64)
            state, state_onnx = torch_scorer.select(state, rows), onnx_scorer.select(state_onnx, rows)
    return float(np.max(differences))


def _difference(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """NaN counts: `max` of an array that holds one is NaN."""
    return float(np.abs(np.maximum(expected, LIKELY) - np.maximum(found, LIKELY)).max())


def to_onnx(recognizer: SpeechRecognizer) -> dict[str, onnx.ModelProto]:
    """Both networks with float32 weights, by the names of their files."""
    return {ENCODER_FILE: _encoder_onnx(recognizer), DECODER_FILE: _decoder_onnx(recognizer)}


def _encoder_onnx(recognizer: SpeechRecognizer) -> onnx.ModelProto:
    example = (torch.randn(1, 40, 200), torch.tensor([200]))
    return _to_onnx(EncoderForOnnx(recognizer.encoder, recognizer.decoder), example, ENCODER)


def _decoder_onnx(recognizer: SpeechRecognizer) -> onnx.ModelProto:
    shape = recognizer.settings
    cache = torch.randn(4, shape.decoder_layers, 2, shape.heads, 7, shape.width // shape.heads)
    memory = cache[2:, :, :1]
    example = (torch.tensor([3, 4]), cache[0], cache[1], memory[0], memory[1])
    return _to_onnx(DecoderForOnnx(recognizer.decoder), example, DECODER)


def _to_onnx(
    module: nn.Module, example: tuple[Tensor, ...], signature: tuple[tuple[str, ...], tuple[str, ...]]
) -> onnx.ModelProto:
    inputs, outputs = signature
    free = {name: FREE[name] for name in (*inputs, *outputs) if name in FREE}
    return trace(module.eval(), example, inputs, outputs, free)


def _write(folder: Path, contents: dict[str, bytes], card: dict[str, object]) -> None:
    files = {name: describe_content(content) for name, content in contents.items()}
    whole = {"format": FORMAT, **card, "files": files, "made_by": f"speech2image {__version__}"}
    with writing(folder) as temporary:
        temporary.mkdir()
        for name, content in contents.items():
            (temporary / name).write_bytes(content)
        (temporary / CARD).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
