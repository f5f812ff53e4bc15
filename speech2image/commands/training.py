"""prepare, train, evaluate, export: thin; each needs the `train` extra and calls one function of the package.

The flags of a training are the fields of its `Settings`, their defaults those of the chosen `--preset`:

    speech2image train one-stage-gan --preset cpu --batch-size 16 --generator.code-size 128 --data S --out R
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import tyro

from speech2image.errors import MissingExtraError, SettingsError, Speech2ImageError, require

CONFIG = (tyro.conf.AvoidSubcommands,)


def run(command: str, arguments: list[str]) -> None:
    """Parse `arguments` for `command` and do it."""
    {"prepare": prepare, "train": train, "evaluate": evaluate, "export": export}[command](arguments)


def prepare(arguments: list[str]) -> None:
    """Turn a corpus into shards; `prepare teacher` computes the teacher's features of its pictures."""
    if arguments[:1] == ["teacher"]:
        _call(prepare_teacher, "prepare teacher", arguments[1:])
        return
    module = _import("data.prepare")
    settings = _parse(module.Settings, "prepare", arguments)
    print(module.prepare(settings))


def prepare_teacher(data: Path, weights: Path, crops: int = 10) -> None:
    """Compute the image teacher's features of every picture and cache them beside the shards.

    Args:
        data: shards folder that prepare wrote.
        weights: GoogLeNet as bvlc_googlenet.caffemodel, torchvision's googlenet-1378be20.pth or safetensors.
        crops: crops of each picture: 10 (paper), 2 or 1.
    """
    arrays, teacher = _open(data), _teacher(weights)
    print(_import("data.features").cache_teacher_features(arrays, teacher, crops=crops))


def train(arguments: list[str]) -> None:
    """Train one network; the first word says which."""
    recipe, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if recipe in ("", "-h", "--help"):
        print("usage: speech2image train RECIPE [OPTIONS]\n\nrecipes:")
        for name, (_, text) in RECIPES.items():
            print(f"  {name:15} {text}")
        print("\nspeech2image train RECIPE --help shows its settings; --preset NAME changes their defaults")
        if not recipe:
            raise SystemExit(2)
        return
    if recipe not in RECIPES:
        raise SettingsError(f"unknown recipe '{recipe}'; there are: {', '.join(RECIPES)}")
    RECIPES[recipe][0](rest)


@dataclass(frozen=True)
class Files:
    """Where a training reads and writes.

    Attributes:
        data: shards folder that prepare wrote.
        out: folder of the run: checkpoint, log, sample sheets; a run in it goes on.
        preset: which settings are the defaults of the flags below.
    """

    data: Path
    out: Path
    preset: str = "cpu"


@dataclass(frozen=True)
class FilesWithTeacher(Files):
    """Where a training reads and writes.

    Attributes:
        data: shards folder that prepare wrote.
        out: folder of the run: checkpoint, log, sample sheets; a run in it goes on.
        preset: which settings are the defaults of the flags below.
        teacher: weights of the image teacher, a GoogLeNet.
        start_from: checkpoint of a similar training to start from.
    """

    teacher: Path = tyro.MISSING
    start_from: Path | None = None


@dataclass(frozen=True)
class FilesOfAll(Files):
    """Where a training reads and writes.

    Attributes:
        data: shards folder that prepare wrote.
        out: folder of the run: checkpoints, logs, sample sheets and the model; a run in it goes on.
        preset: which settings are the defaults of the flags below.
        teacher: weights of the image teacher, a GoogLeNet; needed unless its features are there and the
            generator is stackgan-v2. Preset toy, with the toy set, does without.
        name: of the model.
        licence: of the model's weights.
    """

    teacher: Path | None = None
    name: str = "direct"
    licence: str = "unstated"


def _train_direct(arguments: list[str]) -> None:
    module = _import("training.direct")
    files, settings = _parse_job(module, FilesOfAll, "train direct", arguments)
    arrays = _open(files.data)
    teacher = None if files.teacher is None else _teacher(files.teacher)
    if teacher is None and files.preset == "toy" and _import("data.toy").is_toy(arrays.voices):
        teacher = _import("models.toy_teacher").ToyTeacher()
    card = {"name": files.name, "licence": files.licence}
    print(module.train(settings, arrays, teacher, files.out, card))


def _train_speech_encoder(arguments: list[str]) -> None:
    module = _import("training.speech_encoder")
    files, settings = _parse_job(module, Files, "train speech-encoder", arguments)
    print(module.train(settings, _open(files.data), files.out))


def _train_one_stage_gan(arguments: list[str]) -> None:
    module = _import("training.one_stage_gan")
    files, settings = _parse_job(module, FilesWithTeacher, "train one-stage-gan", arguments)
    arrays, teacher = _open(files.data), _teacher(files.teacher)
    print(module.train(settings, arrays, teacher, files.out, files.start_from))


