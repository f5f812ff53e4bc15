"""ASGI middleware, the outermost first: trusted proxies, bounds of a request's body, same-origin requests."""

import asyncio
import json
import logging
import re
import secrets
import time
from collections.abc import Container, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from speech2image.web.errors import CODES, RequestRejected
from speech2image.web.jobs import Slots
from speech2image.web.metrics import Metrics

Headers = list[tuple[bytes, bytes]]

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
REQUEST_ID = "x-request-id"
"""Names a request in its answer and in the log; what a client or proxy sent is kept."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_STOPPING = RequestRejected(
    503, "the server is being stopped and had no time left for this request; send it again", 5, "stopping"
)
_log = logging.getLogger("speech2image.requests")
_SAFE = {"GET", "HEAD", "OPTIONS"}
_HOST = re.compile(rb"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")


# ---- bounds of a request's body ------------------------------------------------------------------


class LimitExceeded(Exception):
    """A body breaks a bound, so that the application must not go on reading it."""


class RequestLimits:
    """ASGI middleware: bounds, names, counts and logs requests, and answers those for which the time is up
    when the server stops. HEAD is answered as GET without its body.

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
        app: ASGIApp,
        metrics: Metrics,
        max_bytes: int,
        body_seconds: float,
        arriving: Slots,
        paths: Iterable[str],
    ) -> None:
        self._app, self._metrics, self._arriving = app, metrics, arriving
        self._max_bytes, self._body_seconds = max_bytes, body_seconds
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(scope, receive, self._max_bytes, self._body_seconds, self._arriving)
        exchange = _Exchange(scope, body, send)
        start = time.perf_counter()
        try:
            await self._answer({**scope, "method": "GET"} if scope["method"] == "HEAD" else scope, exchange)
        except asyncio.CancelledError:  # the server stops, and the time that it had is over
            if exchange.status is None:
                await exchange.refuse(_STOPPING)
        finally:
            body.leave()
            seconds = time.perf_counter() - start
            path = scope["path"] if scope["path"] in self._paths else "page"
            self._metrics.requests.labels(path, str(exchange.status or 499)).inc()
            self._metrics.seconds.labels(path).observe(seconds)
            _log_request(scope, exchange, seconds)

    async def _answer(self, scope: Scope, exchange: "_Exchange") -> None:
        try:
            exchange.body.check_stated(scope)
            await self._app(scope, exchange.body.receive, exchange.send)
        except LimitExceeded:
            if exchange.status is not None:
                raise
            problem, exchange.body.problem = exchange.body.problem, None
            assert problem is not None
            await exchange.refuse(problem)


def _log_request(scope: Scope, exchange: "_Exchange", seconds: float) -> None:
    """One line of JSON, without the query and without anything that was said."""
    if not _log.isEnabledFor(logging.INFO):
        return
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": exchange.request_id.decode(),
        "client": scope["client"][0] if scope.get("client") else "unknown",
        "method": scope["method"],
        "path": scope["path"][:200],
        "status": exchange.status or 499,
        "seconds": round(seconds, 4),
        "bytes_in": exchange.body.size,
        "bytes_out": exchange.size,
    }
    _log.info("%s", json.dumps(line))


