"""Whisper's text decoder (Radford et al. 2022) with a smaller vocabulary: states of the encoder -> words.

Learnt positions, Transformer layers with the norm first, GELU, and output weights tied to the embedding.
The published decoder of tiny.en knows 51,864 tokens, two thirds of its weights; `load_decoder` keeps the
pieces of lower-case English that a training needs and the most frequent ones (10,000: 13.5 M parameters).
A sentence starts with BLANK and END, which stand for Whisper's control tokens "start of transcript" and "no
timestamps", and ends with END.
"""

import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.asr.text import BLANK, END
from speech2image.errors import CheckpointError
from speech2image.models.speech_recognizer import Cache, DecoderLayer, DecoderLayers
from speech2image.models.weight_files import read_safetensors
from speech2image.models.whisper import ALLOWED, HEAD_WIDTH, read_ctranslate2, weights_file

LONGEST_PIECE = 24
"""Characters of the longest piece of text that is kept."""
_LOWER_CASE = re.compile(r" ?[a-z]+|'[a-z]*| '| ")
_OURS_AND_HUGGING_FACES_DECODER = {
    "attention_norm": "self_attn_layer_norm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.out": "self_attn.out_proj",
    "memory_norm": "encoder_attn_layer_norm",
    "memory_attention.query": "encoder_attn.q_proj",
    "memory_attention.key": "encoder_attn.k_proj",
    "memory_attention.value": "encoder_attn.v_proj",
    "memory_attention.out": "encoder_attn.out_proj",
    "feed_forward_norm": "final_layer_norm",
    "feed_forward.0": "fc1",
    "feed_forward.2": "fc2",
}


_PARTS = ("weight", "bias")


@dataclass(frozen=True)
class WhisperDecoderSettings:
    """The shape of a WhisperDecoder; the default is tiny.en's, but for the tokens.

    Attributes:
        tokens: that it writes in, BLANK (never written) and END included; follows from the vocabulary.
        width: of all vectors, that of the encoder's states.
        layers: Transformer layers.
        heads: of every attention.
        positions: the most tokens of a sentence.
        dropout: on what each part adds, in training.
    """

    tokens: int = 0
    width: int = 384
    layers: int = 4
    heads: int = 6
    positions: int = 224
    dropout: float = 0.1


