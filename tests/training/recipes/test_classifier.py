"""The classifier route's encoder: it tells classes apart, resumes exactly, and serves as a speech encoder."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from speech2image.errors import CheckpointError, DataError
from speech2image.training.core.checkpoint import load_checkpoint, read_facts, save_checkpoint
from speech2image.training.core.networks import load_speech_encoder
from speech2image.training.core.run import Run
from speech2image.training.recipes import classifier
from speech2image.training.recipes.classifier import PRESETS, train
from speech2image.training.recipes.speech_embeddings import embed


class Arrays:
    """Four classes, each a loud band; the last picture of each is of the split "val"."""

    ids = ("a", "b")
    embedding_space = ""

    def __init__(self, classes: int = 4) -> None:
        self.labels = 3 + 5 * (np.arange(48) % classes)
        self.splits = np.where(np.arange(48) < 40, "train", "val")
        self.utterance_sample = np.arange(48)
        self.utterance_voice = np.array(["anna", "berta"] * 24)
        self.teacher = np.random.default_rng(0).random((48, 1, 1024)).astype(np.float16)

    def n_frames(self):
        return 64 + np.arange(48) % 20

    def log_mel(self, u):
        clip = np.random.default_rng(u).normal(-8, 1, (40, self.n_frames()[u])).astype(np.float32)
        clip[2 * (self.labels[u] // 5) + 4] += 6
        return clip

    def samples_of(self, split):
        return np.flatnonzero(self.splits == split)

    def utterances_of(self, split, voices=None, exclude_voices=()):
        keep = (self.splits == split) & ~np.isin(self.utterance_voice, list(exclude_voices))
        return np.flatnonzero(keep if voices is None else keep & np.isin(self.utterance_voice, list(voices)))


TINY = replace(
    PRESETS["toy"],
    steps=30,
    batch_size=8,
    precision="32-true",
    log_every=10,
    ema_decay=0.8,
    encoder=replace(PRESETS["toy"].encoder, channels=(16, 16), hidden=8),
)


def test_it_tells_classes_apart_and_gives_a_speech_encoder(tmp_path):
    arrays = Arrays()
    path = train(replace(TINY, held_out_voices=("berta",)), arrays, tmp_path)
    log = (tmp_path / "log.jsonl").read_text()
    assert float(log.rsplit("right", 1)[1].strip('": }\n')) > 0.8  # chance 1/4; by an unheard voice too
    encoder = load_speech_encoder(path)
    rows = embed(encoder, arrays, np.arange(40, 48))
    assert rows.shape == (8, 1024)
    near = np.linalg.norm(rows[:4] - rows[4:], axis=1).mean()
    far = np.linalg.norm(rows[:4] - np.roll(rows[4:], 1, axis=0), axis=1).mean()
    assert near < 0.7 * far


def test_resumed_equals_uninterrupted(tmp_path, monkeypatch):
    settings = replace(TINY, steps=5)
    whole = load_speech_encoder(train(settings, Arrays(), tmp_path / "whole")).state_dict()
    with monkeypatch.context() as interrupted:
        interrupted.setattr(Run, "finished", lambda self, step: step >= 2)
        half = load_speech_encoder(train(settings, Arrays(), tmp_path / "parts")).state_dict()
    torch.manual_seed(5)
    parts = load_speech_encoder(train(settings, Arrays(), tmp_path / "parts")).state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert not torch.equal(half["projection.weight"], parts["projection.weight"])


def test_checkpoint_states_its_kind_and_old_ones_open_and_go_on(tmp_path):
    path = train(replace(TINY, steps=1), Arrays(), tmp_path)
    state = load_checkpoint(path)
    assert state["kind"] == "classifier"
    save_checkpoint(path, {**state, "kind": "speech_encoder"})  # as version 0.1 wrote it
    old = load_speech_encoder(path).state_dict()
    assert all(torch.equal(value, state["ema"]["module"][name]) for name, value in old.items())
    assert load_checkpoint(train(replace(TINY, steps=2), Arrays(), tmp_path))["step"] == 2
    save_checkpoint(path, {**state, "kind": "text_encoder"})
    with pytest.raises(
        CheckpointError, match="holds a 'text_encoder', need a 'speech_encoder' or a 'classifier'"
    ):
        load_speech_encoder(path)


def test_one_class_is_refused(tmp_path):
    with pytest.raises(DataError, match="1 class"):
        train(TINY, Arrays(classes=1), tmp_path)


def test_ctrl_c_while_the_last_step_is_measured(tmp_path, ctrl_c_in):
    """At the end, when nothing of the stage is left to do: what follows it must not begin."""
    ctrl_c_in(classifier, "accuracy")
    with pytest.raises(KeyboardInterrupt):
        train(replace(TINY, steps=1), Arrays(), tmp_path)
    assert read_facts(tmp_path / "checkpoint.safetensors")["step"] == 1
