"""Streams as sources of batches: the same losses as from arrays, bounded windows, exact resumption."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from speech2image.audio.front_ends import PAPER
from speech2image.data.augment.log_mel import LogMelAugmentation
from speech2image.data.shards.training_shards import (
    TrainingSample,
    training_shard,
    write_training_shard,
)
from speech2image.data.streams import Stream
from speech2image.errors import DataError
from speech2image.losses.distillation import ContrastiveWeights
from speech2image.training.core import sources
from speech2image.training.core.networks import load_speech_encoder
from speech2image.training.core.sources import Streamed, StreamedBatches, Whole
from speech2image.training.recipes import speech_encoder
from speech2image.training.recipes.speech_encoder import PRESETS, reading, train

PER_SHARD, SHARDS = 6, 8
SETTINGS = dataclasses.replace(
    PRESETS["toy"],
    steps=12,
    batch_size=4,
    warm_up=2,
    log_every=1,
    precision="32-true",
    evaluation_utterances=0,
    augmentation=LogMelAugmentation(),
    loss=ContrastiveWeights(extra_pictures=0),
    encoder=dataclasses.replace(PRESETS["toy"].encoder, channels=(8, 8), hidden=8, dropout=0.2),
)


def made_up(number: int) -> TrainingSample:
    """A sample of class number % 4, spoken of once or twice."""
    rng = np.random.default_rng(number)
    voices = ("anna", "berta")[: 1 + number % 2]
    frames = tuple(rng.normal(-8, 1, (int(rng.integers(64, 90)), 40)).astype(np.float16) for _ in voices)
    return TrainingSample(
        id=f"made/{number:04d}",
        label=number % 4,
        class_name=f"class {number % 4}",
        split="train",
        captions=("a thing",),
        image=b"",
        suffix="png",
        teacher=rng.random((2, 1024)).astype(np.float16),
        spoken=tuple((0, voice) for voice in voices),
        frames=frames,
    )


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> Stream:
    folder = tmp_path_factory.mktemp("stream")
    for shard in range(SHARDS):
        samples = [made_up(PER_SHARD * shard + i) for i in range(PER_SHARD)]
        write_training_shard(training_shard(folder, shard), samples, PAPER.describe(), f"{shard}")
    return Stream.open([str(folder)])


@pytest.fixture(scope="module")
def arrays(stream: Stream):
    """The same samples, all at hand, in their order."""
    return stream.load(range(SHARDS), pictures=False, frames=True)


def losses(folder: Path) -> list[float]:
    rows = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


def test_a_stream_that_fits_the_buffer_trains_as_arrays_do(stream, arrays, tmp_path) -> None:
    settings = dataclasses.replace(SETTINGS, steps=24, loss=ContrastiveWeights(extra_pictures=5))
    train(settings, arrays, tmp_path / "arrays")  # more than an epoch of 18 steps
    train(settings, stream, tmp_path / "stream")
    assert len(losses(tmp_path / "stream")) == 24
    assert losses(tmp_path / "stream") == losses(tmp_path / "arrays")


def test_losses_are_those_of_arrays_read_in_the_same_order(stream, arrays, tmp_path, monkeypatch) -> None:
    """Where windows are small, the order is another one; given that order, nothing else differs."""
    settings = dataclasses.replace(SETTINGS, buffer=24)
    train(settings, stream, tmp_path / "stream")

    class SameOrder(Whole):
        """Batches of the arrays, of the utterances that the stream has at each step."""

        def batches(self, how):
            streamed, here = StreamedBatches(stream, how, settings), how.make(arrays, sources.Part())
            numbers = {(arrays.ids[s], v): u for u, (s, v) in enumerate(utterances(arrays))}

            def at(step: int):
                chosen = [numbers[name] for name in names_of(streamed, step)]
                here._order = lambda _: [np.array(chosen)]
                return here.of(0, 0, step)

            return at

    monkeypatch.setattr(speech_encoder, "source_of", lambda *_: SameOrder(arrays))
    train(settings, arrays, tmp_path / "arrays")
    assert losses(tmp_path / "stream") == losses(tmp_path / "arrays")


def utterances(arrays) -> list[tuple[int, str]]:
    return list(zip(arrays.utterance_sample.tolist(), arrays.utterance_voice.tolist(), strict=True))


def names_of(batches: StreamedBatches, step: int) -> list[tuple[str, str]]:
    """Picture and voice of each utterance of a step."""
    epoch, window, place = batches._locate(step)
    held = batches._window(epoch, window).result()
    order = epoch * len(batches._plan(epoch).windows) + window
    spoken = utterances(held.arrays)
    return [(held.arrays.ids[spoken[u][0]], spoken[u][1]) for u in held._order(order)[place]]


def test_every_utterance_comes_once_an_epoch_but_for_what_fills_no_batch(stream, arrays) -> None:
    batches = StreamedBatches(stream, reading(SETTINGS), dataclasses.replace(SETTINGS, buffer=24))
    steps = batches._plan(0).steps
    names = [name for step in range(steps) for name in names_of(batches, step)]
    windows = len(batches._plan(0).windows)
    assert windows == 4  # of two shards each: 24 // 2 pictures
    assert len(set(names)) == len(names) >= len(utterances(arrays)) - windows * (SETTINGS.batch_size - 1)
    again = [name for step in range(steps, 2 * steps) for name in names_of(batches, step)]
    assert names != again and len(set(again) & set(names)) > len(names) // 2


def test_no_more_than_the_buffer_is_held(stream, monkeypatch) -> None:
    loaded: list[int] = []
    load = Stream.load
    monkeypatch.setattr(
        Stream, "load", lambda self, places, **k: loaded.append(len(places)) or load(self, places, **k)
    )
    settings = dataclasses.replace(SETTINGS, buffer=24)
    batches = StreamedBatches(stream, reading(settings), settings)
    for step in range(40):
        batches(step)
        assert len(batches._held) <= 2
    assert max(loaded) * PER_SHARD * 2 <= 24


@pytest.mark.parametrize("threads", [0, 2])
def test_resumed_equals_uninterrupted(stream, tmp_path, threads: int) -> None:
    settings = dataclasses.replace(SETTINGS, buffer=24, read_ahead=threads, final_rate=1.0)
    whole = load_speech_encoder(train(settings, stream, tmp_path / "whole")).state_dict()
    train(dataclasses.replace(settings, steps=7), stream, tmp_path / "parts")
    parts = load_speech_encoder(train(settings, stream, tmp_path / "parts")).state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_processes_have_different_shards_and_equally_many_steps(stream) -> None:
    settings = dataclasses.replace(SETTINGS, buffer=24)
    both = [StreamedBatches(stream, reading(settings), settings, rank, 2) for rank in (0, 1)]
    for step in range(20):
        here, there = (set(names_of(batches, step)) for batches in both)
        assert not here & there
        mine, others = (batches(step).pictures.tolist() for batches in both)
        assert not set(mine) & set(others)
    assert both[0]._plan(0).steps == both[1]._plan(0).steps
    with pytest.raises(DataError, match="8 shards for 9 processes"):
        Streamed(stream, settings, 0, 9)


def test_held_out_voices_are_not_trained_on(stream) -> None:
    settings = dataclasses.replace(SETTINGS, held_out_voices=("berta",))
    batches = StreamedBatches(stream, reading(settings), settings)
    assert {voice for step in range(24) for _, voice in names_of(batches, step)} == {"anna"}
    settings = dataclasses.replace(SETTINGS, held_out_voices=("anna", "berta"))
    with pytest.raises(DataError, match="held out"):
        StreamedBatches(stream, reading(settings), settings)


def test_a_shard_cut_short_ends_the_training(stream, tmp_path) -> None:
    for shard in stream.shards:
        data = Path(shard.url).read_bytes()
        copy = tmp_path / Path(shard.url).name
        copy.write_bytes(data if "5" not in copy.name else data[: len(data) // 2])
    broken = Stream.open([str(tmp_path)])
    with pytest.raises(DataError, match=r"training-000005\.tar breaks off"):
        train(dataclasses.replace(SETTINGS, buffer=24, steps=30), broken, tmp_path / "run")


@pytest.mark.slow
def test_from_a_stream_to_a_generator(tmp_path, capsys) -> None:
    """Packed, trained on, written once more with embeddings, drawn from: each step by its command."""
    from safetensors.torch import save_file

    from speech2image import cli
    from speech2image.data.features import cache_teacher_features
    from speech2image.data.prepare import PrepareSettings, prepare
    from speech2image.data.shards.arrays import PairArrays
    from speech2image.models.teacher.googlenet import GoogLeNet
    from speech2image.training.recipes.speech_embeddings import embed

    shards = prepare(PrepareSettings("toy", tmp_path / "shards", limit=40))
    arrays, teacher = PairArrays.open(shards), GoogLeNet()
    cache_teacher_features(arrays, teacher, crops=1)
    weights = tmp_path / "teacher.safetensors"
    save_file({name: weight.contiguous() for name, weight in teacher.state_dict().items()}, weights)
    packed, embedded, run = (str(tmp_path / name) for name in ("packed", "embedded", "run"))
    words = ["prepare", "stream", "--data", str(shards), "--out", packed, "--samples-per-shard", "10"]
    assert cli.main(words) == 0
    names = f"{packed}/training-{{000000..{len(list(Path(packed).iterdir())) - 1:06d}}}.tar"
    words = ["train", "speech-encoder", "--preset", "toy", "--data", names, "--out", run]
    assert cli.main([*words, "--steps", "2", "--batch-size", "4"]) == 0
    encoder = f"{run}/checkpoint.safetensors"
    words = ["train", "embeddings", "--data", names, "--encoder", encoder, "--out", embedded]
    assert cli.main(words) == 0
    before = sorted(path.stat().st_mtime_ns for path in Path(embedded).iterdir())
    assert cli.main(words) == 0  # all there
    assert sorted(path.stat().st_mtime_ns for path in Path(embedded).iterdir()) == before
    found = Stream.open([embedded]).load([0], pictures=False, frames=True)
    expected = embed(load_speech_encoder(encoder), found, np.arange(len(found.utterance_sample)))
    np.testing.assert_allclose(found.embeddings, expected, atol=2e-3 * np.abs(expected).max())

    words = ["train", "one-stage-gan", "--preset", "toy", "--teacher", str(weights), "--out", f"{run}/gan"]
    size = ["--steps", "2", "--batch-size", "4", "--prior.n-predicted", "2"]
    assert cli.main([*words, *size, "--data", embedded]) == 0
    assert (tmp_path / "run/gan/checkpoint.safetensors").is_file()
    capsys.readouterr()
    assert cli.main([*words[:-1], f"{run}/other", *size, "--data", packed]) == 1
    assert "no speech embeddings" in capsys.readouterr().err
    assert cli.main(["train", "classifier", "--data", packed, "--out", f"{run}/class"]) == 2
    assert "is a stream" in capsys.readouterr().err
