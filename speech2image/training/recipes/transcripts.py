"""Transcripts by a trained recognizer: decoding in torch, and word error rates on test speech."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speech2image.asr.ctc import token_limit
from speech2image.asr.text import BLANK, END, Vocabulary
from speech2image.data.shards.recordings import TranscribedSpeech
from speech2image.errors import DataError
from speech2image.files import writing
from speech2image.metrics.word_errors import CONTENT_WORDS, content_word_error_rate, word_error_rate
from speech2image.models.speech_recognizer import Cache, SpeechRecognizer
from speech2image.training.core.run import Run
from speech2image.training.core.speech_batches import by_length

MOST_TOKENS = 1000


Memory = tuple[Cache, Tensor]
"""A decoder's cache, and the valid steps of the clip that it attends to."""


class TorchScorer:
    """A recognizer in torch as a `asr.ctc.Scorer`."""

    def __init__(self, recognizer: SpeechRecognizer) -> None:
        self.recognizer = recognizer.eval()
        self.device = next(recognizer.parameters()).device

    @torch.inference_mode()
    def listen(self, log_mel: NDArray[np.float32]) -> tuple[NDArray[np.float32], Memory]:
        n_frames = torch.tensor([log_mel.shape[1]], device=self.device)
        encoded = self.recognizer.encoder(torch.from_numpy(log_mel)[None].to(self.device), n_frames)
        return encoded.ctc[0].cpu().numpy(), (self.recognizer.decoder.start(encoded.memory), encoded.n_steps)

    @torch.inference_mode()
    def follow(self, tokens: NDArray[np.int64], state: Memory) -> tuple[NDArray[np.float32], Memory]:
        cache, n_steps = state
        last = torch.from_numpy(tokens).to(self.device)[:, None]
        following, cache = self.recognizer.decoder(last, cache, n_steps)
        return following[:, 0].cpu().numpy(), (cache, n_steps)

    def select(self, state: Memory, rows: NDArray[np.int64]) -> Memory:
        cache, n_steps = state
        chosen = torch.from_numpy(rows).to(self.device)
        return Cache(cache.keys[:, chosen], cache.values[:, chosen], *cache[2:]), n_steps


@torch.inference_mode()
def greedy(recognizer: SpeechRecognizer, log_mel: Tensor, n_frames: Tensor) -> list[list[int]]:
    """The decoder's likeliest token at each step, for a batch of clips at once; limits as for any search."""
    recognizer = recognizer.eval()
    device = next(recognizer.parameters()).device
    log_mel, n_frames = log_mel.to(device), n_frames.to(device)
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


@torch.inference_mode()
def transcripts(
    tokens_of: Callable[[Tensor, Tensor], Sequence[Sequence[int]]],
    vocabulary: Vocabulary,
    speech: TranscribedSpeech,
    utterances: NDArray[np.int64],
    batch_size: int = 16,
) -> list[str]:
    """The recognized text of some utterances, in their order.

    Args:
        tokens_of: clips [b, bands, frames], valid frames [b] -> the tokens of each, such as `greedy`.
        vocabulary: of the tokens.
        speech, utterances: what to transcribe.
        batch_size: clips a call.
    """
    texts = [""] * len(utterances)
    for places, frames, n_frames in by_length(speech, utterances, batch_size):
        for place, tokens in zip(places, tokens_of(frames, n_frames), strict=True):
            texts[place] = vocabulary.text(tokens)
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


def log_word_errors(
    run: Run,
    step: int,
    tests: Mapping[str, TranscribedSpeech],
    limit: int,
    transcribe: Callable[[TranscribedSpeech, NDArray[np.int64]], list[str]],
) -> None:
    """Logs word error rates on all test speech; `transcripts.txt` gets pairs of reference and transcript.

    Args:
        run, step: of the training.
        tests: speech by name.
        limit: utterances of each, a fixed random choice; 0 for none.
        transcribe: speech and utterances -> transcripts.

    Raises:
        DataError: no chosen utterance of a test has a word.
    """
    if not run.fabric.is_global_zero or not limit:
        return
    shown: list[str] = []
    for name, speech in tests.items():
        chosen = np.random.default_rng(0).permutation(len(speech.texts))[:limit]
        references = [speech.texts[u] for u in chosen]
        if not references:
            continue
        if not any(references):
            raise DataError(f"none of the utterances of {name} to test on has a word")
        found = transcribe(speech, chosen)
        errors = word_errors(references, found).as_dict()
        run.log(step, {f"{name}/{key}": value for key, value in errors.items()}, now=True)
        shown += [name, *(json.dumps(pair) for pair in list(zip(references, found, strict=True))[:12]), ""]
    with writing(run.folder / "transcripts.txt") as temporary:
        temporary.write_text("\n".join([f"step {step}", *shown]) + "\n", encoding="utf-8")
