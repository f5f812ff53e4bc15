"""The exported recognizer gives what torch gives, and says so if not."""

import copy
import json

import numpy as np
import pytest
import torch
from fake_speech import FakeSpeech

from speech2image.asr.ctc import CtcDecoder, Search, Vocabulary, transcribe
from speech2image.asr.text import LETTERS
from speech2image.errors import CheckpointError, OutputError
from speech2image.export import recognizer as exporting
from speech2image.export.parity import made_up_log_mels
from speech2image.export.recognizer import export_recognizer
from speech2image.models.speech_recognizer import PRESETS, SpeechRecognizer
from speech2image.training.recipes.transcripts import TorchScorer

VOCABULARY = Vocabulary(tuple(LETTERS))


@pytest.fixture(scope="module")
def recognizer() -> SpeechRecognizer:
    """Untrained, but sharpened, so that it writes something."""
    torch.manual_seed(3)
    made = SpeechRecognizer(PRESETS["toy"]).eval()
    with torch.no_grad():
        made.encoder.ctc.weight *= 6
        made.decoder.embedding.weight *= 3
    return made


def test_onnx_equals_torch(recognizer, tmp_path):
    parity = export_recognizer(recognizer, VOCABULARY, tmp_path / "model", licence="CC0")
    assert parity["float32"] < 1e-3
    runs = CtcDecoder(tmp_path / "model")
    assert runs.card["licence"] == "CC0" and runs.vocabulary == VOCABULARY
    written = 0
    for clip in [*made_up_log_mels(), FakeSpeech(2).log_mel(0)]:
        for search in (Search(beam=1), Search(beam=3)):
            expected = transcribe(TorchScorer(recognizer), VOCABULARY, clip, search)
            assert runs(clip, search).log_probability == pytest.approx(expected.log_probability, rel=0.03)
            written += len(expected.tokens)
    assert written > 5


def test_another_network_is_refused(recognizer, tmp_path, monkeypatch):
    changed = copy.deepcopy(recognizer)
    with torch.no_grad():
        changed.decoder.layers[0].memory_attention.out.weight *= 3
    original = exporting._decoder_onnx
    monkeypatch.setattr(exporting, "_decoder_onnx", lambda _: original(changed))
    with pytest.raises(CheckpointError, match="something else than torch"):
        export_recognizer(recognizer, VOCABULARY, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_damaged_folder_is_refused(recognizer, tmp_path):
    export_recognizer(recognizer, VOCABULARY, tmp_path / "model")
    path = tmp_path / "model" / "recognizer_decoder.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="checksum"):
        CtcDecoder(tmp_path / "model")
    (tmp_path / "model" / "recognizer.json").write_text(json.dumps([]))
    with pytest.raises(CheckpointError):
        CtcDecoder(tmp_path / "model")
    with pytest.raises(CheckpointError, match="no recognizer"):
        CtcDecoder(tmp_path)


def test_a_folder_of_something_else_is_kept(recognizer, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="holds no recognizer"):
        export_recognizer(recognizer, VOCABULARY, tmp_path)
    assert np.array_equal([path.name for path in tmp_path.iterdir()], ["thesis.txt"])