def _train_stackgan_v2(arguments: list[str]) -> None:
    module = _import("training.stackgan_v2")
    files, settings = _parse_job(module, Files, "train stackgan-v2", arguments)
    print(module.train(settings, _open(files.data), files.out))


def _embed(arguments: list[str]) -> None:
    _call(embeddings, "train embeddings", arguments)


def embeddings(data: Path, encoder: Path) -> None:
    """Compute a trained encoder's embedding of every utterance and cache them beside the shards.

    Args:
        data: shards folder that prepare wrote.
        encoder: checkpoint of a speech-encoder training.
    """
    print(_import("training.direct").store_speech_embeddings(_open(data), encoder))


RECIPES: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "direct": (_train_direct, "all of the below, from prepared data to a model folder"),
    "speech-encoder": (_train_speech_encoder, "speech -> the image teacher's feature space"),
    "embeddings": (_embed, "no training: a trained encoder's embedding of every utterance, for the next two"),
    "one-stage-gan": (
        _train_one_stage_gan,
        "embedding -> picture, against projected discriminators (shipped)",
    ),
    "stackgan-v2": (_train_stackgan_v2, "embedding -> pictures, the paper's stacked generator"),
}


def evaluate(arguments: list[str]) -> None:
    """Measure a model on prepared data."""
    module = _import("evaluation")
    settings = _parse(module.Settings, "evaluate", arguments)
    module.evaluate(settings)
    print((settings.out / "results.md").read_text(encoding="utf-8"), end="")


def export(arguments: list[str]) -> None:
    """Make a model folder from trained networks."""
    _call(export_checkpoints, "export", arguments)


def export_checkpoints(
    speech_encoder: Path,
    generator: Path,
    out: Path,
    name: str,
    licence: str,
    description: str = "",
    clips: tuple[Path, ...] = (),
    max_megabytes: float = 25.0,
) -> None:
    """Make a model folder, which translate and load take, from two training checkpoints.

    Args:
        speech_encoder: checkpoint of a speech-encoder training.
        generator: checkpoint of a one-stage-gan or stackgan-v2 training.
        out: model folder to write.
        name: the model's name.
        licence: of the weights, for instance CC-BY-4.0.
        description: one line that speech2image models shows.
        clips: recordings on which ONNX is compared with torch; made-up sounds by default.
        max_megabytes: the most the model may take.
    """
    from speech2image import audio

    module = _import("export")
    log_mels = [audio.log_mel(audio.load(clip)) for clip in clips]
    parity = module.export_checkpoints(
        speech_encoder,
        generator,
        out,
        name=name,
        licence=licence,
        description=description,
        log_mels=log_mels,
        max_bytes=int(max_megabytes * 1e6),
    )
    print(f"{out}: differs from torch by at most {parity.embedding:.1e} and {parity.picture:.1e}")


def _parse_job(module: ModuleType, files: type[Files], prog: str, arguments: list[str]) -> tuple[Any, Any]:
    """Flags for the files and, without a prefix, for every field of the preset's settings."""
    preset = _preset(arguments)
    if preset not in module.PRESETS:
        raise SettingsError(f"unknown preset '{preset}' of {prog}; there are: {', '.join(module.PRESETS)}")
    unprefixed = tyro.conf.arg(name="")
    job = dataclasses.make_dataclass(
        "Job",
        [
            ("files", Annotated[files, unprefixed]),
            ("settings", Annotated[module.Settings, unprefixed], module.PRESETS[preset]),
        ],
        frozen=True,
    )
    job.__doc__ = module.__doc__
    parsed = _parse(job, prog, arguments)
    return parsed.files, parsed.settings


def _preset(arguments: list[str]) -> str:
    for index, word in enumerate(arguments):
        if word.startswith("--preset="):
            return word.partition("=")[2]
        if word == "--preset" and index + 1 < len(arguments):
            return arguments[index + 1]
    return Files.preset


def _parse(kind: Any, prog: str, arguments: list[str]) -> Any:
    return tyro.cli(kind, prog=f"speech2image {prog}", args=arguments, config=CONFIG)


def _call(function: Callable[..., None], prog: str, arguments: list[str]) -> None:
    _parse(function, prog, arguments)


def _import(name: str) -> ModuleType:
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


def _open(data: Path) -> Any:
    return _import("data.arrays").PairArrays.open(data)


def _teacher(weights: Path) -> Any:
    """The image teacher, on the GPU if there is one."""
    device = "cuda" if require("torch", "train").cuda.is_available() else "cpu"
    return _import("models.image_teacher").load_teacher(weights).to(device)
