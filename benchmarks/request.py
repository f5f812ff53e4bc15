"""Processor time of one request for one picture, part by part, and of what was tried to make it less.

    python benchmarks/request.py --turns 15

One thread. The ways to do a part take turns, and the ratios are medians over the turns, so that they hold on
a machine that does other things, too.
"""

import argparse
import io
import time
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median

from PIL import Image

import speech2image
from speech2image import audio
from speech2image.pipeline import images
from speech2image.pipeline.base import Route, listen

EXAMPLE = Path(__file__).parents[1] / "examples" / "recordings" / "red-cluster-kal16.opus"


def main() -> None:
    """Print a table of the parts and one of each comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", type=Path, default=EXAMPLE)
    parser.add_argument("--models", nargs="+", default=["flowers-and-birds", "flowers-and-birds-textfree"])
    parser.add_argument("--turns", type=int, default=15)
    options = parser.parse_args()
    for name in options.models:
        measure(name, options.clip.read_bytes(), options.turns)


def measure(name: str, content: bytes, turns: int) -> None:
    """The tables of one model."""
    route = speech2image.load(name, threads=1)
    waveform = audio.load(io.BytesIO(content))
    sound = waveform, audio.SAMPLE_RATE
    embedding, z = route.embed(sound), route.generator.noise(1, 0)[0]
    picture = route.generator.draw(embedding, z)
    parts: dict[str, Callable[[], object]] = {
        "a whole request, words left out": partial(_request, route, content, True),
        "a whole request, with words": partial(_request, route, content, False),
        "decoding": lambda: audio.load(io.BytesIO(content)),
        "log-mel and speech detector": partial(listen, sound, route.vad),
        "the same, and the encoder": partial(route.encode, sound, quick=True),
        "the same, and the decoder of the words": partial(route.encode, sound),
        "prior and generator": partial(route.generator.draw, embedding, z),
        "PNG": partial(images.encode, picture),
    }
    compare(f"{name}, {len(waveform) / audio.SAMPLE_RATE:.1f} s of speech", parts, turns)
    kinds: dict[str, dict[str, int]] = {
        "level 4": {"compress_level": 4},
        "level 1": {"compress_level": 1},
        "runs alone": {"compress_type": zlib.Z_RLE},
        "Huffman code alone": {"compress_type": zlib.Z_HUFFMAN_ONLY},
    }
    written: dict[str, Callable[[], object]] = {
        f"{kind}: {len(_png(picture, how)) / 1000:.1f} kB": partial(_png, picture, how)
        for kind, how in kinds.items()
    }
    compare("PNG of the picture", written, turns)


def _request(route: Route, content: bytes, quick: bool) -> bytes:
    waveform = audio.load(io.BytesIO(content))
    return images.encode(route.translate((waveform, audio.SAMPLE_RATE), quick=quick).images[0])


def _png(picture: Image.Image, how: dict[str, int]) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **how)
    return buffer.getvalue()


def compare(title: str, ways: Mapping[str, Callable[[], object]], turns: int) -> None:
    """A table of ways to do something, in turns: processor ms, and how many times as fast as the first."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for do in ways.values():
        do()
    for _ in range(turns):
        for name, do in ways.items():
            start = time.process_time()
            do()
            spent[name].append(time.process_time() - start)
    first = next(iter(spent.values()))
    print(f"\n| {title} | processor ms | share of the first |\n|---|---|---|")
    for name, seconds in spent.items():
        share = median(own / of for own, of in zip(seconds, first, strict=True))
        print(f"| {name} | {1000 * median(seconds):.1f} | {share:.2f} |")


if __name__ == "__main__":
    main()
