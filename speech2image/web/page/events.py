"""Events: lines of JSON that an answer sends while its work goes on, so that the page shows each step."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from speech2image.errors import Speech2ImageError
from speech2image.web.errors import RequestRejected
from speech2image.web.uploads import ClientDisconnected, cancel_on_disconnect

CONTENT_TYPE = "application/x-ndjson"


class EventStream:
    """What a job's thread tells, in the order told, until its answer ends.

    Made in the event loop's thread; `tell` is for any thread.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._is_closed = False

    def tell(self, event: str, **fields: Any) -> None:
        """Send an event; each becomes one line.

        Raises:
            ClientDisconnected: nobody reads any more, so the work may end.
        """
        if self._is_closed:
            raise ClientDisconnected
        line = json.dumps({"event": event} | fields).encode() + b"\n"
        self._loop.call_soon_threadsafe(self._lines.put_nowait, line)

    async def answer(self, request: Request, work: Awaitable[None]) -> StreamingResponse:
        """The answer that sends what `work` tells; the request's body must have been received.

        Raises:
            ClientDisconnected: the connection was cut before the first event.
            Speech2ImageError: `work` failed before the first event. If it fails later, the last event is
                "problem", with `code` and `detail`.
        """
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self._lines.put_nowait(None))
        try:
            first = await cancel_on_disconnect(request, self._lines.get())
            if first is None:
                await task
        except BaseException:
            self._close(task)
            raise
        return StreamingResponse(self._sent(first, task), media_type=CONTENT_TYPE)

    async def _sent(self, line: bytes | None, task: "asyncio.Future[None]") -> AsyncIterator[bytes]:
        try:
            while line is not None:
                yield line
                line = await self._lines.get()
            error = task.exception()
            if isinstance(error, Speech2ImageError):
                wait = error.retry_after if isinstance(error, RequestRejected) else None
                problem = {"code": error.code, "detail": str(error), "retry_after": wait}
                yield json.dumps({"event": "problem"} | problem).encode() + b"\n"
            elif error is not None:
                raise error
        finally:
            self._close(task)

    def _close(self, task: "asyncio.Future[None]") -> None:
        self._is_closed = True
        task.cancel()
