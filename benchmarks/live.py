"""Time from the first voiced sample to the first live picture, and what that picture is worth.

    python benchmarks/live.py                                        # the shipped recordings, as they are
    python benchmarks/live.py --piece 0.25 --interval 0.2 --earliest 0.66

Sound comes in pieces, as from a microphone; an update begins when a piece is there and the last one is over,
and takes its own processor time of one thread. So the figures are those of a machine with nothing else to do,
however busy this one is. What comes over the network and what waits for other streams is not in them.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np

import speech2image
from speech2image import audio
from speech2image.errors import SpeechError
from speech2image.pipeline import images
from speech2image.pipeline.base import Route
from speech2image.pipeline.live import LiveTranslation

RECORDINGS = Path(__file__).parents[1] / "examples" / "recordings"
RATE = audio.SAMPLE_RATE


def main() -> None:
    """Print a row for each recording, and the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recordings", nargs="*", type=Path, default=sorted(RECORDINGS.glob("*.opus")))
    parser.add_argument("--model", default="flowers-and-birds")
    parser.add_argument("--piece", type=float, default=0.1, help="seconds of sound that come at once")
    parser.add_argument("--interval", type=float, default=0.1, help="seconds between tries")
    parser.add_argument("--earliest", type=float, default=0.0, help="seconds of sound before the first try")
    options = parser.parse_args()
    route = speech2image.load(options.model, threads=1)
    print("| recording | first picture after s | of it processor s | sound heard s | likeness | words |")
    print("|---|---|---|---|---|---|")
    rows = []
    for path in options.recordings:
        waveform = audio.load(path)
        first = follow(route, waveform, options.piece, options.interval, options.earliest)
        after = first["at"] - onset(waveform)
        whole = route.embed((waveform, RATE))
        rows.append((after, first["spent"], first["heard"] - onset(waveform), likeness(first["f"], whole)))
        print(f"| {path.stem} | {' | '.join(f'{value:.2f}' for value in rows[-1])} | {first['words']} |")
    for name, of in ((f"median of {len(rows)}", median), ("longest", max)):
        columns = " | ".join(f"{of(column):.2f}" for column in zip(*rows, strict=True))
        print(f"| {name} | {columns} | |")


def onset(waveform: np.ndarray) -> float:
    """Seconds to the first 20 ms that are at most 25 dB below the loudest."""
    frames = waveform[: len(waveform) // 320 * 320].reshape(-1, 320)
    level = 10 * np.log10((frames**2).mean(axis=1) + 1e-12)
    return float(np.argmax(level > level.max() - 25)) * 320 / RATE


def follow(route: Route, waveform: np.ndarray, piece: float, interval: float, earliest: float) -> dict:
    """The first picture of a recording that comes in pieces."""
    live, free = LiveTranslation(route), 0.0
    for number in range(1, int(len(waveform) / RATE / piece) + 2):
        arrived = number * piece
        start = max(arrived, free)
        taken = int(start / piece + 1e-9) * piece  # what has come by then
        if taken < earliest:
            continue
        begun = time.process_time()
        try:
            found = live.update((waveform[: round(taken * RATE)], RATE))
            images.encode(found.images[0], "WEBP", preview=True)
        except SpeechError:
            found = None
        spent = time.process_time() - begun
        if found is not None:
            f = found.speech_embedding
            words = found.transcript or ""
            return {"at": start + spent, "spent": spent, "heard": taken, "f": f, "words": words}
        free = start + max(interval, 2 * spent)
    raise SystemExit("nothing was heard in a recording")


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Cosine of two embeddings."""
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


if __name__ == "__main__":
    main()
