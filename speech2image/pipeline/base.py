"""Route: from a recording to pictures. START HERE.

    recording --audio.load, audio.log_mel--> log-mel [40, frames]
              --speech_detector.onnx------> does anyone speak? (models that have one)
              --model's front end, speech_encoder.onnx--> speech embedding f [1024]
              --generator.onnx, noise z---> pictures

A `Route` is one way from speech to pictures: `direct.DirectRoute`, the paper's (Li et al. 2020, Fig. 2), has
no text in between; `cascade.CascadeRoute` goes through text. `routes.ROUTES` lists them. Their networks are
trained in `training/recipes/` and written by `export/`; this runs them with ONNX Runtime, without torch.
"""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from speech2image import audio
from speech2image.asr.ctc import TranscribedWord
from speech2image.audio.vad import VoiceActivityDetector
from speech2image.errors import SettingsError
from speech2image.pipeline import images
from speech2image.pipeline.domains import Decision
from speech2image.pipeline.generator import ConditionedGenerator, between, walk_alphas
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.registry import Model
from speech2image.pipeline.routes import ROUTES

if TYPE_CHECKING:
    from speech2image.asr.backends import AsrBackend

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


class Capabilities(NamedTuple):
    """What a route can do with its model.

    Attributes:
        text: goes through text: `draw_text`, `embed_text` and `transcribe` work.
        transcript: results carry the words heard.
        words: the model's own speech encoder tells them, each with its confidence.
        domain: results say what a recording is about.
    """

    text: bool
    transcript: bool
    words: bool
    domain: bool


@dataclass(frozen=True)
class Parts:
    """What `loading.load` opened of a model, from which a route's `open_route` makes the route.

    Attributes:
        model: the folder they came from.
        encoder: the network that `routes.ROUTES` names for the route.
        generator, prior, vad: as of `Route`.
        threads: processor threads for what the route opens itself; None takes all.
        recognizer: of routes through text: "own", another choice of `asr.backends.open_recognizer`, or a
            backend.
        strict: refuse recordings that say nothing.
        words: whether a decoder that only tells the words is wanted.
    """

    model: Model
    encoder: Session
    generator: Session
    prior: Session | None = None
    vad: VoiceActivityDetector | None = None
    threads: int | None = None
    recognizer: "str | AsrBackend" = "own"
    strict: bool = True
    words: bool = True


class Route(ABC):
    """One way from speech to pictures. Made by `speech2image.load`.

    Args:
        model: the folder the networks came from.
        generator: condition [1, size] and noise [1, noise_size] -> picture [1, 3, side, side] in [-1, 1].
        vad: refuses recordings without speech; None takes any sound.
        prior: embedding [1, size] and noise -> condition [1, size]; None without condition prior.
    """

    def __init__(
        self, model: Model, generator: Session, vad: VoiceActivityDetector | None, prior: Session | None
    ) -> None:
        self.model, self.vad = model, vad
        self.recognizer: AsrBackend | None = None
        self.name: str = model.name
        self.generator = ConditionedGenerator(model, generator, prior)
        self.picture_size = self.generator.picture_size

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
        z = self.generator.noise(n, seed)
        timings: dict[str, float] = {}
        (encoded,) = self._encode([speech], timings)
        return self._drawn(encoded, z, seed, timings)

    def embed(self, speech: Speech) -> NDArray[np.float32]:
        """Turn a recording into its speech embedding (through text: that of the words), float32 [1024].

        Raises:
            SpeechError, SettingsError: as `translate`.
        """
        return self.encode(speech).speech_embedding

    def encode(
        self, speech: Speech, timings: dict[str, float] | None = None, *, quick: bool = False
    ) -> EncodedSpeech:
        """What the route makes of a recording before it draws.

        Args:
            speech: as of `translate`.
            timings: where the seconds of each step are noted.
            quick: tell the words by the way, with no decoder of their own: for a recording that still grows
                (`live.LiveTranslation`), of which much is written down again and again.

        Raises:
            SpeechError, SettingsError: as `translate`.
        """
        (encoded,) = self._encode([speech], {} if timings is None else timings, quick)
        return encoded

    def generate(self, embedding: ArrayLike, n: int = 1, seed: int = 0) -> list[Image.Image]:
        """Draw `n` pictures of one embedding [1024]; picture k depends on `seed` and k alone.

        Raises:
            SettingsError: `n` or `seed` is out of range; the embedding has another shape or is not finite.
        """
        return self.generator.generate(embedding, n, seed)

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
        alphas, z = walk_alphas(steps), self.generator.noise(1, seed)[0]
        timings: dict[str, float] = {}
        f1, f2 = (encoded.speech_embedding for encoded in self._encode([first, second], timings))
        with timed(timings, "draw"):
            pictures = self.generator.walk(f1, f2, alphas, z)
        mixed = between(f1, f2, alphas)
        return Interpolation(pictures, alphas.tolist(), mixed, int(seed), self.name, timings)

    @property
    def capabilities(self) -> Capabilities:
        """What this route can do with this model."""
        text, words = ROUTES[self.model.route].text, bool(self.model.pieces)
        return Capabilities(text, text or words, words, self.model.domains is not None)

    def draw_text(self, text: str, n: int = 1, seed: int = 0) -> Translation:
        """Turn a sentence into `n` pictures, without speech; see `cascade.CascadeRoute`.

        Raises:
            SettingsError: this route reads no text (`capabilities.text`).
        """
        raise self._reads_no_text()

    def embed_text(self, text: str) -> NDArray[np.float32]:
        """Turn a sentence into its text embedding, float32 [1024].

        Raises:
            SettingsError: as `draw_text`.
        """
        raise self._reads_no_text()

    def transcribe(self, speech: Speech) -> str:
        """What a recognizer writes down of a recording: the words that pictures are drawn from.

        Raises:
            SettingsError: as `draw_text`.
        """
        raise self._reads_no_text()

    def _reads_no_text(self) -> SettingsError:
        return SettingsError(f"model '{self.name}' is of the {self.model.route} route, which reads no text")

    @abstractmethod
    def _encode(
        self, recordings: Sequence[Speech], timings: dict[str, float], quick: bool = False
    ) -> list[EncodedSpeech]:
        """Listen to recordings and embed what is heard, noting the seconds of each step; see `encode`."""

    def _drawn(
        self, encoded: EncodedSpeech, z: NDArray[np.float32], seed: int, timings: dict[str, float]
    ) -> Translation:
        with timed(timings, "draw"):
            pictures = [self.generator.draw(encoded.speech_embedding, row) for row in z]
        return self.tell(encoded, pictures, seed, timings)

    def tell(
        self, encoded: EncodedSpeech, pictures: list[Image.Image], seed: int, timings: dict[str, float]
    ) -> Translation:
        """The result whose pictures were drawn of `encoded`."""
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
