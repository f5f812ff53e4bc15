"""Documents name files, modules and tests that exist; the path of a waveform in README is short."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(path for path in (ROOT / "docs").glob("*.md") if path.stem != "log"),
    *(ROOT / "model_cards").glob("*.md"),
]
NAMED = re.compile(r"(?<![\w/.*:-])((?:[\w.-]+/)*[\w-]+\.(?:py|sh|md|toml))(?![\w*])")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_exist(document: Path) -> None:
    places = ROOT, ROOT / "speech2image", ROOT / "speech2image/pipeline", document.parent
    places += tuple((ROOT / "speech2image").rglob("*/"))
    named = {
        name
        for name in NAMED.findall(document.read_text(encoding="utf-8"))
        if "/" in name or name[-3:] == ".py"
    }
    named = {name for name in named if not name.endswith("X.py")}  # any module
    missing = [name for name in sorted(named) if not any((place / name).exists() for place in places)]
    assert not missing


def test_fidelity_names_what_the_code_has() -> None:
    """The identifiers behind a module in the second column are defined in it."""
    text = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) > 40
    for row in rows:
        for module, names in re.findall(r"`([\w/]+\.py)`((?:, `[A-Za-z]\w+`)*)", row[1]):
            source = (ROOT / "speech2image" / module).read_text(encoding="utf-8")
            for name in re.findall(r"`(\w+)`", names):
                assert re.search(rf"\b{name}\b", source), f"{module} has no {name}"


def test_a_waveform_becomes_a_picture_in_at_most_six_files() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    path = text.split("## A map of the files")[1].split("|")[0]
    files = re.findall(r"`([\w/]+\.py)`", path)
    assert 3 < len([file for file in files if not file.startswith("models/")]) <= 6
    assert all((ROOT / "speech2image" / file).is_file() for file in files)
