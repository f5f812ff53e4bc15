"""Servers for the tests: in this process, or in one of their own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import speech2image


@contextlib.contextmanager
def client_of(
    model: Path, base_url: str = "http://127.0.0.1", service=None, peer: str = "testclient", **settings
) -> Iterator:
    """A client of the HTTP interface in this process, at the address `peer`."""
    from fastapi.testclient import TestClient

    from speech2image.web.app import make_app
    from speech2image.web.settings import ServerSettings

    app = make_app(
        ServerSettings(**{"models": (str(model),), "page": False, "threads": 1} | settings), service
    )
    with TestClient(app, base_url=base_url, raise_server_exceptions=False, client=(peer, 50_000)) as client:
        yield client


@contextlib.contextmanager
def server_of(model: Path | None, *flags: str, environment: dict[str, str] | None = None) -> Iterator:
    """A server in a process of its own; gives the process and the address. Stopped with SIGTERM."""
    command = [sys.executable, "-m", "speech2image", "serve", "--port", "0", "--threads", "1", *flags]
    command += ["--models", str(model)] if model else []
    root = Path(speech2image.__file__).parents[1]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)} | (environment or {}),
    )
    try:
        line = process.stdout.readline()
        address = re.search(r"http://\S+?:\d+", line)
        assert address, f"the server did not start: {line}{process.stderr.read()}"
        yield process, address.group()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()
            process.stdout.close()
            process.stderr.close()
