"""Errors that this package raises on purpose, and how their messages show names that others chose.

Each message says what came, what is allowed and what to do. All are `Speech2ImageError`, so that a caller
can catch one type; those about a value are also `ValueError`, the one about a missing package `ImportError`.
"""

import importlib
from types import ModuleType


class Speech2ImageError(Exception):
    """Root of this package's errors; the command line prints it as one line.

    Attributes:
        code: what happened in one word, for programs: the sentence may be worded anew, the code stays.
    """

    code: str = "failed"


class SpeechError(Speech2ImageError, ValueError):
    """A recording cannot be used: absent, damaged, without sound, too short, too long, silent.

    Args:
        message: what came, what is allowed, what to do.
        code: "unreadable" (no recording, damaged, cut off), "empty", "too_short", "too_long", "no_speech"
            (silence, noise, music) or "no_words" (speech of which no word is known).
    """

    def __init__(self, message: str, code: str = "unreadable") -> None:
        super().__init__(message)
        self.code = code


class DataError(Speech2ImageError, ValueError):
    """A data set, manifest, picture or shard cannot be used."""


class CheckpointError(Speech2ImageError, ValueError):
    """A model or checkpoint is unknown, damaged, or made by something else."""

    code = "model"


class OutputError(Speech2ImageError, ValueError):
    """A result cannot be written where it was asked for."""


class SettingsError(Speech2ImageError, ValueError):
    """A setting or argument is outside its range."""

    code = "setting"


class MissingExtraError(Speech2ImageError, ImportError):
    """A package of an optional extra is not installed; the message holds the pip command."""

    code = "not_installed"


def printable(text: str) -> str:
    r"""`text` as a terminal may have it: control codes, line ends and such as \x1b, \n, \u202e.

    File names, captions and model cards come from others, and a terminal obeys what stands in them.

    >>> print(printable("red\x1b[31m\u202e.wav"))
    red\x1b[31m\u202e.wav
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, which belongs to the optional `extra`.

    Raises:
        MissingExtraError: the module is not installed; the message holds the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        # A module of ours may fail because a package it needs is absent: name that package.
        missing = (error.name or module).split(".")[0]
        raise MissingExtraError(
            f"this needs the package '{missing}', which is not installed; "
            f"install it with: pip install 'speech2image[{extra}]'"
        ) from error
