"""A tiny Whisper encoder with random weights, in both published layouts and as a speech encoder's."""

import dataclasses
import json
import struct
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from speech2image.models.pretrained_speech_encoder import (
    PoolingHeadSettings,
    PretrainedEncoderSettings,
    PretrainedSpeechEncoder,
)
from speech2image.models.whisper import WhisperEncoder, WhisperSettings, sinusoids
from speech2image.models.whisper_decoder import WhisperDecoder, WhisperDecoderSettings
from speech2image.training.core.checkpoint import save_checkpoint

SETTINGS = WhisperSettings(width=64, layers=2, heads=1)
LAYER = {  # ours: (Hugging Face's, CTranslate2's)
    "attention_norm": ("self_attn_layer_norm", "self_attention/layer_norm"),
    "query_key_value": ("", "self_attention/linear_0"),
    "attention_out": ("self_attn.out_proj", "self_attention/linear_1"),
    "mlp_norm": ("final_layer_norm", "ffn/layer_norm"),
    "widen": ("fc1", "ffn/linear_0"),
    "narrow": ("fc2", "ffn/linear_1"),
}


def encoder(seed: int = 0) -> WhisperEncoder:
    """Random, with biases, norms and weights that all matter; keys have no bias, as in Whisper."""
    torch.manual_seed(seed)
    made = WhisperEncoder(SETTINGS).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    for layer in made.layers:
        torch.nn.init.zeros_(layer.query_key_value.bias[64:128])
    return made


def write_checkpoint(path: Path) -> Path:
    """A checkpoint of a speech encoder on `encoder()`, whose head is as it was made."""
    shape = PretrainedEncoderSettings(SETTINGS, PoolingHeadSettings(width=16, heads=2))
    made = PretrainedSpeechEncoder(shape)
    made.backbone.load_state_dict(encoder().state_dict())
    state = {"kind": "speech_encoder", "settings": {"encoder": dataclasses.asdict(shape)}}
    save_checkpoint(path, {**state, "step": 1, "ema": {"module": made.state_dict()}})
    return path


def write_safetensors(made: WhisperEncoder, path: Path) -> Path:
    state = {name: value.clone() for name, value in made.state_dict().items()}
    tensors = {"embed_positions.weight": sinusoids(30, 64)}
    for part in ("weight", "bias"):
        for name, theirs in (("conv1", "conv1"), ("conv2", "conv2"), ("norm", "layer_norm")):
            tensors[f"{theirs}.{part}"] = state[f"{name}.{part}"]
        for i in range(SETTINGS.layers):
            for ours, (theirs, _) in LAYER.items():
                if theirs:
                    tensors[f"layers.{i}.{theirs}.{part}"] = state[f"layers.{i}.{ours}.{part}"]
            joined = state[f"layers.{i}.query_key_value.{part}"].chunk(3)
            for which, value in zip("qkv", joined, strict=True):
                if (which, part) != ("k", "bias"):
                    tensors[f"layers.{i}.self_attn.{which}_proj.{part}"] = value.clone()
    named = {f"model.encoder.{name}": value.contiguous() for name, value in tensors.items()}
    save_file(named | {"model.decoder.layers.0.fc1.weight": torch.zeros(3, 3)}, path)
    return path


def variables(made: WhisperEncoder) -> dict[str, np.ndarray]:
    """CTranslate2's names and values, in float32."""
    state = {name: value.numpy() for name, value in made.state_dict().items()}
    found = {"encoder/position_encodings/encodings": sinusoids(30, 64).numpy()}
    pairs = {"conv1": "conv1", "conv2": "conv2", "norm": "layer_norm"}
    for i in range(SETTINGS.layers):
        pairs |= {f"layers.{i}.{ours}": f"layer_{i}/{theirs}" for ours, (_, theirs) in LAYER.items()}
    for ours, theirs in pairs.items():
        names = ("gamma", "beta") if theirs.endswith("layer_norm") else ("weight", "bias")
        for part, name in zip(("weight", "bias"), names, strict=True):
            found[f"encoder/{theirs}/{name}"] = state[f"{ours}.{part}"]
    return found


