"""Speaking captions that have no recording: a plan of who says what, and the making of one shard of it.

A voice is an engine's ("flite/slt") or a reader of a word bank ("reader/251", `data.splicing`).

Every choice is a hash of (seed, picture, caption, voice), so neither the order of work, nor an interruption,
nor the number of processes changes a result.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.data.entries import Entry
from speech2image.data.pairs import Spoken, Utterance, write_speech_shard
from speech2image.data.readers import Companies, Company
from speech2image.data.shard_plan import ShardPlan
from speech2image.data.voices import MIXTURE, mixture, say_by_engine
from speech2image.data.word_bank import VOICE_PREFIX
from speech2image.errors import DataError, SettingsError


@dataclass(frozen=True)
class Casting:
    """Who speaks how.

    Attributes:
        voices: voices of training captions; they also speak each test caption once.
        held_out: voices kept out of training; they speak each test caption once.
        per_caption: utterances of a training caption, by different voices as far as there are enough.
        augment: share of utterances that are augmented, 0 to 1.
        seed: of all draws.
        codec: "opus" (12 kB for 4 s) or "flac" (lossless, about five times that).
        companies: who speaks with whom, when readers of a word bank are among the voices.
        effects: "usual" for `augment.Augmentation`, "lively" for `augment.LIVELY`.
        delivery: "even", or "varied": every line at a speed of its own, and Piper's with its own variation.
        speakers: Kokoro's speakers that `MIXTURE` mixes.
    """

    voices: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    per_caption: int = 1
    augment: float = 0.5
    seed: int = 0
    codec: str = "opus"
    companies: Companies | None = None
    effects: str = "usual"
    delivery: str = "even"
    speakers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sources:
    """Where sound comes from while lines are spoken: a word bank, a folder of noise, both optional."""

    word_bank: Path | None = None
    noise: Path | None = None


@dataclass(frozen=True)
class Line:
    """One utterance to make: `text` is caption number `caption` of picture `sample`, or short for it.

    A field added later has a default, with which it does not count in the digest (`lines_digest`).
    """

    sample: str
    caption: int
    text: str
    voice: str
    seed: int
    augmented: bool
    codec: str
    effects: str = "usual"
    company: Company | None = None
    bank: str = ""
    delivery: str = "even"
    mixture: str = ""


def plan_lines(entries: Iterable[Entry], casting: Casting) -> list[Line]:
    """Every utterance to make, picture by picture: captions that have a recording or no words are left
    out."""
    lines = []
    for entry in entries:
        recorded = {recording.caption for recording in entry.recordings}
        for number, text in enumerate(entry.captions):
            if number not in recorded and re.search("[A-Za-z0-9]", text):
                lines += _takes(entry, number, text, casting)
    return lines


def _takes(entry: Entry, number: int, text: str, casting: Casting) -> list[Line]:
    where = f"{casting.seed} {entry.id} {number}"
    voices = _ranked(casting.voices, where)
    if entry.split == "train":
        cast = [voices[take % len(voices)] for take in range(casting.per_caption)]
    else:
        cast = [voices[0], *_ranked(casting.held_out, where)[:1]]
    return [
        _line(entry.id, number, text, voice, f"{where} {voice} {take}", casting)
        for take, voice in enumerate(cast)
    ]


def line_alone(name: str, text: str, casting: Casting) -> Line:
    """The utterance of a sentence that belongs to no picture, by one of the casting's voices."""
    where = f"{casting.seed} {name} 0"
    voice = _ranked(casting.voices, where)[0]
    return _line(name, 0, text, voice, f"{where} {voice} 0", casting)


def _line(sample: str, number: int, text: str, voice: str, where: str, casting: Casting) -> Line:
    augmented = _hash(f"augment {where}") < casting.augment * 2**32
    line = Line(sample, number, text, voice, _hash(f"take {where}"), augmented, casting.codec)
    mixed = mixture(casting.speakers, line.seed) if voice == MIXTURE else ""
    line = replace(line, effects=casting.effects, delivery=casting.delivery, mixture=mixed)
    return _in_company(line, casting)


