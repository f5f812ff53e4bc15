"""The words head: it learns to write from the backbone's states and leaves the embeddings as they were."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tiny_whisper
import torch
from small_sets import sample

from speech2image import audio
from speech2image.asr.ctc import best_path
from speech2image.audio.front_ends import PAPER, WHISPER
from speech2image.data.corpora.transcribed import Transcribed
from speech2image.data.pairs import write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.recordings import Recordings, build_recordings
from speech2image.data.shards.rows import SHARED
from speech2image.errors import DataError
from speech2image.training.core.checkpoint import load_checkpoint
from speech2image.training.core.networks import load_pretrained
from speech2image.training.recipes import pretrained_speech_encoder
from speech2image.training.recipes.words_head import PRESETS, train

TINY = dataclasses.replace(PRESETS["toy"], steps=4, frames=200, log_every=1, precision="32-true")


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> PairArrays:
    folder = tmp_path_factory.mktemp("shards")
    write_shards([sample(i, split="test" if i == 3 else "train") for i in range(4)], folder)
    return PairArrays.open(folder, front_end=WHISPER)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper.write_checkpoint(tmp_path_factory.mktemp("encoder") / "checkpoint.safetensors")


def recordings_in(folder: Path, front_end=WHISPER) -> Recordings:
    listed = []
    for i in range(3):
        path = folder / f"{i}.flac"
        path.write_bytes(sample(i).utterances[0].audio)
        listed.append(Transcribed(path, f"reader{i}", "a bird"))
    return build_recordings(listed, folder / f"built-{front_end.name}", front_end=front_end)


def test_it_learns_and_the_encoder_embeds_as_before(arrays, encoder, tmp_path):
    settings = dataclasses.replace(TINY, steps=40, learning_rate=5e-3, ema_decay=0.5)
    path = train(settings, encoder, arrays, {"readers": recordings_in(tmp_path)}, tmp_path / "run")
    losses = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    ctc = [line["ctc"] for line in losses if "ctc" in line]
    assert np.mean(ctc[-5:]) < 0.6 * np.mean(ctc[:3])
    assert f"{SHARED}, heard voices/WER" in losses[-2] and "readers/WER" in losses[-1]
    before, after = load_pretrained(encoder), load_pretrained(path)
    assert after.words is not None and load_checkpoint(path)["pieces"][0] in "abcdefghijklmnopqrstuvwxyz' "
    clip = torch.from_numpy(WHISPER.extract(audio.load(sample(0).utterances[0].audio)))[None]
    with torch.no_grad():
        n_frames = torch.tensor([clip.shape[2]])
        assert torch.equal(before(clip, n_frames), after(clip, n_frames))


def test_resumed_equals_uninterrupted(arrays, encoder, tmp_path):
    settings = dataclasses.replace(TINY, final_rate=1.0)
    whole = load_pretrained(train(settings, encoder, arrays, {}, tmp_path / "whole")).state_dict()
    train(dataclasses.replace(settings, steps=2), encoder, arrays, {}, tmp_path / "parts")
    parts = load_pretrained(train(settings, encoder, arrays, {}, tmp_path / "parts")).state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_recordings_of_another_front_end_are_refused(arrays, encoder, tmp_path):
    with pytest.raises(DataError, match="prepare recordings --front-end whisper-80"):
        train(TINY, encoder, arrays, {"readers": recordings_in(tmp_path, PAPER)}, tmp_path / "run")


def test_a_listing_that_states_no_front_end_is_the_papers(tmp_path):
    built = recordings_in(tmp_path, PAPER)
    listing = built.folder / "recordings.jsonl"
    first, *rest = listing.read_text().splitlines()
    old = json.loads(first)
    assert old.pop("front_end") == PAPER.describe()
    listing.write_text("\n".join([json.dumps(old), *rest]) + "\n")
    assert Recordings(built.folder).front_end is PAPER
    assert Recordings(built.folder).log_mel(0).shape[0] == 40


def test_the_likeliest_path_without_repetitions_and_blanks():
    ctc = np.full((8, 5), -9.0, np.float32)
    ctc[range(8), [0, 3, 3, 0, 3, 4, 4, 0]] = 0.0
    assert best_path(ctc) == [3, 3, 4]


def test_both_heads_are_tuned_together(arrays, encoder, tmp_path):
    arrays.save_teacher(np.random.default_rng(0).random((4, 2, 1024)).astype(np.float16))
    written = train(TINY, encoder, arrays, {}, tmp_path / "words")
    settings = dataclasses.replace(
        pretrained_speech_encoder.PRESETS["toy"], tuned_layers=2, steps=2, batch_size=4, log_every=1
    )
    recordings = [recordings_in(tmp_path)]
    tuned = pretrained_speech_encoder.train(
        settings, arrays, tmp_path / "tuned", start_from=written, recordings=recordings
    )
    assert load_checkpoint(tuned)["pieces"] == load_checkpoint(written)["pieces"]
    before, after = (load_pretrained(path).state_dict() for path in (written, tuned))
    for name in ("words.read.weight", "head.projection.weight", "backbone.conv1.weight"):
        assert not torch.equal(before[name], after[name]), name
    assert '"ctc"' in (tmp_path / "tuned" / "log.jsonl").read_text()


def test_whispers_decoder_is_tuned_along_and_goes_on(arrays, encoder, tmp_path):
    arrays.save_teacher(np.random.default_rng(0).random((4, 2, 1024)).astype(np.float16))
    written = train(TINY, encoder, arrays, {}, tmp_path / "words")
    whisper = tiny_whisper.write_decoder(tmp_path / "whisper")
    toy = dataclasses.replace(
        pretrained_speech_encoder.PRESETS["toy"],
        **{"tuned_layers": 2, "batch_size": 4, "log_every": 1, "final_rate": 1.0, "precision": "32-true"},
    )

    def tuned(folder: str, steps: int, decoder: Path | None = whisper) -> Path:
        return pretrained_speech_encoder.train(
            dataclasses.replace(toy, steps=steps),
            arrays,
            tmp_path / folder,
            start_from=written,
            decoder=decoder,
        )

    whole, half = tuned("whole", 20), tuned("parts", 3)
    facts, losses = load_checkpoint(whole), []
    for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines():
        losses += [json.loads(line)["decoder"]] if "decoder" in json.loads(line) else []
    assert losses[-1] < 0.9 * losses[0]
    assert set(facts["decoder_pieces"]) >= {*tiny_whisper.LETTERS, " a"}
    parts = tuned("parts", 20)
    assert parts == half
    for name, value in load_pretrained(whole).state_dict().items():
        assert torch.equal(value, load_pretrained(parts).state_dict()[name]), name
    assert load_pretrained(whole).decoder is not None and load_pretrained(written).decoder is None
