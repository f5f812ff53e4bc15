"""Documents name files, modules and tests that exist; the path of a waveform in README is short."""

import ast
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


MODULES = sorted((ROOT / "speech2image").rglob("*.py"))
PLACES = (
    ROOT,
    ROOT / "speech2image",
    *sorted(path for path in (ROOT / "speech2image").rglob("*") if path.is_dir()),
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_exist(document: Path) -> None:
    assert not missing_files(document.read_text(encoding="utf-8"), document.parent)


def test_files_and_names_in_docstrings_exist() -> None:
    """`audio/vad.py` is a file; `registry.Model` a class, or a constant, of that module."""
    sources = {path: path.read_text(encoding="utf-8") for path in MODULES}
    for path in MODULES:
        text = docstrings(path)
        assert not missing_files(text, path.parent), path
        for module, name in re.findall(r"`(?:[a-z]\w*\.)*([a-z]\w*)\.([A-Z]\w*)`", text):
            found = [
                source
                for one, source in sources.items()
                if one.stem == module or (one.parent.name, one.stem) == (module, "__init__")
            ]
            assert not found or any(re.search(rf"\b{name}\b", one) for one in found), (path, module, name)


def docstrings(path: Path) -> str:
    """All docstrings of a module, those of its constants included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
    return "\n".join(str(one.value) for one in found if isinstance(one, ast.Constant))


def missing_files(text: str, folder: Path) -> list[str]:
    """Files that a text names and that lie neither in the package nor beside the text."""
    named = {name for name in NAMED.findall(text) if "/" in name or name.endswith(".py")}
    named = {name for name in named if not name.endswith("X.py") and name[:4] != "out/"}  # any; written
    return [name for name in sorted(named) if not any((place / name).exists() for place in (*PLACES, folder))]


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


def test_the_map_names_modules_that_its_folders_have() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## A map of the files")[1]
    rows = re.findall(r"^\| `(speech2image/\w+)/` \| (.*)$", text, re.M)
    rooms = {path.parent.name for path in (ROOT / "speech2image").glob("*/__init__.py")}
    assert {folder.partition("/")[2] for folder, _ in rows} == rooms - {"commands"}  # its row has two places
    for folder, what in rows:
        inside = {path.stem for path in (ROOT / folder).rglob("*")}
        assert set(re.findall(r"`([a-z]\w*)/?`", what)) - {"evaluate"} <= inside, folder
