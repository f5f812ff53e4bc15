"""Speech of captions: a plan of who says what (`UtteranceSpec`), and the making of one speech shard of it.

A voice is an engine's ("flite/slt") or a reader of a word bank ("reader/251", `speech.splicing`).

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
from speech2image.data.listings import JsonObject
from speech2image.data.pairs import ShardUtterance, Utterance, write_speech_shard
from speech2image.data.shards.plan import ShardPlan, counted
from speech2image.data.speech.readers import SpeakerPool, SpeakerPools
from speech2image.data.speech.voices import MIXTURE, mixture, say_by_engine
from speech2image.data.speech.word_bank import VOICE_PREFIX
from speech2image.errors import DataError, SettingsError


@dataclass(frozen=True)
class VoicePlan:
    """Who speaks how.

    Attributes:
        voices: voices of training captions; they also speak each test caption once. None where held-out
            voices are added later.
        held_out: voices kept out of training; they speak each test caption once.
        per_caption: utterances of a training caption, by different voices as far as there are enough.
        augment: share of utterances that are augmented, 0 to 1.
        seed: of all draws.
        codec: "opus" (12 kB for 4 s) or "flac" (lossless, about five times that).
        pools: who speaks with whom, when readers of a word bank are among the voices.
        effects: "default" or "strong": `WaveformAugmentation` or `STRONG_EFFECTS` of `augment/waveform.py`.
        delivery: "even", or "varied": every utterance at a speed of its own, Piper's with its own variation.
        speakers: Kokoro's speakers that `MIXTURE` mixes.
    """

    voices: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    per_caption: int = 1
    augment: float = 0.5
    seed: int = 0
    codec: str = "opus"
    pools: SpeakerPools | None = None
    effects: str = "default"
    delivery: str = "even"
    speakers: tuple[str, ...] = ()


@dataclass(frozen=True)
class SoundSources:
    """Where sound comes from while utterances are made: a word bank, a folder of noise, both optional."""

    word_bank: Path | None = None
    noise: Path | None = None


@dataclass(frozen=True)
class UtteranceSpec:
    """One utterance to make: `text` is caption number `caption` of picture `sample`, or short for it.

    A field added later has a default, with which it does not count in the digest (`specs_digest`).
    """

    sample: str
    caption: int
    text: str
    voice: str
    seed: int
    augmented: bool
    codec: str
    effects: str = "default"
    pool: SpeakerPool | None = None
    bank: str = ""
    delivery: str = "even"
    mixture: str = ""


def plan_utterances(entries: Iterable[Entry], voice_plan: VoicePlan) -> list[UtteranceSpec]:
    """Every utterance to make, picture by picture: captions that have a recording or no words are left
    out."""
    specs = []
    for entry in entries:
        recorded = {recording.caption for recording in entry.recordings}
        for number, text in enumerate(entry.captions):
            if number not in recorded and re.search("[A-Za-z0-9]", text):
                specs += _takes(entry, number, text, voice_plan)
    return specs


def _takes(entry: Entry, number: int, text: str, voice_plan: VoicePlan) -> list[UtteranceSpec]:
    where = f"{voice_plan.seed} {entry.id} {number}"
    voices = _ranked(voice_plan.voices, where)
    # All but training captions are spoken by a seen and a held-out voice, so that the two can be compared.
    if entry.split == "train":
        cast = [voices[take % len(voices)] for take in range(voice_plan.per_caption) if voices]
    else:
        cast = [*voices[:1], *_ranked(voice_plan.held_out, where)[:1]]
    return [
        _spec(entry.id, number, text, voice, f"{where} {voice} {take}", voice_plan)
        for take, voice in enumerate(cast)
    ]


def single_utterance(name: str, text: str, voice_plan: VoicePlan) -> UtteranceSpec:
    """The utterance of a sentence that belongs to no picture, by one of the plan's voices."""
    where = f"{voice_plan.seed} {name} 0"
    voice = _ranked(voice_plan.voices, where)[0]
    return _spec(name, 0, text, voice, f"{where} {voice} 0", voice_plan)


def _spec(
    sample: str, number: int, text: str, voice: str, where: str, voice_plan: VoicePlan
) -> UtteranceSpec:
    # A hash of its own for each choice: a larger share augments more of them and leaves the others alone.
    augmented = _hash(f"augment {where}") < voice_plan.augment * 2**32
    spec = UtteranceSpec(sample, number, text, voice, _hash(f"take {where}"), augmented, voice_plan.codec)
    mixed = mixture(voice_plan.speakers, spec.seed) if voice == MIXTURE else ""
    spec = replace(spec, effects=voice_plan.effects, delivery=voice_plan.delivery, mixture=mixed)
    return _with_pool(spec, voice_plan)


def _with_pool(spec: UtteranceSpec, voice_plan: VoicePlan) -> UtteranceSpec:
    """The spec with the speakers its reader may take words from, or who may babble behind it."""
    pools = voice_plan.pools
    if pools is None or not (spec.voice.startswith(VOICE_PREFIX) or spec.effects == "strong"):
        return spec
    held_out = spec.voice in voice_plan.held_out
    return replace(spec, pool=pools.held_out if held_out else pools.seen, bank=pools.bank)


