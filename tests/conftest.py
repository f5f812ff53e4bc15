"""Fixtures shared by all tests."""

import contextlib
import importlib.util
import os
from pathlib import Path

import pytest
from base_install import needs_no_extra

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

with contextlib.suppress(ImportError):  # checks shapes and types of tensors; not there in the base install
    from jaxtyping import install_import_hook

    install_import_hook(["speech2image.models", "speech2image.losses"], "beartype.beartype")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """In the base install (no torch) only the tests that need no extra are collected."""
    file = collection_path / "conftest.py" if collection_path.is_dir() else collection_path
    if importlib.util.find_spec("torch") or file.suffix != ".py" or not file.is_file():
        return None
    return None if needs_no_extra(file) else True


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights beside the project; tests that need it are skipped without it."""
    folder = Path(os.environ.get("SPEECH2IMAGE_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip("needs the real data (set SPEECH2IMAGE_SHARED)")
    return folder
