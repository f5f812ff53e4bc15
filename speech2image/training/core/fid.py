"""FID while training: a generator's pictures of fixed conditions against photographs, every so many steps.

It tells whether a training still gets better, and chooses the checkpoint kept as `best.safetensors`. The
photographs are those of the split "val", else training pictures, never those of the test classes, on which
results are given; some hundred of them, of the generator's own size. So the figures of one run compare with
each other, and not with those of `evaluate`.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speech2image.data.progress import track
from speech2image.data.training_sets import TrainingArrays
from speech2image.errors import DataError, SettingsError
from speech2image.metrics.feature_network import load_inception
from speech2image.metrics.frechet import FewPicturesWarning, frechet_distance
from speech2image.metrics.moments import Moments
from speech2image.pipeline.images import to_uint8
from speech2image.training.core.gan import GanSettings
from speech2image.training.core.picture_batches import central_squares
from speech2image.training.core.run import Run, step_torch_rng

BLOCK = 32
"""Pictures that are drawn and measured at once."""

Draw = Callable[[Tensor, Tensor], Tensor]
"""Conditions [b, size] and noise [b, noise] -> pictures [b, 3, side, side] in [-1, 1]."""


@dataclass(frozen=True)
class Described:
    """Pictures that a generator is measured on, and what describes them.

    Attributes:
        split: that they are of.
        items: which pictures, [n].
        conditions: an embedding of an utterance about each, or the teacher's feature of it, [n, size].
    """

    split: str
    items: NDArray[np.int64]
    conditions: NDArray[np.float32]


def described(settings: GanSettings, arrays: TrainingArrays, *, spoken: bool) -> Described:
    """At most `fid_pictures` pictures of the split "val", or of "train" where that has not two.

    Args:
        settings: of the training.
        arrays: with speech embeddings if `spoken`, else with the teacher's features.
        spoken: whether conditions are embeddings of utterances (in voices that speak training pictures, too).

    Raises:
        DataError: there are fewer than two such pictures.
        SettingsError: a number out of range.
    """
    for name, least in (("fid_every", 1), ("fid_pictures", 2)):
        value = getattr(settings, name)
        if value < least:
            raise SettingsError(f"{name} is {value}; give at least {least}")
    for split in ("val", "train"):
        items, utterances = arrays.samples_of(split), None
        if spoken:
            heard = np.unique(arrays.utterance_voice[arrays.utterances_of("train")])
            told = arrays.utterances_of(split)
            told = told[np.isin(arrays.utterance_voice[told], heard)]
            items, first = np.unique(arrays.utterance_sample[told], return_index=True)
            utterances = told[first]
        if len(items) >= 2:
            break
    else:
        raise DataError("FID needs at least 2 described pictures of the splits val or train")
    most = min(settings.fid_pictures, len(items))
    chosen = np.linspace(0, len(items) - 1, most).round().astype(np.int64)
    items = items[chosen]
    if utterances is None:
        rows = [arrays.teacher[item].mean(axis=0) for item in items]
    else:
        rows = [arrays.embeddings[utterance] for utterance in utterances[chosen]]
    return Described(split, items, np.stack(rows).astype(np.float32))


class FidWatch:
    """Measures a generator every `fid_every` steps, and has the best checkpoint kept.

    Args:
        run: the training's folder; its process of rank 0 alone measures.
        settings: of the training, with the network's file.
        arrays: where the photographs are.
        shown: which of them, and what to draw.
        conditions: what the generator takes in the place of `shown.conditions`, [n, size].
        side: of its pictures.
        noise: length of its noise, which is the same at every measurement.

    Raises:
        CheckpointError: the network's file is absent, damaged or unknown.
    """

    def __init__(
        self,
        run: Run,
        settings: GanSettings,
        arrays: TrainingArrays,
        shown: Described,
        conditions: Tensor,
        side: int,
        noise: int,
    ) -> None:
        self.run, self.settings = run, settings
        self.name = f"FID of {len(shown.items)} pictures ({shown.split})"
        self._conditions = conditions
        self._noise = torch.randn(len(conditions), noise, generator=step_torch_rng(settings.seed, 1))
        if not run.fabric.is_global_zero:
            return
        self._network = load_inception(settings.fid_network)
        self._real = self._moments(
            lambda rows: central_squares(arrays, shown.items[rows], side), "features of photographs for FID"
        )

    def due(self, step: int) -> bool:
        """Whether to measure after `step` steps: every `fid_every`, and after the last."""
        return step % self.settings.fid_every == 0 or step == self.settings.steps

    def measure(self, step: int, draw: Draw) -> None:
        """Log the FID, and keep the checkpoint of this step, saved just before, if it is the best so far."""
        if not self.run.fabric.is_global_zero:
            return
        device = self.run.fabric.device

        def pictures(rows: slice) -> NDArray[np.uint8]:
            with torch.no_grad(), self.run.fabric.autocast():
                drawn = draw(self._conditions[rows].to(device), self._noise[rows].to(device))
            return to_uint8(drawn.float().cpu().numpy())

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FewPicturesWarning)  # always few, and as many every time
            distance = frechet_distance(self._moments(pictures, self.name), self._real)
        self.run.log(step, {self.name: distance}, now=True)
        self.run.judge(step, self.name, distance, lower_is_better=True)

    def _moments(self, pictures: Callable[[slice], NDArray[np.uint8]], what: str) -> Moments:
        moments, n = Moments(self._network.dim), len(self._conditions)
        blocks = range(0, n, BLOCK)
        for start in track(blocks, what, len(blocks)):
            moments.update(self._network(pictures(slice(start, start + BLOCK))))
        return moments
