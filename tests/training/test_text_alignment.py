"""A text encoder brought to where a speech encoder puts the same captions."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from speech2image.errors import DataError
from speech2image.models.text_encoder import PRESETS, TextEncoder
from speech2image.training.checkpoint import save_checkpoint
from speech2image.training.text_alignment import align, least_squares, spoken_captions
from speech2image.training.text_encoder import embed_captions, load_text_encoder

SIZE = 12
COLOURS = (
    "red",
    "blue",
    "green",
    "white",
    "pink",
    "black",
    "yellow",
    "orange",
    "purple",
    "brown",
    "grey",
    "tan",
)
PARTS = (
    "petals",
    "wings",
    "crown",
    "belly",
    "bill",
    "tail",
    "leaves",
    "stamen",
    "eye",
    "breast",
    "neck",
    "back",
)
CAPTIONS = [f"{colour} {part}" for colour in COLOURS for part in PARTS]


def _checkpoint(path, seed: int = 0):
    torch.manual_seed(seed)
    settings = replace(PRESETS["toy"], output=SIZE)
    ema = {"module": TextEncoder(settings).state_dict(), "updates": 1}
    shape = asdict(settings) | {"channels": list(settings.channels)}
    state = {"kind": "text_encoder", "settings": {"encoder": shape}, "step": 1, "seconds": 0.0, "ema": ema}
    save_checkpoint(path, state)
    return path


def _spoken(embeddings: np.ndarray, times: int = 1) -> SimpleNamespace:
    """Two captions a picture, each said `times` times; the last utterance says something unknown."""
    said = np.arange(len(CAPTIONS) * times) % len(CAPTIONS)
    rows = np.concatenate([embeddings[said], np.full((1, embeddings.shape[1]), 9.0)]).astype(np.float16)
    return SimpleNamespace(
        captions=[tuple(CAPTIONS[i : i + 2]) for i in range(0, len(CAPTIONS), 2)],
        utterance_sample=np.append(said // 2, 0),
        utterance_caption=np.append(said % 2, -1),
        utterances_of=lambda split: np.arange(len(rows)),
        speech_embeddings=rows,
    )


def test_captions_land_where_their_speech_does(tmp_path) -> None:
    """Another encoder's embeddings, turned and moved, stand for the speech."""
    old = _checkpoint(tmp_path / "old.safetensors")
    encoder = load_text_encoder(old)
    rng = np.random.default_rng(0)
    read = embed_captions(encoder, CAPTIONS)
    read = (read - read.mean(axis=0)) / read.std()
    turned = read @ rng.standard_normal((SIZE, SIZE)) + rng.standard_normal(SIZE)
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    before = encoder.projection.weight.clone()
    new = align(old, _spoken(turned, times=2), tmp_path / "new.safetensors")
    found = embed_captions(load_text_encoder(new), CAPTIONS)
    apart = np.linalg.norm(found - turned, axis=1).mean()
    shuffled = np.linalg.norm(found - turned[rng.permutation(len(turned))], axis=1).mean()
    assert apart < 0.1 * shuffled
    assert torch.equal(load_text_encoder(old).projection.weight, before)


def test_utterances_of_a_caption_are_averaged_and_unknown_ones_left_out() -> None:
    embeddings = np.random.default_rng(0).standard_normal((len(CAPTIONS), SIZE))
    arrays = _spoken(embeddings, times=2)
    arrays.speech_embeddings[len(CAPTIONS)] = 3 * arrays.speech_embeddings[1]
    captions, means = spoken_captions(arrays)
    assert captions == CAPTIONS and means.shape == (len(CAPTIONS), SIZE)
    one, other = (row / np.linalg.norm(row) for row in embeddings[:2])
    assert np.allclose(means[0], (one + other) / 2, atol=1e-3)
    assert np.allclose(means[1], other, atol=1e-3)


def test_least_squares_finds_a_linear_layer() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((50, 3)).astype(np.float32) + 2
    weight, bias = rng.standard_normal((4, 3)), rng.standard_normal(4)
    found = least_squares(inputs, (inputs @ weight.T + bias).astype(np.float32))
    assert np.allclose(found[0], weight, atol=1e-4) and np.allclose(found[1], bias, atol=1e-4)


def test_too_little_speech_or_another_length_is_refused(tmp_path) -> None:
    old = _checkpoint(tmp_path / "old.safetensors")
    arrays = _spoken(np.ones((len(CAPTIONS), SIZE)))
    few = SimpleNamespace(**vars(arrays) | {"utterances_of": lambda split: np.arange(5)})
    with pytest.raises(DataError, match="there are 5 with 12"):
        align(old, few, tmp_path / "new.safetensors")
    with pytest.raises(DataError, match="with 13"):
        align(old, _spoken(np.ones((len(CAPTIONS), 13))), tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()
