"""The `speech2image` command: picks a subcommand, imports only what it needs, reports errors in one line.

Each subcommand is a function in `commands/`, whose flags tyro makes from its signature. Only the chosen one
is imported and only its parser is built, which keeps `--help` and `translate` quick.
"""

import importlib
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from speech2image import __version__
from speech2image.errors import OutputError, SettingsError, Speech2ImageError, printable

LONGEST = 1000
"""Characters of an error that are shown."""

COMMANDS = {
    "translate": ("pictures", "turn recordings into pictures"),
    "transcribe": ("transcribe", "write down what recordings say"),
    "say": ("pictures", "speak a sentence by an installed voice and turn it into pictures"),
    "interpolate": ("pictures", "a row of pictures from one recording to another"),
    "record": ("record", "speak into the microphone and turn it into pictures"),
    "serve": ("serve", "a web page to speak to, and an HTTP interface"),
    "push": ("push", "put a model at a hub (hf://user/name)"),
    "models": ("pictures", "list the models that came with this installation"),
    "download": ("download", "fetch published data sets, weights and voices"),
    "prepare": ("prepare", "turn a data set into shards"),
    "train": ("train", "train a network"),
    "evaluate": ("measure", "measure a model on prepared data"),
    "tables": ("tables", "train and measure the models of the paper's tables"),
    "fid": ("measure", "compare two folders of pictures: FID, KID, precision, recall"),
    "export": ("export", "make a model folder from trained networks"),
}
"""Subcommand -> (module in `commands/`, what it does)."""

_ONE_THREAD = {"translate", "transcribe", "say", "interpolate", "record", "serve"}
"""Commands whose sums in numpy are too small for threads."""

_HELP = """\
usage: speech2image COMMAND [OPTIONS]

Turns a spoken description into pictures, without text in between.

commands:
{commands}

options:
  -h, --help   show this, or with a command its options
  --version    show the version
  --debug      on an error, show where it came from

exit status: 0 done; 1 the work failed; 2 wrong usage;
130 interrupted (Ctrl-C, SIGTERM); 141 the reader of the output went away

example: speech2image translate clip.wav -n 8 -o flower.png
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; by default `sys.argv[1:]`.

    Returns:
        The exit status: 0 done; 1 the work failed; 2 wrong usage; 130 interrupted (Ctrl-C, SIGTERM); 141 the
        reader of the output went away.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        with _streams(), _plain_warnings(), _interrupted_by_sigterm():
            return _dispatch(words)
    except KeyboardInterrupt:
        return _report("interrupted", 130, debug)
    except BrokenPipeError:
        return 141
    except SettingsError as error:
        return _report(str(error), 2, debug)
    except Speech2ImageError as error:
        return _report(str(error), 1, debug)
    except OSError as error:  # a name too long for a path, no more processes ...
        reason = error.strerror or str(error)
        return _report(reason if error.filename is None else f"{error.filename}: {reason}", 1, debug)


@contextmanager
def _streams() -> Iterator[None]:
    """Make standard output and error take every character, and cope with closed and full ones.

    Raises:
        OutputError: standard output is closed, and the next file opened would take its number; or full.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)  # takes the number of standard input
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        raise OutputError("standard output is closed; send it somewhere, for instance to a file")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
    output = sys.stdout
    sys.stdout = cast(TextIO, _Output(output))
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        finally:
            sys.stdout = output


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show this package's warnings as its errors are; others' with the place they come from."""
    usual, own = warnings.formatwarning, os.path.dirname(__file__)

    def shown(message: Any, category: Any, filename: str, lineno: int, line: str | None = None) -> str:
        if filename.startswith(own):
            return f"speech2image: warning: {printable(str(message))}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = shown
    try:
        yield
    finally:
        warnings.formatwarning = usual


class _Output:
    """Standard output whose errors name it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._named_errors():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._named_errors():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # the rest goes nowhere, lest Python fail on it at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if isinstance(error, BrokenPipeError):
                raise
            reason = error.strerror or error
            raise OutputError(f"cannot write to standard output: {reason}") from error


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, so that unfinished files and worker processes go."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        rows = (f"  {name:12} {text}" for name, (_, text) in COMMANDS.items())
        print(_HELP.format(commands="\n".join(rows)), end="")
        return 0 if words else 2
    if words[0] == "--version":
        print(f"speech2image {__version__}")
        return 0
    if words[0] not in COMMANDS:
        raise SettingsError(f"unknown command '{words[0]}'; there are: {', '.join(COMMANDS)}")
    if words[0] in _ONE_THREAD:
        _keep_numpy_to_one_thread()
    from speech2image.commands.old_names import renamed

    module = importlib.import_module(f"speech2image.commands.{COMMANDS[words[0]][0]}")
    try:
        module.run(words[0], renamed(words[1:]))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _keep_numpy_to_one_thread() -> None:
    """Tell numpy's OpenBLAS, which reads this when it is loaded, to start no threads, unless the user chose.

    After each product its threads spin for tens of milliseconds: more than all else that hearing costs.
    """
    chosen = {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"} & os.environ.keys()
    if not chosen and "numpy" not in sys.modules:
        os.environ["OPENBLAS_NUM_THREADS"] = "1"


def _report(message: str, status: int, debug: bool) -> int:
    """Print an error as one line; there may be nowhere to."""
    line = printable(" ".join(message.split()))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    with suppress(OSError):
        if debug:
            traceback.print_exc()
        print(f"speech2image: {line}", file=sys.stderr, flush=True)
    return status
