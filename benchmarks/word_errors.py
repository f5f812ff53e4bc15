"""Word error rates of recognizers on the same recordings, side by side.

    python benchmarks/word_errors.py --data shards/oxford102 --held-out flite/kal16 \
        --corpora LibriSpeech/dev-clean LJSpeech-1.1 --recognizer runs/recognizer_model --pocketsphinx

Captions are of unseen classes, spoken by synthesizers, natural voices and people, heard in training and kept
out; of corpora the speakers (or recordings) that `train speech-recognizer` keeps out. Every recognizer gets
the same files in the same order. Writes word_errors.json beside the table it prints.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from speech2image import audio
from speech2image.asr.backends import AsrBackend, BuiltinAsr, EncoderAsr, PocketSphinx, Whisper
from speech2image.asr.ctc import Search
from speech2image.asr.text import transcript
from speech2image.data.corpora.registry import list_recordings
from speech2image.data.pairs import speech_shards, stream_speech
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.recordings import kept_out
from speech2image.data.speech.voices import kind_of
from speech2image.data.speech.word_bank import VOICE_PREFIX
from speech2image.pipeline.registry import CARD, read_card
from speech2image.training.recipes.transcripts import word_errors


@dataclass(frozen=True)
class Settings:
    """What to compare on what.

    Attributes:
        data: shards folders whose unseen classes are spoken of.
        corpora: LJSpeech, LibriSpeech, or folders with utterances.jsonl.
        held_out: voices kept out of the recognizer's training; "reader/NAME" is a speaker of a corpus.
        recognizer: exported recognizer, or a model whose speech encoder writes down words.
        beams: how many hypotheses it keeps.
        weights: of the recognizer's language model, one row each; without any, its own.
        pocketsphinx: measure it too.
        whisper: a model folder or name of faster-whisper, measured too.
        split: whose captions are spoken of: test (unseen classes), or val, to choose on.
        limit: clips of each kind.
        out: where the numbers go.
    """

    data: tuple[Path, ...] = ()
    corpora: tuple[Path, ...] = ()
    held_out: tuple[str, ...] = ()
    recognizer: Path | None = None
    beams: int = 4
    weights: tuple[float, ...] = ()
    pocketsphinx: bool = False
    whisper: str | None = None
    split: Literal["test", "val"] = "test"
    limit: int = 200
    out: Path = Path("word_errors.json")


def main(settings: Settings) -> None:
    """Measure and print."""
    kinds = list(clips(settings))
    rows: list[dict[str, Any]] = [
        {"recognizer": recognizer.name, "clips": kind, **measure(recognizer, chosen)}
        for recognizer in recognizers(settings)
        for kind, chosen in kinds
    ]
    settings.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print("| recognizer | clips | n | WER | content WER | seconds a clip |\n|---|---|---|---|---|---|")
    for row in rows:
        content = "-" if row["content_wer"] is None else f"{100 * row['content_wer']:.1f} %"
        print(
            f"| {row['recognizer']} | {row['clips']} | {row['utterances']} | {100 * row['wer']:.1f} % | "
            f"{content} | {row['seconds']:.2f} |"
        )


def recognizers(settings: Settings) -> Iterator[AsrBackend]:
    """Those asked for."""
    if settings.recognizer is not None:
        if (settings.recognizer / CARD).is_file():
            yield from of_encoder(settings.recognizer, settings)
        else:
            yield BuiltinAsr(settings.recognizer, Search(beam=settings.beams))
    if settings.pocketsphinx:
        yield PocketSphinx()
    if settings.whisper is not None:
        yield Whisper(settings.whisper)


def of_encoder(model: Path, settings: Settings) -> Iterator[AsrBackend]:
    """A model's own words, with each weight of its language model that is asked for."""
    asr = EncoderAsr(read_card(model), Search(beam=settings.beams, ctc_weight=1.0))
    if not settings.weights:
        yield asr
        return
    decoder = asr.decoder
    if decoder is None or decoder.language_model is None:
        raise SystemExit(f"{model} has no language model to weigh (speech2image export language-model)")
    for weight in settings.weights:
        decoder.language_model = replace(decoder.language_model, weight=weight)
        asr.name = f"{model.name}, weight {weight:g}"
        yield asr


def clips(settings: Settings) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Kinds of clips: text and encoded recording of each."""
    for folder in settings.data:
        found = captions(folder, set(settings.held_out), settings.split)
        classes = "unseen classes" if settings.split == "test" else "validation"
        for kind, chosen in found.items():
            yield f"{folder.name}, {classes}, {kind}", some(chosen, settings.limit)
    for root in settings.corpora:
        listed = list_recordings(root)
        speakers = np.array([item.speaker for item in listed])
        out = np.isin(speakers, [voice.removeprefix(VOICE_PREFIX) for voice in settings.held_out])
        kept = np.flatnonzero(out if out.any() else kept_out(speakers))
        pairs = [(transcript(listed[i].text), listed[i].audio.read_bytes()) for i in kept]
        yield f"{root.name}, kept out", some(pairs, settings.limit)


def captions(folder: Path, held_out: set[str], split: str) -> dict[str, list[tuple[str, bytes]]]:
    """Spoken captions of a split, for each kind of voices heard in training or kept out of it."""
    arrays = PairArrays.open(folder)
    chosen = {name for name, own in zip(arrays.ids, arrays.splits, strict=True) if own == split}
    heard = set(arrays.utterance_voice[arrays.utterances_of("train", exclude_voices=held_out)].tolist())
    found: dict[str, list[tuple[str, bytes]]] = {}
    for item in stream_speech(speech_shards(folder)):
        if item.sample in chosen and item.text:
            voice = item.utterance.voice
            kind = f"{kind_of(voice)} {'heard' if voice in heard else 'kept out'}"
            found.setdefault(kind, []).append((transcript(item.text), item.utterance.audio))
    return dict(sorted(found.items()))


def some(pairs: list[tuple[str, bytes]], limit: int) -> list[tuple[str, bytes]]:
    """A fixed random choice."""
    return [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))[:limit]]


def measure(recognizer: AsrBackend, chosen: list[tuple[str, bytes]]) -> dict[str, object]:
    """Word errors and seconds a clip."""
    start = time.perf_counter()
    written = [recognizer.transcribe(audio.load(data)) for _, data in chosen]
    seconds = (time.perf_counter() - start) / len(chosen)
    errors = word_errors([text for text, _ in chosen], written)
    return {"utterances": len(chosen), **asdict(errors), "seconds": seconds}


if __name__ == "__main__":
    main(tyro.cli(Settings))
