"""The examples run, do what they say, and stay short."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tiny_model import SIZE, make_model, write_wav

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    make_model(folder / "tiny")
    for seed, name in enumerate(("a.wav", "b.wav")):
        write_wav(folder / name, 1.5, seed)
    return folder


@pytest.mark.parametrize(
    ("example", "arguments", "pictures"),
    [
        ("translate_file.py", ["a.wav", "out.png", "tiny"], (1, 1)),
        ("eight_noises.py", ["out.png", "tiny", "a.wav", "b.wav"], (8, 2)),
        ("interpolate.py", ["a.wav", "b.wav", "out.png", "tiny"], (9, 1)),
    ],
)
def test_example(folder: Path, example: str, arguments: list[str], pictures: tuple[int, int]) -> None:
    (folder / "out.png").unlink(missing_ok=True)
    command = [sys.executable, str(EXAMPLES / example), *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("out.png: ")
    with Image.open(folder / "out.png") as image:
        assert image.size == tuple(n * (SIZE + 2) - 2 for n in pictures)


def test_all_are_tested_and_short() -> None:
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert [script.name for script in scripts] == [
        "eight_noises.py",
        "http_client.py",
        "interpolate.py",
        "live_client.py",
        "translate_file.py",
    ]
    for script in scripts:
        assert len(script.read_text().splitlines()) <= 60
