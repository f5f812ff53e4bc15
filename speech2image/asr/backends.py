"""ASR backends: whatever writes down speech, behind one method (own recognizer, Whisper, PocketSphinx).

    recognizer.transcribe(waveform) -> "a red flower with rounded petals"
    recognize(recognizer, waveform) -> the same, with each word's confidence and the domain where it has them

Waveforms are mono 16 kHz float32 in [-1, 1] (`audio.load`); text is lower-case words (`text.transcript`).
"""

import math
import os
import threading
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from speech2image import audio
from speech2image.asr.ctc import (
    CtcAlone,
    CtcDecoder,
    Search,
    TranscribedWord,
    check_ctc,
    transcribe,
)
from speech2image.asr.decoder import WordsDecoder
from speech2image.asr.text import Vocabulary, transcript
from speech2image.errors import CheckpointError, SettingsError, require
from speech2image.pipeline.domains import Decision, decided
from speech2image.pipeline.networks import open_network
from speech2image.pipeline.registry import CARD, DOMAIN, STATES, WORDS, Model, here_or_shipped, read_card

ENCODER = "speech_encoder"
WHISPER_WINDOW = 30.0
"""Seconds that Whisper hears at a time."""
TOKENS_A_SECOND = 10
"""The most that anybody says: five words of two tokens."""


class AsrBackend(Protocol):
    """Writes down what is said.

    Attributes:
        name: for tables and messages.
    """

    @property
    def name(self) -> str: ...

    def transcribe(self, waveform: NDArray[np.float32]) -> str:
        """The words of a recording; "" where none is heard."""


class Recognition(NamedTuple):
    """What a recognizer made of a recording.

    Attributes:
        text: lower-case words; "" where none is heard.
        words: those of the text, each with its confidence; none where the recognizer tells none.
        decision: what the recording is about, where the recognizer tells it.
    """

    text: str
    words: tuple[TranscribedWord, ...] = ()
    decision: Decision = Decision()


@runtime_checkable
class DetailedAsr(AsrBackend, Protocol):
    """A recognizer that tells more than the words."""

    def recognize(self, waveform: NDArray[np.float32]) -> Recognition:
        """The words of a recording, how sure each is, and what it is about."""


def recognize(recognizer: AsrBackend, waveform: NDArray[np.float32]) -> Recognition:
    """All that a recognizer tells of a recording."""
    if isinstance(recognizer, DetailedAsr):
        return recognizer.recognize(waveform)
    return Recognition(recognizer.transcribe(waveform))


class BuiltinAsr:
    """This project's Transformer, exported to ONNX; needs nothing but the base install.

    Args:
        folder: of the exported recognizer.
        search: beam and weights.
        threads: of one call.

    Raises:
        CheckpointError: the folder holds no recognizer, or a damaged one.
    """

    name = "speech2image"

    def __init__(
        self, folder: str | os.PathLike[str], search: Search | None = None, threads: int | None = None
    ) -> None:
        self.recognizer = CtcDecoder(folder, threads)
        self.search = search or Search()

    def transcribe(self, waveform: NDArray[np.float32]) -> str:
        """The words of a recording; "" where none is heard."""
        return self.recognize(waveform).text

    def recognize(self, waveform: NDArray[np.float32]) -> Recognition:
        """The words, and how sure the encoder's CTC is of each."""
        found = self.recognizer(audio.log_mel(waveform), self.search)
        return Recognition(found.text, found.words)


class EncoderAsr:
    """What a model's speech encoder writes down: one set of weights embeds and knows the words.

    A model with a decoder writes with that, another one with CTC alone.

    Args:
        model: whose card names the pieces of text its encoder writes in.
        search: its beam; CTC and decoder are not mixed, as their pieces of text differ.
        threads: of one call.

    Attributes:
        decoder: that writes; None for CTC alone.

    Raises:
        CheckpointError: its encoder only embeds, or is damaged.
    """

    name = "speech2image"

    def __init__(self, model: Model, search: Search | None = None, threads: int | None = None) -> None:
        if not model.pieces:
            raise CheckpointError(f"the speech encoder of model '{model.name}' writes down no words")
        self.search, self._front_end = search or Search(), model.front_end
        self._vocabulary, self._domains = Vocabulary(model.pieces), model.domains
        # Rewritten, which in eight bits rounds otherwise than the direct route's: so its words were measured.
        self._network = open_network(model, ENCODER, threads)
        self.decoder = WordsDecoder.of_model(model, threads) if model.decoder_pieces else None

    def transcribe(self, waveform: NDArray[np.float32]) -> str:
        """The words of a recording; "" where none is heard."""
        return self.recognize(waveform).text

    def recognize(self, waveform: NDArray[np.float32]) -> Recognition:
        """The words, how sure the network is of each, and what the recording is about if it tells that."""
        frames = self._front_end.extract(waveform)
        n_frames = np.array([frames.shape[1]], dtype=np.int64)
        given = self._network.all(frames[None], n_frames)
        ctc = check_ctc(given[WORDS], len(self._vocabulary), self._network.name)
        domain = self._domains, given.get(DOMAIN), self._network.name
        if self.decoder is None:
            alone = replace(self.search, ctc_weight=1.0)
            written = transcribe(CtcAlone(ctc), self._vocabulary, frames, alone)
            return Recognition(written.text, written.words, decided(*domain))
        words = self.decoder(given[STATES], ctc, self.search.beam, self.search.max_tokens)
        text = " ".join(word.text for word in words)
        return Recognition(text, words, decided(*domain, text))


