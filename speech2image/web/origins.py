"""Refusal of what scripts of other web sites send: they may neither read answers nor make the server work."""

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

_SAFE = {"GET", "HEAD", "OPTIONS"}


class SameOriginOnly:
    """ASGI middleware: what is posted by a script must come from a page of this server.

    Browsers state the page's site in the header Origin; programs state none and are served.

    Args:
        app: what answers.
        allowed: other sites whose scripts may call, such as https://example.org.
    """

    def __init__(self, app: Any, allowed: Iterable[str]) -> None:
        self._app, self._allowed = app, frozenset(allowed)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["method"] not in _SAFE and not self._may(scope):
            await _refuse(send)
        else:
            await self._app(scope, receive, send)

    def _may(self, scope: dict[str, Any]) -> bool:
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


async def _refuse(send: Any) -> None:
    detail = "the scripts of other web sites may not call this server; --origins names those that may"
    content = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": content})
