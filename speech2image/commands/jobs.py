"""What the commands that train share: flags made from settings, and what they open."""

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import tyro

from speech2image.errors import MissingExtraError, SettingsError, Speech2ImageError, require

CONFIG = (tyro.conf.AvoidSubcommands,)


@dataclass(frozen=True)
class Files:
    """Where a training reads and writes.

    Attributes:
        data: shards folder that prepare wrote; several are trained on as one.
        out: folder of the run: checkpoint, log, sample sheets; a run in it goes on.
        preset: which settings are the defaults of the flags below.
    """

    data: tuple[Path, ...]
    out: Path
    preset: str = "cpu"


@dataclass(frozen=True)
class FilesOfGan(Files):
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
    job.__doc__ = module.__doc__
    parsed = parse(job, prog, arguments)
    return parsed.files, parsed.settings


def _preset(arguments: list[str], default: str) -> str:
    for index, word in enumerate(arguments):
        if word.startswith("--preset="):
            return word.partition("=")[2]
        if word == "--preset" and index + 1 < len(arguments):
            return arguments[index + 1]
    return default


def parse(kind: Any, prog: str, arguments: list[str]) -> Any:
    """Flags made from a dataclass or function."""
    return tyro.cli(kind, prog=f"speech2image {prog}", args=arguments, config=CONFIG)


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


def open_data(data: tuple[Path, ...], **options: Any) -> Any:
    """One prepared data set, or several as one."""
    return import_training("data.training_sets").open_arrays(data, **options)


def open_conditions(files: FilesOfGan) -> Any:
    """Prepared data with the embeddings a generator draws from."""
    return import_training("data.condition_pairs").open_conditions(files.data, files.conditions)


def open_teacher(weights: Path) -> Any:
    """The image teacher, on the GPU if there is one."""
    device = "cuda" if require("torch", "train").cuda.is_available() else "cpu"
    return import_training("models.teacher.googlenet").load_teacher(weights).to(device)
