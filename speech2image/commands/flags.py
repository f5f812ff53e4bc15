"""Flags made from settings and functions, and what the commands that train open."""

import argparse
import contextlib
import dataclasses
import io
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from speech2image.errors import DataError, MissingExtraError, SettingsError, Speech2ImageError, require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIG = (tyro.conf.AvoidSubcommands,)
NO_PAIRS = (tyro.conf.FlagCreatePairsOff,)
"""For commands without --no-FLAG beside each --FLAG."""


@dataclass(frozen=True)
class TrainingFiles:
    """Where a training reads and writes.

    Attributes:
        data: shards folder that prepare wrote; several are trained on as one.
        out: folder of the run: checkpoint, log, sample sheets; a run in it goes on.
        preset: which settings are the defaults of the flags below.
    """

    data: tuple[str, ...]
    out: Path
    preset: str = "cpu"


@dataclass(frozen=True)
class GanFiles(TrainingFiles):
    """Where a training reads and writes.

    Attributes:
        data: shards folder that prepare wrote; several are trained on as one.
        out: folder of the run: checkpoint, log, sample sheets; a run in it goes on.
        preset: which settings are the defaults of the flags below.
        conditions: what pictures are drawn from: embeddings of speech, features of the classifier route's
            encoder, or embeddings of captions (text).
    """

    conditions: Literal["speech", "classifier", "text"] = "speech"


def parse_job(module: ModuleType, files: type[Any], prog: str, arguments: list[str]) -> tuple[Any, Any]:
    """Flags for the files and, without a prefix, for every field of the preset's settings."""
    preset = _preset(arguments, files.preset)
    if preset not in module.PRESETS:
        raise SettingsError(f"unknown preset '{preset}' of {prog}; there are: {', '.join(module.PRESETS)}")
    settings, unprefixed = module.PRESETS[preset], tyro.conf.arg(name="")
    job = dataclasses.make_dataclass(
        "Job",
        [
            ("files", Annotated[files, unprefixed]),
            ("settings", Annotated[type(settings), unprefixed], settings),
        ],
        frozen=True,
    )
    required = [field.name for field in dataclasses.fields(files) if _is_required(field)]
    example = f"Example: speech2image {prog} " + " ".join(f"--{name} {name.upper()}" for name in required)
    job.__doc__ = f"{module.__doc__}\n\n{example}"
    parsed = parse(job, prog, arguments)
    return parsed.files, parsed.settings


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    no_factory = field.default_factory is dataclasses.MISSING
    return field.default is tyro.MISSING or (field.default is dataclasses.MISSING and no_factory)


