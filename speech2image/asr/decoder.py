"""Decoder of a model's speech encoder: its states of every 20 ms -> words, token by token, in numpy.

    states [1, steps, width]  --words_memory.onnx--> keys and values [layers, 1, heads, steps, slice]
    tokens so far, these      --words_decoder.onnx--> log-probabilities of the next token

    last tokens --language_model.onnx--> log-probabilities of the next token, if the model has one

Made of Whisper's decoder (`models/whisper_decoder.py`), which a sentence's first two tokens, BLANK and END,
tell to write without times. The first network runs once a clip, so that a token costs only the second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
from speech2image.pipeline.networks import open_network
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.registry import Model
from speech2image.pipeline.routes import LANGUAGE_MODEL, WORDS_DECODER, WORDS_MEMORY

MOST_TOKENS = 200
"""The most a sentence may have: Whisper's decoder knows 448 places, of which 224 are kept."""


@dataclass(frozen=True)
class LanguageModel:
    """What sentences usually say, in a decoder's pieces of text.

    Attributes:
        network: the last tokens [n, context] -> log-probabilities of the next one [n, tokens].
        context: so many tokens.
        weight: of these log-probabilities beside the decoder's; 0 leaves them out.
    """

    network: Session
    context: int
    weight: float

    @classmethod
    def of_model(cls, model: Model, threads: int | None = None) -> "LanguageModel | None":
        """Open that of a model; None where it has none.

        Raises:
            CheckpointError: it is damaged or something else.
        """
        if LANGUAGE_MODEL not in model.networks:
            return None
        stated = model.card[LANGUAGE_MODEL]
        return cls(open_network(model, LANGUAGE_MODEL, threads), stated["context"], stated["weight"])

    def __call__(self, sentences: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """The weighted log-probabilities of the token behind each sentence, [sentences, tokens]."""
        before = [END] * self.context
        last = [[*before, *sentence][-self.context :] for sentence in sentences]
        return np.float32(self.weight) * self.network(np.array(last, dtype=np.int64))


class WordsDecoder:
    """The decoder of one model.

    Args:
        memory: states -> the decoder's keys and values of them.
        decoder: tokens [n, new], keys and values of earlier tokens [layers, n, heads, length, slice], those
            of the states -> log-probabilities of the next token [n, tokens], keys and values of all tokens.
        vocabulary: its pieces of text.
        language_model: adds to the decoder's log-probabilities while it searches (shallow fusion, Gulcehre et
            al. 2015); confidences stay the decoder's own.
    """

    def __init__(
        self,
        memory: Session,
        decoder: Session,
        vocabulary: Vocabulary,
        language_model: LanguageModel | None = None,
    ) -> None:
        self.memory, self.decoder, self.vocabulary = memory, decoder, vocabulary
        self.language_model = language_model

    @classmethod
    def of_model(cls, model: Model, threads: int | None = None) -> "WordsDecoder":
        """Open the networks of a model that has `decoder_pieces`.

        Raises:
            CheckpointError: they are damaged or something else.
        """
        memory, decoder = (
            open_network(model, name, threads, optimise=False) for name in (WORDS_MEMORY, WORDS_DECODER)
        )
        language_model = LanguageModel.of_model(model, threads)
        return cls(memory, decoder, Vocabulary(model.decoder_pieces), language_model)

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
        """The tokens of the sentence with the highest mean score, and the decoder's log-probability of each.

        The score of a token is its log-probability, with what the language model adds.

        The mean and not the sum: by the sum, a decoder that is unsure of what comes next would rather end
        (Wu et al. 2016, length normalisation with exponent 1, as Whisper's own search does).
        """
        state = self.start(states)
        alive: list[tuple[list[int], list[float], float]] = [([], [], 0.0)]
        ended: list[tuple[float, list[int], list[float]]] = []
        last = np.array([END], dtype=np.int64)
        for _ in range(limit + 1):
            following, state = self.follow(last, state)
            expected = (len(last), len(self.vocabulary))
            _check_shape(following, expected, self.decoder.name)
            scores = following
            if self.language_model is not None:
                usual = self.language_model([sentence for sentence, _, _ in alive])
                _check_shape(usual, expected, self.language_model.network.name)
                scores = following + usual
            sums = np.array([score for _, _, score in alive])[:, None] + scores
            best = np.argsort(-sums, axis=None, kind="stable")[:beam]
            rows, tokens = np.divmod(best, sums.shape[1])
            for row in rows[tokens == END]:
                sentence, chances, _ = alive[row]
                ended.append((float(sums[row, END]) / (len(sentence) + 1), sentence, chances))
            rows, tokens = rows[tokens != END], tokens[tokens != END]
            if not len(rows) or len(ended) >= beam:
                break
            alive = [
                (
                    [*alive[row][0], int(token)],
                    [*alive[row][1], float(following[row, token])],
                    float(sums[row, token]),
                )
                for row, token in zip(rows, tokens, strict=True)
            ]
            last, state = tokens.astype(np.int64), self.select(state, rows)
        if not ended:  # the limit came first
            ended = [(score / max(1, len(chances)), sentence, chances) for sentence, chances, score in alive]
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


def _check_shape(found: NDArray[np.float32], expected: tuple[int, int], name: str) -> None:
    if found.shape != expected:
        raise CheckpointError(
            f"{name} gave an array of shape {list(found.shape)}, not {list(expected)}; it does not fit its "
            "card"
        )
