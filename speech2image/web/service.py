"""What the page and the HTTP interface both do: hear recordings and translate them, at a bounded queue."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from speech2image import audio, tts
from speech2image.asr.backends import Recognition
from speech2image.errors import SettingsError
from speech2image.pipeline.base import EncodedSpeech, Interpolation, Translation, timed
from speech2image.web.errors import RequestRejected
from speech2image.web.jobs import Deadline, JobQueue, Slots
from speech2image.web.metrics import Metrics
from speech2image.web.registry import ModelRegistry, Route, open_registry
from speech2image.web.settings import ServerSettings

Result = TypeVar("Result")

MAX_SENTENCE = 400
"""Characters of a sentence to be spoken or drawn."""


def check_sentence(text: str) -> None:
    """Refuse a sentence that is empty or too long.

    Raises:
        RequestRejected: 422, it is.
    """
    if not text.strip():
        raise RequestRejected(422, "the sentence is empty; describe what is to be drawn", code="no_sentence")
    if len(text) > MAX_SENTENCE:
        raise RequestRejected(
            422, f"a sentence has at most {MAX_SENTENCE} characters; shorten it", code="sentence_too_long"
        )


@dataclass(frozen=True)
class RenderRequest:
    """What is asked for, the recording aside.

    Attributes:
        n: pictures, or steps of an interpolation.
        seed: where the noise comes from.
        model: name of a served model; None takes the default.
        route: name of a route of that model; None takes the default.
        diverse: choose the `n` pictures among more (`Route.translate`).
    """

    n: int = 1
    seed: int = 0
    model: str | None = None
    route: str | None = None
    diverse: bool = False


@dataclass(frozen=True)
class RenderResult:
    """A recording as the model heard it, and what it became."""

    waveform: NDArray[np.float32]
    result: Translation
    route: str


@dataclass(frozen=True)
class Recognized:
    """What was said in a recording, by which route of which model, and how long both took."""

    recognition: Recognition
    speech_seconds: float
    seconds: float
    model: str
    route: str


@dataclass(frozen=True)
class Steps(Generic[Result]):
    """What is called at each step of a translation (`Service.follow`).

    Attributes:
        finish: given the whole result, makes of it what the client gets.
        heard: given the result without pictures; says whether they shall be drawn.
        drawn: given the place of a picture, from 0, and the picture.
        only: the one picture to draw, its place from 0; None draws all.
    """

    finish: Callable[[RenderResult], Result]
    heard: Callable[[RenderResult], bool] = lambda _: True
    drawn: Callable[[int, Image.Image], None] = lambda *_: None
    only: int | None = None


class Service:
    """The opened models behind one queue; made once a process.

    Raises:
        CheckpointError: a model is unknown or damaged, or there is none.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.registry: ModelRegistry = open_registry(settings.models, settings.threads or None)
        self.queue = JobQueue(settings.workers, settings.queue, settings.per_client, settings.request_seconds)
        # Updates of live streams have workers of their own, so that they neither wait for pictures nor fill
        # their queue; each stream has one at a time, so that this queue never refuses.
        live, streams = max(1, settings.workers // 4), settings.streams
        self.updates = JobQueue(live, streams, streams, settings.request_seconds)
        self.streams = Slots(streams, settings.per_client)
        self.metrics.watch(lambda: self.queue.accepted, lambda: self.streams.taken)

    @property
    def is_at_work(self) -> bool:
        """Whether threads still work, be it for nobody."""
        return self.queue.is_at_work or self.updates.is_at_work

    def check_ready(self) -> None:
        """Check that there is room for a request.

        Raises:
            RequestRejected: 503, the queue is full.
        """
        if self.queue.is_full:
            wait = self.queue.seconds_to_wait()
            raise RequestRejected(503, f"the queue is full; try again in {wait} s", wait)

    async def translate(
        self,
        subject: IO[bytes] | str,
        wanted: RenderRequest,
        client: str,
        finish: Callable[[RenderResult], Result],
        words: bool = True,
    ) -> Result:
        """Translate a recording, or draw a sentence through text.

        Args:
            subject: a recording, or a sentence, which a route that reads text draws.
            wanted: what is asked for.
            client: who asks.
            finish: makes of the result what the client gets, in the thread that works.
            words: tell the words heard as well as the model can; else, where no picture depends on them,
                those that its encoder tells by the way.

        Raises:
            RequestRejected: the queue is full, there is no such model or route, none of it reads text, the
                sentence is empty or too long, or the work took too long.
            SpeechError: the recording cannot be used.
            SettingsError: the number of pictures or the seed is out of its range; the sentence says nothing
                that the model knows.
        """
        if isinstance(subject, str):
            check_sentence(subject)
            name, route = self.registry.reader(wanted.model, wanted.route)
        else:
            name, route = self.registry.find(wanted.model, wanted.route)
        self.check_pictures(wanted.n)

        def job() -> Result:
            n, seed, diverse = wanted.n, wanted.seed, wanted.diverse
            if isinstance(subject, str):
                waveform = np.zeros(0, np.float32)
                result = route.draw_text(subject, n, seed, diverse=diverse)
            else:
                waveform = self._decode(subject, route, Deadline(self.settings.request_seconds))
                result = route.translate(
                    (waveform, audio.SAMPLE_RATE), n, seed, diverse=diverse, quick=not words
                )
            self._count(route, name, len(result.images), waveform)
            return finish(RenderResult(waveform, result, name))

        return await self.queue.do(job, client)

    async def follow(
        self, subject: IO[bytes] | str, wanted: RenderRequest, client: str, steps: Steps[Result]
    ) -> Result:
        """Translate a recording, or draw a sentence through text, and tell each step as soon as it is done.

        Args:
            subject: a recording, or a sentence, which a route that reads text draws.
            wanted: what is asked for; the pictures are those of `translate`.
            client: who asks.
            steps: called in the thread that works; what one of them raises ends the work.

        Raises:
            RequestRejected, SpeechError, SettingsError: as `translate`; no route of the model reads text.
        """
        if isinstance(subject, str):
            name, route = self.registry.reader(wanted.model)
        else:
            name, route = self.registry.find(wanted.model, wanted.route)
        self.check_pictures(wanted.n)

        def job() -> Result:
            deadline, timings = Deadline(self.settings.request_seconds), dict[str, float]()
            z = route.generator.noise(wanted.n, wanted.seed, wanted.diverse)
            if isinstance(subject, str):
                waveform = np.zeros(0, np.float32)
                silence = np.zeros((audio.N_MELS, 0), np.float32)
                encoded = EncodedSpeech(route.embed_text(subject), silence, subject)
            else:
                waveform = self._decode(subject, route, deadline)
                encoded = route.encode((waveform, audio.SAMPLE_RATE), timings)
            deadline.check()
            rows, drawn = list[int](), list[Image.Image]()

            def told() -> RenderResult:
                return RenderResult(waveform, route.tell(encoded, drawn, wanted.seed, timings, rows), name)

            if steps.heard(told()):
                drawing = route.generator.draw_each(encoded.speech_embedding, z, wanted.n, steps.only)
                for k in range(wanted.n) if steps.only is None else (steps.only,):
                    with timed(timings, f"draw {k}"):
                        row, picture = next(drawing)
                    rows.append(row)
                    drawn.append(picture)
                    deadline.check()
                    steps.drawn(k, picture)
            self._count(route, name, len(drawn), waveform)
            return steps.finish(told())

        return await self.queue.do(job, client)

    async def recognize(
        self, speech: IO[bytes], model: str | None, route: str | None, client: str
    ) -> Recognized:
        """Write down what is said in a recording.

        Args:
            speech: a recording.
            model: as of `RenderRequest`.
            route: the same; None takes the first that tells words.
            client: who asks.

        Raises:
            RequestRejected: as `translate`; the route tells no words.
            SpeechError: the recording cannot be used.
        """
        name, opened = self.registry.writer(model, route)

        def job() -> Recognized:
            waveform = self._decode(speech, opened, Deadline(self.settings.request_seconds))
            timings = dict[str, float]()
            with timed(timings, "recognize"):
                found = opened.recognize((waveform, audio.SAMPLE_RATE))
            self.metrics.speech.inc(len(waveform) / audio.SAMPLE_RATE)
            length = len(waveform) / audio.SAMPLE_RATE
            return Recognized(found, length, timings["recognize"], opened.name, name)

        return await self.queue.do(job, client)

    async def interpolate(
        self,
        speeches: tuple[IO[bytes], IO[bytes]],
        wanted: RenderRequest,
        client: str,
        finish: Callable[[Interpolation], Result],
    ) -> Result:
        """Interpolate from the first recording to the second in `wanted.n` steps; raises as `translate`."""
        name, route = self.registry.find(wanted.model, wanted.route)
        self.check_pictures(wanted.n)

        def job() -> Result:
            deadline = Deadline(self.settings.request_seconds)
            waveforms = [self._decode(speech, route, deadline) for speech in speeches]
            first, second = ((waveform, audio.SAMPLE_RATE) for waveform in waveforms)
            interpolation = route.interpolate(first, second, wanted.n, wanted.seed)
            self._count(route, name, len(interpolation.images), *waveforms)
            return finish(interpolation)

        return await self.queue.do(job, client)

    async def speak(self, text: str, client: str) -> NDArray[np.float32]:
        """Speak a sentence with the most natural voice there is; 16 kHz samples.

        Raises:
            SettingsError: nothing speakable is in the text.
            MissingExtraError: no engine is installed; the message holds the commands that install one.
            RequestRejected: the queue is full, or the text is empty or too long.
        """
        check_sentence(text)
        return await self.queue.do(lambda: tts.speak(text), client)

    def _decode(self, speech: IO[bytes], route: Route, deadline: Deadline) -> NDArray[np.float32]:
        """The samples of a recording of any format, of several tracks the one in which someone speaks."""
        detector = route.vad
        try:
            return audio.load(
                deadline.watch(speech),
                max_seconds=self.settings.max_seconds,
                is_speech=detector.is_speech if detector else None,
            )
        finally:
            deadline.check()  # what seems damaged may just have been stopped

    def check_pictures(self, n: int) -> None:
        """Refuse a number of pictures that is out of its range.

        Raises:
            SettingsError: it is.
        """
        if not 1 <= n <= self.settings.max_pictures:
            raise SettingsError(f"n must be a whole number from 1 to {self.settings.max_pictures}, not {n}")

    def _count(self, route: Route, name: str, pictures: int, *waveforms: NDArray[np.float32]) -> None:
        self.metrics.pictures.labels(route.name, name).inc(pictures)
        self.metrics.speech.inc(sum(len(waveform) for waveform in waveforms) / audio.SAMPLE_RATE)
