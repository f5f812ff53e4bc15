import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_model import SIZE, make_model, speech, write_wav

import speech2image
from speech2image import cli
from speech2image.commands import drawing, flags, pictures, train
from speech2image.errors import MissingExtraError, SettingsError
from speech2image.pipeline import registry
from speech2image.pipeline.cascade import CascadeRoute

needs_train = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs the extra train")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working folder with a shipped model called flowers-and-birds and two recordings."""
    monkeypatch.setattr(registry, "MODELS_FOLDER", tmp_path / "shipped")
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
    assert told["sha256"] == registry.find("flowers-and-birds").sha256
    assert set(told["timings"]) == {"load", "listen", "embed", "draw"}
    assert told["seconds"] > 0 and all(seconds >= 0 for seconds in told["timings"].values())
    route = speech2image.load("flowers-and-birds")
    expected = [image for clip in ("a.wav", "b.wav") for image in route.translate(clip, 2, 5).images]
    with Image.open("picture.png") as sheet:
        assert sheet.size == (2 * SIZE + 2, 2 * SIZE + 2)
        second_row = sheet.crop((0, SIZE + 2, SIZE, 2 * SIZE + 2))
        assert np.array_equal(np.asarray(second_row), np.asarray(expected[2]))


def test_diverse_pictures(here: Path, capsys) -> None:
    assert cli.main(["translate", "a.wav", "-n", "3", "--diverse", "--json", "--manifest", "m.jsonl"]) == 0
    expected = speech2image.load("flowers-and-birds").translate("a.wav", 3, diverse=True)
    with Image.open("picture.png") as sheet:
        assert np.array_equal(np.asarray(sheet), np.asarray(expected.grid()))
    assert json.loads(capsys.readouterr().out)["noise_rows"] == [list(expected.noise_rows)]
    assert json.loads(Path("m.jsonl").read_text())["noise_rows"] == list(expected.noise_rows)


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
    monkeypatch.setattr(registry, "MODELS_FOLDER", here / "none")
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
        pytest.param(
            ["train", "speech-encoder", "--preset", "huge"], 2, "unknown preset 'huge'", marks=needs_train
        ),
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


class Output:
    """A standard output of some encoding, as a terminal or a redirection gives it."""

    def __init__(self, encoding: str) -> None:
        self.bytes = io.BytesIO()
        self.stream = io.TextIOWrapper(self.bytes, encoding, errors="strict")

    def text(self) -> str:
        self.stream.flush()
        return self.bytes.getvalue().decode(self.stream.encoding)


@pytest.mark.parametrize("name", ["桜.png", "\udcff.png", "\x1b[31m.png"])
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_every_encoding_of_the_output_will_do(here: Path, monkeypatch, encoding: str, name: str) -> None:
    output = Output(encoding)
    monkeypatch.setattr(sys, "stdout", output.stream)
    assert cli.main(["translate", "a.wav", "-o", name]) == 0
    assert ": 1 picture, model flowers-and-birds" in output.text()
    assert "\x1b" not in output.text()
    output = Output(encoding)
    monkeypatch.setattr(sys, "stdout", output.stream)
    assert cli.main(["translate", "a.wav", "-o", name, "--json"]) == 0
    assert json.loads(output.text())["files"] == [name]
    assert _new(here) == [name]


def test_closed_standard_input(here: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["translate", "-"]) == 1
    assert capsys.readouterr().err.startswith("speech2image: standard input is closed; name a file")
    assert cli.main(["translate", "a.wav"]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["models"],
        ["models", "--json"],
        ["--help"],
        ["translate", "--help"],
        ["translate", "a.wav"],
        ["translate", "a.wav", "-o", "-"],
    ],
)
def test_a_full_disk_behind_standard_output(here: Path, capsys, monkeypatch, words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main(words) == 1
    told = capsys.readouterr().err
    assert told == "speech2image: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("script", "status", "message"),
    [
        ("{} models > /dev/full", 1, "cannot write to standard output: No space left on device"),
        ("{} models >&-", 1, "standard output is closed"),
        ("{} translate a.wav -o - <&- | cmp - expected.png", 0, None),
        ("{} models 2> /dev/full", 0, None),
        ("{} translate absent.wav 2> /dev/full || exit 3", 3, None),
        ("ulimit -f 0; {} translate a.wav", 1, "cannot write picture.png: File too large"),
        ("ulimit -f 0; {} models > models.txt", 1, "cannot write to standard output: File too large"),
    ],
)
def test_streams_in_a_shell(here: Path, script: str, status: int, message: str | None) -> None:
    cli.main(["translate", "a.wav", "-o", "expected.png"])
    command = f"{sys.executable} -m speech2image"
    model = " --model ../shipped/flowers-and-birds" if "translate" in script else ""
    script = script.format(command).replace("translate", f"translate{model}")
    environment = os.environ | {"PYTHONPATH": str(Path(speech2image.__file__).parents[1])}
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    if message is None:
        assert done.stderr == ""
    else:
        assert done.stderr.startswith("speech2image: ") and done.stderr.count("\n") == 1
        assert message in done.stderr
    assert set(_new(here)) <= {"expected.png", "models.txt", "picture.png"}
    assert not (here / "picture.png").exists() or status == 0


