"""Runs the server until it is told to stop; what it began, it finishes."""

import signal
import sys
from collections.abc import Callable
from typing import Any

import uvicorn

from speech2image.web.app import make_app
from speech2image.web.connections import bounded
from speech2image.web.proxies import trusted
from speech2image.web.settings import Settings


class Server(uvicorn.Server):
    """uvicorn that says where it listens.

    Args:
        config: of uvicorn.
        listening: called with the server's address once it accepts requests.
    """

    def __init__(self, config: uvicorn.Config, listening: Callable[[str], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: Any = None) -> None:
        """Open the port, then say so."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        CheckpointError: a model is unknown or damaged.
        SettingsError: the key cannot be read.
    """
    app = make_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
        proxy_headers=False,  # see proxies.py
        http=bounded(settings.connections, trusted(settings.trusted_proxies)),
        ws="none",
    )
    _warn(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopped)
    Server(config, lambda address: _say(address, settings, app)).run()


def _stopped(number: int, frame: Any) -> None:
    """Being told to stop is no failure; uvicorn repeats the signal when it has stopped."""
    raise SystemExit(0)


def _say(address: str, settings: Settings, app: Any) -> None:
    models = ", ".join(app.state.service.registry.models)
    what = "page" if settings.page else "HTTP interface"
    print(f"{what}: {address}{settings.root_path}/   HTTP interface: {address}{settings.root_path}/docs")
    print(f"models: {models}; Ctrl-C stops", flush=True)


def _warn(settings: Settings) -> None:
    if not settings.is_local and settings.api_key() is None:
        print(
            "speech2image: warning: everyone who reaches this machine may use the server; "
            "set SPEECH2IMAGE_API_KEY or --api-key-file, or put a reverse proxy before it (docs/serving.md)",
            file=sys.stderr,
        )
