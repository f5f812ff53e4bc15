"""The training on Whisper's encoder: it learns, resumes exactly, freezes what it should, caches states."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tiny_whisper
import torch
from small_sets import sample

from speech2image.audio.front_ends import FRONT_ENDS, PAPER, WHISPER
from speech2image.data.augment.log_mel import LogMelAugmentation
from speech2image.data.features import weights_digest, with_states
from speech2image.data.pairs import write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.training_sets import JoinedArrays
from speech2image.errors import CheckpointError, DataError, SettingsError
from speech2image.losses.distillation import TeacherStudentWeights
from speech2image.models.pretrained_speech_encoder import (
    PoolingHeadSettings,
    PretrainedEncoderSettings,
    PretrainedSpeechEncoder,
)
from speech2image.training.core.checkpoint import load_checkpoint
from speech2image.training.core.ema import Ema
from speech2image.training.core.networks import load_speech_encoder
from speech2image.training.core.run import make_fabric
from speech2image.training.recipes.pretrained_speech_encoder import (
    PRESETS,
    starting_encoder,
    train,
    training_batches,
)
from speech2image.training.recipes.speech_embeddings import embed, evaluate, store_embeddings

TINY = dataclasses.replace(
    PRESETS["toy"],
    encoder=PretrainedEncoderSettings(head=PoolingHeadSettings(width=16, heads=2)),
    steps=4,
    batch_size=6,
    warm_up=2,
    log_every=1,
    precision="32-true",
    evaluation_utterances=4,
)
TUNED = dataclasses.replace(TINY, tuned_layers=2, augmentation=LogMelAugmentation())


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> PairArrays:
    """Twelve pictures, four of them in test, each spoken of by two tones of its own pitch."""
    folder = tmp_path_factory.mktemp("shards")
    rows = [sample(i, split="test" if i % 3 == 2 else "train") for i in range(12)]
    write_shards(rows, folder, samples_per_shard=6)
    opened = PairArrays.open(folder, front_end=WHISPER)
    rng = np.random.default_rng(0)
    opened.save_teacher(rng.random((12, 2, 1024)).astype(np.float16))
    return opened


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whisper") / "model.safetensors"
    return tiny_whisper.write_safetensors(tiny_whisper.encoder(), path)


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_speech_encoder(path).state_dict()


def test_it_learns_and_leaves_the_frozen_backbone_alone(arrays, backbone, tmp_path):
    settings = dataclasses.replace(TINY, steps=60, ema_decay=0.8, batch_size=16)
    encoder = load_speech_encoder(train(settings, arrays, tmp_path, backbone))
    assert isinstance(encoder, PretrainedSpeechEncoder)
    assert weights_digest(encoder.backbone) == weights_digest(tiny_whisper.encoder())
    found = evaluate(encoder, arrays, "train")
    assert found is not None and found.recall[1] > 0.4, found  # chance 1/8
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert any("unseen classes, heard voices/R@10" in line for line in lines)


def test_the_head_on_cached_states_is_the_whole_encoder(arrays, backbone, tmp_path):
    encoder = load_speech_encoder(train(TINY, arrays, tmp_path, backbone))
    utterances = np.arange(24)
    apart = embed(encoder.head, with_states(arrays, encoder), utterances)
    np.testing.assert_allclose(apart, embed(encoder, arrays, utterances), atol=0.02)


def test_embeddings_come_from_cached_states_where_there_are_any(arrays, backbone, tmp_path, monkeypatch):
    checkpoint = train(TINY, arrays, tmp_path, backbone)
    encoder, rows = load_speech_encoder(checkpoint), np.arange(len(arrays.utterance_sample))
    expected = embed(encoder.head, with_states(arrays, encoder), rows)
    monkeypatch.setattr(
        PretrainedSpeechEncoder, "frame_states", lambda *_: pytest.fail("the backbone ran again")
    )
    np.testing.assert_allclose(np.load(store_embeddings(arrays, checkpoint)), expected, atol=1e-3)


def test_computing_states_does_not_switch_dropout_off(backbone, tmp_path):
    write_shards([sample(0), sample(1)], tmp_path)
    encoder, _ = starting_encoder(TINY, backbone, None)
    with_states(PairArrays.open(tmp_path, front_end=WHISPER), encoder)
    assert all(module.training for module in encoder.modules())


@pytest.mark.parametrize("settings", [TINY, TUNED], ids=["head", "tuned"])
def test_resumed_equals_uninterrupted(arrays, backbone, tmp_path, settings):
    settings = dataclasses.replace(settings, final_rate=1.0)
    whole = weights_of(train(settings, arrays, tmp_path / "whole", backbone))
    train(dataclasses.replace(settings, steps=2), arrays, tmp_path / "parts", backbone)
    parts = weights_of(train(settings, arrays, tmp_path / "parts", backbone))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize(
    ("layers", "trained"), [(0, set()), (1, {"1", "norm"}), (2, {"0", "1", "norm", "conv"})]
)
def test_the_last_layers_are_trained_along(arrays, backbone, tmp_path, layers, trained):
    settings = dataclasses.replace(TINY, tuned_layers=layers, ema_decay=0.0)
    after = load_speech_encoder(train(settings, arrays, tmp_path, backbone)).backbone.state_dict()
    before = tiny_whisper.encoder().state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    parts = {name.split(".")[1] if name.startswith("layers") else name[:4] for name in changed}
    assert parts == trained


def test_a_tuned_training_goes_on_from_a_trained_head(arrays, backbone, tmp_path):
    head = train(TINY, arrays, tmp_path / "head", backbone)
    assert all(module.training for module in starting_encoder(TUNED, None, head)[0].modules())
    settings = dataclasses.replace(TUNED, learning_rate=0.0)
    tuned = train(settings, arrays, tmp_path / "tuned", start_from=head)
    both, found = weights_of(tuned), load_checkpoint(tuned)["backbone"]
    assert found["name"] == "unknown" and found == load_checkpoint(head)["backbone"]
    assert all(torch.equal(value, both[name]) for name, value in weights_of(head).items())


def test_the_papers_loss_trains_too(arrays, backbone, tmp_path):
    weights = weights_of(
        train(dataclasses.replace(TINY, loss=TeacherStudentWeights()), arrays, tmp_path, backbone)
    )
    assert all(value.isfinite().all() for value in weights.values())


def test_a_start_is_needed_and_one_alone(arrays, backbone, tmp_path):
    for options in ({}, {"backbone": backbone, "start_from": backbone}):
        with pytest.raises(SettingsError, match="--backbone"):
            train(TINY, arrays, tmp_path, **options)
    with pytest.raises(SettingsError, match="this backbone has 2 layers"):
        train(dataclasses.replace(TINY, tuned_layers=3), arrays, tmp_path, backbone)


def test_utterances_of_a_picture_come_together_and_all_come_once(arrays):
    settings = dataclasses.replace(TINY, batch_size=4)
    batches = training_batches(settings, arrays, make_fabric("32-true", 0))
    found = [batches(step).pictures.tolist() for step in range(batches.steps_per_epoch)]
    assert all(pictures[::2] == pictures[1::2] for pictures in found)
    together = [picture for pictures in found for picture in pictures]
    assert sorted(together) == sorted(2 * arrays.samples_of("train").tolist())


def test_states_are_built_once_and_for_new_speech_alone(arrays):
    encoder = PretrainedSpeechEncoder(PretrainedEncoderSettings(tiny_whisper.SETTINGS))
    encoder.backbone.load_state_dict(tiny_whisper.encoder().state_dict())
    states = with_states(arrays, encoder)
    assert states.log_mel(3).shape == (64, states.n_frames()[3])
    built = {path: path.stat().st_mtime_ns for path in (arrays.folder / "arrays").glob("states-*")}
    assert len(built) == 4
    removed = min(path for path in built if "offsets" not in path.name)
    removed.unlink()
    again = with_states(arrays, encoder)
    np.testing.assert_array_equal(again.log_mel(3), states.log_mel(3))
    later = {path: path.stat().st_mtime_ns for path in (arrays.folder / "arrays").glob("states-*")}
    rebuilt = {path for path in later if later[path] != built[path]}
    assert rebuilt == {removed, removed.with_name(removed.stem + ".offsets.npy")}


def test_averaging_a_frozen_backbone_keeps_its_states():
    backbone = tiny_whisper.encoder()
    torch.nn.init.constant_(backbone.conv1.bias, -0.0)
    average = Ema(backbone)
    average.update(backbone)
    assert weights_digest(average.module) == weights_digest(backbone)


def test_frames_of_two_front_ends_lie_side_by_side(arrays):
    paper, whisper = (PairArrays.open(arrays.folder, front_end=kind) for kind in (PAPER, WHISPER))
    assert paper.log_mel(0).shape[0] == 40 and whisper.log_mel(0).shape[0] == 80
    stated = json.loads((arrays.folder / "arrays" / "front_ends.json").read_text())
    assert stated == {kind.name: kind.describe() for kind in (PAPER, WHISPER)}
    assert JoinedArrays([whisper, whisper]).front_end is WHISPER


def test_arrays_of_another_version_are_refused(arrays, monkeypatch):
    newer = dataclasses.replace(WHISPER, version=2)
    monkeypatch.setitem(FRONT_ENDS, WHISPER.name, newer)
    with pytest.raises(CheckpointError, match=r"front_ends\.json needs the front end"):
        PairArrays.open(arrays.folder, front_end=newer).log_mel(0)


def test_arrays_that_state_no_front_end_are_the_papers(arrays):
    PairArrays.open(arrays.folder).build_log_mels()
    (arrays.folder / "arrays" / "front_ends.json").unlink()
    built = {path: path.stat().st_mtime_ns for path in (arrays.folder / "arrays").glob("log_mel-*")}
    assert PairArrays.open(arrays.folder).log_mel(0).shape[0] == 40
    assert not (arrays.folder / "arrays" / "front_ends.json").exists()  # nothing was missing
    assert built == {path: path.stat().st_mtime_ns for path in (arrays.folder / "arrays").glob("log_mel-*")}


@pytest.mark.parametrize("content", ["[]", "{", "\x00"])
def test_a_damaged_list_of_front_ends_is_one_error(arrays, content):
    path = arrays.folder / "arrays" / "front_ends.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"front_ends\.json"):
        PairArrays.open(arrays.folder).build_log_mels()
    path.unlink()
