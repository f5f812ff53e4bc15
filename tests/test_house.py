"""The house rules that a test can hold: imports go one way, the base install is light, files stay
readable."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from base_install import PARTS, imports, needs_no_extra

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "speech2image"
FILES = sorted(PACKAGE.rglob("*.py"))
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".jsonl", ".yml", ".yaml", ".cff", ".lock", ""}

# A module may import from its own level and from levels before it.
LEVELS = [
    {"errors", "files", "reading", "text"},
    {"onnx_file", "model_card"},
    {"audio", "images", "runtime", "tts"},
    {"models", "losses"},
    {"pretrained", "data", "transcription", "recognizers", "voice_activity"},
    {"painter", "pipeline", "cascade", "opening"},
    {"metrics"},
    {"tracing", "model_folder", "parity"},
    {"training", "export", "cascade_export"},
    {"evaluation", "web"},
    {"commands"},
    {"cli", "__init__", "__main__"},
]


def part_of(module: str) -> str:
    words = module.split(".")
    return words[1] if len(words) > 1 else "__init__"


def level(part: str) -> int:
    return next(i for i, parts in enumerate(LEVELS) if part in parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports(path, top_level_only=True):
        if module.startswith("speech2image."):
            part = part_of(module)
            if part not in ("__version__",):
                assert level(part) <= level(own), f"{own} imports {module}, which lies above it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_base_modules_do_not_import_extras(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    extras = {
        "torch",
        "jaxtyping",
        "scipy",
        "safetensors",
        "webdataset",
        "lightning_fabric",
        "onnx",
        "torchvision",
    }
    if own in PARTS:
        assert not {module.split(".")[0] for module in imports(path)} & extras


def test_the_base_install_is_tested() -> None:
    """Which tests run without the extras is read from their imports; these must stay among them."""
    for name in (
        "audio/test_decode",
        "test_pipeline",
        "test_cascade",
        "test_cli",
        "test_pretrained",
        "test_runtime",
    ):
        assert needs_no_extra(ROOT / "tests" / f"{name}.py"), name


def test_nothing_imports_torchvision_or_torchaudio_and_one_file_pickle() -> None:
    for path in FILES:
        unwanted = {"torchvision", "torchaudio", "pickle"}
        if path == PACKAGE / "data" / "embedding_pickles.py":
            unwanted.remove("pickle")
        assert not {module.split(".")[0] for module in imports(path)} & unwanted, path


def test_import_is_light() -> None:
    code = (
        "import sys, speech2image; heavy = {'numpy', 'onnxruntime', 'av', 'PIL', 'torch', 'tyro', 'rich'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_no_file_names_a_path_of_some_machine_or_a_registry_host() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.split() if listed.returncode == 0 else []
    wrong = re.compile(
        r"/work/|/root/|/home/|/opt/|pypi\.org|files\.pythonhosted|deb\.debian\.org|registry\.npmjs"
    )
    for name in names:
        path = ROOT / name
        if path.suffix in TEXT and path.is_file():
            text = path.read_text(encoding="utf-8", errors="ignore")
            if path != Path(__file__):
                assert not wrong.search(text), f"{name}: {wrong.search(text)}"


def test_versions_agree() -> None:
    import tomllib

    import speech2image

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == speech2image.__version__
    assert (
        "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()
        or project["version"] in (ROOT / "CHANGELOG.md").read_text()
    )
