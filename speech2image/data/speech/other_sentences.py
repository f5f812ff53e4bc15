"""Sentences about other things: descriptions and talk about no flower, bird or room, and their speech.

A model that knows three domains must notice the rest ("a red sports car"): the domain head learns to turn
these away. The hard cases are descriptions of other things in the same words, colours and parts above all, so
half of the sentences are such descriptions; the others are what people say to a microphone. Things, people's
talk and foreign sentences of the split "test" never occur in "train": what is measured there are unseen
things, not seen sentences.

`prepare_other` speaks them as `prepare` speaks captions, into a folder of `shards.recordings` whose listing
states the split; a speaker in it is a voice. Every choice is a hash of (seed, sentence), so an interrupted
call goes on with the part where it stopped, and a larger number of sentences with those that are missing.
"""

import hashlib
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from speech2image import tts
from speech2image.audio.front_ends import WHISPER, FrontEnd
from speech2image.data.shards.plan import ShardPlan, counted, make_shards, plan_shards
from speech2image.data.shards.recordings import LISTING, RECORDINGS_PER_PART, Recordings, write_listing
from speech2image.data.shards.rows import frames_of, write_log_mels
from speech2image.data.speech.speaking import (
    UtteranceSpec,
    VoicePlan,
    single_utterance,
    speak_utterance,
    specs_digest,
)
from speech2image.data.speech.voices import choose_voices, kokoro_speakers, voices_here
from speech2image.errors import DataError, SettingsError
from speech2image.tts import espeak

OtherSplit = Literal["train", "test"]


@dataclass(frozen=True)
class OtherSentence:
    """One sentence about something else.

    Attributes:
        text: lower-case words without punctuation.
        kind: "thing" (described with colours and parts), "talk" or "foreign".
        language: "en", "de", "fr", "es" or "it"; foreign sentences want a voice of that language.
    """

    text: str
    kind: str
    language: str = "en"


_FORMS = (
    "a {c} {t}",
    "this {t} is {c} with {d} {p}",
    "a {c} {t} with {d} {p}",
    "a {t} with {p} that are {c} and {d}",
    "show me a {c} {t}",
    "draw a {c} {t} please",
    "a small {c} and {d} {t}",
    "the {t} has {c} {p} and {d} {q}",
    "a large {c} {t} with {p} and {d} {q}",
    "uh a {c} {t}",
    "a {t} painted {c} and {d} with {p}",
    "a {c} {t} next to a {d} {u}",
    "i want a picture of a {c} {t}",
)


def other_sentences(n: int, split: OtherSplit, seed: int = 0) -> Iterator[OtherSentence]:
    """Draw `n` sentences: one half describe things, three tenths are talk, one fifth is foreign.

    The same `split` and `seed` give the same sentences; row k does not depend on `n`. Talk and foreign
    sentences repeat.

    Args:
        n: how many.
        split: "train", or "test" for things and sentences that "train" never has.
        seed: of the draw.
    """
    words = _words()
    things = [(kind["parts"], _of_split(kind["names"], split)) for kind in words["things"]]
    talk = _of_split(words["talk"]["en"], split)
    foreign = [(lang, text) for lang, texts in words["foreign"].items() for text in _of_split(texts, split)]
    for k in range(n):
        rng = np.random.default_rng((seed, k, split == "test"))
        kind = rng.random()
        if kind < 0.5:
            yield OtherSentence(_description(rng, words["colours"], things), "thing")
        elif kind < 0.8:
            yield OtherSentence(str(rng.choice(talk)), "talk")
        else:
            language, text = foreign[rng.integers(len(foreign))]
            yield OtherSentence(text, "foreign", language)


def _description(
    rng: np.random.Generator, colours: list[str], things: list[tuple[list[str], list[str]]]
) -> str:
    parts, names = things[rng.integers(len(things))]
    first, second = rng.choice(colours, 2, replace=False)
    part, other = rng.choice(parts, 2, replace=False)
    neighbour = rng.choice([name for _, others in things for name in others])
    form = str(rng.choice(_FORMS))
    text = form.format(c=first, d=second, t=rng.choice(names), u=neighbour, p=part, q=other)
    return re.sub(r"\ba (?=[aeio])", "an ", text)


@cache
def _words() -> dict[str, Any]:
    file = resources.files("speech2image.data") / "captions" / "other.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _of_split(items: list[str], split: OtherSplit) -> list[str]:
    """Those that belong to a split: a quarter, chosen by their hash, to "test"."""
    return [
        item for item in items if (hashlib.sha256(item.encode()).digest()[0] % 4 == 0) == (split == "test")
    ]


TIMBRES = ("f2", "f3", "m3", "m7")
"""Timbres of espeak-ng in which foreign sentences are spoken, too."""