def _preset(arguments: list[str], default: str) -> str:
    """The preset asked for, which decides the defaults of the flags that tyro reads afterwards."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", nargs="?", default=default)
    return parser.parse_known_args(arguments)[0].preset or default


def parse(kind: Any, prog: str, arguments: list[str], *, config: tuple[Any, ...] = CONFIG) -> Any:
    """Flags made from a dataclass or function, called with them; its docstring is the help."""
    shown = io.TextIOWrapper(io.BytesIO(), sys.stdout.encoding or "utf-8", errors="backslashreplace")
    asked_for_help = {"-h", "--help"} & set(arguments)
    try:
        with contextlib.redirect_stdout(shown) if asked_for_help else contextlib.nullcontext():
            return tyro.cli(kind, prog=f"speech2image {prog}", args=arguments, config=config)
    finally:
        width = shutil.get_terminal_size().columns
        shown.seek(0)
        for line in shown.read().splitlines():  # tyro wraps what stands in its boxes alone
            print(textwrap.fill(line, width, break_on_hyphens=False) if len(line) > width else line)


def list_choices(usage: str, kinds: Mapping[str, Mapping[str, str]], end: str) -> None:
    """Print what the first word of a command may be, as its help.

    Args:
        usage: the command line, after "speech2image".
        kinds: heading -> word -> what it does.
        end: how to learn more, and an example.
    """
    print(f"usage: speech2image {usage}")
    width = 2 + max(len(name) for rows in kinds.values() for name in rows)
    for heading, rows in kinds.items():
        print(f"\n{heading}:")
        for name, text in rows.items():
            first = f"  {name:{width}}"
            print(textwrap.fill(text, 80, initial_indent=first, subsequent_indent=" " * len(first)))
    print(f"\n{end}")


def call(function: Callable[..., None], prog: str, arguments: list[str]) -> None:
    """Call a function with the flags made from its arguments."""
    parse(function, prog, arguments)


def bytes_of(megabytes: float) -> int:
    """--max-megabytes in bytes; inf is as many as there may be.

    Raises:
        SettingsError: it is not above 0.
    """
    if not megabytes > 0:
        raise SettingsError(f"--max-megabytes is {megabytes:g}, must be above 0 (inf allows any size)")
    return int(min(megabytes * 1e6, sys.maxsize))


def import_training(name: str) -> ModuleType:
    """A module of this package that needs the `train` extra; without it, the pip command."""
    require("torch", "train")
    try:
        return require(f"speech2image.{name}", "train")
    except MissingExtraError as error:
        if not (getattr(error.__cause__, "name", None) or "").startswith("speech2image"):
            raise
        raise Speech2ImageError(
            f"this installation of speech2image is incomplete ({error.__cause__}); install it again"
        ) from error


def open_data(data: Sequence[str | Path], **options: Any) -> Any:
    """One prepared data set, or several as one.

    Raises:
        SettingsError: a stream is named, which this command does not take.
    """
    folders = [_folder(name) for name in data]
    return import_training("data.training_sets").open_arrays(folders, **options)


def open_data_or_stream(data: Sequence[str], **options: Any) -> Any:
    """Prepared data sets, or training shards that are streamed: by address, or a folder of them.

    Raises:
        SettingsError: both are named.
    """
    streams = import_training("data.streams")
    streamed = [name for name in data if streams.is_stream(name)]
    if not streamed:
        return open_data(data, **options)
    if len(streamed) < len(data):
        raise SettingsError("--data names streams and folders of prepared data; name one kind alone")
    import_training("training.core.run").join_processes()
    return streams.Stream.open(data, **options)


def open_recordings(folders: Sequence[Path]) -> list[Any]:
    """What `prepare recordings` wrote into folders."""
    recordings = import_training("data.shards.recordings")
    return [recordings.Recordings(folder) for folder in folders]


def _folder(name: str | Path) -> Path:
    if import_training("data.streams").is_stream(str(name)):
        raise SettingsError(
            f"{name} is a stream, which only train speech-encoder, embeddings and one-stage-gan read; name a "
            "folder that prepare wrote"
        )
    return Path(name)


def open_conditions(files: GanFiles) -> Any:
    """Prepared data with the embeddings a generator draws from."""
    return import_training("data.training_sets").open_conditions(
        [_folder(name) for name in files.data], files.conditions
    )


def open_teacher(weights: Path) -> Any:
    """The image teacher, on this process's GPU if there is one."""
    gpu = import_training("data.processes").gpu()
    device = gpu if require("torch", "train").cuda.is_available() else "cpu"
    return import_training("models.teacher.googlenet").load_teacher(weights).to(device)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        DataError: it cannot be read as UTF-8.
    """
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"unreadable text file {path}: {error}") from error


def read_embeddings(path: Path) -> "NDArray[np.float32]":
    """Embeddings made elsewhere, float32 [n, size]: a .npy of one or more, or a published pickle of them.

    Of a pickle ([pictures, captions, size]) the embeddings of a picture's captions come one after another.

    Raises:
        DataError: it cannot be read, or holds something else than finite numbers of that shape.
    """
    import numpy as np

    if path.suffix in (".pickle", ".pkl"):
        from speech2image.data.corpora.embedding_pickles import read_pickle

        found: Any = read_pickle(path)
    else:
        try:
            with open(path, "rb") as file:
                found = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"unreadable embeddings {path}: {error}; give a .npy or a .pickle file"
            ) from error
    try:
        array = np.asarray(found, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} holds something else than arrays of numbers of one length") from error
    if array.ndim not in (1, 2, 3) or not array.size or not np.isfinite(array).all():
        raise DataError(
            f"{path} holds an array of shape {list(array.shape)}, not finite embeddings [size], [n, size] or "
            "[pictures, captions, size]"
        )
    return array.reshape(-1, array.shape[-1])
