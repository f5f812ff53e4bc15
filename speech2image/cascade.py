"""The route through text: a recogniser writes down what is said, pictures are drawn from the words.

    recording --recogniser------------> words, which are shown
    words     --text_encoder.onnx-----> text embedding [1024], in the image teacher's space
              --generator.onnx, noise-> pictures

The two-step system that Li et al. (2020) compare the direct route with. A text can be drawn, too: what a
recogniser without errors would reach.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from speech2image import audio
from speech2image.errors import SettingsError, SpeechError
from speech2image.painter import Painter, between, walk_alphas
from speech2image.pipeline import DirectRoute, Interpolation, Speech, Translation, listen, timed
from speech2image.pretrained import Model
from speech2image.recognizers import SpeechRecogniser
from speech2image.runtime import Session
from speech2image.text import CAPTION_LENGTH, NOTHING, characters, transcript
from speech2image.voice_activity import VoiceActivity


class CascadeRoute:
    """Speech to pictures through text. Made by `speech2image.load`.

    Args:
        model: the folder the networks came from.
        recognizer: writes down what is said; None for a model that draws text alone.
        text_encoder: letters [1, 201] (`text.characters`) -> text embedding [1, size].
        generator: condition [1, size] and noise [1, noise_size] -> picture [1, 3, side, side] in [-1, 1].
        voice_activity: refuses recordings without speech; None takes any sound.
        prior: embedding [1, size] and noise -> condition [1, size]; None without condition prior.
        must_hear: refuse recordings of which no word is written down; else they are drawn from no words.
    """

    def __init__(
        self,
        model: Model,
        recognizer: SpeechRecogniser | None,
        text_encoder: Session,
        generator: Any,
        voice_activity: VoiceActivity | None = None,
        prior: Session | None = None,
        must_hear: bool = True,
    ) -> None:
        self.model, self.voice_activity, self.must_hear = model, voice_activity, must_hear
        self.name: str = model.name
        self.recognizer = recognizer
        self._text_encoder, self._painter = text_encoder, Painter(model, generator, prior)
        self.picture_size = self._painter.picture_size

    def translate(self, speech: Speech, n: int = 1, seed: int = 0) -> Translation:
        """Turn a recording into `n` pictures; the result's `transcript` says what was heard.

        Args:
            speech: a path, "-" (standard input), bytes, a binary file object, or (samples, rate).
            n: pictures to draw, 1 to 10,000. The first pictures are the same whatever `n` is.
            seed: where the noise comes from, a whole number from 0.

        Raises:
            SpeechError: the recording cannot be used, or no words are heard in it.
            SettingsError: `n` or `seed` is out of its range, or the model has no recogniser.
        """
        z = self._painter.noise(n, seed)
        recognizer = self._recognizer()
        timings: dict[str, float] = {}
        with timed(timings, "listen"):
            waveform, log_mel = listen(speech, self.voice_activity)
        with timed(timings, "transcribe"):
            heard = self._written(recognizer, waveform)
        return self._drawn(heard, log_mel, z, seed, timings)

    def draw_text(self, text: str, n: int = 1, seed: int = 0) -> Translation:
        """Turn a sentence into `n` pictures, without speech.

        Args:
            text: an English description; the first 201 characters count.
            n, seed: as of `translate`.

        Raises:
            SettingsError: there is no word in `text`; `n` or `seed` is out of its range.
        """
        z = self._painter.noise(n, seed)
        _check_words(text)
        return self._drawn(text, np.zeros((audio.N_MELS, 0), np.float32), z, seed, {})

    def transcribe(self, speech: Speech) -> str:
        """What is said in a recording: lower-case words.

        Raises:
            SpeechError, SettingsError: as `translate`.
        """
        recognizer = self._recognizer()
        return self._written(recognizer, listen(speech, self.voice_activity)[0])

    def embed(self, speech: Speech) -> NDArray[np.float32]:
        """Turn a recording into the text embedding of what is heard, float32 [1024].

        Raises:
            SpeechError, SettingsError: as `translate`.
        """
        return self._embed(self.transcribe(speech))

    def embed_text(self, text: str) -> NDArray[np.float32]:
        """Turn a sentence into its text embedding, float32 [1024].

        Raises:
            SettingsError: there is no word in `text`. Where a recording without words is not refused
                (`must_hear`), "" stands for one and is embedded.
        """
        if text or self.must_hear:
            _check_words(text)
        return self._embed(text)

    def generate(self, embedding: ArrayLike, n: int = 1, seed: int = 0) -> list[Image.Image]:
        """Draw `n` pictures of one text embedding [1024]; picture k depends on `seed` and k alone.

        Raises:
            SettingsError: `n` or `seed` is out of range; the embedding has another shape or is not finite.
        """
        return self._painter.generate(embedding, n, seed)

    def interpolate(self, first: Speech, second: Speech, steps: int = 9, seed: int = 0) -> Interpolation:
        """Walk from one recording to another under one noise, between the embeddings of what is heard.

        Args:
            first: the recording at the left end, alpha = 1.
            second: the recording at the right end, alpha = 0.
            steps: pictures, both ends included, 2 to 10,000.
            seed: where the one noise vector comes from.

        Raises:
            SpeechError, SettingsError: as `translate`; `steps` is out of its range.
        """
        alphas, z = walk_alphas(steps), self._painter.noise(1, seed)[0]
        recognizer = self._recognizer()
        timings: dict[str, float] = {}
        with timed(timings, "listen"):
            waveforms = [listen(speech, self.voice_activity)[0] for speech in (first, second)]
        with timed(timings, "transcribe"):
            texts = [self._written(recognizer, waveform) for waveform in waveforms]
        with timed(timings, "embed"):
            f1, f2 = map(self._embed, texts)
        with timed(timings, "draw"):
            pictures = self._painter.walk(f1, f2, alphas, z)
        mixed = between(f1, f2, alphas)
        return Interpolation(pictures, alphas.tolist(), mixed, int(seed), self.name, timings)

    def _recognizer(self) -> SpeechRecogniser:
        if self.recognizer is None:
            raise SettingsError(
                f"model '{self.name}' has no speech recogniser: give it a text (translate --text), or a "
                "recogniser (--recognizer whisper:base.en, or pocketsphinx)"
            )
        return self.recognizer

    def _written(self, recognizer: SpeechRecogniser, waveform: NDArray[np.float32]) -> str:
        heard = recognizer.transcribe(waveform)
        if transcript(heard):
            return heard
        if self.must_hear:
            raise SpeechError(
                f"no words heard: the recogniser {recognizer.name} wrote down nothing of "
                f"{len(waveform) / audio.SAMPLE_RATE:.1f} s; say an English sentence, close to the microphone"
            )
        return ""

    def _embed(self, text: str) -> NDArray[np.float32]:
        letters = characters(text) if text else np.full(CAPTION_LENGTH, NOTHING, dtype=np.int64)
        return self._painter.checked(self._text_encoder(letters=letters[None]), self._text_encoder)

    def _drawn(
        self,
        text: str,
        log_mel: NDArray[np.float32],
        z: NDArray[np.float32],
        seed: int,
        timings: dict[str, float],
    ) -> Translation:
        with timed(timings, "embed"):
            embedding = self._embed(text)
        with timed(timings, "draw"):
            pictures = [self._painter.draw(embedding, row) for row in z]
        route = self.model.route
        return Translation(pictures, embedding, log_mel, int(seed), self.name, timings, text, route)


Route = DirectRoute | CascadeRoute
"""What `speech2image.load` opens."""


def _check_words(text: str) -> None:
    """Refuse a text that says nothing."""
    characters(text)
    if not transcript(text[:CAPTION_LENGTH]):
        raise SettingsError(f"no word in {text[:40]!r}: give an English sentence")