LONG = "a" * 5000


@pytest.mark.parametrize(
    "words",
    [
        ["translate", LONG],
        ["translate", "a.wav", "-o", f"{LONG}.png"],
        ["translate", "a.wav", "-o", f"{LONG}/a.png"],
        ["translate", "a.wav", "-o", f"{'a' * 250}.png", "-n", "2", "--separate"],
        ["translate", "a.wav", "--model", LONG],
        ["translate", "a.wav", "--model", f"{LONG}.onnx"],
        ["translate", "--text", "a red bird", "--model", LONG],
        ["translate", "a.wav", "--recognizer", f"own:{LONG}"],
        ["say", "a red bird", "--keep-speech", f"{LONG}.wav"],
        ["interpolate", "a.wav", LONG],
        ["prepare", "folder", "--root", LONG, "--out", "x"],
        ["prepare", "toy", "--out", LONG],
        ["prepare", "recordings", "--root", LONG, "--out", "x"],
        ["prepare", "words", "--roots", LONG, "--out", "x"],
        ["train", "speech-encoder", "--data", LONG, "--out", "x"],
        ["train", "text-embeddings", "--encoder", LONG, "--captions", LONG, "--out", "x.npy"],
        ["train", "checkpoint", "--network", "generator", "--model", LONG, "--out", "x"],
        [
            "export",
            "--speech-encoder",
            LONG,
            "--generator",
            "g",
            "--out",
            "x",
            "--name",
            "n",
            "--licence",
            "l",
        ],
        ["export", "recognizer", "--checkpoint", LONG, "--out", "x", "--licence", "l"],
        ["fid", LONG, LONG, "--network", LONG],
        ["evaluate", "--model", LONG, "--data", LONG, "--out", "x"],
    ],
    ids=lambda words: " ".join(word for word in words if len(word) < 100),
)
def test_an_argument_too_long_for_a_path(here: Path, capsys, monkeypatch, words: list[str]) -> None:
    monkeypatch.setattr(CascadeRoute, "draw_text", lambda *_, **__: pytest.fail("it draws"))
    status = cli.main(words)
    told = capsys.readouterr().err
    assert status in (1, 2)
    assert told.startswith("speech2image: ") and told.count("\n") == 1 and len(told) < 1100
    assert set(_new(here)) <= {"x"}


def test_names_cannot_command_the_terminal(here: Path, capsys) -> None:
    assert cli.main(["translate", "\x1b]0;owned\x07\u202egnp.wav"]) == 1
    assert r"\x1b]0;owned\x07\u202egnp.wav: no such file" in capsys.readouterr().err


@pytest.mark.filterwarnings("always")
def test_warnings_are_one_line(monkeypatch, capsys) -> None:
    def warn(command: str, words: list[str]) -> None:
        warnings.warn_explicit("class \x1b[31m has one picture", UserWarning, pictures.__file__, 7)
        warnings.warn_explicit("of a library", UserWarning, "/elsewhere/library.py", 7)

    monkeypatch.setattr(pictures, "run", warn)
    monkeypatch.setattr(warnings, "showwarning", show)
    usual = warnings.formatwarning
    assert cli.main(["models"]) == 0
    ours, theirs = capsys.readouterr().err.splitlines()[:2]
    assert ours == r"speech2image: warning: class \x1b[31m has one picture"
    assert theirs == "/elsewhere/library.py:7: UserWarning: of a library"
    assert warnings.formatwarning is usual


