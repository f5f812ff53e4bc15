"""The folder of voice files."""

from pathlib import Path

import pytest

from speech2image.tts import voice_files


def test_the_variable_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPEECH2IMAGE_VOICES", str(tmp_path))
    assert voice_files.folder("piper") == tmp_path / "piper"


def test_without_it_files_lie_in_the_user_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SPEECH2IMAGE_VOICES", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert voice_files.folder("kokoro") == tmp_path / "speech2image" / "voices" / "kokoro"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert voice_files.folder("kokoro") == tmp_path / ".local/share/speech2image/voices/kokoro"
