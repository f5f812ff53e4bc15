"""Direct route: speech to pictures without text in between (Li et al. 2020, Fig. 2).

recording --model's front end, speech_encoder.onnx--> speech embedding f [1024]
          --generator.onnx, noise z-----------------> pictures
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from speech2image.asr.ctc import TranscribedWord, best_path_words, check_ctc
from speech2image.asr.decoder import WordsDecoder
from speech2image.asr.text import Vocabulary
from speech2image.audio.front_ends import PAPER
from speech2image.audio.vad import VoiceActivityDetector
from speech2image.pipeline.base import EncodedSpeech, Parts, Route, Speech, listen, timed
from speech2image.pipeline.domains import decided
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.registry import DOMAIN, STATES, WORDS, Model


def open_route(parts: Parts) -> "DirectRoute":
    """The route of a model that was opened (`routes.RouteKind.module`)."""
    assert parts.encoder is not None
    decoder = None
    if parts.words and parts.model.decoder_pieces:
        decoder = WordsDecoder.of_model(parts.model, parts.threads)
    return DirectRoute(parts.model, parts.encoder, parts.generator, parts.vad, parts.prior, decoder)


class DirectRoute(Route):
    """Speech to pictures without text in between.

    Args:
        model: the folder the networks came from.
        speech_encoder: frames [1, features, frames] of the model's front end and n_frames [1] -> speech
            embedding [1, 1024].
        generator: as of `Route`.
        vad: as of `Route`.
        prior: as of `Route`.
        decoder: tells the words heard, on which no picture depends; None for those of CTC, where the encoder
            has it.
    """

    def __init__(
        self,
        model: Model,
        speech_encoder: Session,
        generator: Session,
        vad: VoiceActivityDetector | None = None,
        prior: Session | None = None,
        decoder: WordsDecoder | None = None,
    ) -> None:
        super().__init__(model, generator, vad, prior)
        self._decoder, self._domains = decoder, model.domains
        self._speech_encoder, self._vocabulary = speech_encoder, Vocabulary(model.pieces)

    def _encode(
        self, recordings: Sequence[Speech], timings: dict[str, float], quick: bool = False
    ) -> list[EncodedSpeech]:
        with timed(timings, "listen"):
            clips = [listen(recording, self.vad) for recording in recordings]
            frames = [self._frames(*one) for one in clips]
        with timed(timings, "embed"):
            return [self._embed(own, log_mel, quick) for own, (_, log_mel) in zip(frames, clips, strict=True)]

    def _embed(self, frames: NDArray[np.float32], log_mel: NDArray[np.float32], quick: bool) -> EncodedSpeech:
        """The embedding and, of an encoder that tells more, the words it heard and what they are about."""
        network, vocabulary = self._speech_encoder, self._vocabulary
        n_frames = np.array([frames.shape[1]], dtype=np.int64)
        given = network.all(frames[None], n_frames)
        words: tuple[TranscribedWord, ...] = ()
        decoder = None if quick else self._decoder
        if WORDS in given:
            ctc = check_ctc(given[WORDS], len(vocabulary), network.name)
            words = best_path_words(ctc, vocabulary) if decoder is None else decoder(given[STATES], ctc)
        transcript = " ".join(word.text for word in words) or None
        # the words of CTC alone are too often wrong to have a say
        written = transcript if decoder is not None else None
        decision = decided(self._domains, given.get(DOMAIN), network.name, written or "")
        embedding = self.generator.checked(given[network.outputs[0]], network)
        return EncodedSpeech(embedding, log_mel, transcript, words, decision)

    def _frames(self, waveform: NDArray[np.float32], log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the encoder takes: the log-mel that the detector took, or another front end's frames."""
        front_end = self.model.front_end
        return log_mel if front_end == PAPER else front_end.extract(waveform)