def show(message, category, filename, lineno, file=None, line=None) -> None:
    """As Python does, but for pytest, which gathers warnings."""
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["translate", *["a.wav"] * 1700, "-o", "f.webp"], "WEBP file holds at most 16383 pixels a side"),
        (
            ["interpolate", "a.wav", "b.wav", "--steps", "7000", "-o", "f.jpg"],
            "JPEG file holds at most 65500",
        ),
        (["translate", *["a.wav"] * 1100, "-n", "10000"], "PNG file holds at most 1074 megapixels"),
        (["translate", *["a.wav"] * 1100, "-n", "10000", "-o", "-"], "at most 1074 megapixels"),
        (["say", "a red flower", "-n", "10000", "-o", "f.webp"], None),
    ],
)
def test_a_sheet_too_large_for_its_file_is_refused_before_it_is_drawn(
    here: Path, capsys, monkeypatch, words: list[str], message: str | None
) -> None:
    from speech2image.pipeline.base import Route

    class Drawing(Exception):
        pass

    def draw(*_: object, **__: object) -> None:
        raise Drawing

    monkeypatch.setattr(Route, "translate", draw)
    monkeypatch.setattr(Route, "interpolate", draw)
    if message is None:  # 100 by 100 pictures fit
        from speech2image import tts

        monkeypatch.setattr(tts, "speak", lambda text, voice: speech(1.5))
        with pytest.raises(Drawing):
            cli.main(words)
        return
    assert cli.main(words) == 1
    assert message in capsys.readouterr().err
    assert _new(here) == []


@pytest.mark.parametrize("megabytes", ["nan", "0", "-1"])
@pytest.mark.parametrize("command", [["export"], ["export", "cascade"]])
def test_max_megabytes(capsys, command: list[str], megabytes: str) -> None:
    pytest.importorskip("torch")
    encoder = "--text-encoder" if "cascade" in command else "--speech-encoder"
    words = [*command, encoder, "e", "--generator", "g", "--out", "o", "--name", "n", "--licence", "l"]
    assert cli.main([*words, "--max-megabytes", megabytes]) == 2
    assert "must be above 0" in capsys.readouterr().err
    assert flags.bytes_of(float("inf")) == sys.maxsize and flags.bytes_of(0.5) == 500_000


@pytest.mark.parametrize("flag", ["--max-megabytes", "--max-seconds", "--grace-seconds"])
@pytest.mark.parametrize("value", ["inf", "nan", "0"])
def test_a_server_has_finite_bounds(capsys, flag: str, value: str) -> None:
    assert cli.main(["serve", flag, value]) == 2
    assert "must be more than 0 and finite" in capsys.readouterr().err


def test_sigterm_interrupts_as_ctrl_c_does(here: Path) -> None:
    """While it waits for a recording; what was begun is gone, and the shell's own handling is back."""
    command = [
        sys.executable,
        "-m",
        "speech2image",
        "translate",
        "-",
        "--model",
        "../shipped/flowers-and-birds",
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(speech2image.__file__).parents[1])}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdin is not None
    process.stdin.write(b"R" * 2**17)  # more than a pipe holds: it reads
    process.stdin.flush()
    process.terminate()
    assert process.communicate()[1] == b"speech2image: interrupted\n"
    assert process.returncode == 130
    assert _new(here) == []
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["models"]) == 0 and signal.getsignal(signal.SIGTERM) is before


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys; from speech2image.cli import main; main(['--help']); main(['--version']);"
        "sys.exit(bool({'numpy', 'onnxruntime', 'av', 'PIL', 'torch', 'tyro', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.endswith(f"speech2image {speech2image.__version__}\n")
    assert all(f"  {command} " in done.stdout for command in cli.COMMANDS)


@pytest.mark.parametrize("command", ["translate a.wav", "interpolate a.wav b.wav"])
def test_flags_are_read_without_typeguard(here: Path, command: str) -> None:
    """tyro imports it, which takes 50 ms, for types such as `int | None` and `list[str]`; old ones always."""
    code = (
        "import sys, tyro; known = 'typeguard' in sys.modules; from speech2image import cli;"
        "failed = cli.main(sys.argv[1:]);"
        "sys.exit(failed or ('typeguard' in sys.modules and not known))"
    )
    model = ["--model", "../shipped/flowers-and-birds"]
    given = [sys.executable, "-c", code, *command.split(), *model]
    done = subprocess.run(given, cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_command_is_wrong_usage(capsys) -> None:
    assert cli.main([]) == 2
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        "translate",
        "say",
        "interpolate",
        "models",
        pytest.param("prepare", marks=needs_train),
        "train",
        "tables",
        "export",
    ],
)
def test_help_of_each_command(command: str, capsys) -> None:
    assert cli.main([command, "--help"]) == 0
    assert f"speech2image {command}" in capsys.readouterr().out


