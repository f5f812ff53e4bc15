"""Receives what a request brings: recordings, as multipart files or one as the whole body; or JSON.

Size and time of the body are bounded before it gets here (`middleware.py`). Beyond 1 MB it lies on disk, not
in memory: in files without a name, which are gone when they are closed or the process ends.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import IO, Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from speech2image.web.errors import RequestRejected

Result = TypeVar("Result")
Schema = TypeVar("Schema", bound=BaseModel)
MAX_JSON = 20_000
"""Bytes of a body in JSON; of the longest sentence twice, with each character escaped."""
_IN_MEMORY = 1_000_000


class ClientDisconnected(Exception):
    """The client cut the connection, so nobody waits for the answer."""


async def receive(request: Request, names: tuple[str, ...]) -> dict[str, IO[bytes]]:
    """The recordings of a request by name; close them (`closing`).

    Args:
        request: multipart with a file for each of `names`; if there is one name, also the recording itself.
        names: of the recordings.

    Raises:
        RequestRejected: 400, no multipart; 422, a recording is missing or something else is there.
    """
    if media_type(request) == "multipart/form-data":
        return _files(await _form(request, len(names)), names)
    if len(names) > 1:
        raise RequestRejected(422, f"send multipart/form-data with the files {', '.join(names)}")
    return {names[0]: await _whole(request)}


async def receive_form(request: Request) -> tuple[IO[bytes], list[tuple[str, str]]]:
    """The recording of a request and the settings beside it; close the recording.

    Args:
        request: multipart with the file `file` (or `audio`) and fields, or the recording itself.

    Raises:
        RequestRejected: 400, no multipart; 422, there is no recording, or more than one.
    """
    if media_type(request) != "multipart/form-data":
        return await _whole(request), []
    items: list[tuple[str, Any]] = (await _form(request, 1)).multi_items()
    files = [(name, item.file) for name, item in items if isinstance(item, UploadFile)]
    if [name for name, _ in files] not in (["file"], ["audio"]):
        for _, file in files:
            file.close()
        raise RequestRejected(422, "multipart needs one recording, as the file 'file'")
    return files[0][1], [(name, item) for name, item in items if not isinstance(item, UploadFile)]


def media_type(request: Request) -> str:
    """What a request says that its body is, without parameters; "" if it does not."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def receive_json(request: Request, schema: type[Schema]) -> Schema:
    """The body of a request as JSON.

    Args:
        request: whose body it is.
        schema: what must be in it.

    Raises:
        RequestRejected: 400, no JSON; 413, more than `MAX_JSON` bytes; 422, it does not fit the schema.
    """
    content = bytearray()
    async for block in request.stream():
        content += block
        if len(content) > MAX_JSON:
            raise RequestRejected(413, f"the JSON is larger than {MAX_JSON} bytes; send a shorter text")
    try:
        return schema.model_validate_json(bytes(content))
    except ValidationError as error:
        raise refusal_of(error) from error


def refusal_of(error: ValidationError) -> RequestRejected:
    """How to refuse what does not fit a schema: 400, no JSON; 422, the rest, of which the first is told."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return RequestRejected(400, f"the body is no JSON: {first['msg']}")
    where = ".".join(str(part) for part in first["loc"])[:40] or "the body"
    given = f", got {first['input']!r:.100}" if first["type"] != "missing" else ""
    return RequestRejected(422, f"{where}: {first['msg']}{given}")


@contextmanager
def closing(files: dict[str, IO[bytes]]) -> Iterator[dict[str, IO[bytes]]]:
    """Close the files at the end, whatever happens."""
    try:
        yield files
    finally:
        for file in files.values():
            file.close()


async def cancel_on_disconnect(request: Request, work: Awaitable[Result]) -> Result:
    """Await `work`, but cancel it when the client cuts the connection; the body must have been received.

    Raises:
        ClientDisconnected: the connection was cut.
    """
    task, cut = asyncio.ensure_future(work), asyncio.ensure_future(_cut(request))
    try:
        await asyncio.wait({task, cut}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnected
        return task.result()
    finally:
        task.cancel()
        cut.cancel()


async def _cut(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _whole(request: Request) -> IO[bytes]:
    file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (the caller closes it)
    try:
        async for block in request.stream():
            file.write(block)
    except BaseException:
        file.close()
        raise
    if not file.tell():
        file.close()
        raise RequestRejected(
            422, "the request has no body; send a recording as the body or as the file 'audio'"
        )
    file.seek(0)
    return file


async def _form(request: Request, count: int) -> FormData:
    try:
        return await request.form(max_files=count, max_fields=16)
    except HTTPException as error:
        raise RequestRejected(400, f"the multipart body cannot be read: {error.detail}") from error


def _files(form: FormData, names: tuple[str, ...]) -> dict[str, IO[bytes]]:
    items: list[tuple[str, Any]] = form.multi_items()
    if names == ("audio",):  # other interfaces call it so
        items = [("audio" if name == "file" else name, item) for name, item in items]
    found: dict[str, IO[bytes]] = {name: item.file for name, item in items if isinstance(item, UploadFile)}
    extra = sorted({name for name, item in items if name not in names or not isinstance(item, UploadFile)})
    missing = [name for name in names if name not in found]
    if missing or extra or len(items) != len(names):
        for file in found.values():
            file.close()
        problem = f"the file {missing[0]!r} is missing" if missing else f"found also {', '.join(extra)}"
        raise RequestRejected(
            422, f"multipart needs just the files {', '.join(names)}: {problem}; settings go into the query"
        )
    return found
