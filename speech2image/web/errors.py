"""Why a request is not answered with pictures: an HTTP status, a sentence, and when to try again."""

from speech2image.errors import Speech2ImageError


class RequestRejected(Speech2ImageError):
    """A request is refused.

    Args:
        status: HTTP status, from 400.
        detail: what came, what is allowed, what to do.
        retry_after: whole seconds after which the same request may succeed.
    """

    def __init__(self, status: int, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retry_after = status, detail, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that belong to the refusal."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