class _Body:
    """The body of one request: bounds its size, its time and how many arrive at once."""

    def __init__(
        self, scope: Scope, receive: Receive, max_bytes: int, seconds: float, arriving: Slots
    ) -> None:
        self._client = scope["client"][0] if scope.get("client") else "unknown"
        self._receive, self._max_bytes, self.size = receive, max_bytes, 0
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
        self.size += len(message.get("body", b""))
        if self.size > self._max_bytes:
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

    def __init__(self, scope: Scope, body: _Body, send: Send) -> None:
        self.body, self._send = body, send
        self._is_head = scope["method"] == "HEAD"
        self.status: int | None = None
        self.size = 0
        given = dict(scope["headers"]).get(REQUEST_ID.encode(), b"")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8).encode()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self.body.problem and message["status"] >= 400:  # whatever the application made of it
                raise LimitExceeded
            self.status = message["status"]
            present = {name for name, _ in message["headers"]}
            extra = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            extra.append((REQUEST_ID.encode(), self.request_id))
            message["headers"] = [*message["headers"], *((n, v) for n, v in extra if n not in present)]
        elif message["type"] == "http.response.body":
            if self._is_head:
                message = {**message, "body": b""}
            self.size += len(message.get("body", b""))
        await self._send(message)

    async def refuse(self, problem: RequestRejected) -> None:
        """Answer that a bound was broken, and end the connection."""
        content = json.dumps({"detail": problem.detail, "code": problem.code}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(content))}
        headers |= {"connection": "close"} | problem.headers
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": encoded})
        await self.send({"type": "http.response.body", "body": content, "more_body": True})
        if problem.status == 413:
            await self.body.linger()
        await self.send({"type": "http.response.body", "body": b""})


# ---- requests of other web sites -----------------------------------------------------------------


class SameOriginOnly:
    """ASGI middleware: what a script posts or opens (WebSockets) must come from a page of this server.

    Browsers state the page's site in the header Origin; programs state none and are served.

    Args:
        app: what answers.
        allowed: other sites whose scripts may call, such as https://example.org.
    """

    def __init__(self, app: ASGIApp, allowed: Iterable[str]) -> None:
        self._app, self._allowed = app, frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        acts = scope["type"] == "websocket" or (scope["type"] == "http" and scope["method"] not in _SAFE)
        if acts and not self._may(scope):
            await _OTHER_SITE(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _may(self, scope: Scope) -> bool:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get(b"origin")
        return origin is None or origin in self._allowed or _is_at(origin, headers.get(b"host", ""))


def _is_at(origin: str, host: str) -> bool:
    """Whether a site is at this host. Some proxies pass the host without its port: then the names decide."""
    try:
        parts = urlsplit(origin)
        return host != "" and host.lower() in (parts.netloc.lower(), parts.hostname)
    except ValueError:
        return False


_OTHER_SITE = JSONResponse(
    {
        "detail": "the scripts of other web sites may not call this server; --origins names those that may",
        "code": CODES[403],
    },
    403,
)


# ---- reverse proxies -----------------------------------------------------------------------------


def trusted(addresses: Sequence[str]) -> Container[str]:
    """The addresses that these addresses and networks (10.0.0.0/8) stand for."""
    found: Any = ProxyHeadersMiddleware(_nothing, list(addresses)).trusted_hosts
    return cast(Container[str], found)


async def _nothing(*_: Any) -> None:
    """No application."""


class TrustedProxies:
    """ASGI middleware, the outermost: without a trusted proxy, all that a request says of one is taken away.

    Args:
        app: what answers.
        addresses: of the trusted proxies, or networks of them (10.0.0.0/8).
    """

    def __init__(self, app: ASGIApp, addresses: Sequence[str]) -> None:
        self._app, self._trusted = app, trusted(addresses)
        self._believe: Any = ProxyHeadersMiddleware(cast(Any, app), list(addresses))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope.get("client") and scope["client"][0] in self._trusted:
            await self._believe({**scope, "headers": _with_forwarded_host(scope["headers"])}, receive, send)
        else:
            await self._app({**scope, "headers": _without_forwarded(scope["headers"])}, receive, send)


def _without_forwarded(headers: Headers) -> Headers:
    return [(n, v) for n, v in headers if n != b"forwarded" and not n.startswith(b"x-forwarded-")]


def _with_forwarded_host(headers: Headers) -> Headers:
    """The last X-Forwarded-Host, which is the trusted proxy's own, in the place of Host."""
    given = [
        value.strip() for name, value in headers if name == b"x-forwarded-host" for value in value.split(b",")
    ]
    if not given or not _HOST.fullmatch(given[-1]):
        return list(headers)
    return [(name, value) for name, value in headers if name != b"host"] + [(b"host", given[-1])]
