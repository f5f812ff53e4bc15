"""Who may ask: the server's key in a header, or the cookie of a browser that sent it before."""

import hashlib
import hmac
import secrets

from starlette.requests import HTTPConnection

from speech2image.web.errors import RequestRejected

COOKIE = "speech2image"
"""Its value proves that a browser has sent the key."""


class Login:
    """Knows the server's key.

    The cookie holds a digest of the key, not the key. Nothing is kept on the server, so that it holds after a
    restart and on every server with the same key; another key ends all of them.

    Args:
        key: None lets everyone in.
    """

    def __init__(self, key: str | None) -> None:
        self.key = key
        self.proof = hmac.new((key or "").encode(), b"speech2image page", hashlib.sha256).hexdigest()

    def is_key(self, given: str) -> bool:
        """Whether this is the key."""
        return self.key is None or secrets.compare_digest(given.encode(), self.key.encode())

    def sent_before(self, request: HTTPConnection) -> bool:
        """Whether a request comes from a browser that sent the key before."""
        given = request.cookies.get(COOKIE, "")
        return self.key is None or secrets.compare_digest(given.encode(), self.proof.encode())

    def knows(self, request: HTTPConnection) -> bool:
        """Whether a request brings the key in a header, or comes from a browser that sent it before."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        return self.is_key(given) or self.sent_before(request)

    @staticmethod
    def refusal() -> RequestRejected:
        """What to answer to those that it does not know."""
        return RequestRejected(
            401, "this server needs its key: send Authorization: Bearer KEY, or X-API-Key: KEY"
        )
