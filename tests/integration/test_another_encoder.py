"""A speech encoder on Whisper's behind the shipped generator, by the commands of `docs/recipes.md`."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_whisper

import speech2image
from speech2image import cli
from speech2image.audio.front_ends import WHISPER
from speech2image.data.corpora.toy import HELD_OUT_VOICE, toy_samples
from speech2image.data.pairs import speech_shards, stream_speech, write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.pipeline.registry import available_models, find

SHIPPED = "flowers-and-birds"
PICTURES = 24


def run(*words: object) -> None:
    assert cli.main([str(word) for word in words]) == 0, words


@pytest.mark.skipif(SHIPPED not in available_models(), reason="no shipped model")
def test_from_speech_to_a_model_that_is_measured(tmp_path: Path) -> None:
    """Embeddings, condition prior, export and evaluation take the encoder's 80 bands, the detector 40."""
    data, encoder = tmp_path / "shards", tmp_path / "encoder" / "checkpoint.safetensors"
    write_shards(toy_samples(PICTURES), data)
    arrays = PairArrays.open(data, front_end=WHISPER)
    arrays.save_teacher(np.random.default_rng(0).random((PICTURES, 2, 1024)).astype(np.float16))
    backbone = tiny_whisper.write_safetensors(tiny_whisper.encoder(), tmp_path / "model.safetensors")
    files = ("--data", data, "--out", encoder.parent, "--backbone", backbone, "--preset", "toy")
    own = ("--steps", 2, "--evaluation-utterances", 0, "--held-out-voices", HELD_OUT_VOICE)
    run("train", "pretrained-speech-encoder", *files, *own)
    run("train", "embeddings", "--data", data, "--encoder", encoder)
    embeddings = np.asarray(PairArrays.open(data).embeddings)
    assert embeddings.shape == (len(arrays.utterance_sample), 1024) and len(np.unique(embeddings[:, 0])) > 8
    generator, prior = tmp_path / "generator.safetensors", tmp_path / "prior.safetensors"
    run("train", "checkpoint", "--network", "generator", "--out", generator)
    run("train", "condition-prior", "--generator", generator, "--data", data, "--out", prior)
    made = ("export", "--speech-encoder", encoder, "--generator", prior, "--generator-of", SHIPPED)
    run(*made, "--out", tmp_path / "mine", "--name", "mine", "--licence", "CC0")
    model, lender = find(tmp_path / "mine"), find(SHIPPED)
    assert model.front_end is WHISPER and model.card["backbone"]["name"] == "unknown"
    assert model.path("generator") == lender.path("generator") and model.size < 3e6
    heard = next(iter(stream_speech(speech_shards(data)))).utterance.audio
    np.testing.assert_allclose(speech2image.load(model.folder).embed(heard), embeddings[0], atol=0.03)
    measures = ("--measures", "retrieval", "robustness", "--limit", 2, "--robustness-utterances", 2)
    group = ("--robustness-groups", "kept out, synthesizers", "--resamples", 20)
    run("evaluate", "--model", model.folder, "--data", data, "--out", tmp_path / "out", *measures, *group)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["voices"] for row in results["robustness"]} == {"kept out, synthesizers"}
    assert all(row["missed"] is not None and row["R@10"] is not None for row in results["robustness"])
