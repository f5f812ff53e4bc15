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
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from speech2image import audio
from speech2image.asr.backends import AsrBackend, Recognition
from speech2image.asr.ctc import TranscribedWord
from speech2image.audio.inputs import named
from speech2image.audio.vad import VoiceActivityDetector
from speech2image.errors import SettingsError, SpeechError
from speech2image.pipeline import images
from speech2image.pipeline.domains import Decision
from speech2image.pipeline.generator import ConditionedGenerator, between, walk_alphas
from speech2image.pipeline.many import check_threads, in_threads
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.recipe import Recipe
from speech2image.pipeline.registry import Model
from speech2image.pipeline.routes import ROUTES

Speech = audio.Source
"""What a recording may be handed in as: see `audio.load`; bare samples with their rate beside them."""
Rate = int | None


@dataclass(frozen=True, eq=False, repr=False)
class Translation:
    """What one recording became.

    Attributes:
        images: the pictures, picture k drawn from row `noise_rows[k]` of the noise of `seed`.
        speech_embedding: what was drawn from, float32 [1024]: what the speech encoder heard, or, of a route
            through text, the embedding of the transcript, or the embedding that was given.
        log_mel: what was listened to, float32 [40, frames], whatever the model's front end; no frames if a
            text or an embedding was drawn.
        seed: where the noise came from; the same seed gives the same pictures.
        model: the name of the model.
        timings: seconds of each step: listen, transcribe (through text), embed, draw.
        transcript: of a route through text, the words the pictures were drawn from; of a direct model whose
            encoder writes down words, too, those it heard, on which no picture depends; None without.
        route: direct or cascade.
        words: those of the transcript, each with its confidence, where the network that heard them tells it:
            such an encoder, and this project's recognizers.
        domain: what the recording is about, "other" for what the model cannot draw; None where the model does
            not tell, and for a text.
        confidence: the probability of that domain, 0 to 1; None without.
        domains: all that the model tells apart, "other" the last.
        source: which recording it was, in `translate_many`: its path, or "recording 3"; else "".
        noise_rows: the row of the seed's noise that each picture was drawn from: 0, 1, 2 ..., unless the
            pictures were chosen among more (`diverse`).
        checksum: the model's (`registry.Model.checksum`).
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
    source: str = ""
    noise_rows: tuple[int, ...] = ()
    checksum: str = ""

    @property
    def seconds(self) -> float:
        """Seconds the translation took, without loading the model."""
        return sum(self.timings.values())

    def grid(self, columns: int | None = None) -> Image.Image:
        """All pictures on one sheet."""
        return images.grid(self.images, columns)

    def __eq__(self, other: object) -> bool:
        """The same pictures of the same embedding, under one seed by one model; times do not count."""
        if not isinstance(other, Translation):
            return NotImplemented
        return _same(self, other)

    def __repr__(self) -> str:
        heard = "" if self.transcript is None else f", transcript={self.transcript!r}"
        about = "" if self.domain is None else f", domain={self.domain!r}"
        return (
            f"<Translation of {self.source or 'a recording'}: {_counted(self.images)}, model={self.model!r}, "
            f"seed={self.seed}{heard}{about}>"
        )

    def _repr_png_(self) -> bytes:
        """What a notebook shows: all pictures on one sheet."""
        return images.encode(self.grid())

    @property
    def recipe(self) -> Recipe:
        """What the pictures were drawn with."""
        n, rows = len(self.images), self.noise_rows
        rows = () if rows == tuple(range(n)) else rows
        return Recipe(self.model, self.checksum, self.route, self.seed, n, rows, (self.transcript,))

    def save(self, path: str | os.PathLike[str], recipe: bool = True) -> Path:
        """Write the pictures as one file: the picture itself if there is one, else the grid.

        Args:
            path: the file.
            recipe: keep in it what it was drawn with: model, seed, route, words (`recipe.read_recipe`).

        Raises:
            OutputError: the file cannot be written, or its suffix names no picture format.
        """
        return images.save(self.grid(), path, self.recipe if recipe else None)


class Heard(NamedTuple):
    """What is told of a recording besides pictures; `transcript` and `words` are those of `Translation`, of
    which `decision` holds `domain`, `confidence` and `domains`."""

    transcript: str | None = None
    words: tuple[TranscribedWord, ...] = ()
    decision: Decision = Decision()


@dataclass(frozen=True, eq=False, repr=False)
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
        route, checksum: as of `Translation`.
        heard: what was heard in the first recording and in the second.
    """

    images: list[Image.Image]
    alphas: list[float]
    speech_embeddings: NDArray[np.float32]
    seed: int
    model: str
    timings: dict[str, float] = field(default_factory=dict)
    route: str = "direct"
    checksum: str = ""
    heard: tuple[Heard, ...] = ()

    @property
    def seconds(self) -> float:
        """Seconds the walk took, without loading the model."""
        return sum(self.timings.values())

    def grid(self, columns: int | None = None) -> Image.Image:
        """The pictures on one sheet, by default in one row."""
        return images.grid(self.images, len(self.images) if columns is None else columns)

    def __eq__(self, other: object) -> bool:
        """The same pictures of the same embeddings, under one seed by one model; times do not count."""
        if not isinstance(other, Interpolation):
            return NotImplemented
        return _same(self, other)

    def __repr__(self) -> str:
        return f"<Interpolation: {_counted(self.images)}, model={self.model!r}, seed={self.seed}>"

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the row of pictures."""
        return images.encode(self.grid())

    @property
    def recipe(self) -> Recipe:
        """What the pictures were drawn with."""
        words = tuple(heard.transcript for heard in self.heard)
        return Recipe(self.model, self.checksum, self.route, self.seed, len(self.images), words=words)

    def save(self, path: str | os.PathLike[str], recipe: bool = True) -> Path:
        """Write the row of pictures as one file; `recipe` as of `Translation.save`."""
        return images.save(self.grid(), path, self.recipe if recipe else None)


def _counted(pictures: Sequence[Image.Image]) -> str:
    sides = f" of {pictures[0].width} x {pictures[0].height}" if pictures else ""
    return f"{len(pictures)} picture{'s' if len(pictures) != 1 else ''}{sides}"


def _same(first: Translation | Interpolation, second: Translation | Interpolation) -> bool:
    """Whether all fields but the times are equal, pictures and arrays in every number."""
    names = [one.name for one in fields(first) if one.name != "timings"]
    return all(_equal(getattr(first, name), getattr(second, name)) for name in names)


def _equal(first: object, second: object) -> bool:
    if isinstance(first, np.ndarray):
        return np.array_equal(first, np.asarray(second))
    return first == second


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
        encoder: the network that `routes.ROUTES` names for the route, if it names one.
        generator, prior, vad: as of `Route`.
        threads: processor threads for what the route opens itself; None takes all.
        recognizer: of routes through text: "own", another choice of `asr.backends.open_recognizer`, or a
            backend.
        strict: refuse recordings that say nothing.
        words: whether a decoder that only tells the words is wanted.
    """

    model: Model
    encoder: Session | None
    generator: Session
    prior: Session | None = None
    vad: VoiceActivityDetector | None = None
    threads: int | None = None
    recognizer: str | AsrBackend = "own"
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
        self._reopen: Callable[[], Route] | None = None  # as `loading.load` opened it
        self.generator = ConditionedGenerator(model, generator, prior)
        self.picture_size = self.generator.picture_size

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} of the model {self.name!r}, {self.picture_size} x {self.picture_size}>"
        )

    def __reduce__(self) -> "tuple[Callable[..., Route], tuple[()]]":
        """A pickle holds how the model was opened, and opens it anew: in a worker process, say.

        Raises:
            TypeError: the route was not made by `speech2image.load`.
        """
        if self._reopen is None:
            raise TypeError("a route made by hand cannot be pickled; open its model with speech2image.load")
        return self._reopen, ()

    def translate(
        self,
        speech: Speech,
        n: int = 1,
        seed: int = 0,
        *,
        rate: Rate = None,
        diverse: bool = False,
        quick: bool = False,
    ) -> Translation:
        """Turn a recording into `n` pictures.

        Args:
            speech: a path, "-" (standard input), bytes, a binary file object; or samples: with `rate`, or as
                (samples, rate), (rate, samples) or {"array": samples, "sampling_rate": rate}. Samples are an
                array, a torch tensor or a list, of shape [n], [n, channels] or [channels, n], float in
                [-1, 1], int16, int32 or uint8.
            n: pictures to draw, 1 to 10,000. Without `diverse`, the first pictures are the same whatever `n`
                is.
            seed: where the noise comes from, a whole number from 0.
            rate: of bare samples, in Hz.
            diverse: of more give the `n` that differ most from one another, so that none is nearly another's
                copy (`pipeline/diversity.py`). The first is the one drawn without it.
            quick: as of `encode`; the pictures are the same.

        Raises:
            SpeechError: the recording cannot be used, or holds no speech (through text: no words).
            SettingsError: `n` or `seed` is out of its range; the model needs a recognizer and has none.
        """
        z = self.generator.noise(n, seed, diverse)
        timings: dict[str, float] = {}
        (encoded,) = self._encode([audio.with_rate(speech, rate)], timings, quick)
        return self._drawn(encoded, z, n, seed, timings)

    def translate_many(
        self,
        clips: Iterable[Speech],
        n: int = 1,
        seed: int = 0,
        *,
        rate: Rate = None,
        threads: int | None = None,
        skip_bad: bool = False,
        diverse: bool = False,
    ) -> Iterator[Translation]:
        """Turn many recordings into pictures, several at once; yield results in their order, as they come.

        Args:
            clips: as `translate` takes them; taken one by one, so there may be more than fit into memory.
            n: pictures to draw of each, 1 to 10,000.
            seed: as of `translate`, the same for all.
            rate: of clips that are bare samples, in Hz; then all are.
            threads: recordings to work on at once, 1 to 64; by default as many as there are cores.
            skip_bad: pass over recordings that cannot be used, with a warning that names each.
            diverse: as of `translate`.

        Returns:
            A generator of results, each with its `source`. No more of them than twice the threads are made
            before they are taken.

        Raises:
            SpeechError: a recording cannot be used; it is named.
            SettingsError: as `translate`, or `threads` is out of its range.

        Warns:
            UserWarning: a recording was passed over.
        """
        tried = self.attempts(clips, n, seed, rate=rate, threads=threads, diverse=diverse)
        return _usable(tried, skip_bad)

    def attempts(
        self,
        clips: Iterable[Speech],
        n: int = 1,
        seed: int = 0,
        *,
        rate: Rate = None,
        threads: int | None = None,
        diverse: bool = False,
    ) -> Iterator[Translation | SpeechError]:
        """As `translate_many`, with the error itself, which names the recording, for one that cannot be used.

        Raises:
            SettingsError: as `translate_many`.
        """
        at_once = check_threads(threads)
        self.generator.noise(n, seed)  # refuses either before any work

        def tried(numbered: tuple[int, Speech]) -> Translation | SpeechError:
            number, clip = numbered
            source = named(clip, f"recording {number}")
            try:
                return replace(self.translate(clip, n, seed, rate=rate, diverse=diverse), source=source)
            except SpeechError as error:
                return error if source in str(error) else SpeechError(f"{source}: {error}", error.code)

        return in_threads(tried, enumerate(clips, start=1), at_once)

    def embed(self, speech: Speech, *, rate: Rate = None) -> NDArray[np.float32]:
        """Turn a recording into its speech embedding (through text: that of the words), float32 [1024].

        Raises:
            SpeechError, SettingsError: as `translate`.
        """
        return self.encode(audio.with_rate(speech, rate)).speech_embedding

    def encode(
        self, speech: Speech, timings: dict[str, float] | None = None, *, quick: bool = False
    ) -> EncodedSpeech:
        """What the route makes of a recording before it draws.

        Args:
            speech: as of `translate`.
            timings: where the seconds of each step are noted.
            quick: where no picture depends on the words, tell them by the way, with no decoder of their own:
                for a recording that still grows (`live.LiveTranslation`), of which much is written down again
                and again, and where nobody reads them.

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

    @property
    def samples_features(self) -> bool:
        """Whether a condition prior samples image features, which the generator draws from."""
        return self.generator.has_prior

    def sample_features(self, embedding: ArrayLike, n: int = 1, seed: int = 0) -> NDArray[np.float32]:
        """What the generator draws `generate(embedding, n, seed)` from: the condition prior's samples,
        float32 [n, 1024]; without a prior the embedding itself, `n` times.

        Raises:
            SettingsError: as `generate`.
        """
        return self.generator.sample_features(embedding, n, seed)

    def draw_features(self, feature: ArrayLike, n: int = 1, seed: int = 0) -> list[Image.Image]:
        """Draw `n` pictures of one image feature [1024] of the teacher, without the condition prior; picture
        k has the generator's noise of `generate`.

        Raises:
            SettingsError: as `generate`.
        """
        return self.generator.draw_features(feature, n, seed)

    def draw_embedding(
        self, embedding: ArrayLike, n: int = 1, seed: int = 0, *, diverse: bool = False
    ) -> Translation:
        """Turn an embedding [size] that was made elsewhere into `n` pictures.

        Args:
            embedding: in the space the model draws from: a speech embedding, a text embedding ...
            n: as of `translate`.
            seed: as of `translate`.
            diverse: as of `translate`.

        Raises:
            SettingsError: as `generate`.
        """
        z = self.generator.noise(n, seed, diverse)
        given = EncodedSpeech(self.generator.check(embedding), np.zeros((audio.N_MELS, 0), np.float32))
        return self._drawn(given, z, n, seed, {})

    def interpolate(
        self, first: Speech, second: Speech, steps: int = 9, seed: int = 0, *, rate: Rate = None
    ) -> Interpolation:
        """Walk from one recording to another under one noise: f = alpha f1 + (1 - alpha) f2 (paper, Fig. 5).

        Args:
            first: the recording at the left end, alpha = 1.
            second: the recording at the right end, alpha = 0.
            steps: pictures, both ends included, 2 to 10,000.
            seed: where the one noise vector comes from.
            rate: of bare samples, in Hz.

        Raises:
            SpeechError, SettingsError: as `translate`; `steps` is out of its range.
        """
        alphas = walk_alphas(steps)
        self.generator.noise(1, seed)  # refuses a wrong seed before anything is listened to
        timings: dict[str, float] = {}
        both = [audio.with_rate(clip, rate) for clip in (first, second)]
        encoded = self._encode(both, timings)
        f1, f2 = (one.speech_embedding for one in encoded)
        with timed(timings, "draw"):
            pictures = self.walk(f1, f2, steps, seed)
        mixed = between(f1, f2, alphas)
        heard = tuple(Heard(one.transcript, one.words, one.decision) for one in encoded)
        about = self.name, timings, self.model.route, self.checksum, heard
        return Interpolation(pictures, alphas.tolist(), mixed, int(seed), *about)

    def walk(self, first: ArrayLike, second: ArrayLike, steps: int = 9, seed: int = 0) -> list[Image.Image]:
        """The pictures of `interpolate` for two embeddings [1024] at hand.

        Args:
            first: the embedding at alpha = 1.
            second: the embedding at alpha = 0.
            steps: as of `interpolate`.
            seed: as of `interpolate`.

        Raises:
            SettingsError: `steps` or `seed` is out of range; an embedding has another shape or is not finite.
        """
        return self.generator.walk(first, second, walk_alphas(steps), self.generator.noise(1, seed)[0])

    @cached_property
    def checksum(self) -> str:
        """That of the model (`registry.Model.checksum`)."""
        return self.model.checksum

    @property
    def capabilities(self) -> Capabilities:
        """What this route can do with this model."""
        text, words = ROUTES[self.model.route].text, bool(self.model.pieces)
        return Capabilities(text, text or words, words, self.model.domains is not None)

    def draw_text(self, text: str, n: int = 1, seed: int = 0, *, diverse: bool = False) -> Translation:
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

    def transcribe(self, speech: Speech, *, rate: Rate = None) -> str:
        """What a recognizer writes down of a recording: the words that pictures are drawn from.

        Raises:
            SettingsError: as `draw_text`.
        """
        raise self._reads_no_text()

    def recognize(self, speech: Speech, *, rate: Rate = None) -> Recognition:
        """What is said in a recording; how sure each word is and what it is about, where the model tells it.

        Raises:
            SpeechError: as `translate`; words that the model cannot draw are told all the same.
            SettingsError: the model tells no words (`capabilities.transcript`).
        """
        if not self.capabilities.transcript:
            raise SettingsError(f"model '{self.name}' tells no words of a recording")
        heard = self.encode(audio.with_rate(speech, rate))
        return Recognition(heard.transcript or "", heard.words, heard.decision)

    def _reads_no_text(self) -> SettingsError:
        return SettingsError(f"model '{self.name}' is of the {self.model.route} route, which reads no text")

    @abstractmethod
    def _encode(
        self, recordings: Sequence[Speech], timings: dict[str, float], quick: bool = False
    ) -> list[EncodedSpeech]:
        """Listen to recordings and embed what is heard, noting the seconds of each step; see `encode`."""

    def _drawn(
        self, encoded: EncodedSpeech, z: NDArray[np.float32], n: int, seed: int, timings: dict[str, float]
    ) -> Translation:
        """Pictures of `n` rows of the noise `z`; where there are more, of those that differ most."""
        with timed(timings, "draw"):
            drawn = list(self.generator.draw_each(encoded.speech_embedding, z, n))
        rows = [row for row, _ in drawn]
        return self.tell(encoded, [picture for _, picture in drawn], seed, timings, rows)

    def tell(
        self,
        encoded: EncodedSpeech,
        pictures: list[Image.Image],
        seed: int,
        timings: dict[str, float],
        rows: Sequence[int] | None = None,
    ) -> Translation:
        """The result whose pictures were drawn of `encoded`, from the noise's first rows or from `rows`."""
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
            noise_rows=tuple(range(len(pictures)) if rows is None else rows),
            checksum=self.checksum,
        )


def _usable(tried: Iterator[Translation | SpeechError], skip_bad: bool) -> Iterator[Translation]:
    for result in tried:
        if isinstance(result, Translation):
            yield result
        elif skip_bad:
            warnings.warn(f"passed over: {result}", stacklevel=2)
        else:
            raise result


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
