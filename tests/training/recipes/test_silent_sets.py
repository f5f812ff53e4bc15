"""Pictures without captions beside spoken ones: generators learn from them, condition priors do not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_sets import encoded, picture, sample, write_manifest

from speech2image import cli
from speech2image.data.pairs import write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.training_sets import JoinedArrays, open_arrays
from speech2image.errors import DataError
from speech2image.models.gan.one_stage import DiscriminatorSettings, GeneratorSettings
from speech2image.models.teacher.googlenet import GoogLeNet
from speech2image.training.core.checkpoint import load_checkpoint
from speech2image.training.core.picture_batches import PictureBatches
from speech2image.training.recipes.condition_prior import PriorSettings, refit_prior
from speech2image.training.recipes.one_stage_gan import OneStageGanTraining, train

SPOKEN, SILENT = 12, 8
TINY = OneStageGanTraining(
    generator=GeneratorSettings(16, noise_size=8, code_size=16, channels=(8, 8, 8)),
    heads=DiscriminatorSettings(width=8),
    prior=PriorSettings(n_predicted=4, noise_size=4),
    steps=2,
    batch_size=4,
    feature_size=64,
    precision="32-true",
    grid_every=2,
)


def silent_set(folder: Path) -> Path:
    """Shards of pictures without captions, prepared by the command."""
    root = folder / "more"
    root.mkdir()
    rows = []
    for i in range(SILENT):
        (root / f"{i}.png").write_bytes(encoded(picture((30, 25 * i, 30))))
        rows.append({"image": f"{i}.png", "class": "kitchen" if i % 2 else "bedroom"})
    write_manifest(root, rows)
    out = folder / "shards_more"
    arguments = ["prepare", "folder", "--root", str(root), "--out", str(out), "--no-speak"]
    assert cli.main(arguments) == 0
    return out


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A spoken set with teacher features and embeddings, and a silent one with the first alone."""
    folder, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    spoken = folder / "shards"
    write_shards([sample(i, split="train" if i < 9 else "test") for i in range(SPOKEN)], spoken)
    found = [spoken, silent_set(folder)]
    for path, pictures in zip(found, (SPOKEN, SILENT), strict=True):
        PairArrays.open(path).save_teacher(rng.random((pictures, 2, 1024), np.float32).astype(np.float16))
    PairArrays.open(spoken).save_embeddings(rng.random((2 * SPOKEN, 1024), np.float32), space="one encoder")
    return found


@pytest.fixture(scope="module")
def teacher() -> GoogLeNet:
    torch.manual_seed(0)
    return GoogLeNet().eval().requires_grad_(False)


def test_no_speak_prepares_pictures_without_captions(folders: list[Path]) -> None:
    silent = PairArrays.open(folders[1])
    assert len(silent.samples_of("train")) == SILENT and len(silent.utterance_sample) == 0
    assert set(silent.class_names.values()) == {"bedroom", "kitchen"}


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_generator_learns_from_both(
    folders: list[Path], teacher: GoogLeNet, tmp_path: Path, share: float
) -> None:
    arrays = open_arrays(folders)
    settings = replace(TINY, speech_fraction=share)
    state = load_checkpoint(train(settings, arrays, teacher, tmp_path / "run"))
    assert state["step"] == 2 and ("prior" in state) == bool(share)
    train_pictures = arrays.samples_of("train")
    assert len(train_pictures) == 9 + SILENT
    batches = PictureBatches(arrays, train_pictures, 16, 17, 0, speech_fraction=share)
    batch = batches(0)
    assert sorted(batch.indices.tolist()) == train_pictures.tolist(), "every picture once an epoch"
    features = arrays.teacher.astype(np.float32)
    by_teacher = (features[batch.indices] == batch.conditions[:, None]).all(axis=2).any(axis=1)
    assert by_teacher[batch.indices >= SPOKEN].all(), "the teacher's feature stands in where nothing is said"
    assert by_teacher.all() == (share == 0)


def test_silent_pictures_change_no_condition_prior(
    folders: list[Path], teacher: GoogLeNet, tmp_path: Path
) -> None:
    both = open_arrays(folders)
    generator = train(replace(TINY, speech_fraction=0.0), both, teacher, tmp_path / "run")
    priors = []
    for name, arrays in (("both", both), ("spoken", open_arrays(folders[:1]))):
        settings = PriorSettings(n_predicted=4, noise_size=4)
        state = load_checkpoint(refit_prior(generator, arrays, tmp_path / f"{name}.safetensors", settings))
        assert state["belongs"]["space"] == "one encoder"
        priors.append(state["prior"])
    assert priors[0].keys() == priors[1].keys()
    for key, value in priors[0].items():
        assert torch.equal(value, priors[1][key]), key


def test_without_any_speech_there_are_no_spoken_conditions(folders: list[Path], teacher: GoogLeNet) -> None:
    silent: list[Any] = [PairArrays.open(folders[1]), JoinedArrays([PairArrays.open(folders[1])] * 2)]
    for arrays in silent:
        with pytest.raises(DataError, match=r"no speech in .*shards_more"):
            PictureBatches(arrays, arrays.samples_of("train"), 16, 4, 0, speech_fraction=0.5)
