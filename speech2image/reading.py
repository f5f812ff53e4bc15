"""Bounded reading of files that strangers made: regular files of a stated size at most, and plain JSON."""

import errno
import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST_NUMBER = 20
"""Digits of a whole number in JSON, its sign included; an int64 has no more."""


def read_file(path: Path, most: int) -> bytes:
    """The content of a regular file.

    A pipe would block for ever and a device never end, so neither is read.

    Args:
        path: the file; a link is followed.
        most: bytes it may hold.

    Raises:
        OSError: it is missing, unreadable, no regular file, or larger than `most`.
    """
    try:
        status = path.stat()
    except ValueError as error:  # a NUL or a lone surrogate in the name
        raise OSError(errno.EINVAL, "no file can have this name") from error
    _check_file(status, most)
    # The file may have been exchanged for a pipe since: without O_NONBLOCK the opening would block.
    with open(
        os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb"
    ) as file:
        status = os.fstat(file.fileno())
        _check_file(status, most)
        return file.read(status.st_size)  # room is made for as much as is asked for


def _check_file(status: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    if status.st_size > most:
        raise OSError(errno.EFBIG, f"it holds {status.st_size:,} bytes, at most {most:,} are allowed")


def parse_json(content: bytes) -> Any:
    """What a JSON text holds.

    Raises:
        ValueError: it is not JSON in UTF-8, nested too deeply, or holds a number or a character that cannot
            be written again: NaN, infinity, a whole number beyond an int64's digits, half of a character.
    """
    try:
        text = content.decode("utf-8")
        value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(digits)} digits, at most {_LONGEST_NUMBER} are allowed")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]} is no finite number")
    return number


def is_one_line(text: str) -> bool:
    """Whether text is one line, of any script, without what steers a terminal or turns writing round."""
    return _CONTROL.search(text) is None


def is_plain_name(name: Any) -> bool:
    """Whether this names a file or folder inside another and nothing further away, on any system."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and not set(name) & set("/\\:")
        and is_one_line(name)
        and len(name.encode()) <= 255
    )
