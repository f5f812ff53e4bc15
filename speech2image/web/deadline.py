"""Time limit of the work on one request, looked at wherever that work can stop."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from speech2image.web.errors import RequestRejected

Result = TypeVar("Result")


class Deadline:
    """From now on, so many seconds.

    The queue answers a request that takes longer, but cannot stop its thread; this makes the thread stop by
    itself between two steps, and between two reads of a recording.

    Args:
        seconds: of the whole work.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._end = seconds, time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self._end

    def check(self) -> None:
        """Stop when the time is over.

        Raises:
            RequestRejected: 503.
        """
        if self.is_over:
            raise timed_out(self._seconds)

    def watch(self, recording: Any) -> Any:
        """A recording that seems to end when the time is over; what is no open file stays as it is."""
        return _Watched(recording, self) if hasattr(recording, "read") else recording


class _Watched:
    """An open file that seems to end when the time is over, or when its request has ended and closed it.

    It raises nothing: FFmpeg calls it, drops exceptions and prints their tracebacks.
    """

    def __init__(self, file: Any, deadline: Deadline) -> None:
        self._file, self._deadline = file, deadline

    def read(self, size: int = -1) -> bytes:
        return self._unless_over(lambda: self._file.read(size), b"")

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._unless_over(lambda: self._file.seek(offset, whence), 0)

    def tell(self) -> int:
        return self._unless_over(self._file.tell, 0)

    def seekable(self) -> bool:
        return True

    def _unless_over(self, act: Callable[[], Result], otherwise: Result) -> Result:
        if self._deadline.is_over or self._file.closed:
            return otherwise
        try:
            return act()
        except ValueError:
            if self._file.closed:  # since it was looked at
                return otherwise
            raise


def timed_out(seconds: float, wait: int = 1) -> RequestRejected:
    """The refusal of a request whose work took too long."""
    return RequestRejected(
        503,
        f"the request took longer than {seconds:g} s and was given up; send a shorter recording or ask for "
        "fewer pictures, or try again when the server is less busy",
        wait,
    )
