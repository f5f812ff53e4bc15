import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_model import SIZE, make_model, speech, write_wav

import speech2image
from speech2image import cli, pretrained
from speech2image.commands import pictures, training
from speech2image.errors import MissingExtraError, SettingsError


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working folder with a shipped model called flowers-and-birds and two recordings."""
    monkeypatch.setattr(pretrained, "MODELS_FOLDER", tmp_path / "shipped")
    make_model(tmp_path / "shipped" / "flowers-and-birds")
    folder = tmp_path / "here"
    folder.mkdir()
    for seed, name in enumerate(("a.wav", "b.wav")):
        write_wav(folder / name, 1.5, seed)
    monkeypatch.chdir(folder)
    return folder


def _new(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("a.wav", "b.wav"))


def test_translate(here: Path, capsys) -> None:
    assert cli.main(["translate", "a.wav", "-n", "8", "-o", "flower.png"]) == 0
    with Image.open("flower.png") as image:
        assert image.size == (3 * SIZE + 4, 3 * SIZE + 4)
    assert capsys.readouterr().out.startswith("flower.png: 8 pictures, model flowers-and-birds, seed 0, ")
    assert _new(here) == ["flower.png"]


def test_translate_json(here: Path, capsys) -> None:
    assert cli.main(["translate", "a.wav", "b.wav", "-n", "2", "--seed", "5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == ["picture.png"]
    assert (told["clips"], told["pictures"]) == (["a.wav", "b.wav"], 4)
    assert (told["model"], told["seed"]) == ("flowers-and-birds", 5)
    assert told["sha256"] == pretrained.find("flowers-and-birds").sha256
    assert set(told["timings"]) == {"load", "listen", "embed", "draw"}
    assert told["seconds"] > sum(told["timings"].values()) * 0.9
    route = speech2image.load("flowers-and-birds")
    expected = [image for clip in ("a.wav", "b.wav") for image in route.translate(clip, 2, 5).images]
    with Image.open("picture.png") as sheet:
        assert sheet.size == (2 * SIZE + 2, 2 * SIZE + 2)
        second_row = sheet.crop((0, SIZE + 2, SIZE, 2 * SIZE + 2))
        assert np.array_equal(np.asarray(second_row), np.asarray(expected[2]))


def test_separate_files(here: Path) -> None:
    assert cli.main(["translate", "a.wav", "-n", "10", "-o", "f.png", "--separate"]) == 0
    assert _new(here) == [f"f-{k:02}.png" for k in range(1, 11)]
    assert cli.main(["translate", "a.wav", "b.wav", "-n", "2", "-o", "g/f.webp", "--separate"]) == 0
    assert _new(here / "g") == ["f-1-1.webp", "f-1-2.webp", "f-2-1.webp", "f-2-2.webp"]


def test_standard_input_and_output(here: Path) -> None:
    """In a process of its own: a real pipe in and out."""
    command = [
        sys.executable,
        "-m",
        "speech2image",
        "translate",
        "-",
        "-o",
        "-",
        "--model",
        "../shipped/flowers-and-birds",
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(speech2image.__file__).parents[1])}
    done = subprocess.run(
        command, input=(here / "a.wav").read_bytes(), capture_output=True, check=True, env=environment
    )
    expected = speech2image.load("flowers-and-birds").translate("a.wav").images[0]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(done.stdout))), np.asarray(expected))
    assert done.stderr == b""


def test_interpolate(here: Path, capsys) -> None:
    assert cli.main(["interpolate", "a.wav", "b.wav", "--steps", "5", "-o", "row.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["alphas"] == [1, 0.75, 0.5, 0.25, 0]
    with Image.open("row.png") as image:
        assert image.size == (5 * SIZE + 8, SIZE)


def test_say(here: Path, monkeypatch, capsys) -> None:
    """The engine is replaced by a made-up voice; the real ones are tested with `tts`."""
    from speech2image import tts

    heard = []

    def speak(text: str, voice: object = None) -> np.ndarray:
        heard.append((text, voice))
        return speech(1.5)

    monkeypatch.setattr(tts, "speak", speak)
    monkeypatch.setattr(tts, "find_voice", lambda name: f"voice {name}")
    assert cli.main(["say", "a red flower", "-o", "f.png", "--voice", "x", "--keep-speech", "s.wav"]) == 0
    assert heard == [("a red flower", "voice x")]
    assert _new(here) == ["f.png", "s.wav"]
    with Image.open("f.png") as said:
        cli.main(["translate", "s.wav", "-o", "g.png"])
        with Image.open("g.png") as translated:
            difference = np.asarray(said, int) - np.asarray(translated, int)
    assert np.abs(difference).max() <= 1
    assert cli.main(["say", "a red flower", "--keep-speech", "s.mp3"]) == 1
    assert "should end in .wav" in capsys.readouterr().err
    assert len(heard) == 1


def test_models(here: Path, capsys, monkeypatch) -> None:
    assert cli.main(["models"]) == 0
    assert capsys.readouterr().out.startswith("flowers-and-birds  8 x 8, 0.0 MB, CC0-1.0")
    assert cli.main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["flowers-and-birds"]["noise_size"] == 6
    monkeypatch.setattr(pretrained, "MODELS_FOLDER", here / "none")
    assert cli.main(["models"]) == 0
    assert "no models" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["translate", "absent.wav"], 1, "absent.wav"),
        (["translate", "a.wav", "--model", "flower"], 1, "did you mean 'flowers-and-birds'"),
        (["translate", "a.wav", "-n", "0"], 2, "n must be a whole number from 1 to 10000, not 0"),
        (["translate", "a.wav", "-n", "10001"], 2, "not 10001"),
        (["translate", "a.wav", "--seed", "-1"], 2, "seed must be"),
        (["translate", "a.wav", "--threads", "-1"], 2, "threads must be"),
        (["translate"], 2, "no recording given"),
        (["translate", "-", "-"], 2, "read only once"),
        (["translate", "a.wav", "-o", "-", "--json"], 2, "excludes"),
        (["translate", "a.wav", "-o", "a.wav/f.png"], 1, "cannot write"),
        (["translate", "absent.wav", "-o", "a.wav/f.png"], 1, "cannot write"),
        (["translate", "a.wav", "-o", "."], 1, "is a folder"),
        (["translate", "a.wav", "-o", "f.doc"], 1, "picture format"),
        (["interpolate", "a.wav", "b.wav", "--steps", "1"], 2, "steps must be"),
        (["interpolate", "a.wav", "absent.wav"], 1, "absent.wav"),
        (["paint"], 2, "unknown command 'paint'"),
        (["train", "everything"], 2, "unknown recipe 'everything'"),
        (["train", "speech-encoder", "--preset", "huge"], 2, "unknown preset 'huge'"),
    ],
)
def test_errors_are_one_line(here: Path, capsys, words: list[str], status: int, message: str) -> None:
    assert cli.main(words) == status
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("speech2image: ")
    assert told.err.count("\n") == 1
    assert message in told.err
    assert _new(here) == []


def test_debug_shows_where(here: Path, capsys) -> None:
    assert cli.main(["translate", "absent.wav", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (SystemExit(3), 3)])
def test_interruption(monkeypatch, error: BaseException, status: int, capsys) -> None:
    def stop(*_: object) -> None:
        raise error

    monkeypatch.setattr(pictures, "run", stop)
    assert cli.main(["models"]) == status
    assert "Traceback" not in capsys.readouterr().err


def test_reader_that_goes_away(here: Path) -> None:
    """`speech2image translate ... --json | true` says nothing about a broken pipe."""
    command = f"{sys.executable} -m speech2image models --json"
    script = f"import subprocess, sys; p = subprocess.Popen({command.split()!r}, stdout=subprocess.PIPE, "
    script += "stderr=subprocess.PIPE); p.stdout.close(); e = p.stderr.read(); print(p.wait(), e)"
    environment = os.environ | {"PYTHONPATH": str(Path(speech2image.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout == "141 b''\n", done.stderr


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys; from speech2image.cli import main; main(['--help']); main(['--version']);"
        "sys.exit(bool({'numpy', 'onnxruntime', 'av', 'PIL', 'torch', 'tyro', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.endswith(f"speech2image {speech2image.__version__}\n")
    assert all(f"  {command} " in done.stdout for command in cli.COMMANDS)


def test_no_command_is_wrong_usage(capsys) -> None:
    assert cli.main([]) == 2
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", ["translate", "say", "interpolate", "models", "prepare", "train", "export"]
)
def test_help_of_each_command(command: str, capsys) -> None:
    assert cli.main([command, "--help"]) == 0
    assert f"speech2image {command}" in capsys.readouterr().out


@pytest.mark.parametrize("recipe", list(training.RECIPES))
def test_help_of_each_recipe(recipe: str, capsys) -> None:
    assert cli.main(["train", recipe, "--help"]) == 0
    assert ("--model" if recipe == "checkpoint" else "--data") in capsys.readouterr().out


@pytest.mark.parametrize("command", ["prepare", "train", "export"])
def test_missing_extra_tells_the_pip_command(monkeypatch, capsys, command: str) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    words = {
        "prepare": ["toy", "--out", "x"],
        "train": ["speech-encoder", "--data", "x", "--out", "y"],
        "export": [
            "--speech-encoder",
            "e",
            "--generator",
            "g",
            "--out",
            "o",
            "--name",
            "n",
            "--licence",
            "l",
        ],
    }
    assert cli.main([command, *words[command]]) == 1
    assert "pip install 'speech2image[train]'" in capsys.readouterr().err


def test_flags_of_a_training_change_its_preset() -> None:
    from speech2image.training import speech_encoder

    words = ["--preset=toy", "--data", "d", "--out", "o", "--steps", "7", "--encoder.hidden", "16"]
    files, settings = training._parse_job(speech_encoder, training.Files, "train", words)
    assert (files.data, files.out) == ((Path("d"),), Path("o"))
    toy = speech_encoder.PRESETS["toy"]
    assert (settings.steps, settings.encoder.hidden) == (7, 16)
    assert (settings.batch_size, settings.encoder.channels) == (toy.batch_size, toy.encoder.channels)
    assert settings.loss == toy.loss


@pytest.mark.parametrize("name", ["speech_encoder", "one_stage_gan", "stackgan_v2", "direct"])
def test_every_preset_passes_through_the_command_line_unchanged(name: str) -> None:
    module = training._import(f"training.{name}")
    for preset, settings in module.PRESETS.items():
        words = ["--preset", preset, "--data", "d", "--out", "o"]
        assert training._parse_job(module, training.Files, "train", words)[1] == settings


def test_missing_extra_is_an_import_error_too(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="'torch'"):
        training.train(["speech-encoder"])
    with pytest.raises(SettingsError):
        training.train(["nonsense"])
