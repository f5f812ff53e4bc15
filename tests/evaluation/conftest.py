"""One toy set, one tiny model and one measured perfect route for all tests of the evaluation."""

from pathlib import Path
from typing import Any

import pytest
from evaluation_parts import TinyNetwork, run, write_set
from tiny_model import make_model


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("evaluation") / "toy")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def network() -> TinyNetwork:
    """The network that measured `perfect`, with what it saw."""
    return TinyNetwork()


@pytest.fixture(scope="session")
def perfect(shards: Path, network: TinyNetwork, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(shards, tmp_path_factory.mktemp("perfect"), network=network, gallery=6)
