"""Headers of reverse proxies (X-Forwarded-For, -Proto, -Host), believed of trusted proxies alone."""

import re
from collections.abc import Container, Sequence
from typing import Any, cast

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

_HOST = re.compile(rb"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")


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

    def __init__(self, app: Any, addresses: Sequence[str]) -> None:
        self._app, self._trusted = app, trusted(addresses)
        self._believe: Any = ProxyHeadersMiddleware(app, list(addresses))

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope.get("client") and scope["client"][0] in self._trusted:
            await self._believe({**scope, "headers": _with_forwarded_host(scope["headers"])}, receive, send)
        else:
            await self._app({**scope, "headers": _without_forwarded(scope["headers"])}, receive, send)


def _without_forwarded(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(n, v) for n, v in headers if n != b"forwarded" and not n.startswith(b"x-forwarded-")]


def _with_forwarded_host(headers: Any) -> list[tuple[bytes, bytes]]:
    """The last X-Forwarded-Host, which is the trusted proxy's own, in the place of Host."""
    given = [
        value.strip() for name, value in headers if name == b"x-forwarded-host" for value in value.split(b",")
    ]
    if not given or not _HOST.fullmatch(given[-1]):
        return list(headers)
    return [(name, value) for name, value in headers if name != b"host"] + [(b"host", given[-1])]
