"""translate through text: what was heard is shown, a sentence can be drawn, and what is missing is said."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_cascade import HEARD, Says, make_cascade
from tiny_model import SIZE, make_model, speech, write_wav

import speech2image
from speech2image import cli, tts
from speech2image.asr import backends
from speech2image.pipeline import registry


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working folder with a shipped direct model, two recordings and a cascade of one's own."""
    monkeypatch.setattr(registry, "MODELS_FOLDER", tmp_path / "shipped")
    make_model(tmp_path / "shipped" / "flowers-and-birds")
    folder = tmp_path / "here"
    make_cascade(folder / "mine")
    for seed, name in enumerate(("a.wav", "b.wav")):
        write_wav(folder / name, 1.5, seed)
    monkeypatch.chdir(folder)
    return folder


def _ship(here: Path) -> None:
    make_cascade(here.parent / "shipped" / "flowers-and-birds-cascade")


def _same(file: str, image: Image.Image) -> bool:
    with Image.open(file) as found:
        return np.array_equal(np.asarray(found), np.asarray(image))


def test_what_was_heard_is_shown_beside_the_result(here: Path, capsys) -> None:
    assert cli.main(["translate", "a.wav", "--model", "mine"]) == 0
    shown = capsys.readouterr()
    assert shown.err == f'heard: "{HEARD}"\n'
    assert shown.out.startswith("picture.png: 1 picture, model mine, seed 0, ")
    assert cli.main(["translate", "a.wav", "b.wav", "--model", "mine", "--json", "-n", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.err == f'a.wav: heard: "{HEARD}"\nb.wav: heard: "{HEARD}"\n'
    told = json.loads(shown.out)
    assert (told["transcripts"], told["clips"]) == ([HEARD, HEARD], ["a.wav", "b.wav"])
    assert told["route"] == "cascade" and set(told["sha256"]) == {"text_encoder", "generator", "recognizer"}
    assert set(told["timings"]) == {"load", "listen", "transcribe", "embed", "draw"}


def test_walks_and_spoken_sentences_take_either_route(here: Path, monkeypatch, capsys) -> None:
    _ship(here)
    walk = ["interpolate", "a.wav", "b.wav", "--steps", "3", "-o", "row.png"]
    for words, name in (
        (["--model", "flowers-and-birds-cascade"], "flowers-and-birds-cascade"),
        (["--route", "cascade"], "flowers-and-birds-cascade"),
        ([], "flowers-and-birds"),
    ):
        assert cli.main([*walk, *words]) == 0
        assert f"model {name}," in capsys.readouterr().out
        assert _same("row.png", speech2image.load(name).interpolate("a.wav", "b.wav", 3).grid())
    monkeypatch.setattr(tts, "speak", lambda text, voice=None: speech(1.5))
    assert cli.main(["say", "a red flower", "--route", "cascade"]) == 0
    assert capsys.readouterr().err == f'heard: "{HEARD}"\n'
    assert cli.main(["say", "a red flower"]) == 0
    assert not capsys.readouterr().err


def test_standard_output_holds_the_picture_alone(here: Path) -> None:
    words = [sys.executable, "-m", "speech2image", "translate", "a.wav", "--model", "mine", "-o", "-"]
    done = subprocess.run(words, capture_output=True, check=True)
    assert done.stdout.startswith(b"\x89PNG")
    assert done.stderr.decode() == f'heard: "{HEARD}"\n'


def test_route_takes_the_model_that_belongs_to_the_one_named(here: Path, capsys) -> None:
    _ship(here)
    assert cli.main(["translate", "a.wav", "--route", "cascade"]) == 0
    shown = capsys.readouterr()
    assert "model flowers-and-birds-cascade," in shown.out and HEARD in shown.err
    assert _same("picture.png", speech2image.load("flowers-and-birds-cascade").translate("a.wav").images[0])
    for words in (["--route", "direct"], [], ["--route", "direct", "--model", "flowers-and-birds-cascade"]):
        assert cli.main(["translate", "a.wav", *words]) == 0
        shown = capsys.readouterr()
        assert "model flowers-and-birds," in shown.out and not shown.err
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split(" MB")[0].rpartition(",")[0] for line in lines] == [
        "flowers-and-birds  8 x 8",
        "flowers-and-birds-cascade  8 x 8, cascade",
    ]


def test_a_text_is_drawn(here: Path, capsys) -> None:
    text = "A white flower!"
    assert cli.main(["translate", "--text", text, "--model", "mine", "-n", "2", "--json"]) == 0
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert not shown.err and told["texts"] == [text] and "clips" not in told and "transcripts" not in told
    assert set(told["timings"]) == {"load", "embed", "draw"}
    with Image.open("picture.png") as image:
        assert image.size == (2 * SIZE + 2, SIZE)
    _ship(here)
    assert cli.main(["translate", "--text", text]) == 0
    assert "model flowers-and-birds-cascade," in capsys.readouterr().out
    assert _same("picture.png", speech2image.load("flowers-and-birds-cascade").draw_text(text).images[0])


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["a.wav", "--route", "cascade"], 1, "no 'flowers-and-birds-cascade' lies beside it. Name a model"),
        (["--text", "a red flower"], 1, "speech2image export cascade"),
        (
            ["--text", "a red flower", "--route", "direct"],
            2,
            "model 'flowers-and-birds' is of the direct route",
        ),
        (["--text", "a red flower", "a.wav"], 2, "not several"),
        (["--text", "Цветок", "--model", "mine"], 2, "no known character in 'Цветок'"),
        (["--text", "?!", "--model", "mine"], 2, "no word in '?!'"),
        ([], 2, "--text SENTENCE"),
        (["a.wav", "--recognizer", "pocketsphinx"], 2, "goes without text"),
        (["a.wav", "--model", "mine", "--recognizer", "ears"], 2, "unknown recognizer 'ears'"),
        (["a.wav", "--model", "mine", "--recognizer", "own:absent"], 1, "no recognizer in absent"),
        (["a.wav", "--model", "mine", "--route", "direct"], 1, "name a model of the direct route"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    here: Path, capsys, words, status: int, message: str
) -> None:
    assert cli.main(["translate", *words]) == status
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1
    assert not Path("picture.png").exists()


def test_no_words_heard(here: Path, capsys) -> None:
    make_cascade(here / "deaf", silent=True)
    assert cli.main(["translate", "a.wav", "--model", "deaf"]) == 1
    assert "no words heard" in capsys.readouterr().err


def test_another_recognizer(here: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(backends, "Whisper", lambda name, threads: Says(f"two {name} birds"))
    assert cli.main(["translate", "a.wav", "--model", "mine", "--recognizer", "whisper:base.en"]) == 0
    assert 'heard: "two base.en birds"' in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    assert cli.main(["translate", "a.wav", "--model", "mine", "--recognizer", "pocketsphinx"]) == 1
    assert "pip install 'speech2image[asr]'" in capsys.readouterr().err
