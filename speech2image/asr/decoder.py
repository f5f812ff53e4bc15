"""Decoder of a model's speech encoder: its states of every 20 ms -> words, token by token, in numpy.

    states [1, steps, width]  --words_memory.onnx--> keys and values [layers, 1, heads, steps, slice]
    tokens so far, these      --words_decoder.onnx--> log-probabilities of the next token

Made of Whisper's decoder (`models/whisper_decoder.py`), which a sentence's first two tokens, BLANK and END,
tell to write without times. The first network runs once a clip, so that a token costs only the second.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.asr.ctc import Search, TranscribedWord, beam_search, words_of_tokens
from speech2image.asr.text import BLANK, Vocabulary
from speech2image.errors import CheckpointError
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.onnx_check import EIGHT_BIT, EXPORTED
from speech2image.pipeline.registry import Model
from speech2image.pipeline.routes import WORDS_DECODER, WORDS_MEMORY

MOST_TOKENS = 200
"""The most a sentence may have: Whisper's decoder knows 448 places, of which 224 are kept."""


class WordsDecoder:
    """The decoder of one model.

    Args:
        memory: states -> the decoder's keys and values of them.
        decoder: tokens [n, new], keys and values of earlier tokens [layers, n, heads, length, slice], those
            of the states -> log-probabilities of the next token [n, tokens], keys and values of all tokens.
        vocabulary: its pieces of text.
    """

    def __init__(self, memory: Session, decoder: Session, vocabulary: Vocabulary) -> None:
        self.memory, self.decoder, self.vocabulary = memory, decoder, vocabulary

    @classmethod
    def of_model(cls, model: Model, threads: int | None = None) -> "WordsDecoder":
        """Open the networks of a model that has `decoder_pieces`.

        Raises:
            CheckpointError: they are damaged or something else.
        """
        memory, decoder = (
            Session(model.read(name), *model.signature(name), str(model.path(name)), threads, allowed)
            for name, allowed in ((WORDS_MEMORY, EXPORTED), (WORDS_DECODER, EIGHT_BIT))
        )
        return cls(memory, decoder, Vocabulary(model.decoder_pieces))

    def __call__(
        self, states: NDArray[np.float32], limit: int, search: Search
    ) -> tuple[TranscribedWord, ...]:
        """The words of a clip, each with the geometric mean of its tokens' probabilities.

        Args:
            states: the encoder's output `registry.STATES`, [1, steps, width].
            limit: the most tokens to write.
            search: its beam; CTC takes no part.

        Raises:
            CheckpointError: the networks do not fit each other or the vocabulary.
        """
        tokens, _, chances = beam_search(
            self, self.start(states), len(self.vocabulary), search, min(limit, MOST_TOKENS)
        )
        return words_of_tokens(tokens, chances, self.vocabulary)

    def start(self, states: NDArray[np.float32]) -> Any:
        """The state before the first token."""
        keys, values = self.memory.all(states).values()
        if keys.ndim != 5 or keys.shape != values.shape:
            raise CheckpointError(
                f"{self.memory.name} gave arrays of shapes {list(keys.shape)} and {list(values.shape)}, not "
                "[layers, 1, heads, steps, slice]"
            )
        empty = np.zeros((*keys.shape[:3], 0, keys.shape[4]), dtype=np.float32)
        return empty, empty, keys, values

    def follow(self, tokens: NDArray[np.int64], state: Any) -> tuple[NDArray[np.float32], Any]:
        """As `ctc.Follower`; the first call reads BLANK, too."""
        keys, values, *memory = state
        read = tokens[:, None]
        if not keys.shape[3]:
            read = np.concatenate([np.full_like(read, BLANK), read], axis=1)
        following, keys, values = self.decoder.all(read, keys, values, *memory).values()
        return following, (keys, values, *memory)

    def select(self, state: Any, rows: NDArray[np.int64]) -> Any:
        """As `ctc.Follower`."""
        keys, values, *memory = state
        return (keys[:, rows], values[:, rows], *memory)
