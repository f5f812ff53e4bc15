"""Toy set: coloured shapes, and captions spoken by made-up voices, made on the fly.

Nothing is needed but numpy and Pillow, no speaking engine. A picture is a red, green ... disc, square ... on
a dark or light ground; its class is colour and shape together, and some combinations are seen in test alone.
A caption such as "a red disc on a dark ground" is spoken in a language of tones: each word is a fixed
sequence of three syllables with formants of their own, told apart by ear and by a small encoder; a voice has
its pitch, rate, vocal tract length and breath. The last voice is heard in test alone.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from speech2image.data.pairs import (
    RECORDED,
    Sample,
    Utterance,
    picture_shard,
    picture_shards,
    shard_utterances,
    speech_shard,
    write_manifest,
    write_picture_shard,
    write_speech_shard,
)
from speech2image.data.shards.plan import ShardPlan, counted, make_shards, plan_shards, unfinished
from speech2image.errors import SettingsError
from speech2image.files import writing

if TYPE_CHECKING:
    from speech2image.data.prepare import PrepareSettings

COLOURS = {
    "red": (215, 40, 40),
    "green": (40, 170, 60),
    "blue": (45, 80, 220),
    "yellow": (240, 215, 40),
    "purple": (150, 50, 180),
    "white": (245, 245, 245),
}
SHAPES = ("disc", "square", "triangle", "ring")
GROUNDS = {"dark": (30, 32, 36), "grey": (110, 112, 116)}
UNSEEN = frozenset({("red", "square"), ("green", "ring"), ("blue", "disc"), ("yellow", "triangle")})
"""Combinations that are seen in test alone."""

SENTENCE = "a {colour} {shape} on a {ground} ground"
OTHER_SENTENCES = (
    "this {shape} is {colour}",
    "something {colour}",
    "here we see a {shape} which is {colour}",
    "on {ground} ground one {colour} piece",
    "look the {colour} {shape}",
)
"""The second caption is one of these: with the words in other places, each is learnt for itself."""

CLASSES = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)

SIZE = 76
"""Side of a picture: what training at 64 x 64 crops from (64 * 304 / 256)."""

RATE = 16_000
FORMANTS = (
    (280, 2250, 2900),
    (400, 1900, 2550),
    (550, 1750, 2450),
    (700, 1200, 2500),
    (600, 950, 2400),
    (420, 800, 2300),
    (300, 850, 2250),
    (480, 1400, 1700),
)
"""First three formants (Hz) of eight vowels."""


class ToyVoice(NamedTuple):
    """A made-up speaker: pitch in Hz, syllable length in seconds, formant scale, share of breath noise."""

    name: str
    pitch: float
    syllable: float
    tract: float
    breath: float


VOICES = (
    ToyVoice("toy/anna", 205.0, 0.085, 1.12, 0.02),
    ToyVoice("toy/ben", 118.0, 0.100, 0.94, 0.01),
    ToyVoice("toy/cleo", 165.0, 0.078, 1.04, 0.05),
    ToyVoice("toy/dora", 240.0, 0.092, 1.20, 0.03),
    ToyVoice("toy/emil", 142.0, 0.088, 1.00, 0.02),
)
HELD_OUT_VOICE = VOICES[-1].name
EXAMPLES = (*sorted(UNSEEN), ("purple", "ring"), ("white", "square"))
"""What the example recordings speak of: every colour once."""
N_SAMPLES = 600


def toy_samples(n: int = N_SAMPLES, seed: int = 0, size: int = SIZE) -> Iterator[Sample]:
    """The first `n` samples of the toy set `seed`; every sixth or so is a test sample.

    A training sample has two captions, each spoken by one of four voices; a test sample has them spoken by a
    seen voice and by the held-out one. The same arguments always give the same samples.

    Raises:
        SettingsError: `n` or `size` is too small.
    """
    if n < 1 or size < 16:
        raise SettingsError(f"toy set of {n} pictures of {size} pixels: need at least 1 picture of 16 pixels")
    return (toy_sample(i, seed, size) for i in range(n))


def is_toy(voices: Sequence[str]) -> bool:
    """Whether these, the voices of a data set, are the toy set's."""
    return bool(voices) and set(voices) <= {voice.name for voice in VOICES}


