"""Connections that are rude: silent, slow, half-sent, deaf, too many. Each ends; honest ones are served."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn

from speech2image.web.server import bounded

LARGE = 30_000_000
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def application(scope: dict, receive: Callable, send: Callable) -> None:
    """Answers at once, the body unread; /large with much."""
    body = bytes(LARGE) if scope["path"] == "/large" else b"ok"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def serving(
    most: int = 100, trusted: tuple[str, ...] = (), **bounds: Any
) -> AsyncIterator[uvicorn.Server]:
    kind = type("Short", (bounded(most, trusted),), {"head_seconds": 0.3} | bounds)
    config = uvicorn.Config(application, port=0, http=kind, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    running = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server
    server.should_exit = True
    await running


async def connect(server: uvicorn.Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*server.servers[0].sockets[0].getsockname()[:2])


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server ends the connection."""
    content = b""
    with contextlib.suppress(ConnectionError):
        while block := await reader.read(2**20):
            content += block
    return content


async def trickle(writer: asyncio.StreamWriter, byte: bytes) -> None:
    """A byte now and then, for as long as the server takes it."""
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(byte)
            await writer.drain()
            await asyncio.sleep(0.02)


async def is_ended_while(server: uvicorn.Server, first: bytes, byte: bytes) -> bytes:
    reader, writer = await connect(server)
    writer.write(first)
    sender = asyncio.ensure_future(trickle(writer, byte))
    answer = await ended(reader)
    sender.cancel()
    writer.close()
    return answer


def run(scenario: Callable[[], Any]) -> None:
    asyncio.run(scenario())


def test_silence_and_half_a_head_end() -> None:
    async def scenario() -> None:
        async with serving() as server:
            for sent in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"):
                reader, writer = await connect(server)
                writer.write(sent)
                assert await ended(reader) == b""
                writer.close()

    run(scenario)


def test_a_head_that_comes_byte_by_byte_ends() -> None:
    """On a fresh connection, and after a first request."""

    async def scenario() -> None:
        async with serving() as server:
            assert await is_ended_while(server, b"GET / HTTP/1.1\r\nX: ", b"x") == b""
            assert (await is_ended_while(server, GET + b"GET / HTTP/1.1\r\nX: ", b"x")).startswith(
                b"HTTP/1.1 200"
            )

    run(scenario)


def test_a_body_that_nobody_reads_ends() -> None:
    async def scenario() -> None:
        async with serving() as server:
            head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
            assert (await is_ended_while(server, head, b"x")).startswith(b"HTTP/1.1 200")

    run(scenario)


def test_who_does_not_read_the_answer_is_cut_off() -> None:
    """And what was to be sent is not kept."""

    async def scenario() -> None:
        async with serving() as server:
            _, writer = await connect(server)
            writer.transport.pause_reading()
            writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            while not server.server_state.total_requests:
                await asyncio.sleep(0.01)
            while server.server_state.connections:
                await asyncio.sleep(0.01)
            writer.close()

    run(scenario)


def test_who_reads_slowly_gets_all() -> None:
    """Longer than the bound, and without a pause as long as the bound."""

    async def scenario() -> None:
        async with serving(read_bytes=1, head_seconds=1.0) as server:
            reader, writer = await connect(server)
            writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            content = await reader.readuntil(b"\r\n\r\n")
            left = LARGE
            while left:
                left -= len(await reader.readexactly(min(left, 1_000_000)))
                await asyncio.sleep(0.05)
            assert content.startswith(b"HTTP/1.1 200")
            writer.close()

    run(scenario)


def test_connections_are_bounded_in_all_and_of_one_address() -> None:
    """Half of all for one address, unless it is that of a trusted proxy."""

    async def scenario() -> None:
        for trusted, places in (((), 3), (("127.0.0.1",), 6)):
            async with serving(most=6, trusted=trusted, head_seconds=60) as server:
                taken = [await connect(server) for _ in range(places)]
                reader, writer = await connect(server)
                assert (await ended(reader)).startswith(b"HTTP/1.1 503 ")
                writer.close()
                for _, other in taken:
                    other.close()
                while server.server_state.connections:
                    await asyncio.sleep(0.01)
                reader, writer = await connect(server)
                writer.write(GET)
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
                writer.close()

    run(scenario)


def test_requests_one_after_another_go_on() -> None:
    """A connection lives as long as requests come, and pipelined ones are all answered."""

    async def scenario() -> None:
        async with serving(head_seconds=60) as server:
            reader, writer = await connect(server)
            for count in (1, 3, 1):
                writer.write(GET * count)
                for _ in range(count):
                    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                    assert await reader.readexactly(2) == b"ok"
                await asyncio.sleep(0.1)
            writer.close()

    run(scenario)
