"""The outermost layer: bounds every body, counts every answer, and tells browsers to ask nobody else."""

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any

from speech2image.web.metrics import Metrics

Scope = dict[str, Any]
Message = dict[str, Any]

LINGER_SECONDS = 5.0
"""How long a body that is refused is still read, so that its sender comes to reading the answer."""

_HEADERS = {
    # What the page needs, and nothing from any other host: Gradio has inline scripts and compiles templates.
    "content-security-policy": "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    "frame-ancestors 'self'; form-action 'self'; base-uri 'self'",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class TooLarge(Exception):
    """More bytes came than a request may have."""


class Guard:
    """ASGI middleware.

    Args:
        app: what answers.
        metrics: where answers are counted.
        max_bytes: largest request body.
        paths: the paths that are counted by name; all others count as "page".
    """

    def __init__(self, app: Any, metrics: Metrics, max_bytes: int, paths: Iterable[str]) -> None:
        self._app, self._metrics, self._max_bytes = app, metrics, max_bytes
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, self._max_bytes)
        start = time.perf_counter()
        try:
            if _stated_length(scope) > self._max_bytes:
                await exchange.refuse()
            else:
                await self._answer(scope, exchange)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "page"
            self._metrics.requests.labels(path, str(exchange.status or 499)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - start)

    async def _answer(self, scope: Scope, exchange: "_Exchange") -> None:
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except TooLarge:
            if exchange.status is None:
                await exchange.refuse()
            else:
                raise


def _stated_length(scope: Scope) -> int:
    stated = dict(scope["headers"]).get(b"content-length", b"0")
    return int(stated) if stated.isdigit() else 0


class _Exchange:
    """One request and its answer: counts the bytes that come, adds headers to what goes."""

    def __init__(self, receive: Any, send: Any, max_bytes: int) -> None:
        self._receive, self._send, self._left = receive, send, max_bytes
        self._max_bytes, self._too_large = max_bytes, False
        self.status: int | None = None

    async def receive(self) -> Message:
        message: Message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self._too_large = True
            raise TooLarge
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self._too_large and message["status"] >= 400:  # whatever the application made of it
                raise TooLarge
            self.status = message["status"]
            present = {name for name, _ in message["headers"]}
            extra = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            message["headers"] = [*message["headers"], *((n, v) for n, v in extra if n not in present)]
        await self._send(message)

    async def refuse(self) -> None:
        """Answer 413, then read on for a while: a sender cut off at once often never sees the answer."""
        detail = f"the request is larger than {self._max_bytes} bytes; send a shorter or compressed recording"
        content = json.dumps({"detail": detail}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        self._too_large = False
        await self.send(
            {"type": "http.response.start", "status": 413, "headers": [*headers, (b"connection", b"close")]}
        )
        await self._send({"type": "http.response.body", "body": content, "more_body": True})
        await self._linger()
        await self._send({"type": "http.response.body", "body": b""})

    async def _linger(self) -> None:
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                more = True
                while more:
                    more = (await self._receive()).get("more_body", False)
        except TimeoutError:
            pass
