"""Recognizers behind one method."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from speech2image import audio
from speech2image.asr.backends import BuiltinAsr, PocketSphinx, Whisper, open_recognizer
from speech2image.errors import CheckpointError, MissingExtraError
from speech2image.metrics.word_errors import word_error_rate

FOLDER = os.environ.get("SPEECH2IMAGE_WHISPER")


def test_own_recognizer_hears_nothing_in_noise_and_something_if_it_must(tmp_path):
    from speech2image.asr.ctc import Vocabulary
    from speech2image.asr.text import LETTERS
    from speech2image.export.recognizer import export_recognizer
    from speech2image.models.speech_recognizer import PRESETS, SpeechRecognizer

    torch.manual_seed(0)
    model = SpeechRecognizer(PRESETS["toy"])
    with torch.no_grad():
        model.encoder.ctc.weight.zero_()
        model.encoder.ctc.bias[0] += 5
    export_recognizer(model, Vocabulary(tuple(LETTERS)), tmp_path / "nothing")
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    assert BuiltinAsr(tmp_path / "nothing").transcribe(noise) == ""
    with pytest.raises(CheckpointError, match="no recognizer"):
        BuiltinAsr(tmp_path)


def test_whisper_is_asked_as_its_library_wants(monkeypatch):
    asked = {}

    class WhisperModel:
        def __init__(self, model, **options):
            if model == "absent":
                raise ValueError("no such model")
            asked.update(model=model, **options)

        def transcribe(self, waveform, **options):
            asked.update(samples=len(waveform), **options)
            return iter([SimpleNamespace(text=" A Red"), SimpleNamespace(text=" flower.")]), None

    library = ModuleType("faster_whisper")
    library.WhisperModel = WhisperModel
    monkeypatch.setitem(sys.modules, "faster_whisper", library)
    whisper = Whisper("models/base.en/")
    assert whisper.name == "whisper base.en"
    assert whisper.transcribe(np.zeros(16000, np.float32)) == "a red flower"
    assert asked["samples"] == 16000 and asked["language"] == "en"
    assert asked["without_timestamps"] and asked["max_new_tokens"] == 18
    whisper.transcribe(np.zeros(31 * 16000, np.float32))
    assert not asked["without_timestamps"] and asked["max_new_tokens"] is None
    with pytest.raises(CheckpointError, match="absent"):
        Whisper("absent")


@pytest.mark.skipif(FOLDER is None, reason="SPEECH2IMAGE_WHISPER names no faster-whisper folder")
def test_whisper_hears_whole_sentences():
    """The real network: sentences to their last word, none longer than its clip, and clips of two windows."""
    pytest.importorskip("faster_whisper")
    recordings = Path(__file__).parents[2] / "examples" / "recordings"
    said = json.loads((recordings / "captions.json").read_text())
    clips = {name: audio.load(recordings / name) for name in said}
    whisper = Whisper(FOLDER or "", threads=1)
    heard = {name: whisper.transcribe(clip) for name, clip in clips.items()}
    assert word_error_rate(list(said.values()), list(heard.values())) < 0.5
    assert all(abs(len(heard[name].split()) - len(text.split())) <= 4 for name, text in said.items())
    assert len(whisper.transcribe(clips["yellow-cup-kal16.opus"][: audio.SAMPLE_RATE]).split()) <= 5
    long = np.concatenate([clips[name] for name in said])
    assert len(long) > 30 * audio.SAMPLE_RATE
    assert word_error_rate([" ".join(said.values())], [whisper.transcribe(long)]) < 0.5


@pytest.mark.parametrize(("module", "kind"), [("faster_whisper", Whisper), ("pocketsphinx", PocketSphinx)])
def test_a_missing_package_tells_the_command(monkeypatch, module, kind):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"speech2image\[asr\]"):
        kind()


def test_pocketsphinx_hears_some_words(shared):
    pytest.importorskip("pocketsphinx")
    folder = shared / "data" / "librispeech-dev-clean"
    rows = [json.loads(line) for line in (folder / "utterances.jsonl").read_text().splitlines()]
    row = min(rows[:50], key=lambda r: abs(len(r["text"]) - 60))
    recognizer = PocketSphinx()
    waveform = audio.load(folder / row["audio"])
    heard = recognizer.transcribe(waveform)
    assert heard and word_error_rate([row["text"]], [heard]) < 0.9
    assert recognizer.transcribe(waveform) == heard, "one recording does not change the next"


def test_a_shipped_recognizer_is_known_by_its_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    recognizer = open_recognizer("own:words")
    assert isinstance(recognizer, BuiltinAsr)
    with pytest.raises(CheckpointError, match="no recognizer in word"):
        open_recognizer("own:word")
    (tmp_path / "words").mkdir()  # a folder here comes first
    with pytest.raises(CheckpointError, match="no recognizer in words"):
        open_recognizer("own:words")
