"""START HERE. From a recording to pictures: log-mel -> speech encoder -> generator.

    recording --audio.load, audio.log_mel--> log-mel [40, frames]
              --speech_detector.onnx------> does anyone speak? (models that have one)
              --model's front end, speech_encoder.onnx--> speech embedding f [1024]
              --generator.onnx, noise z---> pictures

A `Route` is one way from speech to pictures. `DirectRoute` is the paper's (Li et al. 2020, Fig. 2): no text
in between; `pipeline.cascade.CascadeRoute` goes through text. Training the two networks is
`speech_encoder.py` and `stackgan_v2.py` or `one_stage_gan.py` in `training/recipes/`; this file runs what
`export/direct.py` made of them, with neither torch nor its weight.
"""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from speech2image import audio
from speech2image.asr.ctc import TranscribedWord, best_path_words, check_ctc
from speech2image.asr.text import Vocabulary
from speech2image.audio.front_ends import PAPER
from speech2image.audio.vad import VoiceActivityDetector
from speech2image.pipeline import images
from speech2image.pipeline.domains import Decision, decided
from speech2image.pipeline.generator import ConditionedGenerator, between, walk_alphas
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.registry import DOMAIN, WORDS, Model

Speech = audio.Source
"""What a recording may be handed in as: see `audio.load`."""


@dataclass(frozen=True)
class Translation:
    """What one recording became.

    Attributes:
        images: the pictures, picture k drawn from noise row k of `seed`.
        speech_embedding: what was drawn from, float32 [1024]: what the speech encoder heard, or, of a route
            through text, the embedding of the transcript.
        log_mel: what was listened to, float32 [40, frames], whatever the model's front end; no frames if a
            text was drawn.
        seed: where the noise came from; the same seed gives the same pictures.
        model: the name of the model.
        timings: seconds of each step: listen, transcribe (through text), embed, draw.
        transcript: of a route through text, the words the pictures were drawn from; of a direct model whose
            encoder writes down words, too, those it heard, which are shown and not used; None without words.
        route: direct or cascade.
        words: those of the transcript, each with its confidence, where the network that heard them tells it:
            such an encoder, and this project's recognizers.
        domain: what the recording is about, "other" for what the model cannot draw; None where the model does
            not tell, and for a text.
        confidence: the probability of that domain, 0 to 1; None without.
        domains: all that the model tells apart, "other" the last.
    """

    images: list[Image.Image]
    speech_embedding: NDArray[np.float32]
    log_mel: NDArray[np.float32]
    seed: int
    model: str
    timings: dict[str, float] = field(default_factory=dict)
    transcript: str | None = None
    route: str = "direct"
    words: tuple[TranscribedWord, ...] = ()
    domain: str | None = None
    confidence: float | None = None
    domains: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Seconds the translation took, without loading the model."""
        return sum(self.timings.values())

    def grid(self, columns: int | None = None) -> Image.Image:
        """All pictures on one sheet."""
        return images.grid(self.images, columns)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the pictures as one file: the picture itself if there is one, else the grid.

        Raises:
            OutputError: the file cannot be written, or its suffix names no picture format.
        """
        return images.save(self.grid(), path)


@dataclass(frozen=True)
class Interpolation:
    """A walk between two recordings under one noise.

    Attributes:
        images: one picture a step, from the first recording to the second. Where a model has a condition
            prior, its two answers are mixed, not the embeddings.
        alphas: the share of the first recording at each step, from 1 down to 0.
        speech_embeddings: the embedding at each step, float32 [steps, 1024].
        seed: where the one noise vector came from.
        model: the name of the model.
        timings: seconds spent listening, embedding, and drawing.
    """

    images: list[Image.Image]
    alphas: list[float]
    speech_embeddings: NDArray[np.float32]
    seed: int
    model: str
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Seconds the walk took, without loading the model."""
        return sum(self.timings.values())

    def grid(self, columns: int | None = None) -> Image.Image:
        """The pictures on one sheet, by default in one row."""
        return images.grid(self.images, len(self.images) if columns is None else columns)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the row of pictures as one file."""
        return images.save(self.grid(), path)


class EncodedSpeech(NamedTuple):
    """What a route makes of a recording before it draws; the fields are those of `Translation`, of which
    `decision` holds the last three."""

    speech_embedding: NDArray[np.float32]
    log_mel: NDArray[np.float32]
    transcript: str | None = None
    words: tuple[TranscribedWord, ...] = ()
    decision: Decision = Decision()


