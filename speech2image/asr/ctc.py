"""CTC and beam search: from a log-mel spectrogram to words over a recognizer's two heads, in numpy.

    log-mel [40, frames] --encoder--> CTC log-probabilities [steps, tokens], the decoder's memory
    tokens so far        --decoder--> log-probabilities of the next token

Token 0 is CTC's blank, token 1 starts and ends a sentence, the others are pieces of text. A search writes at
most as many tokens as there are steps, and no more than about twice what CTC expects: a decoder that loops on
silence is stopped, and where CTC expects nothing, nothing is written.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from speech2image.asr.text import BLANK, END, FIRST_PIECE, Vocabulary
from speech2image.errors import CheckpointError, SettingsError
from speech2image.pipeline.card import check_recognizer_card, read_content, read_json_card
from speech2image.pipeline.onnx import Session

SLACK = 10
"""Tokens a sentence may have beyond twice what CTC expects."""
IMPOSSIBLE = -1e30
FORMAT = "speech2image-recognizer-1"
CARD = "recognizer.json"
ENCODER_FILE, DECODER_FILE = "recognizer_encoder.onnx", "recognizer_decoder.onnx"

ENCODER = (("log_mel", "n_frames"), ("ctc", "memory_keys", "memory_values"))
DECODER = (("tokens", "keys", "values", "memory_keys", "memory_values"), ("next", "new_keys", "new_values"))
"""Inputs and outputs of the two ONNX networks; shapes as in `Networks`."""


class Scorer(Protocol):
    """The two networks of a recognizer, for one clip."""

    def listen(self, log_mel: NDArray[np.float32]) -> tuple[NDArray[np.float32], Any]:
        """Log-mel [40, frames] -> CTC's log-probabilities [steps, tokens] and the decoder's first state."""

    def follow(self, tokens: NDArray[np.int64], state: Any) -> tuple[NDArray[np.float32], Any]:
        """The last token of each of n hypotheses [n] -> log-probabilities of the next [n, tokens], state."""

    def select(self, state: Any, rows: NDArray[np.int64]) -> Any:
        """The state of hypotheses `rows` (one may come several times)."""


@dataclass(frozen=True)
class TranscribedWord:
    """A word, and how sure the network that wrote it is of it.

    Attributes:
        text: the word.
        confidence: 0 to 1, the geometric mean over its tokens of their probability: CTC's where each is
            likeliest, or the decoder's.
    """

    text: str
    confidence: float


@dataclass(frozen=True)
class Transcript:
    """The words of a clip.

    Attributes:
        text: lower-case words.
        log_probability: natural log, of the search's weighing of both heads; 0 for an empty transcript.
        tokens: written, without the end.
        words: those of the text, each with CTC's confidence.
    """

    text: str
    log_probability: float
    tokens: tuple[int, ...]
    words: tuple[TranscribedWord, ...] = ()


@dataclass(frozen=True)
class Search:
    """How to look for the best transcript.

    Attributes:
        beam: hypotheses kept at each step; 1 is greedy.
        ctc_weight: share of CTC's prefix score, 0 (the decoder alone) to 1 (CTC alone).
        max_tokens: the most tokens written, whatever the clip.
    """

    beam: int = 4
    ctc_weight: float = 0.3
    max_tokens: int = 1000

    def __post_init__(self) -> None:
        if self.beam < 1 or not 0 <= self.ctc_weight <= 1 or self.max_tokens < 1:
            raise SettingsError(f"need beam >= 1, ctc_weight from 0 to 1, max_tokens >= 1; got {self}")


def transcribe(
    scorer: Scorer, vocabulary: Vocabulary, log_mel: NDArray[np.float32], search: Search = Search()
) -> Transcript:
    """Write down what a clip says.

    Args:
        scorer: the recognizer.
        vocabulary: its pieces of text.
        log_mel: from `audio.log_mel`, [40, frames].
        search: how.

    Raises:
        CheckpointError: the recognizer gives something else than log-probabilities of these tokens.
    """
    ctc, state = scorer.listen(log_mel)
    if ctc.shape[1] != len(vocabulary):
        raise CheckpointError(
            f"the recognizer's encoder knows {ctc.shape[1]} tokens, its card states {len(vocabulary)}"
        )
    limit = token_limit(ctc, search.max_tokens)
    if not limit:
        return Transcript("", 0.0, ())
    tokens, score = beam_search(scorer, state, ctc, search, limit)
    words = words_of_tokens(tokens, token_chances(ctc, tokens), vocabulary)
    return Transcript(vocabulary.text(tokens), score, tuple(tokens), words)


def best_path_words(ctc: NDArray[np.float32], vocabulary: Vocabulary) -> tuple[TranscribedWord, ...]:
    """The words of CTC's likeliest path [steps, tokens]."""
    path, certain = ctc.argmax(axis=1), ctc.max(axis=1)
    starts = np.flatnonzero(np.diff(path, prepend=-1))
    stretches = [
        (int(path[start]), float(certain[start:end].max()))
        for start, end in zip(starts, [*starts[1:], len(path)], strict=True)
        if path[start] not in (BLANK, END)
    ]
    return words_of_tokens([token for token, _ in stretches], [sure for _, sure in stretches], vocabulary)


