"""transcribe: recordings to words, without pictures; needs no extra for this project's recognizers."""

import sys
from typing import TYPE_CHECKING

import tyro

from speech2image.commands.drawing import dump
from speech2image.commands.flags import NO_PAIRS, parse
from speech2image.errors import CheckpointError, SettingsError, SpeechError, printable
from speech2image.pipeline import registry

if TYPE_CHECKING:
    from speech2image.asr.backends import AsrBackend, Recognition
    from speech2image.audio.vad import VoiceActivityDetector


def run(command: str, arguments: list[str]) -> None:
    """Parse `arguments` and do it."""
    parse(transcribe, command, arguments, config=NO_PAIRS)


def transcribe(
    clips: tyro.conf.Positional[list],  # type: ignore[type-arg]  # list[str] makes tyro import typeguard
    model: str = registry.DEFAULT_MODEL,
    recognizer: str = "own",
    json: bool = False,
    skip_bad: bool = False,
    at_once: int = 0,
    threads: int = 0,
) -> None:
    """Write down what recordings say, one line a recording.

    Example: speech2image transcribe clip.wav

    Args:
        clips: recordings in any common format (wav, mp3, ogg, m4a, webm ...); - reads standard input.
        model: a shipped model's name or a model folder that hears words: a cascade, or one whose encoder
            writes them, such as flowers-and-birds-whisper; of another, the cascade that belongs to it.
        recognizer: what writes: own (the model's), own:FOLDER, whisper:NAME or pocketsphinx.
        json: print a row a recording as JSON: clip, text, words with their confidences, domain; or error.
        skip_bad: go on without recordings that cannot be used, and name them.
        at_once: recordings to work on at once; 0 takes as many as there are cores.
        threads: processor threads of each; 0 takes all.
    """
    from speech2image.asr.backends import recognize
    from speech2image.audio.inputs import named
    from speech2image.data.progress import track
    from speech2image.pipeline.base import listen
    from speech2image.pipeline.many import check_threads, in_threads

    if not clips:
        raise SettingsError("no recording given; name at least one file, or - for standard input")
    if clips.count("-") > 1:
        raise SettingsError("standard input (-) can be read only once")
    if at_once < 0 or threads < 0:
        raise SettingsError("--at-once and --threads take whole numbers from 0")
    backend, vad = _open(model, recognizer, threads or None)

    def write(clip: str) -> "Recognition | SpeechError":
        try:
            return recognize(backend, listen(clip, vad)[0])
        except SpeechError as error:
            name = named(clip, clip)
            return error if name in str(error) else SpeechError(f"{name}: {error}", error.code)

    workers = 1 if len(clips) == 1 else check_threads(at_once or None)
    found = in_threads(write, clips, workers)
    rows: list[dict[str, object]] = []
    failed = 0
    shown = found if len(clips) == 1 else track(found, "transcribe", len(clips))
    for clip, result in zip(clips, shown, strict=True):
        if isinstance(result, SpeechError):
            if not skip_bad:
                advice = "; mend it or take it out, or go on without it: --skip-bad" if len(clips) > 1 else ""
                raise SpeechError(f"{result}{advice}", result.code)
            failed += 1
            print(f"speech2image: warning: left out: {printable(str(result))}", file=sys.stderr)
            rows.append({"clip": clip, "error": str(result), "code": result.code})
        else:
            rows.append(_row(clip, result))
            if not json:
                name = f"{printable(clip)}: " if len(clips) > 1 else ""
                print(f"{name}{printable(result.text)}", flush=True)
    if json:
        print(dump(rows))
    if failed == len(clips):
        raise SpeechError(f"none of {failed} recordings can be used; the first: {rows[0]['error']}")


def _open(model: str, choice: str, threads: int | None) -> "tuple[AsrBackend, VoiceActivityDetector | None]":
    """The recognizer that a user chose, and the speech detector of the model."""
    from speech2image.asr.backends import EncoderAsr, open_recognizer
    from speech2image.pipeline.loading import open_vad

    found = registry.find(model)
    vad = open_vad(found)
    if choice != "own":
        backend = open_recognizer(choice, threads=threads)
    elif found.pieces:
        backend = EncoderAsr(found, threads=threads)
    else:
        cascade = registry.find_route(model, "cascade")
        backend = open_recognizer("own", cascade.recognizer, threads)
    if backend is None:
        raise CheckpointError(
            f"model '{found.name}' hears no words; name a recognizer: --recognizer own:FOLDER, "
            "whisper:base.en or pocketsphinx"
        )
    return backend, vad


def _row(clip: str, heard: "Recognition") -> dict[str, object]:
    row: dict[str, object] = {"clip": clip, "text": heard.text}
    if heard.words:
        row["words"] = [{"text": w.text, "confidence": round(w.confidence, 4)} for w in heard.words]
    if heard.decision.domain is not None:
        row |= {"domain": heard.decision.domain, "confidence": round(heard.decision.confidence or 0.0, 4)}
    return row