def _ranked(voices: Sequence[str], where: str) -> list[str]:
    """Voices in an order drawn for `where`; one more voice leaves the order of the others as it is."""
    return sorted(voices, key=lambda voice: (_hash(f"voice {where} {voice}"), voice))


def _hash(text: str) -> int:
    """Uniform integer in [0, 2^32)."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


def first_utterances(specs: Sequence[UtteranceSpec], limit: int) -> list[UtteranceSpec]:
    """`limit` utterances, an even sample of all; those of a smaller limit come first, in the same order."""

    def place(spec: UtteranceSpec) -> tuple[int, str, int, int]:
        where = f"{spec.sample} {spec.caption} {spec.seed}"
        return _hash(f"order {where}"), spec.sample, spec.caption, spec.seed

    # In hash order, a smaller limit is a prefix of a larger one: shards made for it stay as they are.
    return sorted(specs, key=place)[:limit]


def specs_digest(specs: Sequence[UtteranceSpec]) -> str:
    """Digest of what a speech shard is made from."""
    return hashlib.sha256(repr([_digested(spec) for spec in specs]).encode()).hexdigest()[:16]


_DIGESTED_EFFECTS = {"strong": "lively"}
"""Values of `UtteranceSpec.effects` -> what stands for them in digests."""


def _digested(spec: UtteranceSpec) -> tuple[Any, ...]:
    """A spec's values; those that have a default count only where they differ from it.

    Digests keep the words of version 0.1, so that shards made by it are found finished.
    """
    if spec.effects in _DIGESTED_EFFECTS:
        spec = replace(spec, effects=_DIGESTED_EFFECTS[spec.effects])
    return tuple(
        value
        for value, field in zip(astuple(spec), fields(spec), strict=True)
        if field.default is MISSING or getattr(spec, field.name) != field.default
    )


def make_speech_shard(plan: ShardPlan[UtteranceSpec], sources: SoundSources | None = None) -> None:
    """Speak the utterances of one shard and write it.

    Raises:
        DataError: an engine failed; the message names the caption and the voice.
    """
    sources = sources or SoundSources()
    spoken = [speak_utterance(spec, sources) for spec in counted(plan.items)]
    write_speech_shard(plan.path, spoken, plan.digest)


def speak_utterance(spec: UtteranceSpec, sources: SoundSources | None = None) -> ShardUtterance:
    """Speak one utterance: engine or reader, augmentation, encoding; never shorter than the encoder takes."""
    from speech2image import audio
    from speech2image.errors import Speech2ImageError

    sources = sources or SoundSources()
    try:
        waveform, effects = _said(spec, sources)
    except Speech2ImageError as error:
        raise DataError(f"voice {spec.voice} cannot say {spec.text!r} ({spec.sample}): {error}") from error
    if spec.augmented:
        waveform, changes = _augment(waveform, spec, sources)
        effects = {**effects, **changes}
    encode = audio.encode_opus if spec.codec == "opus" else audio.encode_flac
    utterance = Utterance(spec.caption, spec.voice, encode(_long_enough(waveform)), spec.codec)
    return ShardUtterance(spec.sample, spec.text, utterance, effects)


def _said(spec: UtteranceSpec, sources: SoundSources) -> tuple[NDArray[np.float32], JsonObject]:
    """The text spoken by the voice, and for a reader how many of the words are the reader's own."""
    from speech2image.data.speech.readers import say

    if not spec.voice.startswith(VOICE_PREFIX):
        return say_by_engine(spec.text, spec.voice, spec.mixture, spec.seed, spec.delivery)
    if sources.word_bank is None or spec.pool is None:
        raise SettingsError("a reader's voice needs the word bank (--word-bank)")
    reader, rng = spec.voice.removeprefix(VOICE_PREFIX), np.random.default_rng(spec.seed)
    spliced = say(spec.text, reader, sources.word_bank, spec.pool, rng)
    return spliced.waveform, {"words": spliced.shares}


def _augment(
    waveform: NDArray[np.float32], spec: UtteranceSpec, sources: SoundSources
) -> tuple[NDArray[np.float32], JsonObject]:
    from speech2image.data.augment.sounds import noise_recordings
    from speech2image.data.augment.waveform import STRONG_EFFECTS, augment
    from speech2image.data.speech.readers import babble

    if spec.effects == "default":
        return augment(waveform, spec.seed)
    # Default effects draw from the seed itself; the 1 keeps these draws, babble among them, apart.
    rng = np.random.default_rng([spec.seed, 1])
    voices, noises = [], sources.noise and noise_recordings(sources.noise)
    if sources.word_bank and spec.pool:
        voices = babble(sources.word_bank, spec.pool.readers, rng, 6.0)
    return augment(waveform, rng, STRONG_EFFECTS, voices, noises or ())


def _long_enough(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Silence is put around a waveform shorter than 0.75 s, so that a single word can be used."""
    from speech2image import audio

    missing = max(0, int(0.75 * audio.SAMPLE_RATE) - len(waveform))
    return np.pad(waveform, (missing // 2, missing - missing // 2))
