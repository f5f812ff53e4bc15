"""Speaks sentences about other things (`other_captions.py`) as `prepare` speaks captions: what the domain
head (`training/recipes/domain_head.py`) learns to turn away.

The folder is one of `recordings.py`, a speaker is a voice, and the listing states the split. Every choice
is a hash of (seed, sentence), so an interrupted call goes on with the part where it stopped, and a larger
number of sentences with those that are missing.
"""

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from speech2image import tts
from speech2image.audio.front_ends import WHISPER, FrontEnd
from speech2image.data.log_mels import frames_of, write_log_mels
from speech2image.data.shards.plan import ShardPlan, make_shards, plan_shards
from speech2image.data.shards.recordings import LISTING, RECORDINGS_PER_PART, Recordings, write_listing
from speech2image.data.speech.other_sentences import OtherSplit, other_sentences
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
        for spec in plan.items
    ]
    write_log_mels(plan.path, frames)