def toy_sample(index: int, seed: int = 0, size: int = SIZE) -> Sample:
    """Sample number `index` of the toy set `seed`."""
    rng = np.random.default_rng([seed, index])
    label = _label(index, seed)
    colour, shape = CLASSES[label - 1]
    split = "test" if (colour, shape) in UNSEEN else "train"
    ground = str(rng.choice(list(GROUNDS)))
    words = {"colour": colour, "shape": shape, "ground": ground}
    captions = tuple(text.format(**words) for text in (SENTENCE, str(rng.choice(OTHER_SENTENCES))))
    return Sample(
        id=f"toy_{index:06d}",
        image=draw(colour, shape, ground, size, rng),
        image_suffix="png",
        label=label,
        class_name=f"{colour} {shape}",
        split=split,
        captions=captions,
        utterances=tuple(_utterances(captions, split, rng)),
        source="toy",
    )


def _label(index: int, seed: int) -> int:
    """Every run of as many samples as there are classes holds each class once, in an order of its own."""
    block, place = divmod(index, len(CLASSES))
    return int(np.random.default_rng([seed, block, 1]).permutation(len(CLASSES))[place]) + 1


def draw(colour: str, shape: str, ground: str, size: int, rng: np.random.Generator) -> bytes:
    """PNG bytes of a shape of random place, size, turn and brightness, `size` pixels square."""
    fine = 4 * size
    picture = Image.new("RGB", (fine, fine), _shade(GROUNDS[ground], rng))
    radius = fine * rng.uniform(0.2, 0.3)
    x, y = rng.uniform(0.42, 0.58, 2) * fine
    _outline(ImageDraw.Draw(picture), shape, (x, y), radius, _shade(COLOURS[colour], rng), rng)
    out = io.BytesIO()
    picture.resize((size, size), Image.Resampling.BOX).save(out, "PNG")
    return out.getvalue()


def _shade(colour: tuple[int, int, int], rng: np.random.Generator) -> tuple[int, ...]:
    light = rng.uniform(0.9, 1.05)
    return tuple(min(255, int(channel * light)) for channel in colour)


def _outline(
    pen: ImageDraw.ImageDraw,
    shape: str,
    centre: tuple[float, float],
    radius: float,
    fill: tuple[int, ...],
    rng: np.random.Generator,
) -> None:
    x, y = centre
    around = (x - radius, y - radius, x + radius, y + radius)
    turn = float(rng.uniform(-15, 15))
    if shape == "disc":
        pen.ellipse(around, fill=fill)
    elif shape == "ring":
        pen.ellipse(around, outline=fill, width=int(radius * 0.4))
    else:
        sides = 4 if shape == "square" else 3
        pen.regular_polygon((x, y, radius * 1.15), sides, rotation=turn, fill=fill)


def _utterances(captions: tuple[str, ...], split: str, rng: np.random.Generator) -> Iterator[Utterance]:
    from speech2image import audio

    seen = VOICES[:-1]
    for number, caption in enumerate(captions):
        voices = [seen[rng.integers(len(seen))]] + ([VOICES[-1]] if split == "test" else [])
        for voice in voices:
            data = audio.encode_flac(say(caption, voice, rng))
            yield Utterance(number, voice.name, data, "flac")


