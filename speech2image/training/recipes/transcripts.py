"""Transcripts by a trained recognizer: decoding a data set, word error rates, learning the text pieces."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speech2image.asr.ctc import token_limit
from speech2image.asr.text import BLANK, END, LETTERS, Vocabulary
from speech2image.data.shards.recordings import TranscribedSpeech
from speech2image.errors import DataError
from speech2image.metrics.word_errors import CONTENT_WORDS, content_word_error_rate, word_error_rate
from speech2image.models.speech_recognizer import Cache, SpeechRecognizer, SpeechRecognizerSettings
from speech2image.training.core.checkpoint import (
    averaged_weights,
    building_from,
    load_checkpoint,
    stored_settings,
)
from speech2image.training.core.speech_batches import padded

KIND = "speech_recognizer"
MOST_TOKENS = 1000


def load_recognizer(path: str | os.PathLike[str]) -> tuple[SpeechRecognizer, Vocabulary]:
    """The trained (averaged) recognizer of a checkpoint, in evaluation mode, and its vocabulary.

    Raises:
        CheckpointError: the file is damaged or holds something else.
    """
    state = load_checkpoint(path, KIND)
    with building_from(path):
        vocabulary = Vocabulary(tuple(map(_piece, state["pieces"])))
        shape = {**stored_settings(state, "recognizer"), "tokens": len(vocabulary)}
        recognizer = SpeechRecognizer(SpeechRecognizerSettings(**shape))
        recognizer.load_state_dict(averaged_weights(state))
    return recognizer.eval(), vocabulary


def _piece(piece: object) -> str:
    if not isinstance(piece, str):
        raise TypeError(f"a piece of text is {piece!r:.60}")
    return piece


def learn_pieces(texts: Sequence[str], number: int) -> tuple[str, ...]:
    """The pieces of text to write in: the characters and, up to `number`, frequent groups of them.

    Groups grow by joining the most frequent pair of neighbours within words (byte-pair encoding, Sennrich et
    al. 2016); a group may begin with the blank before a word.

    Args:
        texts: of the training, as `text.transcript` gives them.
        number: of pieces; 0 for the characters alone.
    """
    counts = Counter(word for text in texts for word in text.split())
    words = {word: [" ", *word] for word in counts}
    pieces = list(LETTERS)
    while len(pieces) < number:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in words.items():
            for pair in pairwise(parts):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        pieces.append("".join(best))
        words = {word: _joined(parts, best) for word, parts in words.items()}
    return tuple(pieces)


def _joined(parts: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined


class TorchScorer:
    """A recognizer in torch as a `asr.ctc.Scorer`."""

    def __init__(self, recognizer: SpeechRecognizer) -> None:
        self.recognizer = recognizer.eval()
        self.device = next(recognizer.parameters()).device

    @torch.inference_mode()
    def listen(self, log_mel: NDArray[np.float32]) -> tuple[NDArray[np.float32], Any]:
        n_frames = torch.tensor([log_mel.shape[1]], device=self.device)
        encoded = self.recognizer.encoder(torch.from_numpy(log_mel)[None].to(self.device), n_frames)
        return encoded.ctc[0].cpu().numpy(), (self.recognizer.decoder.start(encoded.memory), encoded.n_steps)

    @torch.inference_mode()
    def follow(self, tokens: NDArray[np.int64], state: Any) -> tuple[NDArray[np.float32], Any]:
        cache, n_steps = state
        last = torch.from_numpy(tokens).to(self.device)[:, None]
        following, cache = self.recognizer.decoder(last, cache, n_steps)
        return following[:, 0].cpu().numpy(), (cache, n_steps)

    def select(self, state: Any, rows: NDArray[np.int64]) -> Any:
        cache, n_steps = state
        chosen = torch.from_numpy(rows).to(self.device)
        return Cache(cache.keys[:, chosen], cache.values[:, chosen], *cache[2:]), n_steps


@torch.inference_mode()
def greedy(recognizer: SpeechRecognizer, log_mel: Tensor, n_frames: Tensor) -> list[list[int]]:
    """The decoder's likeliest token at each step, for a batch of clips at once; limits as for any search."""
    encoded = recognizer.encoder(log_mel, n_frames)
    ctc = encoded.ctc.cpu().numpy()
    limits = [token_limit(row[:n], MOST_TOKENS) for row, n in zip(ctc, encoded.n_steps.tolist(), strict=True)]
    cache = recognizer.decoder.start(encoded.memory)
    last = torch.full((len(limits), 1), END, device=log_mel.device)
    written: list[Tensor] = []
    ended = torch.zeros(len(limits), dtype=torch.bool, device=log_mel.device)
    for _ in range(max(limits)):
        following, cache = recognizer.decoder(last, cache, encoded.n_steps)
        following[:, :, BLANK] = -torch.inf
        last = following.argmax(dim=2)
        ended |= last[:, 0] == END
        if bool(ended.all()):
            break
        written.append(last[:, 0])
    rows = torch.stack(written, dim=1).tolist() if written else [[] for _ in limits]
    return [_until_end(row[:limit]) for row, limit in zip(rows, limits, strict=True)]


def _until_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(END)] if END in tokens else tokens


def transcripts(
    recognizer: SpeechRecognizer,
    vocabulary: Vocabulary,
    speech: TranscribedSpeech,
    utterances: NDArray[np.int64],
    batch_size: int = 16,
) -> list[str]:
    """What a recognizer (greedily) writes down of some utterances, in their order."""
    recognizer = recognizer.eval()
    device = next(recognizer.parameters()).device
    order = np.argsort(speech.n_frames()[utterances], kind="stable")
    texts = [""] * len(utterances)
    for rows in np.split(order, range(batch_size, len(order), batch_size)):
        log_mel, n_frames = padded([speech.log_mel(int(u)) for u in utterances[rows]])
        for row, tokens in zip(
            rows, greedy(recognizer, log_mel.to(device), n_frames.to(device)), strict=True
        ):
            texts[row] = vocabulary.text(tokens)
    return texts


@dataclass(frozen=True)
class WordErrors:
    """Word error rate of all words, and of colours and parts alone (None where no reference has one)."""

    wer: float
    content_wer: float | None

    def as_dict(self) -> dict[str, float]:
        """Names and values for a log."""
        content = {} if self.content_wer is None else {"content WER": self.content_wer}
        return {"WER": self.wer, **content}


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> WordErrors:
    """Both rates.

    Raises:
        DataError: the numbers differ, or no reference has a word.
    """
    content = any(word in CONTENT_WORDS for text in references for word in text.split())
    return WordErrors(
        word_error_rate(references, hypotheses),
        content_word_error_rate(references, hypotheses) if content else None,
    )


def evaluate(
    recognizer: SpeechRecognizer, vocabulary: Vocabulary, speech: TranscribedSpeech, limit: int = 200
) -> tuple[WordErrors, list[tuple[str, str]]] | None:
    """Word errors on a fixed random choice of utterances, and what was said and written.

    Returns:
        None where there is no utterance.

    Raises:
        DataError: no utterance has a word.
    """
    chosen = np.random.default_rng(0).permutation(len(speech.texts))[:limit]
    if not len(chosen):
        return None
    said = [speech.texts[u] for u in chosen]
    if not any(said):
        raise DataError("none of the utterances to test on has a word")
    written = transcripts(recognizer, vocabulary, speech, chosen)
    return word_errors(said, written), list(zip(said, written, strict=True))
