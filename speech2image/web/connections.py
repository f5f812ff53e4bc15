"""HTTP connections: bounded in number, and ended when idle, half a request comes, or no answer is read."""

import asyncio
from collections.abc import Container
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-type: application/json\r\ncontent-length: 61\r\n\r\n"
    b'{"detail": "too many connections are open; try again in 1 s"}'
)


class Connection(H11Protocol):
    """uvicorn's HTTP connection with bounds; `bounded` sets them.

    uvicorn waits for ever for the rest of a request's head, and for a client to take its answer.
    """

    most, per_client = 512, 256
    trusted: Container[str] = ()
    head_seconds = 10.0
    read_bytes = 10_000

    _waiting: asyncio.TimerHandle | None = None
    _deaf: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Take the connection, or answer 503 when there are too many."""
        super().connection_made(transport)
        if self._is_one_too_many():
            transport.write(_BUSY)
            transport.close()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        for timer in (self._waiting, self._deaf):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """The client does not read as fast as is written: look after it."""
        super().pause_writing()
        self._look_after(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        if self._deaf is not None:
            self._deaf.cancel()
            self._deaf = None

    def _is_one_too_many(self) -> bool:
        if len(self.connections) > self.most:
            return True
        own = self.client[0] if self.client else ""
        clients = [getattr(other, "client", None) for other in self.connections]
        same = sum(client is not None and client[0] == own for client in clients)
        return same > self.per_client and own not in self.trusted

    def _watch(self) -> None:
        """Bound the time without a request that is worked on: however many bytes come, a whole head must."""
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        elif not busy and self._waiting is None:
            self._waiting = self.loop.call_later(self.head_seconds, self._end)

    def _end(self) -> None:
        self._waiting = None
        if self._deaf is None:  # else it still reads an answer, and is looked after
            self.transport.abort()
        else:
            self._watch()

    def _look_after(self, left: int) -> None:
        self._deaf = self.loop.call_later(self.head_seconds, self._check_reader, left)

    def _check_reader(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left > before - self.read_bytes:
            self.transport.abort()
        else:
            self._look_after(left)


def bounded(most: int, trusted: Container[str]) -> type[Connection]:
    """A class of connections of which at most `most` are open, half of them of one address.

    Args:
        most: connections.
        trusted: addresses of proxies, which bring the connections of others.
    """
    values = {"most": most, "per_client": max(1, most // 2), "trusted": trusted}
    return type("BoundedConnection", (Connection,), values)
