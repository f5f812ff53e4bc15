"""The whole way from shards to a model folder, on a handful of toy pictures and steps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import speech2image
from speech2image.data.prepare import PrepareSettings, prepare
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError, SettingsError
from speech2image.export.direct import export_checkpoints
from speech2image.models.teacher.googlenet import GoogLeNet
from speech2image.models.teacher.toy import ToyTeacher
from speech2image.training.core.networks import load_speech_encoder
from speech2image.training.recipes import direct, speech_embeddings

TOY = direct.PRESETS["toy"]
SHORT = replace(
    TOY,
    encoder=replace(TOY.encoder, steps=2, batch_size=4, evaluation_utterances=0),
    generator=replace(TOY.generator, steps=2, batch_size=4),
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return prepare(PrepareSettings("toy", tmp_path_factory.mktemp("toy") / "shards", limit=30))


def test_ends_in_a_model_and_does_nothing_twice(shards: Path, tmp_path) -> None:
    with pytest.raises(DataError, match="prepare teacher"):
        direct.train(SHORT, PairArrays.open(shards), None, tmp_path / "run")
    torch.manual_seed(0)
    trained = direct.train(SHORT, PairArrays.open(shards), GoogLeNet(), tmp_path / "run")
    model = tmp_path / "model"
    export_checkpoints(*trained, model, name="short", licence="x")
    route = speech2image.load(model)
    assert (route.name, route.picture_size) == ("short", 64)

    arrays = PairArrays.open(shards)
    encoder = load_speech_encoder(tmp_path / "run" / "speech_encoder" / "checkpoint.safetensors")
    assert len(arrays.embeddings) == len(arrays.utterance_sample)
    last = len(arrays.embeddings) - 1
    expected = speech_embeddings.embed(encoder, arrays, np.array([last]))[0]
    assert np.allclose(arrays.embeddings[last], expected, atol=2e-3 * np.abs(expected).max())

    logs = [tmp_path / "run" / part / "log.jsonl" for part in ("speech_encoder", "generator")]
    before = [log.read_text() if log.exists() else "" for log in logs]
    assert direct.train(SHORT, PairArrays.open(shards), None, tmp_path / "run") == trained
    assert [log.read_text() if log.exists() else "" for log in logs] == before


def test_one_stage_needs_a_teacher(shards: Path, tmp_path) -> None:
    with pytest.raises(SettingsError, match="--teacher"):
        direct.train(direct.PRESETS["cpu"], PairArrays.open(shards), None, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_toy_teacher_is_for_the_toy_set_alone(shards: Path, tmp_path) -> None:
    arrays = PairArrays.open(shards)
    arrays.utterance_voice = np.array(["flite/slt"] * len(arrays.utterance_voice))
    with pytest.raises(SettingsError, match="not the toy set"):
        direct.train(SHORT, arrays, ToyTeacher(), tmp_path / "run")
    with pytest.raises(SettingsError, match="--teacher"):
        direct.train(direct.PRESETS["cpu"], PairArrays.open(shards), ToyTeacher(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