def token_chances(ctc: NDArray[np.float32], tokens: Sequence[int]) -> list[float]:
    """How sure CTC is of each token of a sentence.

    Args:
        ctc: log-probabilities [steps, tokens].
        tokens: of the sentence.

    Returns:
        Of each token the log-probability where it is likeliest, on the likeliest path that writes the
        sentence (Viterbi); -inf where there is no such path.
    """
    # A path runs through these states in order: it stays, goes on by one, or skips a blank.
    states = np.full(2 * len(tokens) + 1, BLANK)
    states[1::2] = tokens  # blank, token, blank, token, ..., blank
    skips = np.zeros(len(states), dtype=np.bool_)
    skips[2:] = (states[2:] != BLANK) & (states[2:] != states[:-2])  # no blank need lie between two others
    emitted = ctc[:, states].astype(np.float64)
    score = np.full(len(states), IMPOSSIBLE)
    score[:2] = emitted[0, :2]
    back = np.zeros(emitted.shape, dtype=np.int64)
    for t in range(1, len(ctc)):
        ways = np.full((3, len(states)), IMPOSSIBLE)  # from the same state, the one before, two before
        ways[0], ways[1, 1:], ways[2, 2:] = score, score[:-1], np.where(skips[2:], score[:-2], IMPOSSIBLE)
        back[t] = ways.argmax(axis=0)
        score = ways.max(axis=0) + emitted[t]
    chances = [float("-inf")] * len(tokens)
    # The path may end in the last token or in the blank after it; walk back from the better of the two.
    state = len(states) - 1 - int(score[-2:].argmin() if len(tokens) else 0)
    for t in reversed(range(len(ctc))):
        if state % 2:
            chances[state // 2] = max(chances[state // 2], float(emitted[t, state]))
        state -= int(back[t, state])
    return chances


def words_of_tokens(
    tokens: Sequence[int], chances: Sequence[float], vocabulary: Vocabulary
) -> tuple[TranscribedWord, ...]:
    """The words that tokens spell, from the log-probability of each token."""
    words: list[tuple[str, list[float]]] = [("", [])]
    for token, sure in zip(tokens, chances, strict=True):
        for i, letters in enumerate(vocabulary.pieces[token - FIRST_PIECE].split(" ")):
            text, before = ("", []) if i else words.pop()
            words.append((text + letters, [*before, sure] if letters else before))
    return tuple(
        TranscribedWord(text, min(1.0, float(np.exp(np.mean(before))))) for text, before in words if text
    )


def check_ctc(ctc: NDArray[np.float32], tokens: int, name: str) -> NDArray[np.float32]:
    """The log-probabilities [steps, tokens] of the one clip of a batch.

    Raises:
        CheckpointError: a network gave something else than its card says; `name` is what to call it.
    """
    if ctc.ndim != 3 or ctc.shape[0] != 1 or ctc.shape[2] != tokens:
        raise CheckpointError(
            f"{name} gave an array of shape {list(ctc.shape)}, not the log-probabilities of {tokens} tokens "
            "at every step; it does not fit its card"
        )
    one: NDArray[np.float32] = ctc[0]
    return one


def best_path(ctc: NDArray[np.float32]) -> list[int]:
    """The tokens of CTC's likeliest path [steps, tokens], without repetitions and blanks."""
    path = ctc.argmax(axis=1)
    changed = np.flatnonzero(np.diff(path, prepend=-1))
    return [int(token) for token in path[changed] if token not in (BLANK, END)]


def token_limit(ctc: NDArray[np.float32], most: int) -> int:
    """The most tokens a transcript of this clip may have; 0 where CTC expects none: then nothing is written.

    Args:
        ctc: log-probabilities [steps, tokens]. The sum over steps of what is not blank is about the number of
            tokens, in training sooner than the best path shows them.
        most: the most of all.
    """
    expected = round(float((1 - np.exp(np.minimum(ctc[:, BLANK].astype(np.float64), 0))).sum()))
    return min(2 * expected + SLACK, len(ctc), most) if expected else 0


def beam_search(
    scorer: Scorer, state: Any, ctc: NDArray[np.float32], search: Search, limit: int
) -> tuple[list[int], float]:
    """The best sentence by (1 - w) decoder + w CTC (Watanabe et al. 2017), and its score.

    Scores only fall as a sentence grows, so the search may stop as soon as the best finished sentence beats
    all unfinished ones.

    Raises:
        CheckpointError: the decoder gives another number of tokens than CTC.
    """
    prefixes = CtcPrefixes(ctc) if search.ctc_weight > 0 else None
    sentences: list[list[int]] = [[]]
    decoder, last = np.zeros(1), np.array([END], dtype=np.int64)
    finished: tuple[list[int], float] | None = None
    for _ in range(limit + 1):
        following, state = scorer.follow(last, state)
        if following.shape != (len(last), ctc.shape[1]):
            raise CheckpointError(
                f"the recognizer's decoder gave an array of shape {list(following.shape)}, "
                f"not {[len(last), ctc.shape[1]]}"
            )
        attention = decoder[:, None] + following
        joint = (1 - search.ctc_weight) * attention
        if prefixes is not None:
            joint = joint + search.ctc_weight * prefixes.scores()
        ends = joint[:, END]
        best = int(ends.argmax())
        if finished is None or ends[best] > finished[1]:
            finished = sentences[best], float(ends[best])
        if len(sentences[0]) == limit:
            break
        # Only continuations that still beat the best finished sentence are kept: scores never rise again.
        joint[:, [BLANK, END]] = -np.inf  # no continuations: a blank writes nothing, END is counted above
        rows, tokens = np.divmod(np.argsort(-joint, axis=None, kind="stable")[: search.beam], joint.shape[1])
        alive = joint[rows, tokens] > finished[1]
        rows, tokens = rows[alive], tokens[alive]
        if not len(rows):
            break
        sentences = [[*sentences[row], int(token)] for row, token in zip(rows, tokens, strict=True)]
        decoder, last, state = attention[rows, tokens], tokens.astype(np.int64), scorer.select(state, rows)
        if prefixes is not None:
            prefixes.grow(rows, tokens)
    assert finished is not None
    return finished


class CtcPrefixes:
    """log P(a sentence begins with these tokens) under CTC, for all one-token continuations at once.

    For every prefix g and step t, r_n and r_b are the log-probabilities of all paths over steps up to t that
    spell g and end in its last token or in a blank (Graves 2008; Watanabe et al. 2017, algorithm 2).

    Args:
        ctc: log-probabilities [steps, tokens].
    """

    def __init__(self, ctc: NDArray[np.float32]) -> None:
        self.ctc = ctc.astype(np.float64)
        steps = len(ctc)
        self._ends = np.full((1, steps, 2), IMPOSSIBLE)  # last axis: token, blank
        self._ends[0, :, 1] = np.cumsum(self.ctc[:, BLANK])
        self._last = np.array([-1])
        self._grown: NDArray[np.float64] = np.empty((0, 0, 0, 2))

    def scores(self) -> NDArray[np.float64]:
        """Of every continuation, [hypotheses, tokens]; at END that of stopping here, at BLANK impossible."""
        n, steps, vocabulary = len(self._last), *self.ctc.shape
        # A token may start at step t wherever the prefix was complete at t - 1, in a token or in a blank ...
        before = np.logaddexp(self._ends[:, :, 0], self._ends[:, :, 1])  # [n, steps]
        entry = np.repeat(before[:, :, None], vocabulary, axis=2)
        # ... but the same token again only after a blank, or CTC would merge the two into one.
        repeated = self._last >= 0
        entry[repeated, :, self._last[repeated]] = self._ends[repeated, :, 1]
        grown = np.full((n, steps, vocabulary, 2), IMPOSSIBLE)
        # Only the empty prefix can be followed at step 0; every other one has used that step itself.
        first = self._last < 0
        grown[first, 0, :, 0] = self.ctc[0]
        total = grown[:, 0, :, 0].copy()
        for t in range(1, steps):
            token = np.logaddexp(grown[:, t - 1, :, 0], entry[:, t - 1]) + self.ctc[t]
            blank = np.logaddexp(grown[:, t - 1, :, 0], grown[:, t - 1, :, 1]) + self.ctc[t, BLANK]
            grown[:, t, :, 0], grown[:, t, :, 1] = token, blank
            # Count each path where the token begins; where it goes on, it has been counted.
            total = np.logaddexp(total, entry[:, t - 1] + self.ctc[t])
        self._grown = grown
        # Ending here means that all steps spell the prefix and nothing more.
        total[:, END], total[:, BLANK] = before[:, -1], IMPOSSIBLE
        return total

    def grow(self, rows: NDArray[np.int64], tokens: NDArray[np.int64]) -> None:
        """Keep hypotheses `rows`, each extended by one of `tokens`."""
        self._ends, self._last = self._grown[rows, :, tokens], tokens.copy()


DecoderState = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""Keys and values of the tokens so far, [layers, hypotheses, heads, length, slice], then of the clip."""


def first_state(keys: NDArray[np.float32], values: NDArray[np.float32]) -> DecoderState:
    """The state before the first token, of a clip's keys and values [layers, 1, heads, steps, slice]."""
    empty = np.zeros((*keys.shape[:3], 0, keys.shape[4]), dtype=np.float32)
    return empty, empty, keys, values


def rows_of_state(state: DecoderState, rows: NDArray[np.int64]) -> DecoderState:
    """The state of hypotheses `rows` (one may come several times)."""
    keys, values, memory_keys, memory_values = state
    return keys[:, rows], values[:, rows], memory_keys, memory_values


class Networks:
    """A recognizer's two networks in ONNX, as a `Scorer`.

        encoder: log_mel [1, 40, frames], n_frames [1] -> ctc [1, steps, tokens] and the decoder's keys and
                 values of the steps, each [layers, 1, heads, steps, slice]
        decoder: tokens [n], keys and values of earlier tokens [layers, n, heads, length, slice], the
                 encoder's -> log-probabilities of the next token [n, tokens], keys and values one longer

    Args:
        encoder, decoder: opened with the names in `ENCODER` and `DECODER`.
    """

    def __init__(self, encoder: Session, decoder: Session) -> None:
        self.encoder, self.decoder = encoder, decoder

    def listen(self, log_mel: NDArray[np.float32]) -> tuple[NDArray[np.float32], Any]:
        n_frames = np.array([log_mel.shape[1]], dtype=np.int64)
        ctc, keys, values = self.encoder.all(log_mel[None], n_frames).values()
        if ctc.ndim != 3 or len(ctc) != 1 or ctc.shape[1] > log_mel.shape[1] or keys.ndim != 5:
            raise CheckpointError(
                f"{self.encoder.name} gave arrays of shapes {list(ctc.shape)} and {list(keys.shape)}, not "
                "[1, steps, tokens], with no more steps than frames, and [layers, 1, heads, steps, slice]"
            )
        return ctc[0], first_state(keys, values)

    def follow(self, tokens: NDArray[np.int64], state: Any) -> tuple[NDArray[np.float32], Any]:
        following, keys, values = self.decoder.all(tokens, *state).values()
        return following, (keys, values, *state[2:])

    def select(self, state: Any, rows: NDArray[np.int64]) -> Any:
        return rows_of_state(state, rows)


class CtcAlone:
    """What a network without a decoder gave for a clip as a `Scorer`; for searches with `ctc_weight` 1.

    Args:
        ctc: log-probabilities [steps, tokens].
    """

    def __init__(self, ctc: NDArray[np.float32]) -> None:
        self.ctc = ctc

    def listen(self, log_mel: NDArray[np.float32]) -> tuple[NDArray[np.float32], Any]:
        return self.ctc, None

    def follow(self, tokens: NDArray[np.int64], state: Any) -> tuple[NDArray[np.float32], Any]:
        return np.zeros((len(tokens), self.ctc.shape[1]), np.float32), state

    def select(self, state: Any, rows: NDArray[np.int64]) -> Any:
        return state


class CtcDecoder:
    """An exported recognizer: recordings to words, without torch.

    Args:
        folder: what `export.recognizer` wrote.
        threads: as of `pipeline.onnx.Session`.

    Raises:
        CheckpointError: the folder holds no recognizer, or a damaged one.
    """

    def __init__(self, folder: str | os.PathLike[str], threads: int | None = None) -> None:
        self.folder = Path(folder)
        if not os.path.isfile(self.folder / CARD):
            raise CheckpointError(f"no recognizer in {folder}: it has no {CARD}")
        self.card = read_json_card(self.folder / CARD)
        if self.card.get("format") != FORMAT:
            raise CheckpointError(f"{folder} holds {self.card.get('format')!r}, need {FORMAT!r}")
        check_recognizer_card(self.card, self.folder / CARD, (ENCODER_FILE, DECODER_FILE))
        contents = [self.content(name) for name in (ENCODER_FILE, DECODER_FILE)]
        self.vocabulary = Vocabulary(tuple(self.card["pieces"]))
        self._networks = Networks(
            *(
                Session(content, *signature, str(self.folder / name), threads)
                for content, signature, name in zip(
                    contents, (ENCODER, DECODER), (ENCODER_FILE, DECODER_FILE), strict=True
                )
            )
        )

    def __call__(self, log_mel: NDArray[np.float32], search: Search = Search()) -> Transcript:
        """Write down a clip: log-mel from `audio.log_mel`, [40, frames]."""
        return transcribe(self._networks, self.vocabulary, log_mel, search)

    def content(self, name: str) -> bytes:
        """Read one of its files.

        Raises:
            CheckpointError: it is unreadable, or not the one that `recognizer.json` states.
        """
        content = read_content(self.folder / name)
        if hashlib.sha256(content).hexdigest() != self.card["files"][name]["sha256"]:
            raise CheckpointError(f"{self.folder / name} is damaged: its checksum is not that of {CARD}")
        return content
