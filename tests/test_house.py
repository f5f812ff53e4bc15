"""The house rules that a test can hold: the base install is tested, importing is light, versions agree.

Who may import whom stands in `pyproject.toml` (import-linter; `make lint`).
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from base_install import PARTS, needs_no_extra

ROOT = Path(__file__).parents[1]
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".jsonl", ".yml", ".yaml", ".cff", ".lock", ""}


def test_the_base_install_is_tested() -> None:
    """Which tests run without the extras is read from their imports; these must stay among them."""
    for name in (
        "audio/test_decode",
        "pipeline/test_base",
        "pipeline/test_cascade",
        "test_cli",
        "pipeline/test_registry",
        "pipeline/test_onnx",
    ):
        assert needs_no_extra(ROOT / "tests" / f"{name}.py"), name


def test_types_of_the_base_install_are_checked_strictly() -> None:
    mypy = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert mypy["strict"]
    (base,) = [one for one in mypy["overrides"] if "speech2image" in one["module"]]
    relaxed = {option for option, value in mypy.items() if base.get(option, value) != value}
    assert relaxed == set(base) - {"module"}
    parts = {part_of(module) for module in base["module"]}
    assert parts == PARTS | {"commands"}


def part_of(module: str) -> str:
    """`speech2image.audio.*` -> audio; the package itself is `__init__`."""
    return module.removesuffix(".*").partition(".")[2] or "__init__"


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
    import speech2image

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == speech2image.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## (\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d$", changes, re.M)
    assert released[0] == project["version"]
