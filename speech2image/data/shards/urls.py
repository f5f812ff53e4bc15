"""Shards by address: files, http(s), s3 and whatever else fsspec opens, and the output of a command.

stream/training-000000.tar                       a file
https://host/flowers/training-{000000..000099}.tar   a hundred shards
s3://bucket/flowers/training-000000.tar          needs the package s3fs (extra `stream`)
pipe:ssh host cat flowers/training-000000.tar    what a command writes; a shell runs it
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

from speech2image.errors import DataError, MissingExtraError, SettingsError, require

Result = TypeVar("Result")

PIPE = "pipe:"
PAUSES = (1.0, 5.0, 25.0)
"""Seconds before each further attempt to read a shard from elsewhere: connections break."""


class _NotThere(DataError):
    """Nothing that another attempt could change."""


def is_address(name: str) -> bool:
    """Whether a name is a shard's address or a pattern of some, and no folder of this machine."""
    return "://" in name or name.startswith(PIPE) or name.endswith(".tar")


def expand(name: str) -> list[str]:
    """The addresses that a name with {000000..000099} or {a,b} stands for.

    Raises:
        SettingsError: the braces do not match.
    """
    try:
        return list(require("webdataset.shardlists", "train").expand_urls(name))
    except ValueError as error:
        raise SettingsError(
            f"{name!r} has braces that do not match ({error}); write {{0..9}} or {{a,b}}"
        ) from error


def is_remote(url: str) -> bool:
    """Whether reading may fail for a while, so that another attempt is worth it."""
    return url.startswith(PIPE) or urlsplit(url).scheme not in ("", "file", "memory")


@contextmanager
def opened(url: str) -> Iterator[BinaryIO]:
    """A shard to read from its beginning to its end.

    Raises:
        DataError: there is none.
        MissingExtraError: a package for such addresses is missing.
        OSError: it cannot be read, now.
    """
    if url.startswith(PIPE):
        with require("webdataset.gopen", "train").gopen(url) as file:
            file.ignore_status.append(-signal.SIGPIPE)  # its header may be all that is read
            yield cast(BinaryIO, file)
        return
    fsspec = require("fsspec", "train")
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingExtraError(
            f"{url} needs a package that is not installed ({error}); install it with: "
            "pip install 'speech2image[stream]'"
        ) from error
    except ValueError as error:
        raise _NotThere(f"{url} is no address that can be opened: {error}") from error
    # HTTP as one response: by blocks, the short look at a header would fetch megabytes.
    options = {"block_size": 0} if urlsplit(url).scheme in ("http", "https") else {}
    try:
        file = system.open(path, "rb", **options)
    except FileNotFoundError as error:
        raise _NotThere(
            f"there is no shard {url}; check the address, or the numbers in its braces"
        ) from error
    with file:
        yield file


def persistently(url: str, read: Callable[[], Result]) -> Result:
    """What `read` returns; it is called again, after a pause, where reading `url` failed.

    Raises:
        DataError: the shard is not there, or was damaged or cut short at the last attempt, too.
        MissingExtraError: a package is missing.
    """
    pauses = list(PAUSES) if is_remote(url) else []
    while True:
        try:
            return read()
        except (MissingExtraError, _NotThere):
            raise
        except Exception as error:  # what clients of networks raise has no common type
            if not pauses:
                if isinstance(error, DataError):
                    raise
                raise DataError(f"cannot read {url}: {error or type(error).__name__}") from error
        time.sleep(pauses.pop(0))