class Whisper:
    """OpenAI's Whisper through faster-whisper (extra `asr`).

    Args:
        model: a model folder of faster-whisper's (CTranslate2), or a name such as "base.en", which it
            downloads.
        threads: 0 leaves it to the library.

    Raises:
        MissingExtraError: faster-whisper is not installed.
        CheckpointError: the model cannot be opened.
    """

    def __init__(self, model: str = "base.en", threads: int = 0) -> None:
        self.name = f"whisper {os.path.basename(os.path.normpath(model))}"
        library = require("faster_whisper", "asr")
        try:
            self._model = library.WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=threads)
        except (OSError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"Whisper model {model!r} cannot be opened: {error}") from error

    def transcribe(self, waveform: NDArray[np.float32]) -> str:
        """The words of a recording.

        No text carries over from one window to the next, which makes it loop. What fits into one window is
        written without times, which may end a segment before its sentence does, and with no more tokens
        than are said in that time.
        """
        seconds = len(waveform) / audio.SAMPLE_RATE
        one_window = seconds <= WHISPER_WINDOW
        segments, _ = self._model.transcribe(
            waveform,
            language="en",
            beam_size=5,
            condition_on_previous_text=False,
            without_timestamps=one_window,
            max_new_tokens=math.ceil(8 + TOKENS_A_SECOND * seconds) if one_window else None,
        )
        return transcript(" ".join(segment.text for segment in segments))


class PocketSphinx:
    """CMU PocketSphinx with its own English models (extra `asr`): an off-the-shelf baseline.

    Raises:
        MissingExtraError: pocketsphinx is not installed.
    """

    name = "pocketsphinx"

    def __init__(self) -> None:
        library = require("pocketsphinx", "asr")
        self._decoder: Any = library.Decoder(samprate=audio.SAMPLE_RATE, loglevel="FATAL")
        self._alone = threading.Lock()  # the decoder holds one utterance at a time

    def transcribe(self, waveform: NDArray[np.float32]) -> str:
        """The words of a recording."""
        samples = (np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes()
        with self._alone:
            self._decoder.start_utt()
            self._decoder.process_raw(samples, full_utt=True)
            self._decoder.end_utt()
            heard = self._decoder.hyp()
        return "" if heard is None else transcript(heard.hypstr)


def open_recognizer(
    choice: str, own: str | os.PathLike[str] | None = None, threads: int | None = None
) -> AsrBackend | None:
    """Open the recognizer that a user chose.

    Args:
        choice: "own", "own:FOLDER" (which `speech2image export recognizer` wrote, or of a model whose speech
            encoder writes down words; a shipped one by its name), "whisper:NAME" (a name, or a folder of
            faster-whisper's), or "pocketsphinx".
        own: folder of the recognizer that "own" stands for; None if there is none.
        threads: of one call, where the recognizer can be told; None takes its default.

    Returns:
        The recognizer; None for "own" where there is none.

    Raises:
        SettingsError: an unknown choice.
        CheckpointError: the folder or model cannot be opened.
        MissingExtraError: its package is not installed.
    """
    kind, _, which = choice.partition(":")
    if choice == "own":
        return None if own is None else _own(own, threads)
    if kind == "own" and which:
        return _own(which, threads)
    if kind == "whisper" and which:
        return Whisper(which, threads or 0)
    if choice == "pocketsphinx":
        return PocketSphinx()
    raise SettingsError(
        f"unknown recognizer '{choice}'; there are: own (the model's), own:FOLDER, whisper:NAME "
        "(for instance whisper:base.en) and pocketsphinx"
    )


def _own(folder: str | os.PathLike[str], threads: int | None) -> AsrBackend:
    """The recognizer in a folder or shipped under a name, or the words head of the model there."""
    folder = here_or_shipped(folder)
    if (folder / CARD).is_file():
        return EncoderAsr(read_card(folder), threads=threads)
    return BuiltinAsr(folder, threads=threads)
