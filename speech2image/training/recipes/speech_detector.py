"""Trains the speech detector to tell, for every 40 ms, speech from silence, noise and music.

Presets: `cpu` (what is shipped; five minutes of one core), `toy` (tests). Scenes are mixed on the fly from
spoken captions, recordings of people, sound files and sounds made by code. At the end a threshold is chosen
on recordings that were not trained on.
"""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from speech2image import audio
from speech2image.models.speech_detector import PRESETS as DETECTORS
from speech2image.models.speech_detector import SpeechDetector, SpeechDetectorSettings
from speech2image.training.core.checkpoint import averaged_weights, load_checkpoint, stored_settings
from speech2image.training.core.checkpoint_checks import building_from
from speech2image.training.core.learner import Learner
from speech2image.training.core.run import Run, RunSettings, make_fabric
from speech2image.training.core.schedules import cosine
from speech2image.training.recipes.detector_batches import (
    DetectorMaterial,
    SceneBatch,
    SceneBatches,
    Scenes,
    gather_detector_material,
)
from speech2image.voice_activity import SPEECH_STEPS

KIND = "speech_detector"
_VALIDATION_SEED = 10**6


@dataclass(frozen=True)
class DetectorTraining(RunSettings):
    """Everything that decides a training.

    Attributes:
        detector: its shape.
        scenes: how speech and other sounds are mixed.
        held_out_voices: voices kept out of training; "reader/251" also stands for a folder 251 of recordings.
        clips: recordings of people, and as many spoken captions, kept in memory.
        steps: optimiser steps.
        batch_size: scenes a step and process.
        learning_rate: Adam's largest; it falls along a half cosine to a twentieth.
        warm_up: steps over which it rises from 0.
        clip: largest norm of the gradient.
        ema_decay: of the averaged weights that are tested and shipped.
        validation_scenes: scenes with speech, and as many without, on which the threshold is chosen.
        miss_cost: how much worse a missed sentence is than a false alarm.
    """

    detector: SpeechDetectorSettings = DETECTORS["small"]
    scenes: Scenes = field(default_factory=Scenes)
    held_out_voices: tuple[str, ...] = ()
    clips: int = 700
    steps: int = 1200
    batch_size: int = 24
    learning_rate: float = 3e-3
    warm_up: int = 50
    clip: float = 5.0
    ema_decay: float = 0.99
    validation_scenes: int = 500
    miss_cost: float = 5.0
    precision: str = "32-true"
    log_every: int = 50
    checkpoint_minutes: float = 1.0


PRESETS = {
    "cpu": DetectorTraining(),
    "toy": DetectorTraining(
        detector=DETECTORS["toy"],
        clips=40,
        steps=60,
        batch_size=12,
        warm_up=5,
        ema_decay=0.9,
        validation_scenes=30,
    ),
}


def train(
    settings: DetectorTraining,
    data: Sequence[str | os.PathLike[str]],
    recordings: Sequence[str | os.PathLike[str]],
    sounds: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    fabric: Fabric | None = None,
) -> Path:
    """Trains, or goes on with the training in `folder` as if it had never stopped.

    Args:
        settings: see DetectorTraining and PRESETS.
        data: shards folders with spoken captions.
        recordings: folders of clean recordings of people who speak; possibly none.
        sounds: folders of music and noises; possibly none.
        folder: takes the checkpoint and the log.
        fabric: devices and precision; made from the settings if absent.

    Returns:
        The checkpoint (kind `speech_detector`; read it with `load_speech_detector`).
    """
    fabric = fabric or make_fabric(settings.precision, settings.seed)
    run = Run(folder, KIND, settings, fabric)
    state = run.restore()
    training, kept = gather_detector_material(
        data, recordings, sounds, settings.held_out_voices, settings.clips, settings.seed
    ).split()
    batches = SceneBatches(training, settings.scenes, settings.batch_size, settings.seed)
    network = SpeechDetector(settings.detector)
    adam = torch.optim.Adam(network.parameters(), settings.learning_rate)
    learner = Learner(network, network, adam, settings.ema_decay)
    step = learner.begin(fabric, state)
    next_batch = run.read_ahead(partial(batches, rank=fabric.global_rank))
    while not run.finished(step):
        loss = _loss(learner, SceneBatch(*(tensor.to(fabric.device) for tensor in next_batch(step))))
        share = cosine(step, settings.steps, settings.warm_up, final=0.05)
        learner.step(loss, settings.learning_rate * share, settings.clip)
        step += 1
        run.log(step, {"loss": loss})
        if run.checkpoint_due():
            run.save({"step": step, **learner.state_dict()})
    averaged = learner.ema.module
    assert isinstance(averaged, SpeechDetector)
    run.log(step, calibrate(averaged.eval(), kept, settings), now=True)
    run.save({"step": step, **learner.state_dict()})
    run.close()
    return run.checkpoint


