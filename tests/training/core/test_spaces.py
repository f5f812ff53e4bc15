"""Embedding spaces: an encoder's digest travels with embeddings and checkpoints; strangers are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported import save_trained

from speech2image.data.corpora.toy import toy_samples
from speech2image.data.pairs import write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.training_sets import JoinedArrays
from speech2image.errors import CheckpointError, DataError
from speech2image.export import direct
from speech2image.models.gan.one_stage import GeneratorSettings, OneStageGenerator
from speech2image.models.speech_encoder import PRESETS, SpeechEncoder
from speech2image.training.core.checkpoint import load_checkpoint, save_checkpoint
from speech2image.training.core.networks import check_space, load_speech_encoder, space_of
from speech2image.training.recipes.speech_embeddings import store_embeddings

ENCODER = PRESETS["toy"]
GENERATOR = GeneratorSettings(16, noise_size=7, code_size=8, channels=(8, 8, 4))


def encoder_in(path: Path, seed: int, **more: Any) -> Path:
    torch.manual_seed(seed)
    save_trained(path, "speech_encoder", {"encoder": vars(ENCODER)}, SpeechEncoder(ENCODER))
    if more:
        save_checkpoint(path, load_checkpoint(path) | more)
    return path


def generator_in(path: Path, space: str | None) -> Path:
    settings = {"generator": vars(GENERATOR)}
    save_trained(path, "one_stage_gan", settings, OneStageGenerator(GENERATOR))
    if space is not None:
        save_checkpoint(path, load_checkpoint(path) | {"belongs": {"space": space}})
    return path


def space_in(path: Path) -> str:
    return space_of(path, load_speech_encoder(path))


def test_a_space_is_that_of_the_weights(tmp_path: Path) -> None:
    first, again = encoder_in(tmp_path / "a.safetensors", 0), encoder_in(tmp_path / "b.safetensors", 0)
    other = encoder_in(tmp_path / "c.safetensors", 1)
    assert space_in(first) == space_in(again) != space_in(other)
    assert space_in(first).startswith("speech ")
    encoder = load_speech_encoder(first)
    assert space_of(first, encoder.half().float()) == space_in(first)  # as an exported model has it
    moved = encoder_in(tmp_path / "d.safetensors", 0, belongs={"space": "speech moved"})
    assert space_in(moved) == "speech moved"


def test_a_generator_of_another_encoder_is_refused(tmp_path: Path) -> None:
    mine, other = encoder_in(tmp_path / "a.safetensors", 0), encoder_in(tmp_path / "b.safetensors", 1)
    fitting = generator_in(tmp_path / "g.safetensors", space_in(mine))
    check_space(mine, space_in(mine), fitting)
    with pytest.raises(CheckpointError, match="do not belong together"):
        direct.export_checkpoints(other, fitting, tmp_path / "m", name="m", licence="x")
    assert not (tmp_path / "m").exists()
    direct.export_checkpoints(mine, fitting, tmp_path / "m", name="m", licence="x")
    old = generator_in(tmp_path / "old.safetensors", None)
    check_space(other, space_in(other), old)  # from before spaces were noted
    check_space(other, "text 1", fitting, any_kind=True)
    with pytest.raises(CheckpointError, match="do not belong together"):
        check_space(other, "speech 1", fitting, any_kind=True)


def test_embeddings_name_their_space(tmp_path: Path) -> None:
    write_shards(toy_samples(8), tmp_path / "shards")
    arrays = PairArrays.open(tmp_path / "shards")
    assert arrays.embedding_space == ""
    encoder = encoder_in(tmp_path / "a.safetensors", 0)
    store_embeddings(arrays, encoder)
    assert arrays.embedding_space == space_in(encoder)
    arrays.save_embeddings(np.zeros((len(arrays.utterance_sample), 4)))
    assert arrays.embedding_space == ""  # not those of the encoder any more
    (arrays.folder / "arrays" / arrays.embeddings_note).write_text("[]")
    with pytest.raises(DataError, match="names no space"):
        _ = arrays.embedding_space


def test_sets_trained_on_as_one_share_a_space(tmp_path: Path) -> None:
    parts = []
    for name in ("a", "b"):
        write_shards(toy_samples(8), tmp_path / name)
        parts.append(PairArrays.open(tmp_path / name))
        parts[-1].save_embeddings(np.zeros((len(parts[-1].utterance_sample), 4)), "speech 1")
    assert JoinedArrays(parts).embedding_space == "speech 1"
    parts[1].save_embeddings(np.zeros((len(parts[1].utterance_sample), 4)), "speech 2")
    with pytest.raises(DataError, match="made by different encoders"):
        _ = JoinedArrays(parts).embedding_space
