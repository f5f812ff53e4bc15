"""The text encoder's training, and stored text embeddings in an utterance's place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_sets import sample

from speech2image.data.corpora.embedding_pickles import PublishedEmbeddings, read_published, write_published
from speech2image.data.pairs import (
    ShardUtterance,
    picture_shard,
    speech_shard,
    write_picture_shard,
    write_speech_shard,
)
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.rows import SEEN, UNSEEN
from speech2image.data.training_sets import CaptionPairs, ClassifierPairs, open_conditions
from speech2image.errors import DataError, OutputError, SettingsError
from speech2image.losses.distillation import ContrastiveWeights
from speech2image.losses.joint_embedding import JointEmbeddingWeights
from speech2image.training.core.checkpoint import read_facts
from speech2image.training.core.networks import load_text_encoder
from speech2image.training.core.picture_batches import ConditionSampler
from speech2image.training.core.run import Run
from speech2image.training.recipes import text_encoder
from speech2image.training.recipes.text_embeddings import store_text_embeddings, write_caption_embeddings
from speech2image.training.recipes.text_encoder import (
    PRESETS,
    TextBatches,
    embed_captions,
    evaluate,
    train,
    without_words,
)

COLOURS = ("red", "green", "blue", "yellow")


class Captions:
    """Pictures of four colours; captions name them, features point their way. Odd ones have two captions."""

    ids = ("a", "b")
    embedding_space = ""

    def __init__(self, pictures: int = 64) -> None:
        rng = np.random.default_rng(0)
        self.labels = np.arange(pictures) % 4
        self.splits = np.where(np.arange(pictures) < 48, "train", "test")
        self.captions = [
            (f"a {COLOURS[c]} flower",) + (("petals of " + COLOURS[c],) if i % 2 else ())
            for i, c in enumerate(self.labels)
        ]
        directions = rng.random((4, 1024)).astype(np.float32)
        noise = 0.2 * rng.random((pictures, 2, 1024)).astype(np.float32)
        self.teacher = (directions[self.labels][:, None] + noise).astype(np.float16)

    def samples_of(self, split):
        return np.flatnonzero(self.splits == split)

    def classes_of(self, split):
        return UNSEEN if split == "test" else SEEN


TINY = replace(PRESETS["toy"], steps=6, batch_size=8, precision="32-true", log_every=1, ema_decay=0.5)


@pytest.mark.parametrize("loss", [JointEmbeddingWeights(), ContrastiveWeights(extra_pictures=20)])
def test_it_learns_what_captions_say(tmp_path, loss):
    arrays = Captions()
    settings = replace(TINY, steps=400, log_every=50, loss=loss, word_dropout=0.2)
    path = train(settings, arrays, tmp_path)
    assert read_facts(path)["vocabulary"] == ["a", "blue", "flower", "green", "of", "petals", "red", "yellow"]
    encoder = load_text_encoder(path)
    found = evaluate(encoder, arrays, "test")
    assert found.mean_average_precision > 0.9  # chance about 1/4
    assert "unseen classes/mAP" in (tmp_path / "log.jsonl").read_text()
    assert embed_captions(encoder, []).shape == (0, 1024)


def test_resumed_equals_uninterrupted(tmp_path, monkeypatch):
    arrays = Captions()
    whole = load_text_encoder(train(TINY, arrays, tmp_path / "whole")).state_dict()
    with monkeypatch.context() as interrupted:
        interrupted.setattr(Run, "finished", lambda self, step: step >= 2)
        train(TINY, arrays, tmp_path / "parts")
    torch.manual_seed(99)
    parts = load_text_encoder(train(TINY, arrays, tmp_path / "parts")).state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_batches_depend_on_step_and_seed_alone():
    arrays = Captions()
    one, two = (TextBatches(arrays, arrays.samples_of("train"), 20, 0) for _ in range(2))
    one(0)
    assert all(torch.equal(a, b) for a, b in zip(one(7), two(7), strict=True))
    epoch = torch.cat([one(step).labels for step in range(12)])
    assert torch.bincount(epoch).tolist() == [60] * 4, "every picture comes once an epoch"
    with pytest.raises(DataError, match="no captions"):
        arrays.captions = [()] * 64
        TextBatches(arrays, arrays.samples_of("train"), 4, 0)


def test_words_are_left_out_but_never_all():
    rng = np.random.default_rng(0)
    caption = "a red flower with long petals"
    assert without_words(caption, 0.0, rng) == caption
    drawn = [without_words(caption, 0.5, rng).split() for _ in range(400)]
    assert 2.5 < np.mean([len(words) for words in drawn]) < 3.5
    assert all(words and set(words) <= set(caption.split()) for words in drawn)
    assert len(without_words(caption, 0.999, rng).split()) == 1
    with pytest.raises(SettingsError, match="word_dropout is 1"):
        TextBatches(Captions(), np.arange(8), 4, 0, word_dropout=1.0)


def test_negatives_join_a_batch():
    arrays = Captions()
    batch = TextBatches(arrays, arrays.samples_of("train"), 5, 0, extra_pictures=7)(0)
    assert len(batch.letters) == 5 and batch.image.shape == (12, 1024)
    assert batch.labels.tolist() == arrays.labels[batch.pictures.numpy()].tolist()
    assert set(batch.pictures.tolist()) <= set(arrays.samples_of("train").tolist())


@pytest.fixture
def shards(tmp_path) -> Path:
    """Six pictures with two captions each, one utterance of the first caption of each."""
    samples = [sample(i, split="train" if i < 4 else "test") for i in range(6)]
    folder = tmp_path / "shards"
    write_picture_shard(picture_shard(folder, 0), samples)
    spoken = [ShardUtterance(s.id, s.captions[0], s.utterances[0]) for s in samples]
    write_speech_shard(speech_shard(folder, "x", 0), spoken)
    return folder


def test_captions_take_an_utterances_place(shards, tmp_path):
    pairs = CaptionPairs.open(shards)
    assert len(pairs.texts) == 12 and pairs.texts[:2] == ["caption 0", "other 0"]
    assert pairs.utterance_sample.tolist() == np.repeat(np.arange(6), 2).tolist()
    assert pairs.voices == ["text"] and len(pairs.utterances_of("test")) == 4
    with pytest.raises(DataError, match="train text-embeddings"):
        pairs.embeddings  # noqa: B018
    with pytest.raises(DataError, match="no speech"):
        pairs.log_mel(0)
    pairs.save_embeddings(np.arange(12 * 8).reshape(12, 8))
    drawn, spoken = ConditionSampler(pairs, pairs.samples_of("train"), 1.0).draw(
        np.array([2]), np.random.default_rng(0)
    )
    assert spoken.all() and drawn[0].tolist() in [list(range(32, 40)), list(range(40, 48))]
    joined = open_conditions([shards, _copy(shards, tmp_path / "again")], "text")
    assert len(joined.utterance_sample) == 24


def _copy(folder: Path, target: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, target))


def test_conditions_lie_apart(shards):
    plain, classifier = PairArrays.open(shards), ClassifierPairs.open(shards)
    arrays = shards / "arrays"
    assert plain.save_embeddings(np.zeros((6, 4))) == arrays / "speech_embeddings.npy"
    assert classifier.save_embeddings(np.ones((6, 4))) == arrays / "classifier_embeddings.npy"
    assert PairArrays.open(shards).embeddings.sum() == 0
    assert open_conditions([shards], "classifier").embeddings.sum() == 24


def test_embeddings_of_every_source_are_stored(shards, tmp_path):
    pairs = CaptionPairs.open(shards)
    checkpoint = train(replace(TINY, steps=1), Captions(), tmp_path / "run")
    store_text_embeddings(pairs, checkpoint)
    expected = embed_captions(load_text_encoder(checkpoint), pairs.texts)
    np.testing.assert_allclose(pairs.embeddings, expected, atol=2e-3)

    vectors = tmp_path / "vectors.txt"
    vectors.write_text("caption 1 0\nother 0 1\none 5 5\n")
    store_text_embeddings(pairs, vectors)
    assert pairs.embeddings[:4].tolist() == [[1, 0], [0, 1], [3, 2.5], [2.5, 3]]

    rows = np.random.default_rng(0).normal(size=(6, 2, 8)).astype(np.float32)
    for split, part in (("train", slice(4)), ("test", slice(4, 6))):
        names = [name.split("/")[-1] for name in pairs.ids[part]]
        published = PublishedEmbeddings(rows[part], [f"set/{n}" for n in names], np.ones(len(names), int))
        write_published(tmp_path / "published" / split, published)
    store_text_embeddings(pairs, tmp_path / "published")
    np.testing.assert_allclose(pairs.embeddings, rows.reshape(12, 8), atol=2e-3)
    with pytest.raises(DataError, match="0 published"):
        store_text_embeddings(pairs, tmp_path / "published" / "test")


def test_captions_of_ones_own(tmp_path):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("red 1 0\nbird 0 1\n")
    captions = ["a red bird", "Red!"]
    assert np.load(write_caption_embeddings(captions, vectors, tmp_path / "e.npy")).tolist() == [
        [0.5, 0.5],
        [1, 0],
    ]
    found = read_published(write_caption_embeddings(captions, vectors, tmp_path / "folder"))
    assert found.embeddings.shape == (2, 1, 2)
    with pytest.raises(SettingsError, match="none of the words"):
        write_caption_embeddings(["red", ""], vectors, tmp_path / "x.npy")
    with pytest.raises(OutputError, match=r"NAME\.npy"):
        write_caption_embeddings(captions, vectors, tmp_path / "x.mat")


def test_ctrl_c_while_the_last_step_is_measured(tmp_path, ctrl_c_in):
    """At the end, when nothing of the stage is left to do: what follows it must not begin."""
    ctrl_c_in(text_encoder, "_log_retrieval")
    with pytest.raises(KeyboardInterrupt):
        train(replace(TINY, steps=1), Captions(), tmp_path)
    assert read_facts(tmp_path / "checkpoint.safetensors")["step"] == 1
