"""Cascade route: a recognizer writes down what is said, pictures are drawn from the words.

    recording --recognizer------------> words, which are shown
    words     --text_encoder.onnx-----> text embedding [1024], in the image teacher's space; or the mean of
                                        their word vectors
              --generator.onnx, noise-> pictures

The two-step system that Li et al. (2020) compare the direct route with. A text can be drawn, too: what a
recognizer without errors would reach.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image import audio
from speech2image.asr.backends import AsrBackend, Recognition, open_recognizer, recognize
from speech2image.asr.text import CAPTION_LENGTH, NOTHING, characters, transcript, words_of
from speech2image.audio.vad import VoiceActivityDetector
from speech2image.errors import SettingsError, SpeechError
from speech2image.pipeline.base import EncodedSpeech, Parts, Route, Speech, Translation, listen, timed
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.registry import COUNTS, VOCABULARY, Model

ADVICE = "describe what is to be seen in English, as the captions do that the model learnt from"


def open_route(parts: Parts) -> "CascadeRoute":
    """The route of a model that was opened (`routes.RouteKind.module`).

    Raises:
        SettingsError: there is no such recognizer.
        CheckpointError: it cannot be opened.
        MissingExtraError: its package is not installed.
    """
    assert parts.encoder is not None
    model, chosen = parts.model, parts.recognizer
    backend = (
        open_recognizer(chosen, model.recognizer if chosen == "own" else None, parts.threads)
        if isinstance(chosen, str)
        else chosen
    )
    return CascadeRoute(
        model, backend, parts.encoder, parts.generator, parts.vad, parts.prior, require_words=parts.strict
    )


def _counts_words(text_encoder: Session) -> bool:
    return text_encoder.inputs == (COUNTS,)


def counts_of(text: str, places: Mapping[str, int]) -> NDArray[np.float32]:
    """How often each known word is in a text, [words]; `places` says where each is counted."""
    counts = np.zeros(len(places), dtype=np.float32)
    for word in transcript(text).split():
        if word in places:
            counts[places[word]] += 1
    return counts


class CascadeRoute(Route):
    """Speech to pictures through text: a result's `transcript` says what was heard.

    Args:
        model: the folder the networks came from.
        recognizer: writes down what is said; None for a model that draws text alone.
        text_encoder: letters [1, 201] (`text.characters`) -> text embedding [1, size]; or counts of the words
            of the card's vocabulary, in its order, [1, words] -> the mean of their vectors [1, size].
        generator: as of `Route`.
        vad: as of `Route`.
        prior: as of `Route`.
        require_words: refuse recordings of which no word is written down, or none that the text encoder
            knows; else they are drawn all the same.
    """

    def __init__(
        self,
        model: Model,
        recognizer: AsrBackend | None,
        text_encoder: Session,
        generator: Session,
        vad: VoiceActivityDetector | None = None,
        prior: Session | None = None,
        require_words: bool = True,
    ) -> None:
        super().__init__(model, generator, vad, prior)
        self.recognizer, self.require_words = recognizer, require_words
        self._text_encoder = text_encoder
        words: list[str] = model.card.get(VOCABULARY, "").split()
        self._vocabulary = set(words) if require_words else set()
        self._places = {word: k for k, word in enumerate(words)} if _counts_words(text_encoder) else None

    def draw_text(self, text: str, n: int = 1, seed: int = 0, *, diverse: bool = False) -> Translation:
        """Turn a sentence into `n` pictures, without speech.

        Args:
            text: an English description; the first 201 characters count.
            n: as of `translate`.
            seed: as of `translate`.
            diverse: as of `translate`.

        Raises:
            SettingsError: there is no word in `text`, or none that the model knows; `n` or `seed` is out of
                its range.
        """
        z = self.generator.noise(n, seed, diverse)
        self._check_words(text)
        timings: dict[str, float] = {}
        with timed(timings, "embed"):
            read = EncodedSpeech(self._embed(text), np.zeros((audio.N_MELS, 0), np.float32), text)
        return self._drawn(read, z, n, seed, timings)

    def transcribe(self, speech: Speech, *, rate: int | None = None) -> str:
        """What is said in a recording: lower-case words.

        Raises:
            SpeechError, SettingsError: as `translate`.
        """
        return self.recognize(speech, rate=rate).text

    def recognize(self, speech: Speech, *, rate: int | None = None) -> Recognition:
        """As `Route.recognize`: what the recognizer tells."""
        recognizer = self._recognizer()
        return self._written(recognizer, listen(audio.with_rate(speech, rate), self.vad)[0])

    def embed_text(self, text: str) -> NDArray[np.float32]:
        """Turn a sentence into its text embedding, float32 [1024].

        Raises:
            SettingsError: there is no word in `text`, or none that the model knows. Where recordings without
                words are not refused (`require_words`), "" stands for one and is embedded.
        """
        if text or self.require_words:
            self._check_words(text)
        return self._embed(text)

    def _encode(
        self, recordings: Sequence[Speech], timings: dict[str, float], quick: bool = False
    ) -> list[EncodedSpeech]:
        recognizer = self._recognizer()
        with timed(timings, "listen"):
            clips = [listen(recording, self.vad) for recording in recordings]
        with timed(timings, "transcribe"):
            written = [self._written(recognizer, waveform) for waveform, _ in clips]
        for text, *_ in written:
            if not self._knows(text):
                raise SpeechError(f"no known word heard in {text[:40]!r}: {ADVICE}", "no_words")
        with timed(timings, "embed"):
            return [
                EncodedSpeech(self._embed(one.text), log_mel, one.text, one.words, one.decision)
                for one, (_, log_mel) in zip(written, clips, strict=True)
            ]

    def _recognizer(self) -> AsrBackend:
        if self.recognizer is None:
            raise SettingsError(
                f"model '{self.name}' has no speech recognizer: give it a text (translate --text), or a "
                "recognizer (--recognizer whisper:base.en, or pocketsphinx)"
            )
        return self.recognizer

    def _written(self, recognizer: AsrBackend, waveform: NDArray[np.float32]) -> Recognition:
        found = recognize(recognizer, waveform)
        if transcript(found.text):
            return found
        if self.require_words:
            raise SpeechError(
                f"no words heard: the recognizer {recognizer.name} wrote down nothing of "
                f"{len(waveform) / audio.SAMPLE_RATE:.1f} s; speak English, close to the microphone",
                "no_words",
            )
        return Recognition("", decision=found.decision)

    def _embed(self, text: str) -> NDArray[np.float32]:
        read: NDArray[Any]  # letters, or how often each known word stands there
        if self._places is None:
            read = characters(text) if text else np.full(CAPTION_LENGTH, NOTHING, dtype=np.int64)
        else:
            read = counts_of(text, self._places)
        return self.generator.checked(self._text_encoder(read[None]), self._text_encoder)

    def _check_words(self, text: str) -> None:
        """Refuse a text that says nothing."""
        characters(text)
        if not transcript(text[:CAPTION_LENGTH]):
            raise SettingsError(f"no word in {text[:40]!r}: give an English sentence")
        if not self._knows(text):
            raise SettingsError(f"no known word in {text[:40]!r}: {ADVICE}")

    def _knows(self, text: str) -> bool:
        """Whether the text encoder learnt from a word of this; always, if none are told or all is drawn."""
        return not self._vocabulary or not self._vocabulary.isdisjoint(words_of([text[:CAPTION_LENGTH]]))