@needs_train
@pytest.mark.parametrize("recipe", list(train.RECIPES))
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


@needs_train
def test_flags_of_a_training_change_its_preset() -> None:
    from speech2image.training.recipes import speech_encoder

    words = ["--preset=toy", "--data", "d", "--out", "o", "--steps", "7", "--encoder.hidden", "16"]
    files, settings = flags.parse_job(speech_encoder, flags.TrainingFiles, "train", words)
    assert (files.data, files.out) == (("d",), Path("o"))
    toy = speech_encoder.PRESETS["toy"]
    assert (settings.steps, settings.encoder.hidden) == (7, 16)
    assert (settings.batch_size, settings.encoder.channels) == (toy.batch_size, toy.encoder.channels)
    assert settings.loss == toy.loss


@needs_train
@pytest.mark.parametrize("name", ["speech_encoder", "one_stage_gan", "stackgan_v2", "direct"])
def test_every_preset_passes_through_the_command_line_unchanged(name: str) -> None:
    module = flags.import_training(f"training.recipes.{name}")
    for preset, settings in module.PRESETS.items():
        words = ["--preset", preset, "--data", "d", "--out", "o"]
        assert flags.parse_job(module, flags.TrainingFiles, "train", words)[1] == settings


def test_missing_extra_is_an_import_error_too(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="'torch'"):
        train.run("train", ["speech-encoder"])
    with pytest.raises(SettingsError):
        train.run("train", ["nonsense"])


def _rows(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def test_one_bad_recording_of_many(here: Path, capsys) -> None:
    (here / "bad.wav").write_bytes(b"no sound at all")
    words = [
        "translate",
        "a.wav",
        "bad.wav",
        "b.wav",
        "--separate",
        "-o",
        "d/p.png",
        "--manifest",
        "d/r.jsonl",
    ]
    assert cli.main(words) == 1
    told = capsys.readouterr().err
    assert "bad.wav" in told and "--skip-bad" in told
    assert _new(here / "d") == ["p-1-1.png", "r.jsonl"]  # what was drawn before stays
    assert [row["clip"] for row in _rows("d/r.jsonl")] == ["a.wav"]

    assert cli.main([*words, "--skip-bad", "--json"]) == 0
    told = capsys.readouterr()
    assert told.err.count("bad.wav") == 1 and "left out 1 of 3 recordings" in told.err
    assert _new(here / "d") == ["p-1-1.png", "p-3-1.png", "r.jsonl"]
    first, bad, last = _rows("d/r.jsonl")
    assert (first["files"], last["files"]) == (["d/p-1-1.png"], ["d/p-3-1.png"])
    assert (last["clip"], last["seed"], last["pictures"]) == ("b.wav", 0, 1)
    assert bad["clip"] == "bad.wav" and "bad.wav" in str(bad["error"])
    report = json.loads(told.out)
    assert report["clips"] == ["a.wav", "b.wav"] and report["failed"] == [bad]

    assert cli.main(["translate", "bad.wav", "a.wav", "-n", "2", "--skip-bad", "--manifest", "r.jsonl"]) == 0
    with Image.open("picture.png") as sheet:
        assert sheet.size == (2 * SIZE + 2, SIZE)
    assert _rows("r.jsonl")[1]["row"] == 1
    assert cli.main(["translate", "bad.wav", "bad.wav", "--skip-bad"]) == 1
    assert "none of 2 recordings can be used" in capsys.readouterr().err


def test_the_manifest_is_refused_before_any_work(here: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(drawing.loading, "load", lambda *_, **__: pytest.fail("it opens a model"))
    assert cli.main(["translate", "a.wav", "b.wav", "--at-once", "-1"]) == 2
    assert cli.main(["translate", "a.wav", "--manifest", "a.wav/r.jsonl"]) == 1
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "chosen", "expected"),
    [
        ("serve", {}, ("1", None)),
        ("serve", {"OMP_NUM_THREADS": "2"}, (None, "2")),
        ("translate", {"OPENBLAS_NUM_THREADS": "3"}, ("3", None)),
        ("fid", {}, (None, None)),
    ],
)
def test_what_hears_keeps_numpy_to_one_thread(
    command: str, chosen: dict[str, str], expected: tuple[str | None, str | None]
) -> None:
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
    script = (
        f"import os; from speech2image import cli; status = cli.main(['{command}', '--help']); "
        f"print([os.environ.get(name) for name in {names}], status)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment | chosen, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"{list(expected)} 0"