def _loss(model: Learner, batch: SceneBatch) -> Tensor:
    """Cross-entropy of every step; the detector's threshold takes no part in training."""
    probability = model(batch.log_mel, batch.n_frames)
    with torch.autocast(probability.device.type, enabled=False):
        return F.binary_cross_entropy(probability.float().clamp(1e-6, 1 - 1e-6), batch.speech)


@torch.inference_mode()
def calibrate(
    detector: SpeechDetector, kept: DetectorMaterial, settings: DetectorTraining
) -> dict[str, float]:
    """Sets the threshold where misses and false alarms cost least on recordings not trained on.

    Speech is mixed at 10 dB or more there, and may be a single word.

    Returns:
        The threshold (a logit), and the shares missed and falsely taken at it.
    """
    detector.threshold.zero_()
    low, high = settings.scenes.noise_db
    scenes = dataclasses.replace(
        settings.scenes, seconds=(3.0, 5.0), noise_db=(max(low, 10.0), max(high, 10.0))
    )
    makes = SceneBatches(kept, scenes, 1, settings.seed)
    rng = np.random.default_rng((settings.seed, _VALIDATION_SEED))
    scores: dict[bool, list[float]] = {True: [], False: []}
    while min(map(len, scores.values())) < settings.validation_scenes:
        spoken = len(scores[True]) < len(scores[False])
        log_mel, speech = makes.scene(rng, int(rng.uniform(*scenes.seconds) * audio.SAMPLE_RATE), spoken)
        if not spoken or speech.sum() > SPEECH_STEPS:
            frames = torch.tensor([log_mel.shape[1]])
            logits = detector.logits(torch.from_numpy(log_mel)[None], frames)[0][0]
            scores[spoken].append(clip_score(logits.numpy()))
    of_speech, others = (np.sort(scores[kind]) for kind in (True, False))
    threshold, misses, alarms = choose_threshold(of_speech, others, settings.miss_cost)
    detector.threshold.fill_(threshold)
    return {"threshold": threshold, "misses": misses, "false alarms": alarms}


def clip_score(steps: NDArray[np.floating]) -> float:
    """A clip holds speech if this lies above the threshold: the value that `SPEECH_STEPS` steps reach."""
    return float(np.sort(steps)[-min(SPEECH_STEPS, len(steps))])


def choose_threshold(
    of_speech: NDArray[np.floating], others: NDArray[np.floating], miss_cost: float
) -> tuple[float, float, float]:
    """The threshold of least cost between two scores, and the misses and false alarms at it.

    Where several cost the same, the middle one.
    """
    places = np.unique(np.concatenate([of_speech, others]))
    middles = np.concatenate([places[:1] - 1, (places[1:] + places[:-1]) / 2, places[-1:] + 1])
    misses = np.array([(of_speech <= middle).mean() for middle in middles])
    alarms = np.array([(others > middle).mean() for middle in middles])
    cost = miss_cost * misses + alarms
    best = np.flatnonzero(cost <= cost.min() + 1e-12)
    chosen = int(best[len(best) // 2])
    return float(middles[chosen]), float(misses[chosen]), float(alarms[chosen])


def load_speech_detector(path: str | os.PathLike[str]) -> SpeechDetector:
    """The trained (averaged) detector of a checkpoint, in evaluation mode.

    Raises:
        CheckpointError: the file is damaged or holds something else.
    """
    state = load_checkpoint(path, KIND)
    with building_from(path):
        detector = SpeechDetector(SpeechDetectorSettings(**stored_settings(state, "detector")))
        detector.load_state_dict(averaged_weights(state))
    return detector.eval()