def prepare_other(
    out: str | os.PathLike[str],
    voices: Sequence[str],
    voice_plan: VoicePlan,
    n: int,
    split: OtherSplit,
    workers: int = 1,
    front_end: FrontEnd = WHISPER,
) -> Recordings:
    """Speak `n` sentences and keep their frames.

    Args:
        out: folder to write.
        voices: names or patterns of voices for English sentences; none for all found. Foreign ones are spoken
            by espeak-ng.
        voice_plan: seed, augmentation and delivery; `held_out` names voices, or patterns, that never speak
            here.
        n: sentences, foreign ones without a voice included.
        split: whose sentences.
        workers: processes.
        front_end: what makes the frames.

    Raises:
        SettingsError: a number is out of range, or there is no voice.
        DataError: an engine failed, or `out` holds something else.
        OutputError: `out` cannot be written.
    """
    out = Path(out)
    for name, value in (("n", n), ("workers", workers)):
        if value < 1:
            raise SettingsError(f"--{name} is {value}, must be at least 1")
    if not 0 <= voice_plan.augment <= 1:
        raise SettingsError(f"--augment is {voice_plan.augment}, must lie between 0 and 1")
    if (out / LISTING).exists() and Recordings(out).split != split:
        raise DataError(
            f"{out} holds other recordings than sentences of the split {split}; choose another --out"
        )
    specs = plan_other(n, split, with_voices(voices, voice_plan))
    path_of = partial(_part, out, front_end)
    plans = [
        replace(plan, path=plan.path.with_name(f"{plan.path.stem}-{plan.digest}.npy"))
        for plan in plan_shards(specs, RECORDINGS_PER_PART, path_of, specs_digest)
    ]
    todo = [plan for plan in plans if not plan.path.exists()]
    make_shards(
        partial(_make_part, front_end=front_end), todo, [len(p.items) for p in todo], "speech", workers
    )
    first: dict[str, object] = {
        "parts": [plan.path.name for plan in plans],
        "sources": [plan.digest for plan in plans],
        "front_end": front_end.describe(),
        "split": split,
    }
    return write_listing(out, first, [(spec.voice, spec.text) for spec in specs])


def with_voices(patterns: Sequence[str], voice_plan: VoicePlan) -> VoicePlan:
    """The plan with the voices that fit the patterns."""
    found = voices_here(patterns, voice_plan.held_out)
    if not found:
        raise SettingsError(
            "no speaking engine was found; install flite, festival or espeak-ng (e.g. apt-get install flite)"
        )
    seen, held_out = choose_voices(patterns, voice_plan.held_out, found)
    speakers = kokoro_speakers(found, held_out)
    return replace(voice_plan, voices=tuple(seen), held_out=tuple(held_out), speakers=speakers)


def plan_other(n: int, split: OtherSplit, voice_plan: VoicePlan) -> list[UtteranceSpec]:
    """Who says what. Foreign sentences without a voice are left out, which standard error says."""
    specs, silent, foreign = [], set(), {}
    for k, sentence in enumerate(other_sentences(n, split, voice_plan.seed)):
        language = sentence.language
        if language != "en" and language not in foreign:
            foreign[language] = foreign_voices(language, voice_plan.held_out)
        voices = voice_plan.voices if language == "en" else foreign[language]
        if voices:
            specs.append(
                single_utterance(f"other {split} {k}", sentence.text, replace(voice_plan, voices=voices))
            )
        else:
            silent.add(language)
    if silent:
        print(
            f"left out the sentences in {', '.join(sorted(silent))}: no espeak-ng voice speaks them here "
            "(apt-get install espeak-ng)",
            file=sys.stderr,
        )
    return specs


def foreign_voices(language: str, held_out: Sequence[str] = ()) -> tuple[str, ...]:
    """The voices here that speak a language other than English: espeak-ng's, in several timbres."""
    if language not in espeak.languages():
        return ()
    names = [language, *(f"{language}+{timbre}" for timbre in TIMBRES if timbre in espeak.timbres())]
    voices = [tts.find_voice(f"espeak-ng/{name}").id for name in names]
    return tuple(voice for voice in voices if voice not in held_out)


def _part(out: Path, front_end: FrontEnd, number: int) -> Path:
    """The file of a part, but for the digest of what it is made from."""
    computed = hashlib.sha256(repr(front_end.describe()).encode()).hexdigest()[:6]
    return out / f"{front_end.name}-{computed}-{number:05d}.npy"


def _make_part(plan: ShardPlan[UtteranceSpec], front_end: FrontEnd) -> None:
    frames = [
        frames_of(speak_utterance(spec).utterance.audio, f"{spec.sample} by {spec.voice}", front_end)
        for spec in counted(plan.items)
    ]
    write_log_mels(plan.path, frames)
