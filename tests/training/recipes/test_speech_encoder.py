"""The speech encoder's training: it learns, it resumes exactly, it keeps test material out."""

import dataclasses
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import torch

from speech2image.data.augment.log_mel import (
    LogMelAugmentation,
    add_noise,
    augment,
    mask_stretches,
    relative_to_loudest,
    warp,
    warped_bands,
)
from speech2image.data.shards.rows import SEEN, UNSEEN
from speech2image.errors import DataError, SettingsError
from speech2image.losses.distillation import ContrastiveWeights, TeacherStudentWeights
from speech2image.training.core.checkpoint import load_checkpoint, read_facts
from speech2image.training.core.networks import load_speech_encoder
from speech2image.training.core.sources import Part
from speech2image.training.core.speech_batches import SpeechBatches
from speech2image.training.recipes import speech_encoder
from speech2image.training.recipes.speech_embeddings import embed, evaluate, training_and_other_voices
from speech2image.training.recipes.speech_encoder import (
    PRESETS,
    gradient_balance_of,
    train,
    training_batches,
)


class FakeArrays:
    """Sixteen classes, each a loud band in its clips and a direction of its pictures' features."""

    ids = ("a", "b")
    embedding_space = ""

    def __init__(self, pictures: int = 160) -> None:
        rng = np.random.default_rng(0)
        self.labels = np.arange(pictures) % 16
        self.splits = np.where(np.arange(pictures) < pictures * 3 // 4, "train", "test")
        self.utterance_sample = np.repeat(np.arange(pictures), 2)
        self.utterance_voice = np.array(["anna", "berta"] * pictures)
        directions = rng.random((16, 1024)).astype(np.float32)
        noise = 0.1 * rng.random((pictures, 2, 1024)).astype(np.float32)
        self.teacher = (directions[self.labels][:, None] + noise).astype(np.float16)
        self._lengths = rng.integers(64, 110, 2 * pictures)

    def n_frames(self) -> np.ndarray:
        return self._lengths

    def log_mel(self, u: int) -> np.ndarray:
        clip = np.random.default_rng(u).normal(-8, 1, (40, self._lengths[u])).astype(np.float32)
        clip[2 * self.labels[self.utterance_sample[u]] + 4] += 6
        return clip

    def samples_of(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.splits == split)

    def classes_of(self, split: str) -> str:
        return UNSEEN if split == "test" else SEEN

    def utterances_of(
        self, split: str, voices: Collection[str] | None = None, exclude_voices: Collection[str] = ()
    ) -> np.ndarray:
        keep = self.splits[self.utterance_sample] == split
        if voices is not None:
            keep &= np.isin(self.utterance_voice, list(voices))
        return np.flatnonzero(keep & ~np.isin(self.utterance_voice, list(exclude_voices)))


@pytest.fixture(scope="module")
def arrays() -> FakeArrays:
    return FakeArrays()


TINY = dataclasses.replace(
    PRESETS["toy"],
    steps=6,
    batch_size=8,
    warm_up=2,
    log_every=1,
    precision="32-true",
    evaluation_utterances=10,
    augmentation=LogMelAugmentation(),
    encoder=dataclasses.replace(PRESETS["toy"].encoder, channels=(16, 16), hidden=8, dropout=0.2),
)


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_speech_encoder(path).state_dict()


def test_it_learns_what_it_hears(arrays, tmp_path):
    settings = dataclasses.replace(
        PRESETS["toy"], steps=60, warm_up=5, precision="32-true", ema_decay=0.9, augmentation=None
    )
    encoder = load_speech_encoder(train(settings, arrays, tmp_path))
    found = evaluate(encoder, arrays, "test")
    assert found.mean_average_precision > 0.6  # chance 1/16
    embeddings = embed(encoder, arrays, arrays.utterances_of("test"))
    own = arrays.teacher.astype(np.float32).mean(1)[arrays.utterance_sample[arrays.utterances_of("test")]]
    mean = encoder.teacher_mean.numpy()
    assert ((embeddings - own) ** 2).sum() < 0.6 * ((own - mean) ** 2).sum()  # in the teacher's raw space
    assert "unseen classes, heard voices/R@10" in (tmp_path / "log.jsonl").read_text()


@pytest.mark.parametrize("loss", [ContrastiveWeights(extra_pictures=12), TeacherStudentWeights()])
def test_resumed_equals_uninterrupted(arrays, tmp_path, loss):
    settings = dataclasses.replace(TINY, loss=loss, final_rate=1.0)
    whole = weights_of(train(settings, arrays, tmp_path / "whole"))
    train(dataclasses.replace(settings, steps=4), arrays, tmp_path / "parts")
    half = weights_of(tmp_path / "parts" / "checkpoint.safetensors")
    parts = weights_of(train(settings, arrays, tmp_path / "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert not torch.equal(half["projection.weight"], parts["projection.weight"])


def test_weights_that_balance_the_gradients(arrays, tmp_path):
    """Chosen from the start's gradients, kept when the run goes on, and those that the command prints."""
    settings = dataclasses.replace(TINY, loss=TeacherStudentWeights(), balance=2, final_rate=1.0)
    whole = train(settings, arrays, tmp_path / "whole")
    found = load_checkpoint(whole)["loss_weights"]
    measured = gradient_balance_of(settings, arrays, 2)
    given = dataclasses.asdict(measured.balanced)
    assert {name: found[name] for name in measured.norms} == pytest.approx(
        {name: given[name] for name in measured.norms}
    )
    sizes = [found[name] * norm for name, norm in measured.norms.items()]
    assert sizes == pytest.approx([sizes[0]] * 3) and found["norm"] != pytest.approx(5.0)
    train(dataclasses.replace(settings, steps=4), arrays, tmp_path / "parts")
    parts = weights_of(train(settings, arrays, tmp_path / "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in weights_of(whole).items())
    other = weights_of(train(dataclasses.replace(settings, balance=0), arrays, tmp_path / "given"))
    assert not torch.equal(other["projection.weight"], parts["projection.weight"])
    printed = measured.table().splitlines()
    assert printed[0].startswith("form code") and [row.split()[0] for row in printed[2:]] == list(
        measured.norms
    )
    after = gradient_balance_of(settings, arrays, 2, encoder=whole)
    assert after.norms != measured.norms
    with pytest.raises(SettingsError, match="this preset trains by InfoNCE"):
        train(dataclasses.replace(TINY, balance=2), arrays, tmp_path / "other")


@pytest.mark.parametrize("loss", [ContrastiveWeights(extra_pictures=12), TeacherStudentWeights()])
def test_bfloat16_trains(arrays, tmp_path, loss):
    settings = dataclasses.replace(TINY, loss=loss, precision="bf16-mixed")
    weights = weights_of(train(settings, arrays, tmp_path))
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in weights.values())


def test_other_settings_are_refused(arrays, tmp_path):
    train(dataclasses.replace(TINY, steps=1), arrays, tmp_path)
    with pytest.raises(SettingsError, match="batch_size"):
        train(dataclasses.replace(TINY, steps=2, batch_size=4), arrays, tmp_path)


def test_test_classes_and_held_out_voices_stay_out(arrays):
    settings = dataclasses.replace(TINY, held_out_voices=("berta",))
    batches = training_batches(settings, arrays, Part())
    assert set(arrays.utterance_voice[batches.utterances]) == {"anna"}
    train_pictures = set(arrays.samples_of("train"))
    batches = SpeechBatches(arrays, batches.utterances, 8, 0, extra_pictures=50)
    for step in range(20):
        assert set(batches(step).pictures.tolist()) <= train_pictures
    assert training_and_other_voices(arrays, ("berta",)) == (["anna"], ["berta"])


def test_batches_depend_on_step_and_seed_alone(arrays):
    utterances = arrays.utterances_of("train")
    first = SpeechBatches(arrays, utterances, 8, 0, LogMelAugmentation())
    again = SpeechBatches(arrays, utterances, 8, 0, LogMelAugmentation())
    other = SpeechBatches(arrays, utterances, 8, 1, LogMelAugmentation())
    first(3)
    assert torch.equal(first(41).log_mel, again(41).log_mel)
    assert not torch.equal(first(41).n_frames, other(41).n_frames)


def test_augmentation_grows_along_the_ramp(arrays):
    utterances, full = arrays.utterances_of("train"), LogMelAugmentation()
    clean, growing, at_once = (
        SpeechBatches(arrays, utterances, 8, 0, augmentation, ramp=ramp)
        for augmentation, ramp in ((None, 0), (full, 10), (full, 0))
    )
    first, n = clean(0), int(clean(0).n_frames.min())  # beyond a clip's end, padding may differ
    levelled = relative_to_loudest(first.log_mel, first.n_frames)
    assert torch.allclose(growing(0).log_mel[..., :n], levelled[..., :n], atol=1e-3)
    assert not torch.equal(growing(5).log_mel, at_once(5).log_mel)
    assert torch.equal(growing(10).log_mel, at_once(10).log_mel)


def test_an_epoch_hears_all_and_ranks_share_it(arrays):
    utterances = arrays.utterances_of("train")
    ranks = [SpeechBatches(arrays, utterances, 10, 0, rank=r, world_size=2) for r in range(2)]
    assert ranks[0].steps_per_epoch == len(utterances) // 20 == 12
    pictures = [batch.pictures for step in range(12) for batch in (ranks[0](step), ranks[1](step))]
    counts = torch.cat(pictures).bincount(minlength=120)
    assert counts.tolist() == [2] * 120


def test_rows_belong_together(arrays):
    batch = SpeechBatches(arrays, arrays.utterances_of("train"), 16, 0, extra_pictures=5)(0)
    assert batch.image.shape == (21, 1024)
    loudest = batch.log_mel.masked_fill(batch.log_mel == 0, -20).sum(2).argmax(1)
    assert torch.equal((loudest - 4) // 2, batch.labels[:16])
    spread = batch.n_frames.max() - batch.n_frames.min()
    assert spread < arrays.n_frames().max() - arrays.n_frames().min()


def test_no_speech_is_an_error(arrays):
    with pytest.raises(DataError, match="speak the captions"):
        SpeechBatches(arrays, np.zeros(0, np.int64), 8, 0)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_no_warp_changes_nothing():
    clips, n_frames = torch.randn(3, 40, 90), torch.tensor([90, 64, 70])
    same, lengths = warp(clips, n_frames, 0.0, 0.0, generator())
    assert torch.equal(lengths, n_frames)
    assert torch.allclose(same[2, :, :70], clips[2, :, :70], atol=1e-4)


def test_warp_stretches_time_and_moves_bands():
    ramp = torch.arange(200.0).expand(8, 40, 200)
    stretched, lengths = warp(ramp, torch.full((8,), 200), 0.2, 0.0, generator())
    assert lengths.min() < 200 < lengths.max()
    for clip, n in zip(stretched, lengths, strict=True):
        assert torch.allclose(clip[0, :n], torch.linspace(0, 199, int(n)), atol=0.05)
    bands = warped_bands(torch.tensor([1.0, 1.1, 0.9]))
    assert torch.allclose(bands[0], torch.arange(40.0), atol=1e-3)
    assert (bands[1, 1:-3] > bands[0, 1:-3]).all()
    assert (bands[2, 1:] < bands[0, 1:]).all()


def test_clip_never_gets_shorter_than_the_encoder_takes():
    _, lengths = warp(torch.randn(50, 40, 66), torch.full((50,), 66), 0.3, 0.1, generator())
    assert lengths.min() == 64


def test_noise_adds_power():
    quiet = torch.full((200, 40, 30), -18.0)
    noisy = add_noise(quiet, LogMelAugmentation(noise_probability=0.5, noise_db=(20.0, 40.0)), generator())
    assert (noisy >= quiet).all()
    changed = (noisy.mean((1, 2)) > -17).float().mean()
    assert 0.35 < changed < 0.65


def test_loudest_is_zero_and_the_floor_80_db():
    clips = torch.randn(4, 40, 50) * 20
    levelled = relative_to_loudest(clips, torch.tensor([50, 30, 20, 10]))
    for clip, n in zip(levelled, (50, 30, 20, 10), strict=True):
        assert clip[:, :n].max() == 0
        assert clip.min() >= -18.43


def test_masks_are_within_their_limits():
    settings = LogMelAugmentation(time_masks=1, time_mask_share=0.1, band_masks=0)
    clips = torch.randn(64, 40, 100)
    masked = mask_stretches(clips, torch.full((64,), 100), settings, generator()) != clips
    frames = masked.all(1).sum(1)
    assert torch.equal(masked.any(1).sum(1), frames)
    assert 0 < frames.max() <= 10


def test_augmentation_keeps_shapes_and_is_finite():
    clips = torch.randn(6, 40, 120).clamp(max=0)
    changed, lengths = augment(
        clips, torch.tensor([120, 100, 90, 80, 70, 64]), LogMelAugmentation(), generator()
    )
    assert changed.shape[:2] == (6, 40)
    assert changed.shape[2] == lengths.max()
    assert changed.isfinite().all()


def test_ctrl_c_while_the_last_step_is_measured(arrays, tmp_path, ctrl_c_in):
    """At the end, when nothing of the stage is left to do: what follows it must not begin."""
    ctrl_c_in(speech_encoder, "log_retrieval")
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(TINY, steps=1), arrays, tmp_path)
    assert read_facts(tmp_path / "checkpoint.safetensors")["step"] == 1