class Route(ABC):
    """One way from speech to pictures. Made by `speech2image.load`.

    Args:
        model: the folder the networks came from.
        generator: condition [1, size] and noise [1, noise_size] -> picture [1, 3, side, side] in [-1, 1].
        vad: refuses recordings without speech; None takes any sound.
        prior: embedding [1, size] and noise -> condition [1, size]; None without condition prior.
    """

    def __init__(
        self, model: Model, generator: Any, vad: VoiceActivityDetector | None, prior: Session | None
    ) -> None:
        self.model, self.vad = model, vad
        self.name: str = model.name
        self._generator = ConditionedGenerator(model, generator, prior)
        self.picture_size = self._generator.picture_size

    def translate(self, speech: Speech, n: int = 1, seed: int = 0) -> Translation:
        """Turn a recording into `n` pictures.

        Args:
            speech: a path, "-" (standard input), bytes, a binary file object, or (samples, rate).
            n: pictures to draw, 1 to 10,000. The first pictures are the same whatever `n` is.
            seed: where the noise comes from, a whole number from 0.

        Raises:
            SpeechError: the recording cannot be used, or holds no speech (through text: no words).
            SettingsError: `n` or `seed` is out of its range; the model needs a recognizer and has none.
        """
        z = self._generator.noise(n, seed)
        timings: dict[str, float] = {}
        (encoded,) = self._encode([speech], timings)
        return self._drawn(encoded, z, seed, timings)

    def embed(self, speech: Speech) -> NDArray[np.float32]:
        """Turn a recording into its speech embedding (through text: that of the words), float32 [1024].

        Raises:
            SpeechError, SettingsError: as `translate`.
        """
        (encoded,) = self._encode([speech], {})
        return encoded.speech_embedding

    def generate(self, embedding: ArrayLike, n: int = 1, seed: int = 0) -> list[Image.Image]:
        """Draw `n` pictures of one embedding [1024]; picture k depends on `seed` and k alone.

        Raises:
            SettingsError: `n` or `seed` is out of range; the embedding has another shape or is not finite.
        """
        return self._generator.generate(embedding, n, seed)

    def interpolate(self, first: Speech, second: Speech, steps: int = 9, seed: int = 0) -> Interpolation:
        """Walk from one recording to another under one noise: f = alpha f1 + (1 - alpha) f2 (paper, Fig. 5).

        Args:
            first: the recording at the left end, alpha = 1.
            second: the recording at the right end, alpha = 0.
            steps: pictures, both ends included, 2 to 10,000.
            seed: where the one noise vector comes from.

        Raises:
            SpeechError, SettingsError: as `translate`; `steps` is out of its range.
        """
        alphas, z = walk_alphas(steps), self._generator.noise(1, seed)[0]
        timings: dict[str, float] = {}
        f1, f2 = (encoded.speech_embedding for encoded in self._encode([first, second], timings))
        with timed(timings, "draw"):
            pictures = self._generator.walk(f1, f2, alphas, z)
        mixed = between(f1, f2, alphas)
        return Interpolation(pictures, alphas.tolist(), mixed, int(seed), self.name, timings)

    @abstractmethod
    def _encode(self, recordings: Sequence[Speech], timings: dict[str, float]) -> list[EncodedSpeech]:
        """Listen to recordings and embed what is heard, noting the seconds of each step."""

    def _drawn(
        self, encoded: EncodedSpeech, z: NDArray[np.float32], seed: int, timings: dict[str, float]
    ) -> Translation:
        with timed(timings, "draw"):
            pictures = [self._generator.draw(encoded.speech_embedding, row) for row in z]
        return Translation(
            pictures,
            encoded.speech_embedding,
            encoded.log_mel,
            int(seed),
            self.name,
            timings,
            encoded.transcript,
            self.model.route,
            encoded.words,
            *encoded.decision,
        )


class DirectRoute(Route):
    """Speech to pictures without text in between.

    Args:
        model: the folder the networks came from.
        speech_encoder: frames [1, features, frames] of the model's front end and n_frames [1] -> speech
            embedding [1, 1024].
        generator: as of `Route`.
        vad: as of `Route`.
        prior: as of `Route`.
    """

    def __init__(
        self,
        model: Model,
        speech_encoder: Session,
        generator: Any,
        vad: VoiceActivityDetector | None = None,
        prior: Session | None = None,
    ) -> None:
        super().__init__(model, generator, vad, prior)
        self._speech_encoder, self._vocabulary = speech_encoder, Vocabulary(model.pieces)

    def _encode(self, recordings: Sequence[Speech], timings: dict[str, float]) -> list[EncodedSpeech]:
        with timed(timings, "listen"):
            clips = [listen(recording, self.vad) for recording in recordings]
            frames = [self._frames(*one) for one in clips]
        with timed(timings, "embed"):
            return [self._embed(own, log_mel) for own, (_, log_mel) in zip(frames, clips, strict=True)]

    def _embed(self, frames: NDArray[np.float32], log_mel: NDArray[np.float32]) -> EncodedSpeech:
        """The embedding and, of an encoder that tells more, the words it heard and what they are about."""
        network, vocabulary = self._speech_encoder, self._vocabulary
        n_frames = np.array([frames.shape[1]], dtype=np.int64)
        inputs: dict[str, NDArray[Any]] = {"log_mel": frames[None], "n_frames": n_frames}
        outputs = (network.output, *self.model.further_outputs)
        given = dict(zip(outputs, network.run(outputs, inputs), strict=True))
        words: tuple[TranscribedWord, ...] = ()
        if WORDS in given:
            words = best_path_words(check_ctc(given[WORDS], len(vocabulary), network.name), vocabulary)
        transcript = " ".join(word.text for word in words) or None
        decision = decided(self.model.domains, given.get(DOMAIN), network.name)
        embedding = self._generator.checked(given[network.output], network)
        return EncodedSpeech(embedding, log_mel, transcript, words, decision)

    def _frames(self, waveform: NDArray[np.float32], log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the encoder takes: the log-mel that the detector took, or another front end's frames."""
        front_end = self.model.front_end
        return log_mel if front_end == PAPER else front_end.extract(waveform)


def listen(
    speech: Speech, vad: VoiceActivityDetector | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A recording in which someone speaks: its samples at 16 kHz [n] and its log-mel [40, frames].

    Raises:
        SpeechError: the recording cannot be used, or nobody speaks in it.
    """
    waveform = audio.load(speech, is_speech=vad.is_speech if vad else None)
    log_mel = audio.log_mel(waveform)
    if vad is not None:
        vad.check(log_mel)
    return waveform, log_mel


@contextmanager
def timed(timings: dict[str, float], name: str) -> Iterator[None]:
    """Note in `timings` how many seconds something took."""
    start = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - start
