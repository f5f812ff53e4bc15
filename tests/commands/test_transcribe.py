"""transcribe: words of recordings from the recognizer that belongs to a model, or a chosen one."""

import json
from pathlib import Path

import pytest
from tiny_cascade import make_cascade
from tiny_model import make_model, write_wav

from speech2image import cli
from speech2image.asr import backends
from speech2image.pipeline import registry


class Heard:
    """A recognizer that writes how long a recording is."""

    name = "heard"

    def transcribe(self, waveform) -> str:
        return f"{len(waveform) / 16_000:.1f} seconds"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(registry, "MODELS_FOLDER", tmp_path / "shipped")
    make_model(tmp_path / "shipped" / "flowers-and-birds")
    folder = tmp_path / "here"
    folder.mkdir()
    write_wav(folder / "a.wav", 1.5)
    write_wav(folder / "b.wav", 2.0, 1)
    (folder / "bad.wav").write_bytes(b"no sound at all")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(backends, "PocketSphinx", Heard)
    return folder


def test_one_line_a_recording(here: Path, capsys) -> None:
    assert cli.main(["transcribe", "a.wav", "--recognizer", "pocketsphinx"]) == 0
    assert capsys.readouterr().out == "1.5 seconds\n"
    assert cli.main(["transcribe", "a.wav", "b.wav", "--recognizer", "pocketsphinx"]) == 0
    assert capsys.readouterr().out == "a.wav: 1.5 seconds\nb.wav: 2.0 seconds\n"


def test_a_bad_recording_is_named_and_may_be_left_out(here: Path, capsys) -> None:
    words = ["transcribe", "a.wav", "bad.wav", "b.wav", "--recognizer", "pocketsphinx"]
    assert cli.main(words) == 1
    told = capsys.readouterr()
    assert told.out == "a.wav: 1.5 seconds\n" and "bad.wav" in told.err and "--skip-bad" in told.err
    assert cli.main([*words, "--skip-bad", "--json"]) == 0
    first, bad, last = json.loads(capsys.readouterr().out)
    assert (first, last["text"]) == ({"clip": "a.wav", "text": "1.5 seconds"}, "2.0 seconds")
    assert bad["clip"] == "bad.wav" and bad["code"] == "unreadable"
    assert cli.main(["transcribe", "bad.wav", "--recognizer", "pocketsphinx", "--skip-bad"]) == 1


def test_which_recognizer(here: Path, capsys) -> None:
    assert cli.main(["transcribe", "a.wav"]) == 1
    assert "no 'flowers-and-birds-cascade' lies beside it" in capsys.readouterr().err
    make_cascade(here.parent / "shipped" / "flowers-and-birds-cascade", words=None)
    assert cli.main(["transcribe", "a.wav"]) == 1
    assert "hears no words; name a recognizer" in capsys.readouterr().err


def test_the_shipped_recognizers_write_what_is_said(capsys) -> None:
    clip = Path(__file__).parents[2] / "examples" / "recordings" / "pink-bloom-kal16.opus"
    if not clip.is_file() or "flowers-and-birds-cascade" not in registry.available_models():
        pytest.skip("needs the examples and the shipped models")
    assert cli.main(["transcribe", str(clip)]) == 0
    assert capsys.readouterr().out == "a soft pink bloom with a glowing yellow green middle\n"
