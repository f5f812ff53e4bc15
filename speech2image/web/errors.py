"""Why a request is not answered with pictures: an HTTP status, a sentence, and when to try again."""

from speech2image.errors import Speech2ImageError

CODES = {
    400: "malformed",
    401: "needs_key",
    403: "other_site",
    404: "unknown",
    405: "method",
    406: "not_acceptable",
    408: "arrived_too_slowly",
    413: "too_large",
    422: "invalid",
    426: "not_upgraded",
    429: "too_many",
    503: "busy",
}
"""What a status alone says, in one word for programs."""


class RequestRejected(Speech2ImageError):
    """A request is refused.

    Args:
        status: HTTP status, from 400.
        detail: what came, what is allowed, what to do.
        retry_after: whole seconds after which the same request may succeed.
        code: what happened in one word, for programs; None takes that of the status (`CODES`).
    """

    def __init__(
        self, status: int, detail: str, retry_after: int | None = None, code: str | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retry_after = status, detail, retry_after
        self.code = code or CODES.get(status, "refused")

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that belong to the refusal."""
        if self.status == 401:
            return {"WWW-Authenticate": 'Bearer realm="speech2image"'}
        if self.status == 426:
            return {"Upgrade": "websocket", "Connection": "Upgrade"}
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
