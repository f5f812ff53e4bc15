"""Speech-detector training: speech against silence, noise and music, for every 40 ms.

Presets: `cpu` (the shipped one; five minutes on one core), `toy` (tests). Scenes are mixed on the fly from
spoken captions, recordings of people, sound files and synthetic sounds; the energy of the clean speech says
which frames hold speech, before anything is mixed in. At the end a threshold is chosen on recordings that
were not trained on. Step `t` of rank `r` is a pure function of (seed, r, t).
"""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.ndimage
import scipy.signal
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from speech2image import audio
from speech2image.audio.vad import SPEECH_STEPS
from speech2image.data.augment.effects import add_noise, add_room, change_voice, limit_band
from speech2image.data.augment.sounds import excerpts, made_sound, make_noise, read_sound, sound_files
from speech2image.data.pairs import speech_shards, stream_speech
from speech2image.data.progress import track
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.header import read_header
from speech2image.data.speech.word_bank import VOICE_PREFIX
from speech2image.errors import DataError, SpeechError
from speech2image.models.speech_detector import PRESETS as DETECTORS
from speech2image.models.speech_detector import SpeechDetector, SpeechDetectorSettings
from speech2image.training.core.learner import Learner
from speech2image.training.core.networks import SPEECH_DETECTOR
from speech2image.training.core.run import Run, RunSettings, make_fabric
from speech2image.training.core.schedules import cosine

Waveform = NDArray[np.float32]
STEP_FRAMES = 4
"""Frames of 10 ms in a step of the detector."""
_LOUD, _ABOVE_FLOOR, _GAP = 38.0, 8.0, 15
"""A hop counts as speech down to 38 dB below the clip's loudest and 8 dB above its quietest; pauses of up to
0.15 s within speech count as speech."""
_SHARDS = 16
"""Speech shards read, evenly spread."""


@dataclass(frozen=True)
class Scenes:
    """How scenes are mixed: how often each effect comes (0 to 1), and how strong it is.

    Attributes:
        seconds: shortest and longest.
        speech_share: scenes with speech in them.
        noise_share: scenes with speech that get noise.
        noise_db: loudness of the speech above the noise (mean powers).
        babble_share: of the scenes with noise, those whose noise is other voices, at least 8 dB softer.
        room_share: scenes in an echoing room.
        band_share: scenes through a telephone or a dull microphone.
        voice_share: pieces of speech whose rate, pitch and formants are changed.
    """

    seconds: tuple[float, float] = (1.2, 5.0)
    speech_share: float = 0.45
    noise_share: float = 0.75
    noise_db: tuple[float, float] = (0.0, 30.0)
    babble_share: float = 0.12
    room_share: float = 0.35
    band_share: float = 0.25
    voice_share: float = 0.3


@dataclass(frozen=True)
class DetectorMaterial:
    """Recordings in memory, int16 at 16 kHz each."""

    speech: list[NDArray[np.int16]] = field(repr=False)
    sounds: list[NDArray[np.int16]] = field(repr=False)

    def split(self) -> tuple["DetectorMaterial", "DetectorMaterial"]:
        """Nine tenths to train on, every tenth recording to choose the threshold on."""
        kept = [[clips[i] for i in range(len(clips)) if i % 10] for clips in (self.speech, self.sounds)]
        return DetectorMaterial(*kept), DetectorMaterial(self.speech[::10], self.sounds[::10])


class SceneBatch(NamedTuple):
    """Log-mels [b, 40, frames] of one length, valid frames [b]; 1 where a step holds speech [b, steps]."""

    log_mel: Tensor
    n_frames: Tensor
    speech: Tensor