class WhisperDecoder(nn.Module):
    """Tokens so far and Whisper's states -> log-probabilities of the next token."""

    def __init__(self, settings: WhisperDecoderSettings) -> None:
        super().__init__()
        self.settings = settings
        self.embedding = nn.Embedding(settings.tokens, settings.width)
        self.control = nn.Parameter(torch.zeros(2, settings.width))  # in place of BLANK's and END's embedding
        self.positions = nn.Parameter(torch.zeros(settings.positions, settings.width))
        self.layers = DecoderLayers(
            DecoderLayer(settings.width, settings.heads, 4 * settings.width, settings.dropout, nn.GELU)
            for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(settings.width)

    def start(self, states: Float[Tensor, "batch steps width"]) -> Cache:
        """The cache before the first token, from the encoder's states of every 20 ms."""
        return self.layers.start(states)

    def forward(
        self, tokens: Int[Tensor, "batch new"], cache: Cache, n_steps: Int[Tensor, " #batch"]
    ) -> tuple[Float[Tensor, "batch new tokens"], Cache]:
        """As `speech_recognizer.RecognizerDecoder.forward`."""
        earlier, new = cache.keys.shape[3], tokens.shape[1]
        position = earlier + torch.arange(new, device=tokens.device)
        control = self.control[tokens.clamp(max=END)]
        embedded = torch.where((tokens <= END)[..., None], control, self.embedding(tokens))
        seen = torch.arange(earlier + new, device=tokens.device) <= position[:, None]
        x, keys, values = self.layers.read(embedded + self.positions[position], cache, seen, n_steps)
        cache = Cache(torch.stack(keys), torch.stack(values), cache.memory_keys, cache.memory_values)
        logits = F.linear(self.norm(x), self.embedding.weight).float()
        never = torch.arange(self.settings.tokens, device=tokens.device) == BLANK
        return logits.masked_fill(never, -1e9).log_softmax(dim=2), cache


def load_decoder(
    path: str | os.PathLike[str], needed: Collection[str], most_frequent: int = 5_000
) -> tuple[WhisperDecoder, tuple[str, ...]]:
    """Whisper's text decoder, with the lower-case pieces of text that are needed.

    Args:
        path: as of `load_backbone`, with `tokenizer.json` beside the weights.
        needed: words that it has to write in the pieces that Whisper would choose.
        most_frequent: pieces whose number is below this are kept, too: numbers follow how frequent pieces
            were in the text Whisper's tokeniser was made from.

    Returns:
        The decoder in evaluation mode, and the pieces of its tokens 2, 3, ...

    Raises:
        CheckpointError: no such file; it is damaged or something else.
    """
    file = weights_file(Path(path))
    numbers, controls = _read_tokenizer(file.parent / "tokenizer.json")
    used = {piece for word in needed for piece in longest_pieces(f" {word}", numbers)}
    single = {piece for piece in numbers if len(piece.strip()) <= 1}  # so that anything can be spelled
    kept = sorted(
        (number, piece)
        for piece, number in numbers.items()
        if piece in used or piece in single or number < most_frequent
    )
    if file.suffix == ".bin":
        tensors, names = read_ctranslate2(file, "decoder/"), _ctranslate2_decoder
    else:
        tensors, names = read_safetensors(file, ALLOWED), _hugging_face_decoder
    try:
        state = names(tensors)
        embedding, positions = state["embedding.weight"], state["positions"]
        width = embedding.shape[1]
        shape = WhisperDecoderSettings(
            tokens=2 + len(kept),
            width=width,
            layers=len([name for name in state if name.endswith("feed_forward.0.weight")]),
            heads=width // HEAD_WIDTH,
            positions=min(WhisperDecoderSettings.positions, len(positions)),
        )
        rows = [controls["<|endoftext|>"]] * 2 + [number for number, _ in kept]
        state["embedding.weight"] = embedding[rows]
        state["positions"] = positions[: shape.positions]
        state["control"] = embedding[[controls["<|startoftranscript|>"], controls["<|notimestamps|>"]]]
        decoder = WhisperDecoder(shape)
        decoder.load_state_dict({name: value.float() for name, value in state.items()})
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise CheckpointError(f"{file} does not hold Whisper's decoder ({reason}); {ALLOWED}") from error
    if not all(bool(torch.isfinite(value).all()) for value in decoder.state_dict().values()):
        raise CheckpointError(f"{file} is damaged: it holds weights that are not finite; {ALLOWED}")
    return decoder.eval(), tuple(piece for _, piece in kept)


def longest_pieces(text: str, pieces: Collection[str]) -> list[str]:
    """A text as pieces, the longest first at every place."""
    found, place = [], 0
    while place < len(text):
        ends = range(min(len(text), place + LONGEST_PIECE), place, -1)
        end = next((end for end in ends if text[place:end] in pieces), place + 1)
        found.append(text[place:end])
        place = end
    return found


def _read_tokenizer(path: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Numbers of the lower-case English pieces of `tokenizer.json`, and of its control tokens."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = dict(content["model"]["vocab"])
        controls = {token["content"]: int(token["id"]) for token in content["added_tokens"]}
        letters = {_shown(byte): byte for byte in range(256)}
        pieces = {
            bytes(letters[c] for c in shown).decode("utf-8", errors="replace"): int(number)
            for shown, number in vocabulary.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is missing or no tokeniser of Whisper's: {error}") from error
    return {piece: number for piece, number in pieces.items() if _LOWER_CASE.fullmatch(piece)}, controls


def _shown(byte: int) -> str:
    """The character that stands for a byte in a byte-level tokeniser's file: itself where it is printable."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return chr(byte) if byte in printable else chr(256 + others.index(byte))


def _hugging_face_decoder(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The decoder's tensors under this project's names."""
    inside = {name.partition("decoder.")[2]: value for name, value in tensors.items() if "decoder." in name}
    layers = len([name for name in inside if name.endswith("fc1.weight")])
    state = {
        "embedding.weight": inside["embed_tokens.weight"],
        "positions": inside["embed_positions.weight"],
        "norm.weight": inside["layer_norm.weight"],
        "norm.bias": inside["layer_norm.bias"],
    }
    for i in range(layers):
        for ours, theirs in _OURS_AND_HUGGING_FACES_DECODER.items():
            for part in _PARTS:
                if not (part == "bias" and ours.endswith("attention.key")):
                    state[f"layers.{i}.{ours}.{part}"] = inside[f"layers.{i}.{theirs}.{part}"]
    return state


def _ctranslate2_decoder(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The decoder's tensors under this project's names; joined queries, keys and values cut apart."""
    inside = {name.removeprefix("decoder/"): value for name, value in tensors.items()}
    layers = len([name for name in inside if name.endswith("ffn/linear_0/weight")])
    state = {
        "embedding.weight": inside["embeddings/weight"],
        "positions": inside["position_encodings/encodings"],
        "norm.weight": inside["layer_norm/gamma"],
        "norm.bias": inside["layer_norm/beta"],
    }
    for i in range(layers):
        own, layer = f"layers.{i}.", f"layer_{i}/"
        for ours, theirs in (
            ("attention", "self_attention"),
            ("memory", "attention"),
            ("feed_forward", "ffn"),
        ):
            state[f"{own}{ours}_norm.weight"] = inside[f"{layer}{theirs}/layer_norm/gamma"]
            state[f"{own}{ours}_norm.bias"] = inside[f"{layer}{theirs}/layer_norm/beta"]
        for part in _PARTS:
            joined = inside[f"{layer}self_attention/linear_0/{part}"].chunk(3)
            memory = inside[f"{layer}attention/linear_1/{part}"].chunk(2)
            state |= {
                f"{own}attention.query.{part}": joined[0],
                f"{own}attention.key.{part}": joined[1],
                f"{own}attention.value.{part}": joined[2],
                f"{own}attention.out.{part}": inside[f"{layer}self_attention/linear_1/{part}"],
                f"{own}memory_attention.query.{part}": inside[f"{layer}attention/linear_0/{part}"],
                f"{own}memory_attention.key.{part}": memory[0],
                f"{own}memory_attention.value.{part}": memory[1],
                f"{own}memory_attention.out.{part}": inside[f"{layer}attention/linear_2/{part}"],
                f"{own}feed_forward.0.{part}": inside[f"{layer}ffn/linear_0/{part}"],
                f"{own}feed_forward.2.{part}": inside[f"{layer}ffn/linear_1/{part}"],
            }
        for which in ("attention", "memory_attention"):  # stored as zeros
            del state[f"{own}{which}.key.bias"]
    return state
