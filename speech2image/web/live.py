"""Live streams: sound comes over a WebSocket, pictures of what was said so far go back while it comes.

    GET /v1/live (Upgrade: websocket)
    client: sound, in binary messages; {"type": "end"}
    server: ready, (listening | partial)*, final | error, each a JSON object in a text message

An update listens to the whole recording so far, the first one as soon as enough sound is there. A stream has
one update at work or none, and an update takes what is there when its turn comes: where the server is slower
than `INTERVAL`, updates are left out and counted, and no stream fails. `docs/serving.md` describes the
messages and the bounds.
"""

import asyncio
import io
import json
import logging
import math
import struct
import tempfile
import time
from contextlib import suppress
from enum import StrEnum
from functools import partial
from typing import IO, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, WebSocket
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocketDisconnect, WebSocketState

from speech2image.audio import SAMPLE_RATE, load_beginning
from speech2image.errors import SettingsError, SpeechError
from speech2image.pipeline.live import LiveTranslation
from speech2image.web import schemas
from speech2image.web.description import rejections
from speech2image.web.errors import CODES, RequestRejected
from speech2image.web.jobs import Deadline
from speech2image.web.login import Login
from speech2image.web.service import RenderRequest, Service
from speech2image.web.uploads import ClientDisconnected

PATH = "/v1/live"
INTERVAL = 0.5
"""Seconds from one update to the next."""
FIRST_INTERVAL = 0.1
"""The same until something was heard: each piece of sound may be the one with the first word."""
IDLE_SECONDS = 10.0
"""A stream ends that brings nothing, or takes nothing, for so long."""
MAX_MESSAGE = 2**20
"""Bytes of one message."""
RATES = (8_000, 48_000)
"""Samples a second of plain samples, from and to."""

_UNHEARD = {"too_short", "no_speech", "no_words", "empty", "unreadable"}
"""What may be said of the beginning of a recording that turns out well."""
_LATER = {CODES[429], CODES[503]}
"""What the same request may be spared when it comes again."""
_CLOSE = {401: 1008, 413: 1009, 429: 1013, 503: 1013, 500: 1011}
_HEADER = 44  # bytes of a wav file's
_log = logging.getLogger(__name__)


class Sound(StrEnum):
    """How the sound comes."""

    container = "container"
    s16le = "s16le"


class LiveRequest(BaseModel):
    """The query of a live stream."""

    model_config = ConfigDict(extra="forbid")

    n: int = Field(8, ge=1, description="Pictures of the final event.")
    seed: int = Field(0, ge=0, le=2**64 - 1, description="Where the noise comes from.")
    model: str | None = Field(None, description="A name of /v1/models.")
    route: str | None = Field(None, description="Way from speech to pictures.")
    audio: Sound = Field(
        Sound.container,
        description="container: WebM, Ogg or another file that can be read before it is whole, in pieces of "
        "any length. s16le: 16-bit samples of one channel, little end first.",
    )
    rate: int = Field(SAMPLE_RATE, ge=RATES[0], le=RATES[1], description="Samples a second, of s16le.")
    encoding: schemas.Encoding = schemas.Encoding.webp


class Ready(BaseModel):
    """The first event: what the stream will do."""

    type: Literal["ready"] = "ready"
    model: str
    route: str
    n: int
    seed: int
    interval: float = Field(description="Seconds between two updates where the server is not busy.")
    max_seconds: float
    max_bytes: int


class Listening(BaseModel):
    """An update without a picture: nothing was heard yet."""

    type: Literal["listening"] = "listening"
    heard_seconds: float = Field(description="Length of the recording so far.")
    code: str = Field(description="Why: too_short, no_speech, no_words, empty or unreadable.")


class Partial(BaseModel):
    """An update: one picture of what was said so far, under the noise of the final event's first one."""

    type: Literal["partial"] = "partial"
    number: int = Field(0, description="Counts the pictures of this stream, from 1.")
    dropped: int = Field(0, description="Updates left out so far because the server or the client was busy.")
    heard_seconds: float = Field(description="Length of the recording when the update began.")
    seconds: float = Field(0.0, description="Time from then to the picture.")
    transcript: str | None = None
    words: list[schemas.Word] | None = None
    domain: str | None = None
    confidence: float | None = None
    picture: schemas.Picture