def gather_detector_material(
    data: Sequence[str | os.PathLike[str]],
    recordings: Sequence[str | os.PathLike[str]],
    sounds: Sequence[str | os.PathLike[str]],
    held_out: Sequence[str],
    clips: int,
    seed: int,
) -> DetectorMaterial:
    """Reads the recordings that scenes are mixed from.

    Args:
        data: shards folders; their training captions are speech, as far as they were prepared without noise.
        recordings: folders of clean recordings of people who speak.
        sounds: folders of music and noises without speech; besides them the scenes have sounds made by code.
        held_out: voices of the shards to leave out; "reader/251" also leaves out recordings in a folder 251.
        clips: recordings of people, and as many captions, to take.
        seed: of the choice.

    Raises:
        DataError: there is no speech, or a folder holds no recordings.
    """
    rng = np.random.default_rng(seed)
    speech: list[NDArray[np.int16]] = []
    for folder in data:
        speech += _captions(Path(folder), held_out, clips // len(data))
    apart = {name.removeprefix(VOICE_PREFIX) for name in held_out}
    files = [path for path in sound_files(recordings) if not apart & set(path.parts)]
    chosen = sorted(rng.permutation(len(files))[:clips].tolist())
    for i in track(chosen, "speech", len(chosen)):
        speech += excerpts(read_sound(files[i], 60.0), 1, rng)
    others: list[NDArray[np.int16]] = []
    noises = sound_files(sounds)
    for path in track(noises, "sounds", len(noises)):
        others += excerpts(read_sound(path), 3, rng)
    if len(speech) < 2:
        raise DataError("no speech to train on: name a shards folder with captions spoken without noise")
    return DetectorMaterial(speech, others)


def _captions(folder: Path, held_out: Sequence[str], most: int) -> list[NDArray[np.int16]]:
    """Training captions of a shards folder that were prepared without any change."""
    arrays = PairArrays.open(folder)
    shards = speech_shards(folder)
    trained = {arrays.ids[i] for i in arrays.samples_of("train")}
    some = shards[:: max(1, len(shards) // _SHARDS)]
    found: list[NDArray[np.int16]] = []
    for shard in track(some, "captions", len(some)):
        spoken = zip(read_header(shard).rows, stream_speech([shard]), strict=True)
        clean = (
            item.utterance.audio
            for row, item in spoken
            if "effects" not in row and row["voice"] not in held_out and row["id"] in trained
        )
        for encoded in islice(clean, -(-most // len(some))):
            found.append((audio.load(encoded) * 32767).astype(np.int16))
    return found


class SceneBatches:
    """Batches for step 0, 1, 2, ...

    Args:
        material: what scenes are made of.
        scenes: how they are made.
        batch_size: scenes a step.
        seed: of everything random.
    """

    def __init__(self, material: DetectorMaterial, scenes: Scenes, batch_size: int, seed: int) -> None:
        self.material, self.scenes, self.batch_size, self.seed = material, scenes, batch_size, seed

    def __call__(self, step: int, rank: int = 0) -> SceneBatch:
        """The batch of `step`; all its scenes are of one length."""
        rng = np.random.default_rng((self.seed, rank, step))
        n = int(rng.uniform(*self.scenes.seconds) * audio.SAMPLE_RATE)
        spoken = rng.random(self.batch_size) < self.scenes.speech_share
        log_mels, labels = zip(*(self.scene(rng, n, bool(kind)) for kind in spoken), strict=True)
        frames = torch.full((self.batch_size,), log_mels[0].shape[1])
        return SceneBatch(torch.from_numpy(np.stack(log_mels)), frames, torch.from_numpy(np.stack(labels)))

    def scene(
        self, rng: np.random.Generator, n: int, spoken: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log-mel [40, frames] and 1 where a step holds speech [steps] of `n` samples."""
        while True:
            try:
                return self._scene(rng, n, spoken)
            except SpeechError:  # the excerpts drawn were silent
                continue

    def _scene(
        self, rng: np.random.Generator, n: int, spoken: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        settings = self.scenes
        hops = np.zeros(n // audio.HOP + 1, dtype=bool)
        sound = self._speak(rng, n, hops) if spoken else self._other(rng, n)
        if rng.random() < settings.room_share:
            sound = add_room(sound, rng, seconds=rng.uniform(0.1, 0.8), direct_db=rng.uniform(-3, 12))
        if spoken and rng.random() < settings.noise_share:
            sound = add_noise(sound, *self._noise(rng, n))
        if rng.random() < settings.band_share:
            sound = limit_band(sound, rng.uniform(20, 350), rng.uniform(2500, 7000))
        sound = sound / max(float(np.abs(sound).max()), 1e-9)
        if rng.random() < 0.8:  # a microphone's own noise: recordings are seldom digitally silent
            sound = sound + 10.0 ** rng.uniform(-4.5, -2.5) * rng.standard_normal(n)
        log_mel = audio.log_mel(sound.astype(np.float32))
        return log_mel, step_labels(hops, log_mel.shape[1])

    def _speak(self, rng: np.random.Generator, n: int, hops: NDArray[np.bool_]) -> Waveform:
        """Pieces of speech with pauses; `hops` is set where one speaks."""
        sound = np.zeros(n, np.float32)
        start = int(rng.uniform(-0.4, 0.6) * n)
        while start < n:
            piece = self._clip(rng, self.material.speech, 2 * n)
            if rng.random() < self.scenes.voice_share:
                rate, voice = np.exp(rng.uniform(-0.25, 0.25, 2))
                piece = change_voice(piece, rate=float(rate), voice=float(voice))
            piece = piece * np.float32(10.0 ** rng.uniform(-0.4, 0.0) / max(np.abs(piece).max(), 1e-6))
            if rng.random() < 0.3:  # a word or two alone
                piece = piece[: int(rng.uniform(0.4, 1.2) * audio.SAMPLE_RATE)]
            active = active_hops(piece)
            skip = max(0, -start)
            part = piece[skip : skip + n - max(0, start)]
            first = max(0, start)
            sound[first : first + len(part)] += part
            own = active[skip // audio.HOP :][: len(hops) - first // audio.HOP]
            hops[first // audio.HOP : first // audio.HOP + len(own)] |= own
            start += len(piece) + int(rng.uniform(0.05, 2.0) * audio.SAMPLE_RATE)
            if rng.random() < 0.5:
                break
        return sound

    def _noise(self, rng: np.random.Generator, n: int) -> tuple[Waveform, float]:
        """A noise beside the speech, and how much softer it is (dB)."""
        low, high = self.scenes.noise_db
        if rng.random() < self.scenes.babble_share:
            voices = [self._clip(rng, self.material.speech, 4 * n) for _ in range(5)]
            return make_noise("babble", n, rng, voices), float(rng.uniform(max(low, 8.0), max(high, 8.0)))
        return self._other(rng, n), float(rng.uniform(low, high))

    def _other(self, rng: np.random.Generator, n: int) -> Waveform:
        """Music, noises or made sounds, sometimes two at once."""
        sound = self._one_other(rng, n)
        if rng.random() < 0.25:
            sound = sound + np.float32(rng.uniform(0.05, 1)) * self._one_other(rng, n)
        return sound

    def _one_other(self, rng: np.random.Generator, n: int) -> Waveform:
        if not self.material.sounds or rng.random() < 0.3:
            return made_sound(rng, n)
        sound = np.zeros(n, np.float32)
        start = 0
        while start < n:
            piece = self._clip(rng, self.material.sounds, n)[: n - start]
            sound[start : start + len(piece)] += piece
            start += len(piece) + int(rng.exponential(0.2) * audio.SAMPLE_RATE)
        return sound

    @staticmethod
    def _clip(rng: np.random.Generator, clips: list[NDArray[np.int16]], n: int) -> Waveform:
        """At most `n` samples of one of the clips, from a random place on."""
        clip = clips[rng.integers(len(clips))]
        start = int(rng.integers(0, max(1, len(clip) - n)))
        return clip[start : start + n].astype(np.float32) / np.float32(32768)


def active_hops(speech: Waveform) -> NDArray[np.bool_]:
    """Where someone speaks in a clean recording [n]: one truth value for every 10 ms, from its energy."""
    whole = len(speech) // audio.HOP * audio.HOP
    if not whole:
        return np.zeros(0, dtype=bool)
    energy = np.square(speech[:whole]).reshape(-1, audio.HOP).mean(axis=1)
    level = 10 * np.log10(np.convolve(energy, np.ones(3) / 3, "same") + 1e-12)
    quiet, loud = np.percentile(level, 5), level.max()
    threshold = min(max(loud - _LOUD, quiet + _ABOVE_FLOOR), loud - 20)
    padded = np.pad(level > threshold, _GAP)
    closed = scipy.ndimage.binary_closing(padded, np.ones(_GAP + 1))
    active: NDArray[np.bool_] = closed[_GAP:-_GAP]
    return active


def step_labels(hops: NDArray[np.bool_], frames: int) -> NDArray[np.float32]:
    """1 for every step of 4 frames of which at least half hold speech, else 0; [ceil(frames / 4)]."""
    steps = -(-frames // STEP_FRAMES)
    held = np.zeros(steps * STEP_FRAMES, np.float32)
    own = hops[1 : frames + 1]  # a frame's middle lies 12.5 ms after its start
    held[: len(own)] = own
    return (held.reshape(steps, STEP_FRAMES).mean(axis=1) >= 0.5).astype(np.float32)


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
        The checkpoint (kind `speech_detector`; read it with `core.networks.load_speech_detector`).
    """
    fabric = fabric or make_fabric(settings.precision, settings.seed)
    run = Run(folder, SPEECH_DETECTOR, settings, fabric)
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

    def loss_of(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        batch = SceneBatch(*(tensor.to(fabric.device) for tensor in next_batch(step)))
        return _loss(learner, batch), {}

    def rate_of(step: int) -> float:
        return settings.learning_rate * cosine(step, settings.steps, settings.warm_up, final=0.05)

    def save(step: int) -> None:
        run.save({"step": step, **learner.state_dict()})

    def finish(step: int) -> None:
        averaged = learner.ema.module
        assert isinstance(averaged, SpeechDetector)
        run.log(step, calibrate(averaged.eval(), kept, settings), now=True)

    return learner.fit(run, step, loss_of, rate_of, settings.clip, save, finish)


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
