"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights beside the project; tests that need it are skipped without it."""
    folder = Path(os.environ.get("SPEECH2IMAGE_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip("needs the real data (set SPEECH2IMAGE_SHARED)")
    return folder
