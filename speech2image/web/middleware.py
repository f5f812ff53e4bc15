"""The bounds of every request's body, the count of every answer, and the headers that keep browsers safe."""

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any

from speech2image.web.errors import RequestRejected
from speech2image.web.metrics import Metrics
from speech2image.web.places import Slots

Scope = dict[str, Any]
Message = dict[str, Any]

LINGER_SECONDS = 5.0
"""How long a body that is refused is still read, so that its sender comes to reading the answer."""

_HEADERS = {
    # Scripts, pictures and sound of this server alone; the description at /docs has its style in the page.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; connect-src 'self'; "
    "frame-ancestors 'self'; form-action 'self'; base-uri 'none'",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


class LimitExceeded(Exception):
    """A body breaks a bound, so that the application must not go on reading it."""


class RequestLimits:
    """ASGI middleware.

    Args:
        app: what answers.
        metrics: where answers are counted.
        max_bytes: largest request body.
        body_seconds: time that a body may take to arrive.
        arriving: places of the bodies that arrive at the same time.
        paths: the paths that are counted by name; all others count as "page".
    """

    def __init__(
        self,
        app: Any,
        metrics: Metrics,
        max_bytes: int,
        body_seconds: float,
        arriving: Slots,
        paths: Iterable[str],
    ) -> None:
        self._app, self._metrics, self._arriving = app, metrics, arriving
        self._max_bytes, self._body_seconds = max_bytes, body_seconds
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(scope, receive, self._max_bytes, self._body_seconds, self._arriving)
        exchange = _Exchange(body, send)
        start = time.perf_counter()
        try:
            await self._answer(scope, exchange)
        finally:
            body.leave()
            path = scope["path"] if scope["path"] in self._paths else "page"
            self._metrics.requests.labels(path, str(exchange.status or 499)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - start)

    async def _answer(self, scope: Scope, exchange: "_Exchange") -> None:
        try:
            exchange.body.check_stated(scope)
            await self._app(scope, exchange.body.receive, exchange.send)
        except LimitExceeded:
            if exchange.status is not None:
                raise
            await exchange.refuse()


class _Body:
    """The body of one request: bounds its size, its time and how many arrive at once."""

    def __init__(self, scope: Scope, receive: Any, max_bytes: int, seconds: float, arriving: Slots) -> None:
        self._client = scope["client"][0] if scope.get("client") else "unknown"
        self._receive, self._max_bytes, self._left = receive, max_bytes, max_bytes
        self._seconds, self._arriving = seconds, arriving
        self._deadline: float | None = None
        self._is_here, self._has_place = False, False
        self.problem: RequestRejected | None = None

    def check_stated(self, scope: Scope) -> None:
        """Refuse a body that says itself that it is too large."""
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if stated.isdigit() and int(stated[:20]) > self._max_bytes:
            self._break(self._too_large())

    async def receive(self) -> Message:
        """The next part of the body, or, when all of it is here, that the client has gone."""
        if self._is_here:
            message: Message = await self._receive()
            return message
        self._enter()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self._break(RequestRejected(408, f"the request took longer than {self._seconds:g} s to arrive"))
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self._break(self._too_large())
        if not message.get("more_body", False):
            self._is_here = True
            self.leave()
        return message

    async def linger(self) -> None:
        """Read on for a while: a sender cut off at once often never sees the answer."""
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                more = True
                while more:
                    more = (await self._receive()).get("more_body", False)
        except TimeoutError:
            pass

    def leave(self) -> None:
        """Free the place."""
        if self._has_place:
            self._has_place = False
            self._arriving.leave(self._client)

    def _enter(self) -> None:
        if self._deadline is not None:
            return
        self._deadline = asyncio.get_running_loop().time() + self._seconds
        try:
            self._arriving.enter(self._client, 1)
            self._has_place = True
        except RequestRejected as refused:
            self._break(refused)

    def _too_large(self) -> RequestRejected:
        return RequestRejected(
            413,
            f"the request is larger than {self._max_bytes} bytes; send a shorter or compressed recording",
        )

    def _break(self, problem: RequestRejected) -> None:
        self.problem = problem
        raise LimitExceeded


class _Exchange:
    """The answer to one request: adds headers, and takes the place of what an application made of a bound."""

    def __init__(self, body: _Body, send: Any) -> None:
        self.body, self._send = body, send
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self.body.problem and message["status"] >= 400:  # whatever the application made of it
                raise LimitExceeded
            self.status = message["status"]
            present = {name for name, _ in message["headers"]}
            extra = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            message["headers"] = [*message["headers"], *((n, v) for n, v in extra if n not in present)]
        await self._send(message)

    async def refuse(self) -> None:
        """Answer that a bound was broken, and end the connection."""
        problem, self.body.problem = self.body.problem, None
        assert problem is not None
        content = json.dumps({"detail": problem.detail}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(content))}
        headers |= {"connection": "close"} | problem.headers
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": encoded})
        await self._send({"type": "http.response.body", "body": content, "more_body": True})
        if problem.status == 413:
            await self.body.linger()
        await self._send({"type": "http.response.body", "body": b""})
