"""A served tiny model, in this process (TestClient) or in one of its own (a real server on the loopback)."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_model import make_model, write_wav

if not all(importlib.util.find_spec(name) for name in ("fastapi", "jinja2", "uvicorn", "prometheus_client")):
    collect_ignore_glob = ["test_*"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """The folder of a tiny model called tiny."""
    return make_model(tmp_path_factory.mktemp("web") / "tiny")


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """A second and a half of made-up speech."""
    return write_wav(tmp_path_factory.mktemp("clips") / "a.wav", 1.5, 0)


@pytest.fixture(scope="session")
def other_clip(tmp_path_factory) -> Path:
    """Another one."""
    return write_wav(tmp_path_factory.mktemp("clips") / "b.wav", 1.2, 1)


@pytest.fixture
def client(tiny: Path) -> Iterator:
    """The HTTP interface of the tiny model, without the page, in this process."""
    from web_server import client_of

    with client_of(tiny) as client:
        yield client
