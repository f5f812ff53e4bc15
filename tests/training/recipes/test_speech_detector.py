"""Scenes know where someone speaks; a short training tells speech from noise and goes on where it stopped."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from speech2image import audio, cli, load
from speech2image.data.corpora.toy import HELD_OUT_VOICE, toy_samples
from speech2image.data.pairs import write_shards
from speech2image.errors import CheckpointError, DataError
from speech2image.training.core.checkpoint import load_checkpoint, save_checkpoint
from speech2image.training.core.networks import load_speech_detector
from speech2image.training.recipes.speech_detector import (
    PRESETS,
    DetectorMaterial,
    SceneBatches,
    Scenes,
    active_hops,
    choose_threshold,
    gather_detector_material,
    step_labels,
    train,
)

TOY = dataclasses.replace(PRESETS["toy"], held_out_voices=(HELD_OUT_VOICE,))


def bursts(*spans: tuple[float, float], seconds: float = 3.0) -> np.ndarray:
    """Buzzing between the given times, faint noise elsewhere."""
    t = np.arange(int(seconds * 16000)) / 16000
    sound = 1e-4 * np.random.default_rng(0).standard_normal(t.size)
    for start, end in spans:
        sound += (
            ((t >= start) & (t < end)) * sum(np.sin(2 * np.pi * 130 * k * t) / k for k in range(1, 20)) / 4
        )
    return sound.astype(np.float32)


def material(n: int = 10) -> DetectorMaterial:
    speech = [(bursts((0.2, 1.4), seconds=1.6) * 32767).astype(np.int16)] * n
    hiss = np.random.default_rng(0).integers(-9000, 9000, 40_000, dtype=np.int16)
    return DetectorMaterial(speech, [hiss] * n)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector") / "toy"
    write_shards(toy_samples(48), folder)
    return folder


def test_activity_is_where_the_sound_is() -> None:
    hops = active_hops(bursts((0.5, 1.0), (1.08, 1.5), (2.2, 2.6)))
    assert len(hops) == 300
    assert hops[52:148].all() and hops[222:258].all()
    assert not hops[:47].any() and not hops[155:215].any() and not hops[265:].any()


def test_labels_are_of_four_frames() -> None:
    hops = np.zeros(100, dtype=bool)
    hops[41:61] = True
    labels = step_labels(hops, 98)
    assert labels.shape == (25,)
    assert labels.tolist() == [0] * 10 + [1] * 5 + [0] * 10


def test_scenes_are_repeatable_labelled_and_of_one_length() -> None:
    quiet = Scenes(noise_share=0, room_share=0, band_share=0, voice_share=0)
    batches = SceneBatches(material(), quiet, 6, 0)
    first, again, next_one = batches(3), batches(3), batches(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert first.log_mel.shape != next_one.log_mel.shape
    frames = first.log_mel.shape[2]
    assert first.n_frames.tolist() == [frames] * 6
    assert first.speech.shape == (6, -(-frames // 4))
    rng = np.random.default_rng(1)
    spoken = [batches.scene(rng, 48_000, True) for _ in range(6)]
    assert any(0.1 < labels.mean() < 1 for _, labels in spoken)
    for log_mel, labels in spoken:
        if 3 < labels.sum() < len(labels) - 3:
            steps = log_mel[:10, : 4 * (log_mel.shape[1] // 4)].mean(0).reshape(-1, 4).mean(1)
            labels = labels[: len(steps)]
            assert steps[labels == 1].mean() > steps[labels == 0].mean() + 2
    assert batches.scene(rng, 48_000, False)[1].sum() == 0


def test_readers_and_voices_are_kept_out(shards: Path, tmp_path: Path) -> None:
    for reader in ("7", "8"):
        (tmp_path / reader).mkdir()
        (tmp_path / reader / "a.flac").write_bytes(audio.encode_flac(bursts((0, 3))))
    both = gather_detector_material([shards], [tmp_path], [], [], 20, 0)
    one = gather_detector_material([shards], [tmp_path], [], ["reader/8"], 20, 0)
    assert len(both.speech) == len(one.speech) + 1 and not both.sounds
    voices = {"toy/anna", "toy/ben", "toy/cleo", "toy/dora", HELD_OUT_VOICE}
    with pytest.raises(DataError, match="no speech to train on"):
        gather_detector_material([shards], [], [], sorted(voices), 20, 0)
    with pytest.raises(DataError, match="no recordings"):
        gather_detector_material([], [tmp_path / "absent"], [], [], 20, 0)


def test_material_is_split_by_recording() -> None:
    train_on, kept = material(25).split()
    assert (len(train_on.speech), len(kept.speech)) == (22, 3)


def test_threshold_lies_between_speech_and_the_rest() -> None:
    assert choose_threshold(np.array([3.0, 5.0]), np.array([-4.0, 1.0]), 3.0) == (2.0, 0.0, 0.0)
    said, others = np.arange(0.0, 100), np.array([-1.0, 0.5, 0.6])
    threshold, misses, alarms = choose_threshold(said, others, 1.0)
    assert 0.6 < threshold < 1 and (misses, alarms) == (0.01, 0)
    threshold, misses, alarms = choose_threshold(said, others, 100.0)
    assert -1 < threshold < 0 and misses == 0 and alarms == pytest.approx(2 / 3)


def test_training_tells_speech_from_noise_and_goes_on(shards: Path, tmp_path: Path) -> None:
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    (sounds / "hiss.flac").write_bytes(audio.encode_flac((material().sounds[0] / 32768).astype(np.float32)))
    checkpoint = train(TOY, [shards], [], [sounds], tmp_path / "whole")
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["misses"] < 0.3 and log[-1]["false alarms"] < 0.3
    detector = load_speech_detector(checkpoint)
    assert float(detector.threshold) == pytest.approx(log[-1]["threshold"], abs=1e-4)
    first = dataclasses.replace(TOY, steps=20)
    train(first, [shards], [], [sounds], tmp_path / "parts")
    again = load_checkpoint(
        train(dataclasses.replace(first, steps=30), [shards], [], [sounds], tmp_path / "parts")
    )
    assert again["step"] == 30


def test_resumed_training_equals_an_uninterrupted_one(shards: Path, tmp_path: Path) -> None:
    from speech2image.training.core import run

    def interrupted(self: run.Run, step: int) -> bool:
        return step >= 4 or every(self, step)

    every = run.Run.finished
    small = dataclasses.replace(TOY, steps=8, validation_scenes=2)
    whole = load_checkpoint(train(small, [shards], [], [], tmp_path / "whole"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run.Run, "finished", interrupted)
        train(small, [shards], [], [], tmp_path / "parts")
    parts = load_checkpoint(train(small, [shards], [], [], tmp_path / "parts"))
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, parts["model"][name]), name


def test_commands(shards: Path, tmp_path: Path, capsys) -> None:
    from tiny_model import make_model

    words = [
        "train",
        "speech-detector",
        "--preset",
        "toy",
        "--data",
        str(shards),
        "--out",
        str(tmp_path / "r"),
    ]
    assert cli.main([*words, "--steps", "3", "--validation-scenes", "2"]) == 0
    checkpoint = tmp_path / "r" / "checkpoint.safetensors"
    assert str(checkpoint) in capsys.readouterr().out
    model = make_model(tmp_path / "m")
    words = ["export", "speech-detector", "--checkpoint", str(checkpoint), "--model", str(model)]
    assert cli.main(words) == 0
    assert load(model).vad is not None
    save_checkpoint(tmp_path / "foreign.safetensors", {"kind": "other", "settings": {}})
    with pytest.raises(CheckpointError, match="need a 'speech_detector'"):
        load_speech_detector(tmp_path / "foreign.safetensors")