def _in_company(line: Line, casting: Casting) -> Line:
    """The line with whom its reader may borrow words from, or whose voices may babble behind it."""
    companies = casting.companies
    if companies is None or not (line.voice.startswith(VOICE_PREFIX) or line.effects == "lively"):
        return line
    held_out = line.voice in casting.held_out
    return replace(line, company=companies.held_out if held_out else companies.heard, bank=companies.bank)


def _ranked(voices: Sequence[str], where: str) -> list[str]:
    """Voices in an order drawn for `where`; one more voice leaves the order of the others as it is."""
    return sorted(voices, key=lambda voice: (_hash(f"voice {where} {voice}"), voice))


def _hash(text: str) -> int:
    """Uniform integer in [0, 2^32)."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


def first_lines(lines: Sequence[Line], limit: int) -> list[Line]:
    """`limit` lines, an even sample of all; those of a smaller limit come first, in the same order."""

    def place(line: Line) -> tuple[int, str, int, int]:
        where = f"{line.sample} {line.caption} {line.seed}"
        return _hash(f"order {where}"), line.sample, line.caption, line.seed

    return sorted(lines, key=place)[:limit]


def lines_digest(lines: Sequence[Line]) -> str:
    """Digest of what a speech shard is made from."""
    return hashlib.sha256(repr([_told(line) for line in lines]).encode()).hexdigest()[:16]


def _told(line: Line) -> tuple[Any, ...]:
    """A line's values; those that have a default count only where they differ from it."""
    return tuple(
        value
        for value, field in zip(astuple(line), fields(line), strict=True)
        if field.default is MISSING or getattr(line, field.name) != field.default
    )


def make_speech_shard(plan: ShardPlan[Line], sources: Sources | None = None) -> None:
    """Speak the lines of one shard and write it.

    Raises:
        DataError: an engine failed; the message names the caption and the voice.
    """
    sources = sources or Sources()
    write_speech_shard(plan.path, [speak_line(line, sources) for line in plan.items], plan.digest)


def speak_line(line: Line, sources: Sources | None = None) -> Spoken:
    """Speak one line: engine or reader, augmentation, encoding; never shorter than the encoder takes."""
    from speech2image import audio
    from speech2image.errors import Speech2ImageError

    sources = sources or Sources()
    try:
        waveform, effects = _said(line, sources)
    except Speech2ImageError as error:
        raise DataError(f"voice {line.voice} cannot say {line.text!r} ({line.sample}): {error}") from error
    if line.augmented:
        waveform, changes = _augment(waveform, line, sources)
        effects = {**effects, **changes}
    encode = audio.encode_opus if line.codec == "opus" else audio.encode_flac
    utterance = Utterance(line.caption, line.voice, encode(_long_enough(waveform)), line.codec)
    return Spoken(line.sample, line.text, utterance, effects)


def _said(line: Line, sources: Sources) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """The line as the voice says it, and for a reader how many of the words are whose."""
    from speech2image.data.readers import say

    if not line.voice.startswith(VOICE_PREFIX):
        return say_by_engine(line.text, line.voice, line.mixture, line.seed, line.delivery)
    if sources.word_bank is None or line.company is None:
        raise SettingsError("a reader's voice needs the word bank (--word-bank)")
    reader, rng = line.voice.removeprefix(VOICE_PREFIX), np.random.default_rng(line.seed)
    spliced = say(line.text, reader, sources.word_bank, line.company, rng)
    return spliced.waveform, {"words": spliced.shares}


def _augment(
    waveform: NDArray[np.float32], line: Line, sources: Sources
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    from speech2image.data.augment import LIVELY, augment
    from speech2image.data.noises import noise_recordings
    from speech2image.data.readers import babble

    if line.effects == "usual":
        return augment(waveform, line.seed)
    rng = np.random.default_rng([line.seed, 1])
    voices, noises = [], sources.noise and noise_recordings(sources.noise)
    if sources.word_bank and line.company:
        voices = babble(sources.word_bank, line.company.readers, rng, 6.0)
    return augment(waveform, rng, LIVELY, voices, noises or ())


def _long_enough(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Silence is put around a waveform shorter than 0.75 s, so that a single word can be used."""
    from speech2image import audio

    missing = max(0, int(0.75 * audio.SAMPLE_RATE) - len(waveform))
    return np.pad(waveform, (missing // 2, missing - missing // 2))
