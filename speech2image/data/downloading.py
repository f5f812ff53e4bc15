"""Downloading: a file by HTTP, in pieces if it breaks off, whole and checked or not at all."""

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from speech2image.data.listings import parse_json
from speech2image.errors import DataError, OutputError, Speech2ImageError
from speech2image.files import check_writable

PAUSES = (1.0, 5.0, 25.0, 60.0)
"""Seconds before each further attempt after a connection broke."""
_BLOCK = 1 << 20
_SECONDS = 60.0


def fetch(url: str, path: Path, checksum: str = "", advance: Callable[[int], None] = lambda n: None) -> str:
    """Download a file; what came of it before stays in `<path>.part`, from which another call goes on.

    Args:
        url: address, http or https.
        path: where it goes.
        checksum: "md5:...", "sha1:..." or "sha256:..."; perhaps its first digits alone; "" for none.
        advance: told how many bytes came, negative where some are thrown away.

    Returns:
        The checksum of the file, of the kind asked for (sha256 where none is).

    Raises:
        Speech2ImageError: the server cannot be reached, or does not have it.
        DataError: what came is not what was published; it is deleted.
        OutputError: the folder cannot be written.
    """
    check_writable(path)
    kind, _, wanted = (checksum or "sha256:").partition(":")
    if not path.exists():
        part = path.with_name(path.name + ".part")
        _complete(url, part, advance)
        found = _digest(part, kind)
        if not found.startswith(wanted):
            _forget(part)
            raise DataError(
                f"{url} is not what was published, or came damaged: its {kind} is {found}, not {wanted}; it "
                "was deleted, start again"
            )
        try:
            os.replace(part, path)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        _forget(part)
        return found
    found = _digest(path, kind)
    if not found.startswith(wanted):
        raise DataError(
            f"{path} is there, but its {kind} is {found}, not {wanted}; delete it and start again"
        )
    return found


def _complete(url: str, part: Path, advance: Callable[[int], None]) -> None:
    """Fetch what is missing of a file, with further attempts where the connection breaks."""
    pauses = list(PAUSES)
    while True:
        before = _size(part)
        try:
            return _fetch_rest(url, part, advance)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise Speech2ImageError(
                    f"the server does not give {url}: {error.code} {error.reason}; look for the file at its "
                    "publisher's, and put it in place yourself"
                ) from error
            reason: object = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise OutputError(f"cannot write {part}: {error.strerror or error}") from error
            reason = getattr(error, "reason", None) or error or type(error).__name__
        if _size(part) > before:
            pauses = list(PAUSES)  # it does go on
        if not pauses:
            raise Speech2ImageError(
                f"cannot fetch {url} ({reason}); {_size(part) / 1e6:,.1f} MB are kept, and the same command "
                "goes on from there"
            )
        time.sleep(pauses.pop(0))


def _fetch_rest(url: str, part: Path, advance: Callable[[int], None]) -> None:
    """One request for the bytes that are missing.

    Raises:
        OSError, http.client.HTTPException: it failed, or broke off.
    """
    noted, have = _noted(part), _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "speech2image"})
    if have and noted.get("url") == url and noted.get("version"):
        # Only the rest, and only if the file is still the same one.
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", noted["version"])
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        goes_on = answer.status == 206
        length = answer.headers.get("Content-Length")
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if not goes_on:
            advance(-have)
            have = 0
            _note(part, {"url": url, "version": "" if version.startswith("W/") else version})
        with open(part, "ab" if goes_on else "wb") as file:
            came = 0
            while block := answer.read(_BLOCK):
                file.write(block)
                came += len(block)
                advance(len(block))
    if length is not None and came < int(length):
        raise http.client.IncompleteRead(b"", int(length) - came)


def _note(part: Path, what: dict[str, Any]) -> None:
    _note_path(part).write_text(json.dumps(what), encoding="utf-8")


def _noted(part: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = parse_json(_note_path(part).read_bytes(), part.name)
        return found if isinstance(found, dict) else {}
    return {}


def _note_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest(path: Path, kind: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
