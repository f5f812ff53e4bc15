"""What a picture was drawn with, kept in its file."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from tiny_model import make_model, speech, write_wav

import speech2image
from speech2image import cli
from speech2image.errors import DataError
from speech2image.pipeline import images
from speech2image.pipeline.recipe import MAX_WORDS, Recipe, read_recipe, together

RECIPE = Recipe("桜", "ab12", "cascade", 2**64 - 1, 2, (3, 5), ("a red flower \u2013 yes", None))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_model(tmp_path / "tiny")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_a_file_keeps_its_recipe(tmp_path: Path, suffix: str) -> None:
    picture = Image.new("RGB", (64, 64), "red")
    file = images.save(picture, tmp_path / f"a{suffix}", RECIPE)
    assert read_recipe(file) == RECIPE
    plain = images.save(picture, tmp_path / f"b{suffix}")
    assert Image.open(plain).tobytes() == Image.open(file).tobytes()
    with pytest.raises(DataError, match="has no recipe"):
        read_recipe(plain)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_pictures_to_look_at_keep_it_too(tmp_path: Path, kind: str) -> None:
    content = images.encode(Image.new("RGB", (64, 64)), kind, preview=True, recipe=RECIPE)
    (tmp_path / "a").write_bytes(content)
    assert read_recipe(tmp_path / "a") == RECIPE


@pytest.mark.parametrize("text", ["", "{}", "[", '{"speech2image": {"model": 3}}', "[" * 100_000])
def test_what_others_wrote_is_no_recipe(tmp_path: Path, text: str) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("speech2image", text)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="has no recipe"):
        read_recipe(tmp_path / "a.png")


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    for name in ("a.png", "b.png"):
        with pytest.raises(DataError, match="cannot read"):
            read_recipe(tmp_path / name)


def test_long_words_are_cut(tmp_path: Path) -> None:
    long = Recipe("m", "", "direct", 0, words=("a" * 5_000,))
    assert read_recipe(images.save(Image.new("RGB", (8, 8)), tmp_path / "a.png", long)).words == (
        "a" * MAX_WORDS,
    )


def test_results_know_theirs(tiny: Path, tmp_path: Path) -> None:
    route = speech2image.load(tiny)
    result = route.translate((speech(1), 16_000), 3, 7)
    assert result.recipe == Recipe("tiny", route.model.checksum, "direct", 7, 3, (), (None,))
    assert read_recipe(result.save(tmp_path / "a.png")) == result.recipe
    row = route.interpolate((speech(1), 16_000), (speech(1, 1), 16_000), 4, 9)
    expected = Recipe("tiny", route.model.checksum, "direct", 9, 4, words=(None, None))
    assert read_recipe(row.save(tmp_path / "b.webp")) == expected
    with pytest.raises(DataError):
        read_recipe(result.save(tmp_path / "c.png", recipe=False))
    both = together([result.recipe, result.recipe])
    assert (both.words, both.pictures) == ((None, None), 3)


def test_checksums_tell_models_of_one_name_apart(tiny: Path, tmp_path: Path) -> None:
    card = json.loads((tiny / "model.json").read_text())
    files = card["files"] | {"speech_encoder": card["files"]["speech_encoder"] | {"sha256": "0" * 64}}
    other = make_model(tmp_path / "other" / "tiny", files=files)
    first, second = speech2image.pipeline.registry.find(tiny), speech2image.pipeline.registry.find(other)
    assert first.name == second.name and first.checksum != second.checksum


def test_the_command_line_writes_and_reads_recipes(tiny: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_wav(tmp_path / "a.wav", 1.5)
    drawing = ["translate", "a.wav", "--model", str(tiny), "-n", "2", "--seed", "5"]
    assert cli.main([*drawing, "-o", "a.png"]) == 0
    assert cli.main([*drawing, "-o", "s.webp", "--separate"]) == 0
    capsys.readouterr()
    assert cli.main(["models", "--recipe", "a.png"]) == 0
    told = capsys.readouterr().out
    assert "model: tiny (not installed here)" in told
    assert "route: direct, seed 5, rows 0 to 1 of its noise" in told
    assert cli.main(["models", "--recipe", "s-2.webp", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["seed"], found["pictures"], found["noise_rows"]) == ("tiny", 5, 1, [1])
    assert cli.main([*drawing, "-o", "b.png", "--no-recipe"]) == 0
    assert cli.main(["models", "--recipe", "b.png"]) == 1
    assert "has no recipe" in capsys.readouterr().err
