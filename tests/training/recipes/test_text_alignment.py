"""A text encoder brought to where a speech encoder puts the same captions."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from speech2image.errors import DataError
from speech2image.models.text_encoder import PRESETS, TextEncoder
from speech2image.training.core.checkpoint import save_checkpoint
from speech2image.training.core.networks import load_text_encoder
from speech2image.training.recipes.text_encoder import align, embed_captions, least_squares, spoken_captions

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


def _checkpoint(path, mean: np.ndarray | None = None):
    torch.manual_seed(0)
    settings = replace(PRESETS["toy"], output=SIZE)
    encoder = TextEncoder(settings)
    if mean is not None:
        encoder.teacher_mean.copy_(torch.from_numpy(mean))
    ema = {"module": encoder.state_dict(), "updates": 1}
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
        embeddings=rows,
        embedding_space="",
    )


def _directions(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_captions_land_where_their_speech_does(tmp_path) -> None:
    """Another encoder's embeddings, turned, stand for the speech; directions from the mean count."""
    mean = np.linspace(3, 5, SIZE, dtype=np.float32)
    old = _checkpoint(tmp_path / "old.safetensors", mean)
    encoder = load_text_encoder(old)
    rng = np.random.default_rng(0)
    read = embed_captions(encoder, CAPTIONS)
    read = (read - read.mean(axis=0)) / read.std()
    turned = _directions(read @ rng.standard_normal((SIZE, SIZE)))
    before = encoder.projection.weight.clone()
    lengths = rng.uniform(1, 3, (len(turned), 1))
    new = align(old, _spoken(lengths * turned + mean, times=2), tmp_path / "new.safetensors")
    found = _directions(embed_captions(load_text_encoder(new), CAPTIONS) - mean)
    assert (found * turned).sum(axis=1).mean() > 0.95
    assert abs((found * turned[rng.permutation(len(turned))]).sum(axis=1).mean()) < 0.2
    assert torch.equal(load_text_encoder(old).projection.weight, before)


def test_utterances_of_a_caption_are_averaged_and_unknown_ones_left_out() -> None:
    mean = np.full(SIZE, 2.0, np.float32)
    embeddings = _directions(np.random.default_rng(0).standard_normal((len(CAPTIONS), SIZE)))
    arrays = _spoken(4 * embeddings + mean, times=2)
    arrays.embeddings[len(CAPTIONS)] = 4 * embeddings[1] + mean
    captions, spoken = spoken_captions(arrays, mean)
    assert captions == CAPTIONS and spoken.shape == (len(CAPTIONS), SIZE)
    assert np.allclose(_directions(spoken[:1]), _directions(embeddings[:1] + embeddings[1:2]), atol=5e-3)
    assert np.allclose(_directions(spoken[1:]), embeddings[1:], atol=5e-3)
    assert 3.9 < np.linalg.norm(spoken[5]) < 4.3, "at the length that embeddings have"


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
    with pytest.raises(DataError, match="there are 5"):
        align(old, few, tmp_path / "new.safetensors")
    with pytest.raises(DataError, match="have 13"):
        align(old, _spoken(np.ones((len(CAPTIONS), 13))), tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()
