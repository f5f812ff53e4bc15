"""The recognizer's training: it learns what it hears, resumes exactly, keeps test material out."""

import json
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_speech import FakeSpeech, spoken

from speech2image.asr.ctc import Search, Vocabulary, transcribe
from speech2image.asr.text import LETTERS, learn_pieces
from speech2image.data.augment.log_mel import LogMelAugmentation
from speech2image.data.shards.rows import SEEN, UNSEEN
from speech2image.errors import DataError, SettingsError
from speech2image.losses.transcription import ctc_loss
from speech2image.training.core.checkpoint import read_facts
from speech2image.training.core.networks import load_recognizer
from speech2image.training.core.prefetch import ReadAhead
from speech2image.training.core.speech_batches import TranscribedBatches
from speech2image.training.recipes import speech_recognizer
from speech2image.training.recipes.speech_recognizer import (
    IGNORED,
    PRESETS,
    gather_transcribed,
    learning_rate,
    shifted,
    smoothed_cross_entropy,
    train,
)
from speech2image.training.recipes.transcripts import (
    TorchScorer,
    greedy,
    transcripts,
    word_errors,
)

TINY = replace(
    PRESETS["toy"],
    recognizer=replace(PRESETS["toy"].recognizer, dropout=0.1),
    augmentation=LogMelAugmentation(),
    steps=6,
    frames=400,
    warm_up=2,
    log_every=1,
    precision="32-true",
    evaluation_utterances=4,
)
LETTERS_ALONE = Vocabulary(tuple(LETTERS))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A recognizer that knows eight utterances by heart (and a ninth kept out)."""
    folder = tmp_path_factory.mktemp("trained")
    settings = replace(TINY, augmentation=None, steps=220, frames=1200, warm_up=20, ema_decay=0.9)
    settings = replace(settings, recognizer=PRESETS["toy"].recognizer, log_every=20, label_smoothing=0.0)
    return train(settings, None, {"fake": FakeSpeech(9)}, folder)


def test_it_learns_eight_utterances(trained):
    recognizer, vocabulary = load_recognizer(trained)
    speech = FakeSpeech(9)
    written = transcripts(partial(greedy, recognizer), vocabulary, speech, np.arange(1, 9), batch_size=3)
    assert word_errors(speech.texts[1:], written).wer == 0
    scorer = TorchScorer(recognizer)
    for u in (2, 5):
        for search in (Search(beam=1, ctc_weight=0), Search(beam=3, ctc_weight=0.4)):
            assert transcribe(scorer, vocabulary, speech.log_mel(u), search).text == speech.texts[u]


def test_folder_tells_the_word_errors(trained):
    rows = [json.loads(line) for line in (trained.parent / "log.jsonl").read_text().splitlines()]
    assert {"loss", "attention", "ctc", "learning_rate"} <= rows[0].keys()
    assert rows[0]["ctc"] > 3 * rows[-2]["ctc"]
    assert "fake/WER" in rows[-1]
    assert (trained.parent / "transcripts.txt").read_text().startswith("step 220")


def test_silence_is_not_transcribed_for_ever(trained):
    recognizer, vocabulary = load_recognizer(trained)
    silence = np.random.default_rng(0).normal(-8, 1, (40, 400)).astype(np.float32)
    written = transcribe(TorchScorer(recognizer), vocabulary, silence, Search(beam=2))
    assert len(written.tokens) <= 40
    with torch.no_grad():
        recognizer.encoder.ctc.bias[0] += 100  # CTC hears nothing at all
    assert transcribe(TorchScorer(recognizer), vocabulary, silence, Search(beam=2)).text == ""
    rows = greedy(recognizer, torch.from_numpy(silence)[None], torch.tensor([400]))
    assert rows == [[]]


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_recognizer(path)[0].state_dict()


def test_resumed_equals_uninterrupted(tmp_path):
    speech = {"fake": FakeSpeech(20)}
    settings = replace(TINY, decay="inverse-sqrt", pieces=40)
    whole = weights_of(train(settings, None, speech, tmp_path / "whole"))
    train(replace(settings, steps=4), None, speech, tmp_path / "parts")
    half = weights_of(tmp_path / "parts" / "checkpoint.safetensors")
    torch.manual_seed(99)
    parts = weights_of(train(settings, None, speech, tmp_path / "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert not torch.equal(half["encoder.ctc.weight"], parts["encoder.ctc.weight"])


def test_bfloat16_trains(tmp_path):
    settings = replace(TINY, precision="bf16-mixed", steps=2)
    weights = weights_of(train(settings, None, {"fake": FakeSpeech(8)}, tmp_path))
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in weights.values())


def test_nothing_to_train_on_is_refused(tmp_path):
    with pytest.raises(DataError, match="nothing to train on"):
        train(TINY, None, {}, tmp_path)
    with pytest.raises(DataError, match="at most 10 frames"):
        train(replace(TINY, longest_frames=10), None, {"fake": FakeSpeech(8)}, tmp_path)


class Captions:
    """Two training pictures and one of a test class, spoken by two voices; one utterance of no caption."""

    def __init__(self) -> None:
        self.captions = [("a bad cab", "a bed"), ("He FED 2 bees!",), ("a cage",)]
        self.splits = np.array(["train", "train", "test"])
        self.utterance_sample = np.array([0, 0, 1, 1, 2, 2])
        self.utterance_caption = np.array([1, -1, 0, 0, 0, 0])
        self.utterance_voice = np.array(["anna", "anna", "anna", "berta", "anna", "berta"])

    def utterances_of(
        self, split: str, voices: Collection[str] | None = None, exclude_voices: Collection[str] = ()
    ) -> np.ndarray:
        keep = self.splits[self.utterance_sample] == split
        if voices is not None:
            keep &= np.isin(self.utterance_voice, list(voices))
        return np.flatnonzero(keep & ~np.isin(self.utterance_voice, list(exclude_voices)))

    def classes_of(self, split: str) -> str:
        return UNSEEN if split == "test" else SEEN

    def n_frames(self) -> np.ndarray:
        return np.full(6, 64) + np.arange(6)

    def log_mel(self, u: int) -> np.ndarray:
        return spoken("abc", u)


def test_test_classes_held_out_voices_and_readers_are_kept_out():
    settings = replace(TINY, held_out_voices=("berta",), recordings_repeated=2)
    material = gather_transcribed(settings, Captions(), {"fake": FakeSpeech(40)})  # type: ignore[arg-type]
    captions = ["a bed", "he fed two bees"]
    assert material.training.texts[:2] == captions
    recorded = FakeSpeech(40).texts
    assert material.training.texts[2:] == [recorded[i] for i in range(40) if i % 20] * 2
    heard, unheard, fake = material.tests.values()
    assert heard.texts == ["a cage"] == unheard.texts
    assert heard.speakers.tolist() == ["anna"] and unheard.speakers.tolist() == ["berta"]
    assert fake.texts == [recorded[0], recorded[20]]
    reader = replace(settings, held_out_voices=("reader/s1",))
    material_of_s0 = gather_transcribed(reader, None, {"fake": FakeSpeech(6)})
    assert set(material_of_s0.training.speakers) == {"s0"}
    assert material_of_s0.tests["fake"].speakers.tolist() == ["s1"] * 3
    assert material.training.n_frames()[:2].tolist() == [64, 66]
    assert np.array_equal(material.training.log_mel(2), FakeSpeech(40).log_mel(1))


def test_batches_hold_every_utterance_once_and_no_more_frames_than_allowed():
    speech = FakeSpeech(50)
    batches = TranscribedBatches(speech, LETTERS_ALONE, 500, 0)
    last = next(step for step in range(100) if batches.epoch_of(step) == 1)
    seen: list[str] = []
    for step in range(last):
        batch = batches(step)
        assert batch.log_mel.shape[0] * batch.log_mel.shape[2] <= 500
        seen += [
            LETTERS_ALONE.text(row[:n].tolist())
            for row, n in zip(batch.tokens, batch.n_tokens.tolist(), strict=True)
        ]
    assert sorted(seen) == sorted(speech.texts)


def test_batches_depend_on_step_and_seed_alone():
    speech = FakeSpeech(50)
    first, again, other = (
        TranscribedBatches(speech, LETTERS_ALONE, 500, seed, augmentation=LogMelAugmentation())
        for seed in (0, 0, 1)
    )
    first(1)
    assert torch.equal(first(41).log_mel, again(41).log_mel)
    assert any(first(s).log_mel.shape != other(s).log_mel.shape for s in range(5))


def test_batches_read_ahead_across_epochs_are_the_same():
    """Several threads find out where an epoch begins."""

    def batches():
        return TranscribedBatches(FakeSpeech(9), LETTERS_ALONE, 200, 0, augmentation=LogMelAugmentation())

    plain, ahead = batches(), ReadAhead(batches(), threads=4)
    for step in range(40):
        for one, other in zip(plain(step), ahead(step), strict=True):
            assert torch.equal(one, other)
    ahead.close()
    assert plain.epoch_of(39) > 2


def test_ranks_share_an_epoch():
    speech = FakeSpeech(50)
    ranks = [TranscribedBatches(speech, LETTERS_ALONE, 500, 0, rank=r, world_size=2) for r in (0, 1)]
    alone = TranscribedBatches(speech, LETTERS_ALONE, 500, 0)
    shared = [rank(step) for step in range(3) for rank in ranks]
    assert all(torch.equal(batch.log_mel, alone(i).log_mel) for i, batch in enumerate(shared))


def test_what_the_decoder_reads_and_writes():
    inputs, targets = shifted(torch.tensor([[5, 6, 7], [8, 1, 1]]), torch.tensor([3, 1]))
    assert inputs.tolist() == [[1, 5, 6, 7], [1, 8, 1, 1]]
    assert targets.tolist() == [[5, 6, 7, 1], [8, 1, IGNORED, IGNORED]]


def test_losses_against_hand_computed_numbers():
    p = torch.tensor([[[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]]])
    targets = torch.tensor([[0, IGNORED]])
    expected = -(0.9 * np.log(0.7) + 0.1 * (np.log(0.7) + 3 * np.log(0.1)) / 4)
    assert float(smoothed_cross_entropy(p.log(), targets, 0.1)) == pytest.approx(expected, abs=1e-5)
    # two steps, one token of probability .4 (blank .6): .4*.4 + 2*.4*.6 of all paths spell it
    steps = torch.tensor([[[0.6, 1e-9, 0.4], [0.6, 1e-9, 0.4]]]).log()
    found = ctc_loss(steps, torch.tensor([2]), torch.tensor([[2]]), torch.tensor([1]))
    assert float(found) == pytest.approx(-np.log(0.64), abs=1e-5)
    too_short = ctc_loss(steps, torch.tensor([2]), torch.tensor([[2, 2, 2]]), torch.tensor([3]))
    assert float(too_short) == 0.0


def test_rate_rises_then_falls():
    settings = replace(TINY, learning_rate=1.0, warm_up=100, steps=1000)
    assert learning_rate(settings, 0) == pytest.approx(0.01) and learning_rate(settings, 99) == 1.0
    assert learning_rate(settings, 1000) == pytest.approx(0.02)
    root = replace(settings, decay="inverse-sqrt")
    assert learning_rate(root, 399) == pytest.approx(0.5)


def test_pieces_are_the_most_frequent_groups():
    pieces = learn_pieces(["yellow yellow fellow", "low"], 32)
    assert pieces[: len(LETTERS)] == tuple(LETTERS)
    assert "low" in pieces and len(pieces) == 32
    vocabulary = Vocabulary(pieces)
    assert vocabulary.text(vocabulary.encode("yellow low")) == "yellow low"
    assert learn_pieces(["ab"], 1000)[-1] == " ab"  # no more to join


def test_content_words_are_counted_apart():
    errors = word_errors(["a red petal here"], ["a bed petal there"])
    assert errors.wer == 0.5 and errors.content_wer == 0.5
    assert word_errors(["abc"], ["abd"]).content_wer is None


def test_other_settings_are_refused(tmp_path):
    train(replace(TINY, steps=1), None, {"fake": FakeSpeech(8)}, tmp_path)
    with pytest.raises(SettingsError, match="ctc_weight"):
        train(replace(TINY, steps=2, ctc_weight=0.5), None, {"fake": FakeSpeech(8)}, tmp_path)


def test_ctrl_c_while_the_last_step_is_measured(tmp_path, ctrl_c_in):
    """At the end, when nothing of the stage is left to do: what follows it must not begin."""
    ctrl_c_in(speech_recognizer, "log_word_errors")
    with pytest.raises(KeyboardInterrupt):
        train(replace(TINY, steps=1), None, {"fake": FakeSpeech(9)}, tmp_path)
    assert read_facts(tmp_path / "checkpoint.safetensors")["step"] == 1
