"""Commands of the trainings and of what they read."""

import json

import numpy as np
import pytest
from small_sets import tone

from speech2image import audio, cli
from speech2image.commands import flags, train


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("speech_recognizer", train.RecognizerFiles),
        ("text_encoder", flags.TrainingFiles),
        ("classifier", flags.TrainingFiles),
        ("stackgan_v1", train.StackganV1Files),
        ("stackgan_v2", flags.GanFiles),
    ],
)
def test_every_preset_passes_through_the_command_line_unchanged(name: str, files: type) -> None:
    module = flags.import_training(f"training.recipes.{name}")
    for preset, settings in module.PRESETS.items():
        words = ["--preset", preset, "--data", "d", "e", "--out", "o"]
        parsed, found = flags.parse_job(module, files, "train", words)
        assert found == settings and [str(name) for name in parsed.data] == ["d", "e"]


def test_captions_of_ones_own_in_one_command(tmp_path, capsys) -> None:
    (tmp_path / "vectors.txt").write_text("red 1 0\nbird 0 1\n")
    (tmp_path / "captions.txt").write_text("a red bird\n\nRed!\n")
    words = ["train", "text-embeddings", "--encoder", str(tmp_path / "vectors.txt"), "--captions"]
    words += [str(tmp_path / "captions.txt"), "--out", str(tmp_path / "e.npy")]
    assert cli.main(words) == 0
    assert np.load(tmp_path / "e.npy").tolist() == [[0.5, 0.5], [1, 0]]
    assert cli.main(words[:4]) == 2
    assert "--captions FILE" in capsys.readouterr().err
    assert cli.main([*words[:5], str(tmp_path / "absent.txt"), *words[6:]]) == 1
    assert "absent.txt" in capsys.readouterr().err


def test_recordings_are_prepared_and_trained_on(tmp_path, capsys) -> None:
    rows = [{"audio": f"{i}.flac", "speaker": "s", "text": f"word {i}"} for i in range(3)]
    for i in range(3):
        (tmp_path / f"{i}.flac").write_bytes(audio.encode_flac(tone(150 + 20 * i, 0.8)))
    (tmp_path / "utterances.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "mels"
    assert cli.main(["prepare", "recordings", "--root", str(tmp_path), "--out", str(out)]) == 0
    assert "3 recordings" in capsys.readouterr().out
    words = ["train", "speech-recognizer", "--preset", "toy", "--recordings", str(out), "--steps", "1"]
    assert cli.main([*words, "--out", str(tmp_path / "run"), "--precision", "32-true"]) == 0
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()
    assert cli.main([*words[:4], "--out", str(tmp_path / "none")]) == 1
    assert "nothing to train on" in capsys.readouterr().err