def ctranslate2_bytes(
    values: dict[str, np.ndarray], kind: int = 4, version: int = 6, spec: str = "WhisperSpec"
) -> bytes:
    """A model.bin of CTranslate2; beside the encoder a variable of the decoder, a scalar and an alias."""
    dtype = {0: np.float32, 1: np.int8, 4: np.float16}[kind]
    out = (
        struct.pack("<I", version)
        + _name(spec)
        + struct.pack("<II", 3, len({"decoder/embeddings/weight", *values}) + 1)
    )
    for name, value in ({"decoder/embeddings/weight": np.zeros((2, 3))} | values).items():
        content = np.ascontiguousarray(value.astype(dtype)).tobytes()
        out += _name(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        out += struct.pack("<BI", kind, len(content)) + content
    out += _name("encoder/num_heads") + struct.pack("<BBIh", 0, 2, 2, 1)
    return out + struct.pack("<I", 1) + _name("alias") + _name("decoder/embeddings/weight")


def _name(name: str) -> bytes:
    return struct.pack("<H", len(name) + 1) + name.encode() + b"\0"


DECODER = WhisperDecoderSettings(tokens=9, width=64, layers=2, heads=1, positions=100, dropout=0.0)
LETTERS = " 'abcdefghijklmnopqrstuvwxyz"
PUBLISHED_PIECES = tuple(
    piece.replace(" ", "\u0120")
    for piece in (*LETTERS, " a", " The", " red", " bi", "rd", " zebra", "\u00c3\u00a9")
)
TOKENIZER = {
    "model": {"vocab": {piece: number for number, piece in enumerate(PUBLISHED_PIECES)}},
    "added_tokens": [
        {"content": content, "id": len(PUBLISHED_PIECES) + i}
        for i, content in enumerate(("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"))
    ],
}
"""What a tokenizer.json says; a byte-level tokeniser writes a blank as \u0120."""
DECODER_LAYER = {  # Hugging Face's: (CTranslate2's, which part of it)
    "self_attn_layer_norm": ("self_attention/layer_norm", 0),
    "self_attn.q_proj": ("self_attention/linear_0", 0),
    "self_attn.k_proj": ("self_attention/linear_0", 1),
    "self_attn.v_proj": ("self_attention/linear_0", 2),
    "self_attn.out_proj": ("self_attention/linear_1", 0),
    "encoder_attn_layer_norm": ("attention/layer_norm", 0),
    "encoder_attn.q_proj": ("attention/linear_0", 0),
    "encoder_attn.k_proj": ("attention/linear_1", 0),
    "encoder_attn.v_proj": ("attention/linear_1", 1),
    "encoder_attn.out_proj": ("attention/linear_2", 0),
    "final_layer_norm": ("ffn/layer_norm", 0),
    "fc1": ("ffn/linear_0", 0),
    "fc2": ("ffn/linear_1", 0),
}


def decoder(seed: int = 0) -> WhisperDecoder:
    """Random weights that all matter."""
    torch.manual_seed(seed)
    made = WhisperDecoder(DECODER).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def decoder_tensors() -> dict[str, torch.Tensor]:
    """A decoder under Hugging Face's names, with random weights."""
    random = torch.Generator().manual_seed(3)

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    tensors = {
        "embed_tokens.weight": made(len(PUBLISHED_PIECES) + 3, 64),
        "embed_positions.weight": made(100, 64),
        "layer_norm.weight": made(64),
        "layer_norm.bias": made(64),
    }
    for i in range(DECODER.layers):
        for name in DECODER_LAYER:
            out, inputs = {"fc1": (256, 64), "fc2": (64, 256)}.get(name, (64, 64))
            norm = name.endswith("layer_norm")
            tensors[f"layers.{i}.{name}.weight"] = made(64) if norm else made(out, inputs)
            if not name.endswith("k_proj"):
                tensors[f"layers.{i}.{name}.bias"] = made(out)
    return {f"model.decoder.{name}": value for name, value in tensors.items()}


def decoder_variables() -> dict[str, np.ndarray]:
    """The same under CTranslate2's names, queries, keys and values joined."""
    tensors = {name.removeprefix("model.decoder."): value for name, value in decoder_tensors().items()}
    found = {
        "decoder/embeddings/weight": tensors["embed_tokens.weight"],
        "decoder/position_encodings/encodings": tensors["embed_positions.weight"],
        "decoder/layer_norm/gamma": tensors["layer_norm.weight"],
        "decoder/layer_norm/beta": tensors["layer_norm.bias"],
    }
    for i in range(DECODER.layers):
        joined: dict[str, list[torch.Tensor]] = {}
        for name, (theirs, _) in DECODER_LAYER.items():  # in the order of the parts
            parts = ("gamma", "beta") if name.endswith("layer_norm") else ("weight", "bias")
            for ours, part in zip(("weight", "bias"), parts, strict=True):
                value = tensors.get(f"layers.{i}.{name}.{ours}", torch.zeros(64))
                joined.setdefault(f"decoder/layer_{i}/{theirs}/{part}", []).append(value)
        found |= {name: torch.cat(values) for name, values in joined.items()}
    return {name: value.numpy() for name, value in found.items()}


def write_decoder(folder: Path) -> Path:
    """A folder with `decoder_tensors` and their tokeniser."""
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    save_file(decoder_tensors(), folder / "model.safetensors")
    return folder
