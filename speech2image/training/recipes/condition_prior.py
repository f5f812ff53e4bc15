"""Condition prior of a one-stage GAN: its fit on prepared data, and samples of a generator's conditions."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speech2image.data.progress import track
from speech2image.data.training_sets import TrainingArrays
from speech2image.models.condition_prior import ConditionPrior
from speech2image.models.flow_prior import FlowPrior, FlowPriorSettings
from speech2image.training.core.checkpoint import (
    averaged_weights,
    building_from,
    load_checkpoint,
    save_checkpoint,
)
from speech2image.training.core.run import step_rng, step_torch_rng


@dataclass(frozen=True)
class PriorSettings:
    """Of `ConditionPrior.fit`, which says what they mean."""

    n_predicted: int = 32
    noise_size: int = 100
    pictures: int = 8000
    residual_blend: float = 0.4


def fit_prior(
    settings: PriorSettings | FlowPriorSettings, arrays: TrainingArrays, mean: NDArray[np.float32]
) -> ConditionPrior | FlowPrior:
    """The condition prior of the training utterances and the pictures they describe.

    Args:
        settings: of the fit; their kind says which prior.
        arrays: prepared data with teacher features and speech embeddings.
        mean: mean teacher feature [1024].
    """
    utterances = arrays.utterances_of("train")
    pictures = arrays.utterance_sample[utterances]
    speech = np.asarray(arrays.embeddings[utterances], np.float32)
    features = np.asarray(arrays.teacher[pictures, 0], np.float32)
    if isinstance(settings, FlowPriorSettings):
        return FlowPrior.fit(speech, features, mean, settings, track)
    return ConditionPrior.fit(speech, features, mean, pictures, **asdict(settings))


def refit_prior(
    checkpoint: str | os.PathLike[str],
    arrays: TrainingArrays,
    out: str | os.PathLike[str],
    settings: PriorSettings | FlowPriorSettings | None = None,
) -> Path:
    """Put a condition prior fitted anew before a trained one-stage generator, for another speech encoder.

    The generator draws from the teacher's features, whichever encoder they were predicted from.

    Args:
        checkpoint: of a one-stage-gan training.
        arrays: prepared data with teacher features and the other encoder's speech embeddings.
        out: checkpoint to write.
        settings: of the prior.

    Raises:
        CheckpointError, DataError, OutputError: as the parts say.
    """
    state = load_checkpoint(checkpoint, "one_stage_gan")
    settings = settings or PriorSettings()
    with building_from(checkpoint):
        prior = fit_prior(settings, arrays, averaged_weights(state)["condition_mean"].numpy())
    then = {**state["settings"], "prior": asdict(settings)}
    belongs = {key: value for key, value in state.get("belongs", {}).items() if key != "space"}
    if arrays.embedding_space:
        belongs["space"] = arrays.embedding_space
    save_checkpoint(out, {**state, "settings": then, "prior": prior.state_dict(), "belongs": belongs})
    return Path(out)


def draw_features(
    prior: ConditionPrior | FlowPrior | None,
    conditions: NDArray[np.float32],
    spoken: NDArray[np.bool_],
    rng: torch.Generator,
) -> Tensor:
    """Features to draw pictures from, [batch, 1024].

    Args:
        prior: None leaves all conditions as they are.
        conditions: speech embeddings and features of the teacher [batch, 1024].
        spoken: which are speech embeddings [batch]; for those the prior draws a feature.
        rng: of what the prior draws (`sample`).
    """
    features = torch.from_numpy(conditions)
    if prior is None:
        return features
    return torch.where(torch.from_numpy(spoken)[:, None], prior.sample(features, rng), features)


def sample_inputs(
    arrays: TrainingArrays, prior: ConditionPrior | FlowPrior | None, noise_size: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Inputs of the sample sheets: conditions of eight unseen pictures (spoken, with a prior), each with four
    noises; a row has one noise. Where no picture is kept out, as in a stream, they are of training pictures.

    Returns:
        Features [32, 1024] and the generator's noise [32, noise_size].
    """
    rng = step_rng(seed, 0)
    if prior is not None:
        unseen = arrays.utterances_of("test")
        chosen = rng.choice(unseen if len(unseen) else arrays.utterances_of("train"), 8)
        conditions: Sequence[NDArray[np.floating]] = [arrays.embeddings[i] for i in chosen]
    else:
        test = arrays.samples_of("test")
        items = rng.choice(test if len(test) else arrays.samples_of("train"), 8)
        conditions = [arrays.teacher[i].mean(0) for i in items]
    features = torch.from_numpy(np.tile(np.stack(conditions).astype(np.float32), (4, 1)))
    if prior is not None:
        features = prior(features, torch.randn(32, prior.noise_size, generator=step_torch_rng(seed, 0)))
    noise = torch.from_numpy(rng.standard_normal((4, noise_size), np.float32))
    return features, noise.repeat_interleave(8, 0)
