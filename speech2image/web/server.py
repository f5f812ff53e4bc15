"""Server process: bounded HTTP connections, start, and a stop that finishes what was begun."""

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Container
from socket import socket
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from speech2image.pipeline.onnx import default_threads
from speech2image.web import live
from speech2image.web.app import make_app
from speech2image.web.middleware import trusted
from speech2image.web.settings import ServerSettings

ANSWER_SECONDS = 1.0
"""How long a stop waits for the answers to requests that it has cut short."""

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-type: application/json\r\ncontent-length: 77\r\n\r\n"
    b'{"detail": "too many connections are open; try again in 1 s", "code": "busy"}'
)


class Server(uvicorn.Server):
    """uvicorn that says where it listens.

    Args:
        config: of uvicorn.
        listening: called with the server's address once it accepts requests.
    """

    def __init__(self, config: uvicorn.Config, listening: Callable[[str], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Open the port, then say so."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """End within the time of grace, and see that the requests cut short by it are answered."""
        await super().shutdown(sockets)
        if self.server_state.tasks:  # cancelled: `middleware.RequestLimits` answers them
            await asyncio.wait(self.server_state.tasks, timeout=ANSWER_SECONDS)


def serve(settings: ServerSettings) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        CheckpointError: a model is unknown or damaged.
        SettingsError: the key cannot be read.
    """
    _share_freed_memory()
    app = make_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.grace_seconds,  # type: ignore[arg-type]  # parts of a second, too
        proxy_headers=False,  # see middleware.TrustedProxies
        http=bounded(settings.connections, trusted(settings.trusted_proxies)),
        ws="websockets-sansio",  # reads no further than the application does, unlike "websockets"
        ws_max_size=live.MAX_MESSAGE,
        ws_per_message_deflate=False,  # sound and pictures are compressed already
    )
    _warn(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopped)
    if settings.log_requests:
        _log_to_standard_error()
    try:
        Server(config, lambda address: _say(address, settings, app)).run()
    finally:
        if app.state.service.is_at_work:
            # Nobody waits for it any more, nothing can stop it, and the interpreter must not end beneath it.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)


def _share_freed_memory() -> None:
    """Tell glibc, where there is glibc, to keep freed memory in as many places as there are cores.

    By default each of the threads that work on requests keeps its own.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        arena_max = -8  # M_ARENA_MAX of malloc.h
        mallopt(arena_max, default_threads())


def _log_to_standard_error() -> None:
    log = logging.getLogger("speech2image.requests")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def _stopped(number: int, frame: FrameType | None) -> None:
    """Being told to stop is no failure; uvicorn repeats the signal when it has stopped."""
    raise SystemExit(0)


def _say(address: str, settings: ServerSettings, app: FastAPI) -> None:
    models = ", ".join(app.state.service.registry.models)
    what = "page" if settings.page else "HTTP interface"
    print(f"{what}: {address}{settings.root_path}/   HTTP interface: {address}{settings.root_path}/docs")
    print(f"models: {models}; Ctrl-C stops", flush=True)


def _warn(settings: ServerSettings) -> None:
    if not settings.is_local and settings.api_key() is None:
        print(
            "speech2image: warning: everyone who reaches this machine may use the server; "
            "set SPEECH2IMAGE_API_KEY or --api-key-file, or put a reverse proxy before it (docs/serving.md)",
            file=sys.stderr,
        )


# ---- connections ---------------------------------------------------------------------------------


class Connection(H11Protocol):
    """uvicorn's HTTP connection with bounds; `bounded` sets them.

    uvicorn waits for ever for the rest of a request's head, and for a client to take its answer.
    """

    most, per_client = 512, 256
    trusted: Container[str] = ()
    head_seconds = 10.0
    read_bytes = 10_000

    _is_upgraded = False
    _waiting: asyncio.TimerHandle | None = None
    _deaf: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Take the connection, or answer 503 when there are too many."""
        super().connection_made(transport)
        if self._is_one_too_many():
            transport.write(_BUSY)
            transport.close()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        for timer in (self._waiting, self._deaf):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        self._watch()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand the connection over; `live` has bounds of its own."""
        self._is_upgraded = True
        if self._waiting is not None:
            self._waiting.cancel()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """The client does not read as fast as is written: look after it."""
        super().pause_writing()
        self._look_after(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        if self._deaf is not None:
            self._deaf.cancel()
            self._deaf = None

    def _is_one_too_many(self) -> bool:
        if len(self.connections) > self.most:
            return True
        own = self.client[0] if self.client else ""
        clients = [getattr(other, "client", None) for other in self.connections]
        same = sum(client is not None and client[0] == own for client in clients)
        return same > self.per_client and own not in self.trusted

    def _watch(self) -> None:
        """Bound the time without a request that is worked on: however many bytes come, a whole head must."""
        if self._is_upgraded:
            return
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        elif not busy and self._waiting is None:
            self._waiting = self.loop.call_later(self.head_seconds, self._end)

    def _end(self) -> None:
        self._waiting = None
        if self._deaf is None:  # else it still reads an answer, and is looked after
            self.transport.abort()
        else:
            self._watch()

    def _look_after(self, left: int) -> None:
        self._deaf = self.loop.call_later(self.head_seconds, self._check_reader, left)

    def _check_reader(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left > before - self.read_bytes:
            self.transport.abort()
        else:
            self._look_after(left)


def bounded(most: int, trusted: Container[str]) -> type[Connection]:
    """A class of connections of which at most `most` are open, half of them of one address.

    Args:
        most: connections.
        trusted: addresses of proxies, which bring the connections of others.
    """
    values = {"most": most, "per_client": max(1, most // 2), "trusted": trusted}
    return type("BoundedConnection", (Connection,), values)