def say(text: str, voice: ToyVoice, rng: np.random.Generator) -> NDArray[np.float32]:
    """Speak `text` in the toy language: 16 kHz samples in [-1, 1], about a quarter of a second a word.

    Pitch, rate, level and background noise differ a little from utterance to utterance.
    """
    pitch, rate = voice.pitch * rng.uniform(0.94, 1.06), rng.uniform(0.92, 1.08)
    pause = np.zeros(int(0.04 * rate * RATE))
    pieces = [np.zeros(int(0.1 * RATE))]
    for word in text.lower().split():
        for syllable in syllables(word):
            pieces.append(_syllable(syllable, voice, pitch, voice.syllable * rate, rng))
            pitch *= 0.992
        pieces.append(pause)
    waveform = np.concatenate([*pieces, np.zeros(int(0.1 * RATE))])
    waveform *= rng.uniform(0.2, 0.6) / np.abs(waveform).max()
    noise = rng.standard_normal(len(waveform)) * 10 ** rng.uniform(-3.2, -2.2)
    return np.clip(waveform + noise, -1, 1).astype(np.float32)


def syllables(word: str) -> tuple[int, ...]:
    """Vowels of a word as indices into `FORMANTS`: one for words of up to two letters, otherwise three."""
    digest = hashlib.blake2b(f"tones {word}".encode(), digest_size=4).digest()
    return tuple(byte % len(FORMANTS) for byte in digest[: 1 if len(word) <= 2 else 3])


def _syllable(
    vowel: int, voice: ToyVoice, pitch: float, seconds: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Harmonics of the pitch under the vowel's formants, with breath noise, faded in and out."""
    time = np.arange(int(seconds * RATE), dtype=np.float32) / np.float32(RATE)
    harmonics = (pitch * np.arange(1, int(4500 / pitch))).astype(np.float32)
    formants = np.array(FORMANTS[vowel])[:, None] * voice.tract
    gains = np.exp(-(((harmonics - formants) / (80 + 0.08 * formants)) ** 2)) * np.array(
        [[1.0], [0.7], [0.4]]
    )
    phases = rng.uniform(0, 2 * np.pi, (len(harmonics), 1)).astype(np.float32)
    waves = np.sin(np.float32(2 * np.pi) * harmonics[:, None] * time + phases)
    voiced = (gains.sum(axis=0) + 0.01) @ waves
    return (voiced + voice.breath * rng.standard_normal(len(time))) * np.sin(np.pi * time / seconds) ** 0.5


def write_toy(settings: "PrepareSettings") -> Path:
    """Write the toy set as `prepare` does any corpus: shards still missing, then the manifest."""
    numbers = range(settings.limit or N_SAMPLES)
    digest_of = partial(_plan_digest, settings.seed)
    plans = plan_shards(numbers, settings.samples_per_shard, partial(picture_shard, settings.out), digest_of)
    present = picture_shards(settings.out)
    todo = unfinished(plans, present, overwrite=settings.overwrite, companion_of=_spoken_shard)
    make = partial(_make_shard, settings.seed)
    make_shards(make, todo, [len(plan.items) for plan in todo], "toy set", settings.place)
    write_examples(settings.out / "examples")
    write_manifest(settings.out)
    return settings.out


def write_examples(folder: Path) -> None:
    """Write six recordings by the held-out voice, one a colour, to try a model on: `red-square.flac` ..."""
    from speech2image import audio

    for number, (colour, shape) in enumerate(EXAMPLES):
        speech = say(f"a {colour} {shape} on a dark ground", VOICES[-1], np.random.default_rng(number))
        with writing(folder / f"{colour}-{shape}.flac") as temporary:
            temporary.write_bytes(audio.encode_flac(speech))


def _plan_digest(seed: int, numbers: Sequence[int]) -> str:
    return f"toy-2-{seed}-{numbers[0]}-{len(numbers)}"


def _spoken_shard(plan: ShardPlan[int]) -> Path:
    """The speech shard that goes with a picture shard."""
    return speech_shard(plan.path.parent, RECORDED, int(plan.path.stem.rpartition("-")[2]))


def _make_shard(seed: int, plan: ShardPlan[int]) -> None:
    samples = [toy_sample(i, seed) for i in counted(plan.items)]
    spoken = [item for sample in samples for item in shard_utterances(sample)]
    write_speech_shard(_spoken_shard(plan), spoken, plan.digest)
    write_picture_shard(plan.path, samples, plan.digest)
