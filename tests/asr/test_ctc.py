"""Searching a transcript: CTC's prefix scores against all paths, beams, and loops that are cut."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from speech2image.asr.ctc import (
    BLANK,
    END,
    CtcPrefixes,
    Search,
    Vocabulary,
    best_path_words,
    token_chances,
    token_limit,
    transcribe,
)
from speech2image.asr.text import LETTERS
from speech2image.errors import SettingsError


def log_softmax(x: np.ndarray) -> np.ndarray:
    return (x - np.log(np.exp(x).sum(-1, keepdims=True))).astype(np.float32)


def spelled(path: tuple[int, ...]) -> tuple[int, ...]:
    """What a CTC path says."""
    kept = [t for i, t in enumerate(path) if i == 0 or t != path[i - 1]]
    return tuple(t for t in kept if t != BLANK)


def by_all_paths(ctc: np.ndarray) -> dict[tuple[int, ...], float]:
    """Probability of every sentence, summed over all paths."""
    steps, vocabulary = ctc.shape
    sums: dict[tuple[int, ...], float] = {}
    for path in product([t for t in range(vocabulary) if t != END], repeat=steps):
        probability = float(np.exp(sum(ctc[i, t] for i, t in enumerate(path))))
        sums[spelled(path)] = sums.get(spelled(path), 0.0) + probability
    return sums


@pytest.mark.parametrize("prefix", [(), (2,), (2, 2), (3, 2), (2, 3, 2)])
def test_prefix_scores_equal_the_sum_over_all_paths(prefix):
    ctc = log_softmax(np.random.default_rng(1).normal(size=(5, 4)) - 20 * (np.arange(4) == END))
    sentences = by_all_paths(ctc)
    prefixes = CtcPrefixes(ctc)
    for token in prefix:
        prefixes.scores()
        prefixes.grow(np.array([0]), np.array([token]))
    found = prefixes.scores()[0]
    for token in (2, 3):
        begins = [p for s, p in sentences.items() if s[: len(prefix) + 1] == (*prefix, token)]
        assert np.exp(found[token]) == pytest.approx(sum(begins), abs=1e-6)
    assert np.exp(found[END]) == pytest.approx(sentences.get(prefix, 0.0), abs=1e-6)


def test_token_limit_follows_what_ctc_expects():
    blank = np.log(np.array([0.9] * 50 + [0.2] * 10))
    ctc = np.stack([blank, np.zeros(60), np.zeros(60)], axis=1)
    assert token_limit(ctc, 1000) == 2 * (5 + 8) + 10
    assert token_limit(ctc, 30) == 30 and token_limit(ctc[-12:], 1000) == 12
    assert token_limit(ctc[:4], 1000) == 0


@pytest.mark.parametrize("sentence", [(2,), (2, 3), (2, 2), (3, 2, 3), (2, 2, 2)])
def test_how_sure_ctc_is_of_tokens_on_the_likeliest_path(sentence):
    ctc = log_softmax(np.random.default_rng(7).normal(size=(6, 4)) - 20 * (np.arange(4) == END))
    paths = [p for p in product((BLANK, 2, 3), repeat=6) if spelled(p) == sentence]
    best = max(paths, key=lambda path: sum(ctc[i, t] for i, t in enumerate(path)))
    starts = [i for i, t in enumerate(best) if t != BLANK and (i == 0 or t != best[i - 1])]
    expected = []
    for start in starts:
        end = next((i for i in range(start, 6) if best[i] != best[start]), 6)
        expected.append(max(ctc[i, best[start]] for i in range(start, end)))
    np.testing.assert_allclose(token_chances(ctc, sentence), expected, rtol=1e-6)


def test_ctc_is_not_sure_of_more_tokens_than_there_are_steps():
    ctc = log_softmax(np.zeros((3, 4)))
    assert token_chances(ctc, (2, 2)) == pytest.approx([np.log(0.25)] * 2, rel=1e-6)
    assert float("-inf") in token_chances(ctc, (2, 2, 2))
    assert token_chances(ctc, ()) == []


def test_a_transcript_tells_how_sure_its_words_are():
    ctc = log_softmax(6.0 * np.eye(5)[[2, 2, 0, 4, 3, 0]])
    ctc[4, 3] = np.log(0.3)
    vocabulary = Vocabulary(("a", "b", " "))
    scorer = Table(ctc, np.zeros((5, 5), np.float32))
    written = transcribe(scorer, vocabulary, CLIP, Search(beam=4, ctc_weight=1.0))
    assert written.text == "a b" and [word.text for word in written.words] == ["a", "b"]
    assert written.words[0].confidence > 0.98 and written.words[1].confidence == pytest.approx(0.3, rel=1e-5)
    assert written.words == best_path_words(ctc, vocabulary)


class Table:
    """A scorer whose decoder reads the next token's log-probabilities from a table by the last token."""

    def __init__(self, ctc: np.ndarray, table: np.ndarray) -> None:
        self.ctc, self.table, self.calls = ctc, table, 0

    def listen(self, log_mel: np.ndarray) -> tuple[np.ndarray, Any]:
        return self.ctc, np.zeros(1)

    def follow(self, tokens: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        self.calls += 1
        assert len(tokens) == len(state), "the state follows the hypotheses"
        return self.table[tokens], state

    def select(self, state: Any, rows: np.ndarray) -> Any:
        return state[rows]


AB = Vocabulary(("a", "b"))
CLIP = np.zeros((40, 64), np.float32)


def test_a_decoder_that_loops_is_stopped():
    always_a = log_softmax(np.array([[0, 0, 20, 0]] * 4, dtype=float))
    heard_three = log_softmax(8.0 * np.eye(4)[[0, 2, 0, 3, 0, 2] + [0] * 400])
    scorer = Table(heard_three, always_a)
    for beam in (1, 3):
        written = transcribe(scorer, AB, CLIP, Search(beam=beam, ctc_weight=0.0))
        assert len(written.tokens) <= token_limit(heard_three, 1000) == 16
    assert scorer.calls <= 2 * 17


def test_nothing_is_written_where_ctc_hears_nothing():
    always_a = log_softmax(np.array([[0, 0, 20, 0]] * 4, dtype=float))
    silence = log_softmax(8.0 * np.eye(4)[[0] * 50])
    scorer = Table(silence, always_a)
    assert transcribe(scorer, AB, CLIP, Search()).text == ""
    assert scorer.calls == 0


def test_beam_finds_what_greedy_misses():
    # From END: a (.6) or b (.4); after a all goes on evenly, after b it surely ends.
    p = np.array([[0.25] * 4, [1e-9, 1e-9, 0.6, 0.4], [1e-9, 0.34, 0.33, 0.33], [1e-9, 1 - 1e-6, 1e-9, 1e-9]])
    scorer = Table(log_softmax(np.eye(4)[[2, 3]]), np.log(p / p.sum(1, keepdims=True)).astype(np.float32))
    assert transcribe(scorer, AB, CLIP, Search(beam=1, ctc_weight=0)).text == "a"
    best = transcribe(scorer, AB, CLIP, Search(beam=2, ctc_weight=0))
    assert best.text == "b" and best.log_probability == pytest.approx(np.log(0.4), abs=1e-3)


def test_ctc_alone_finds_its_likeliest_sentence():
    ctc = log_softmax(1.5 * np.random.default_rng(5).normal(size=(5, 4)) - 20 * (np.arange(4) == END))
    sentences = by_all_paths(ctc)
    flat = log_softmax(np.zeros((4, 4)))
    written = transcribe(Table(ctc, flat), AB, CLIP, Search(beam=20, ctc_weight=1.0))
    likeliest = max(sentences, key=lambda s: sentences[s])
    assert written.tokens == likeliest
    assert np.exp(written.log_probability) == pytest.approx(sentences[likeliest], abs=1e-6)


def test_vocabulary_takes_the_longest_piece_and_reads_back():
    vocabulary = Vocabulary((*LETTERS, "ow", "flow", " flow"))
    tokens = vocabulary.encode("yellow flow")
    assert [vocabulary.pieces[t - 2] for t in tokens] == [*"yell", "ow", " flow"]
    assert vocabulary.text(tokens) == "yellow flow"
    assert vocabulary.text([END, *tokens, BLANK]) == "yellow flow"
    with pytest.raises(SettingsError, match="'é'"):
        vocabulary.encode("é")


@pytest.mark.parametrize("wrong", [{"beam": 0}, {"ctc_weight": 1.5}, {"max_tokens": 0}])
def test_search_settings_are_checked(wrong):
    with pytest.raises(SettingsError):
        Search(**wrong)
