"""Decoder of a model's speech encoder: its states of every 20 ms -> words, token by token, in numpy.

    states [1, steps, width]  --words_memory.onnx--> keys and values [layers, 1, heads, steps, slice]
    tokens so far, these      --words_decoder.onnx--> log-probabilities of the next token

Made of Whisper's decoder (`models/whisper_decoder.py`), which a sentence's first two tokens, BLANK and END,
tell to write without times. The first network runs once a clip, so that a token costs only the second.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.asr.ctc import (
    TranscribedWord,
    first_state,
    rows_of_state,
    token_limit,
    words_of_tokens,
)
from speech2image.asr.text import BLANK, END, Vocabulary
from speech2image.errors import CheckpointError
from speech2image.pipeline.onnx import Session
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
            Session(model.read(name), *model.signature(name), str(model.path(name)), threads, optimise=False)
            for name in (WORDS_MEMORY, WORDS_DECODER)
        )
        return cls(memory, decoder, Vocabulary(model.decoder_pieces))

    def __call__(
        self,
        states: NDArray[np.float32],
        ctc: NDArray[np.float32],
        beam: int = 1,
        max_tokens: int = MOST_TOKENS,
    ) -> tuple[TranscribedWord, ...]:
        """The words of a clip, each with the geometric mean of its tokens' probabilities.

        Args:
            states: the encoder's output `registry.STATES`, [1, steps, width].
            ctc: log-probabilities of its words head [steps, tokens]: they say how many tokens there may be,
                and where they expect none, nothing is written.
            beam: hypotheses kept at each step; 1 is greedy.
            max_tokens: the most of all.

        Raises:
            CheckpointError: the networks do not fit each other or the vocabulary.
        """
        limit = token_limit(ctc, min(max_tokens, MOST_TOKENS))
        if not limit:
            return ()
        tokens, chances = self.search(states, limit, beam)
        return words_of_tokens(tokens, chances, self.vocabulary)

    def search(self, states: NDArray[np.float32], limit: int, beam: int) -> tuple[list[int], list[float]]:
        """The tokens of the sentence with the highest mean log-probability, and each token's.

        The mean and not the sum: by the sum, a decoder that is unsure of what comes next would rather end
        (Wu et al. 2016, length normalisation with exponent 1, as Whisper's own search does).
        """
        state = self.start(states)
        alive: list[tuple[list[int], list[float]]] = [([], [])]
        ended: list[tuple[float, list[int], list[float]]] = []
        last = np.array([END], dtype=np.int64)
        for _ in range(limit + 1):
            following, state = self.follow(last, state)
            if following.shape != (len(last), len(self.vocabulary)):
                raise CheckpointError(
                    f"{self.decoder.name} gave an array of shape {list(following.shape)}, not "
                    f"{[len(last), len(self.vocabulary)]}; it does not fit its card"
                )
            sums = np.array([sum(chances) for _, chances in alive])[:, None] + following
            best = np.argsort(-sums, axis=None, kind="stable")[:beam]
            rows, tokens = np.divmod(best, sums.shape[1])
            for row in rows[tokens == END]:
                sentence, chances = alive[row]
                ended.append((float(sums[row, END]) / (len(sentence) + 1), sentence, chances))
            rows, tokens = rows[tokens != END], tokens[tokens != END]
            if not len(rows) or len(ended) >= beam:
                break
            alive = [
                ([*alive[row][0], int(token)], [*alive[row][1], float(following[row, token])])
                for row, token in zip(rows, tokens, strict=True)
            ]
            last, state = tokens.astype(np.int64), self.select(state, rows)
        if not ended:  # the limit came first
            ended = [(sum(chances) / max(1, len(chances)), sentence, chances) for sentence, chances in alive]
        _, sentence, chances = max(ended, key=lambda one: one[0])
        return sentence[:limit], chances[:limit]

    def start(self, states: NDArray[np.float32]) -> Any:
        """The state before the first token."""
        keys, values = self.memory.all(states).values()
        if keys.ndim != 5 or keys.shape != values.shape:
            raise CheckpointError(
                f"{self.memory.name} gave arrays of shapes {list(keys.shape)} and {list(values.shape)}, not "
                "[layers, 1, heads, steps, slice]"
            )
        return first_state(keys, values)

    def follow(self, tokens: NDArray[np.int64], state: Any) -> tuple[NDArray[np.float32], Any]:
        """As `ctc.Scorer.follow`; the first call reads BLANK, too."""
        keys, values, *memory = state
        read = tokens[:, None]
        if not keys.shape[3]:
            read = np.concatenate([np.full_like(read, BLANK), read], axis=1)
        following, keys, values = self.decoder.all(read, keys, values, *memory).values()
        return following, (keys, values, *memory)

    def select(self, state: Any, rows: NDArray[np.int64]) -> Any:
        """As `ctc.Scorer.select`."""
        return rows_of_state(state, rows)
