"""How long hearing takes: this project's models beside each other and beside Whisper through faster-whisper.

    python benchmarks/listening.py clip.wav --models flowers-and-birds my_model --whisper faster-whisper-base

Each hears the same five seconds on one thread, in turns in one process: a model from samples to the speech
embedding (log-mel, speech detector, speech encoder, its words where it writes them), one of the cascade to
its text's, Whisper to its text (int8, beam 5, as `--recognizer whisper:FOLDER`). Ratios are medians of each
turn's own; below 1 is faster than the first.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

import speech2image
from speech2image import audio
from speech2image.asr.backends import Whisper
from speech2image.pipeline.registry import DEFAULT_MODEL


@dataclass(frozen=True)
class Settings:
    """What to time on what.

    Attributes:
        clip: a recording in which someone speaks; repeated if it is shorter than `seconds`.
        models: names or folders; the first is what the others are compared with.
        whisper: faster-whisper's folders or names.
        seconds: of the clip.
        turns: how often each hears it, beside once to warm up.
    """

    clip: Annotated[Path, tyro.conf.Positional]
    models: tuple[str, ...] = (DEFAULT_MODEL,)
    whisper: tuple[str, ...] = ()
    seconds: float = 5.0
    turns: int = 15


def main(settings: Settings) -> None:
    """Measure and print."""
    samples = np.resize(audio.load(settings.clip), round(settings.seconds * audio.SAMPLE_RATE))
    listeners: dict[str, Callable[[], object]] = {}
    for name in settings.models:
        route = speech2image.load(name, threads=1)
        listeners[f"{route.name}, {route.model.route}"] = partial(route.embed, (samples, audio.SAMPLE_RATE))
    for name in settings.whisper:
        whisper = Whisper(name, threads=1)
        listeners[whisper.name] = partial(whisper.transcribe, samples)
    times: dict[str, list[float]] = {name: [] for name in listeners}
    for turn in range(settings.turns + 1):
        for name, listen in listeners.items():
            start = time.perf_counter()
            listen()
            if turn:
                times[name].append(time.perf_counter() - start)
    first = next(iter(times.values()))
    print(f"| hears {settings.seconds:g} s on one thread | median ms | ratio |\n|---|---|---|")
    for name, taken in times.items():
        ratio = statistics.median(t / f for t, f in zip(taken, first, strict=True))
        print(f"| {name} | {1000 * statistics.median(taken):.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main(tyro.cli(Settings))
