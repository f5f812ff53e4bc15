"""Time limit of the work on one request, looked at wherever that work can stop."""

import time
from typing import Any

from speech2image.web.refusals import Refused


class Deadline:
    """From now on, so many seconds.

    The desk answers a request that takes longer, but cannot stop its thread; this makes the thread stop by
    itself between two steps, and between two reads of a recording.

    Args:
        seconds: of the whole work.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._end = seconds, time.monotonic() + seconds

    def check(self) -> None:
        """Stop when the time is over.

        Raises:
            Refused: 503.
        """
        if time.monotonic() > self._end:
            raise too_long(self._seconds)

    def watch(self, recording: Any) -> Any:
        """A recording whose reads stop when the time is over; what is no open file is given back as it is."""
        return _Watched(recording, self) if hasattr(recording, "read") else recording


class _Watched:
    """An open file that looks at a deadline whenever it is read."""

    def __init__(self, file: Any, deadline: Deadline) -> None:
        self._file, self._deadline = file, deadline

    def read(self, size: int = -1) -> bytes:
        self._deadline.check()
        content: bytes = self._file.read(size)
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def too_long(seconds: float, wait: int = 1) -> Refused:
    """The refusal of a request whose work took too long."""
    return Refused(
        503,
        f"the request took longer than {seconds:g} s and was given up; send a shorter recording or ask for "
        "fewer pictures, or try again when the server is less busy",
        wait,
    )
