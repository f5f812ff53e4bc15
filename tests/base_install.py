"""What belongs to the base install: parts of the package, and the tests that need no extra."""

import ast
import sys
import tomllib
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
_PROJECT = tomllib.loads((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))
PARTS = {"__init__"} | {
    module.split(".")[1]
    for contract in _PROJECT["tool"]["importlinter"]["contracts"]
    if contract["name"] == "base install"
    for module in contract["source_modules"]
}
"""Modules of speech2image that import no extra, not even on demand: those of import-linter's contract."""

PACKAGES = {"numpy", "onnxruntime", "av", "PIL", "tyro", "rich"}
"""What the base install depends on."""

TEST_PACKAGES = {"pytest", "hypothesis", "scipy", "onnx"}
"""What the extra `test` adds to it."""


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Names of the modules that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module == "speech2image":
            found |= {f"speech2image.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def needs_no_extra(test: Path) -> bool:
    """Whether a test file, with the helpers it uses, can be imported in the base install plus `test`."""
    return all(_is_base(module) for module in imports(test, top_level_only=True))


@cache
def _is_base(module: str) -> bool:
    package, _, rest = module.partition(".")
    if package == "speech2image":
        part = rest.split(".")[0]
        return part in PARTS | {"", "commands"} or not _is_file(part)
    if (TESTS / f"{package}.py").is_file():
        return needs_no_extra(TESTS / f"{package}.py")
    return package in PACKAGES | TEST_PACKAGES | sys.stdlib_module_names


def _is_file(part: str) -> bool:
    """Whether `speech2image.part` is a module, not a name that the package itself offers."""
    place = TESTS.parent / "speech2image" / part
    return place.is_dir() or place.with_suffix(".py").is_file()