class Final(schemas.Pictures):
    """The last event: what POST /v1/images draws of the whole recording."""

    type: Literal["final"] = "final"


class Failed(BaseModel):
    """The last event of a stream that fails; then the connection is closed."""

    type: Literal["error"] = "error"
    status: int = Field(description="The HTTP status that a POST would have got.")
    code: str = Field(description="As in a refusal of the HTTP interface.")
    detail: str = Field(description="What came, what is allowed, what to do.")
    retry_after: int | None = Field(default=None, description="Seconds after which the same may succeed.")


def make_live_router(service: Service, login: Login) -> APIRouter:
    """The WebSocket of one service, for whom `login` knows."""
    router = APIRouter()

    @router.websocket(PATH)
    async def live(socket: WebSocket) -> None:
        if not login.knows(socket):
            refusal = login.refusal()
            await JSONResponse(
                {"detail": refusal.detail, "code": refusal.code}, refusal.status, refusal.headers
            )(socket.scope, socket.receive, socket.send)
            return
        await socket.accept()
        with suppress(ClientDisconnected, WebSocketDisconnect):
            await _serve(socket, service)

    @router.get(
        PATH,
        operation_id="draw_live",
        tags=["pictures"],
        summary="A WebSocket: pictures while somebody speaks",
        status_code=426,
        responses=rejections(401, 426),
    )
    async def not_upgraded(request: Request) -> None:
        if not login.knows(request):
            raise login.refusal()
        raise RequestRejected(426, "this is a WebSocket: ask with Upgrade: websocket (docs/serving.md)")

    return router


async def _serve(socket: WebSocket, service: Service) -> None:
    """Serve one stream; whatever goes wrong is its last event."""
    client, entered, status = socket.client.host if socket.client else "unknown", False, 101
    try:
        asked = _parsed(socket, service)
        service.streams.enter(client, 1)
        entered = True
        with Recording(asked, service.settings.max_bytes, service.settings.max_seconds) as recording:
            await LiveStream(socket, service, asked, recording, client).run()
    except RequestRejected as error:
        status = error.status
        await _fail(socket, Failed(
            status=status, code=error.code, detail=error.detail, retry_after=error.retry_after
        ))  # fmt: skip
    except (SpeechError, SettingsError) as error:
        status = 422
        await _fail(socket, Failed(status=status, code=error.code, detail=str(error)))
    except (ClientDisconnected, WebSocketDisconnect):
        status = 499
    except Exception:
        status = 500
        _log.exception("a live stream failed")
        detail = "the server failed; its log says why"
        await _fail(socket, Failed(status=status, code="failed", detail=detail))
    finally:
        if entered:
            service.streams.leave(client)
        service.metrics.requests.labels(PATH, str(status)).inc()


def _parsed(socket: WebSocket, service: Service) -> LiveRequest:
    try:
        asked = LiveRequest.model_validate(dict(socket.query_params))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        given = str(first.get("input"))[:100]
        raise RequestRejected(422, f"{where}: {first['msg']}, got {given!r}") from error
    service.registry.find(asked.model, asked.route)
    service.check_pictures(asked.n)
    return asked


async def _fail(socket: WebSocket, event: Failed) -> None:
    """Say why, then close."""
    if socket.application_state is not WebSocketState.CONNECTED:
        return
    with suppress(ClientDisconnected, WebSocketDisconnect):
        await _send(socket, event)
        await socket.close(_CLOSE.get(event.status, 1008), event.code)


async def _send(socket: WebSocket, event: BaseModel) -> None:
    """Send one event.

    Raises:
        ClientDisconnected: the connection was cut, or the client takes nothing.
    """
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            await socket.send_text(event.model_dump_json(exclude_none=True))
    except (TimeoutError, WebSocketDisconnect, RuntimeError) as error:  # the last: after its end
        raise ClientDisconnected from error


