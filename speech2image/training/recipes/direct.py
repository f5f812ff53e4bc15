"""Direct route: every training from prepared data to a model folder, one after the other.

Command: `speech2image train direct --preset cpu --data SHARDS --teacher WEIGHTS --out RUN`. An interrupted
run goes on with the same command. The toy set needs no weights (`--preset toy`).

    teacher features -> RUN/speech_encoder -> speech embeddings -> RUN/generator -> RUN/model
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import tyro

from speech2image.data.corpora.toy import is_toy
from speech2image.data.features import cache_teacher_features
from speech2image.data.processes import gpu
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import SettingsError
from speech2image.models.teacher.googlenet import GoogLeNet
from speech2image.models.teacher.toy import ToyTeacher
from speech2image.training.core.run import join_processes
from speech2image.training.recipes import one_stage_gan, speech_encoder, stackgan_v2
from speech2image.training.recipes.speech_embeddings import store_embeddings

GeneratorTraining = (
    Annotated[one_stage_gan.OneStageGanTraining, tyro.conf.subcommand("one-stage-gan")]
    | Annotated[stackgan_v2.StackGanV2Training, tyro.conf.subcommand("stackgan-v2")]
)
"""Settings of either recipe; the names are for the command line, which keeps the preset's recipe."""


@dataclass(frozen=True)
class DirectTraining:
    """Settings of both trainings.

    Attributes:
        encoder: speech -> the teacher's feature space.
        generator: embedding -> picture, by either recipe.
        crops: of each picture, whose teacher features are the encoder's targets: 10 (paper), 2 or 1.
        max_bytes: the most each of the model folder's networks may take.
    """

    encoder: speech_encoder.SpeechEncoderTraining = field(
        default_factory=speech_encoder.SpeechEncoderTraining
    )
    generator: GeneratorTraining = field(default_factory=one_stage_gan.OneStageGanTraining)
    crops: int = 10
    max_bytes: int = 25_000_000


PRESETS: dict[str, DirectTraining] = {
    "cpu": DirectTraining(),
    **{
        name: DirectTraining(speech_encoder.PRESETS[name], stackgan_v2.PRESETS[name], max_bytes=100_000_000)
        for name in ("paper", "paper-oxford102", "paper-places", "released-code")
    },
    "toy": DirectTraining(speech_encoder.PRESETS["toy"], stackgan_v2.PRESETS["toy"], crops=1),
}


class TrainedNetworks(NamedTuple):
    """Checkpoints of a direct route's networks."""

    speech_encoder: Path
    generator: Path


def train(
    settings: DirectTraining,
    arrays: PairArrays,
    teacher: GoogLeNet | ToyTeacher | None,
    folder: str | os.PathLike[str],
) -> TrainedNetworks:
    """Do whatever of the whole way up to the export is not done yet.

    Args:
        settings: see `DirectTraining`.
        arrays: prepared data.
        teacher: the frozen image network; None if its features are there and the generator does without it.
            `ToyTeacher` with the toy set alone.
        folder: of the run.

    Returns:
        The checkpoints, which `export.direct.export_checkpoints` takes.

    Raises:
        SettingsError: the one-stage generator without GoogLeNet, the toy teacher with photographs, or a
            setting out of range.
        DataError, CheckpointError, OutputError: as the steps say.
    """
    folder = Path(folder)
    _check_teacher(settings, arrays, teacher)
    join_processes()
    if teacher is not None:
        cache_teacher_features(
            arrays, teacher.to(gpu() if torch.cuda.is_available() else "cpu"), crops=settings.crops
        )
    encoder = speech_encoder.train(settings.encoder, arrays, folder / "speech_encoder")
    store_embeddings(arrays, encoder)
    return TrainedNetworks(
        encoder, _train_generator(settings.generator, arrays, teacher, folder / "generator")
    )


def _check_teacher(
    settings: DirectTraining, arrays: PairArrays, teacher: GoogLeNet | ToyTeacher | None
) -> None:
    one_stage = isinstance(settings.generator, one_stage_gan.OneStageGanTraining)
    if one_stage and not isinstance(teacher, GoogLeNet):
        raise SettingsError(
            "the one-stage generator trains against the teacher; give its weights (--teacher)"
        )
    if isinstance(teacher, ToyTeacher) and not is_toy(arrays.voices):
        raise SettingsError(
            f"the toy teacher knows coloured shapes alone, and {arrays.folder} is not the toy set; "
            "give GoogLeNet's weights (--teacher)"
        )


def _train_generator(
    settings: one_stage_gan.OneStageGanTraining | stackgan_v2.StackGanV2Training,
    arrays: PairArrays,
    teacher: GoogLeNet | ToyTeacher | None,
    folder: Path,
) -> Path:
    if isinstance(settings, stackgan_v2.StackGanV2Training):
        return stackgan_v2.train(settings, arrays, folder)
    assert isinstance(teacher, GoogLeNet)
    return one_stage_gan.train(settings, arrays, teacher, folder)
