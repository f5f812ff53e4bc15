"""The `speech2image` command: picks a subcommand, imports only what it needs, reports errors in one line.

Each subcommand is a function in `commands/`, whose flags tyro makes from its signature. Only the chosen one
is imported and only its parser is built, which keeps `--help` and `translate` quick.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from speech2image import __version__
from speech2image.errors import SettingsError, Speech2ImageError

COMMANDS = {
    "translate": ("pictures", "turn recordings into pictures"),
    "say": ("pictures", "speak a sentence with an installed voice and turn it into pictures"),
    "interpolate": ("pictures", "a row of pictures from one recording to another"),
    "record": ("record", "speak into the microphone and turn it into pictures"),
    "serve": ("serve", "a web page to speak to, and an HTTP interface"),
    "models": ("pictures", "list the models that came with this installation"),
    "prepare": ("training", "turn a data set into shards"),
    "train": ("training", "train a network"),
    "evaluate": ("training", "measure a model on prepared data"),
    "fid": ("fid", "compare two folders of pictures: FID, KID, precision, recall"),
    "export": ("training", "make a model folder from trained networks"),
}
"""Subcommand -> (module in `commands/`, what it does)."""

_HELP = """\
usage: speech2image COMMAND [OPTIONS]

Say it and see it: turns a spoken description into pictures, without text in between.

commands:
{commands}

options:
  -h, --help   show this, or with a command its options
  --version    show the version
  --debug      on an error, show where it came from

example: speech2image translate clip.wav -n 8 -o flower.png
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; by default `sys.argv[1:]`.

    Returns:
        The exit status: 0 done; 1 the work failed; 2 wrong usage; 130 interrupted; 141 the reader went away.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        return status
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        return _report("interrupted", 130, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SettingsError as error:
        return _report(str(error), 2, debug)
    except Speech2ImageError as error:
        return _report(str(error), 1, debug)


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
    module = importlib.import_module(f"speech2image.commands.{COMMANDS[words[0]][0]}")
    module.run(words[0], words[1:])
    return 0


def _report(message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"speech2image: {' '.join(message.split())}", file=sys.stderr)
    return status