class LiveStream:
    """One stream, from ready to final.

    Args:
        socket: of an accepted connection.
        service: whose models draw.
        asked: what to draw.
        recording: what comes.
        client: who asks.
    """

    def __init__(
        self, socket: WebSocket, service: Service, asked: LiveRequest, recording: "Recording", client: str
    ) -> None:
        self._socket, self._service, self._asked = socket, service, asked
        self._recording, self._client = recording, client
        self._name, route = service.registry.find(asked.model, asked.route)
        self._route = route
        self._live = LiveTranslation(route, asked.seed)
        self._number = self._dropped = 0
        self._came = asyncio.Event()  # sound that no update has taken yet
        self._came_at = 0.0

    async def run(self) -> None:
        """Serve the stream until its final event was sent.

        Raises:
            RequestRejected, SpeechError, SettingsError: why there is none.
            ClientDisconnected: the connection was cut.
        """
        settings, asked = self._service.settings, self._asked
        await self._say(Ready(
            model=self._route.name, route=self._name, n=asked.n, seed=asked.seed, interval=INTERVAL,
            max_seconds=settings.max_seconds, max_bytes=settings.max_bytes,
        ))  # fmt: skip
        receiving = asyncio.ensure_future(self._receive())
        updating = asyncio.ensure_future(self._update_on())
        try:
            await asyncio.wait({receiving, updating}, return_when=asyncio.FIRST_COMPLETED)
            for task in (receiving, updating):
                if task.done():
                    task.result()
        finally:
            await _ended(receiving, updating)
        await self._finish()

    async def _say(self, event: BaseModel) -> None:
        await _send(self._socket, event)

    # ---- what comes ----

    async def _receive(self) -> None:
        """Take sound until the client says that it ends."""
        settings = self._service.settings
        try:
            async with asyncio.timeout(settings.max_seconds + settings.body_seconds):
                while not self._recording.add(await self._message()):
                    if not self._came.is_set():
                        self._came_at = time.monotonic()
                        self._came.set()
        except TimeoutError as error:
            raise RequestRejected(
                408, f"no end came within {settings.max_seconds + settings.body_seconds:g} s"
            ) from error

    async def _message(self) -> bytes | str:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                message = await self._socket.receive()
        except TimeoutError as error:
            raise RequestRejected(
                408, f'no sound came for {IDLE_SECONDS:g} s; end a recording with {{"type": "end"}}'
            ) from error
        if message["type"] == "websocket.disconnect":
            raise ClientDisconnected
        content: bytes | None = message.get("bytes")
        return str(message.get("text")) if content is None else content

    # ---- updates ----

    async def _update_on(self) -> None:
        """Update as soon as it is time and there is more than the last time."""
        interval, due = FIRST_INTERVAL, math.inf
        while True:
            await self._came.wait()
            self._came.clear()
            start = time.monotonic()
            self._drop(int(max(0.0, start - max(due, self._came_at)) / interval))
            with suppress(RequestRejected):  # it took too long, so it is left out
                event = await self._update()
                interval = INTERVAL if isinstance(event, Partial) else interval
                await self._say(event)
            due = start + interval
            # A stream rests for at least half of the time, so that long recordings leave room for others.
            spent = time.monotonic() - start
            await asyncio.sleep(max(interval - spent, spent))

    def _drop(self, updates: int) -> None:
        self._dropped += updates
        self._service.metrics.updates.labels("dropped").inc(updates)

    async def _update(self) -> Listening | Partial:
        start = time.perf_counter()
        event = await self._service.updates.do(partial(self._draw, self._recording.content()), self._client)
        if isinstance(event, Partial):
            self._number += 1
            self._service.metrics.updates.labels("drawn").inc()
            seconds = round(time.perf_counter() - start, 4)
            event = event.model_copy(
                update={"number": self._number, "dropped": self._dropped, "seconds": seconds}
            )
        return event

    def _draw(self, content: bytes) -> Listening | Partial:
        """The update of a recording so far; in a thread."""
        heard_seconds = 0.0
        try:
            samples, rate = self._recording.samples(content, Deadline(self._service.settings.request_seconds))
            heard_seconds = round(len(samples) / rate, 3)
            self._recording.check_length(len(samples) / rate)
            found = self._live.update((samples, rate))
        except SpeechError as error:
            if error.code not in _UNHEARD:
                raise
            return Listening(heard_seconds=heard_seconds, code=error.code)
        picture = schemas.picture(found.images[0], self._asked.encoding)
        return Partial(heard_seconds=heard_seconds, picture=picture, **schemas.heard_of(found))

    # ---- the end ----

    async def _finish(self) -> None:
        """Draw the whole recording as POST /v1/images does."""
        drawing = asyncio.ensure_future(self._final())
        gone = asyncio.ensure_future(self._until_gone())
        try:
            await asyncio.wait({drawing, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not drawing.done():
                raise ClientDisconnected
            await self._say(drawing.result())
            await self._socket.close(1000)
        finally:
            await _ended(drawing, gone)

    async def _final(self) -> Final:
        """The final event. Where a POST would be told to try again later, the stream does so itself: many
        may end at the same time."""
        asked = self._asked
        wanted = RenderRequest(asked.n, asked.seed, asked.model, asked.route)
        last = time.monotonic() + self._service.settings.request_seconds
        while True:
            try:
                return await self._service.translate(
                    self._recording.whole(),
                    wanted,
                    self._client,
                    lambda result: Final(**schemas.pictures(result, asked.encoding).model_dump()),
                )
            except RequestRejected as refused:
                if refused.code not in _LATER or time.monotonic() > last:
                    raise
                await asyncio.sleep(refused.retry_after or 1)

    async def _until_gone(self) -> None:
        while (await self._socket.receive())["type"] != "websocket.disconnect":
            pass


async def _ended(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel what still runs, and take note of how all of them ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Recording:
    """A recording that grows: in memory up to 1 MB, then in a file without a name.

    Plain samples are kept as a wav file, so that the whole is what somebody would post.

    Args:
        asked: how the sound comes.
        max_bytes: the most there may be.
        max_seconds: the longest it may be.
    """

    def __init__(self, asked: LiveRequest, max_bytes: int, max_seconds: float) -> None:
        self._plain, self._rate = asked.audio is Sound.s16le, asked.rate
        self._max_bytes, self._max_seconds = max_bytes, max_seconds
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(2**20)  # noqa: SIM115 (closed by `__exit__`)
        self._start = _HEADER if self._plain else 0
        self._file.write(bytes(self._start))
        self.size = 0

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, message: bytes | str) -> bool:
        """Take a message; whether it was the end.

        Raises:
            RequestRejected: 413, too many bytes; 422, it is no message of a client.
            SpeechError: the recording is too long.
        """
        if isinstance(message, str):
            return _is_end(message)
        self.size += len(message)
        if self.size > self._max_bytes:
            raise RequestRejected(413, f"the recording is larger than {self._max_bytes} bytes; send less")
        if self._plain:
            self.check_length(self.size / 2 / self._rate)
        self._file.write(message)
        return False

    def check_length(self, seconds: float) -> None:
        """Refuse a recording of so many seconds if that is too long.

        Raises:
            SpeechError: it is.
        """
        if seconds > self._max_seconds:
            raise SpeechError(
                f"speech is too long: more than {self._max_seconds:g} s; end earlier", "too_long"
            )

    def content(self) -> bytes:
        """All bytes so far."""
        self._file.seek(self._start)
        content = self._file.read()  # and stands at the end again, where the next ones go
        return content

    def samples(self, content: bytes, deadline: Deadline) -> tuple[np.ndarray, int]:
        """Samples [n] and their rate of what `content` gave; may run in a thread of its own.

        Raises:
            SpeechError: it cannot be decoded (yet).
            RequestRejected: 503, that takes too long.
        """
        if self._plain:
            return np.frombuffer(content[: len(content) // 2 * 2], "<i2"), self._rate
        try:
            opened = deadline.watch(io.BytesIO(content))
            return load_beginning(opened, self._max_seconds), SAMPLE_RATE
        finally:
            deadline.check()

    def whole(self) -> IO[bytes]:
        """The recording as a file; nothing may be added any more."""
        if self._plain:
            self._file.seek(0)
            self._file.write(_wav_header(self.size // 2 * 2, self._rate))
        self._file.seek(0)
        return self._file


def _is_end(message: str) -> bool:
    try:
        if json.loads(message) == {"type": "end"}:
            return True
    except ValueError:
        pass
    raise RequestRejected(
        422, f'a text message must be {{"type": "end"}}, sound comes in binary messages; got {message[:40]!r}'
    )


def _wav_header(size: int, rate: int) -> bytes:
    """Of `size` bytes of 16-bit samples of one channel."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE") + form + struct.pack("<4sI", b"data", size)
