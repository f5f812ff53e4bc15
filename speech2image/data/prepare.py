"""Preparation of a corpus (`speech2image prepare`): shards of pictures, shards of speech, a manifest.

Steps: list the corpus; write picture shards (with recordings of its own); add further recordings; speak the
captions that have none. Each step goes on where it was interrupted, and running it again with more voices
under another `part` adds speech without touching what is there.
"""

import hashlib
import os
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from speech2image.data.corpora.registry import CORPORA
from speech2image.data.entries import Entry, check_entries
from speech2image.data.pairs import (
    RECORDED,
    SAMPLES_PER_SHARD,
    UTTERANCES_PER_SHARD,
    part_shards,
    picture_shards,
    speech_shard,
    speech_shards,
    write_manifest,
)
from speech2image.data.pictures import Crop
from speech2image.data.shards.corpus import write_pictures, write_recordings
from speech2image.data.shards.header import read_header
from speech2image.data.shards.plan import (
    ALL,
    Workers,
    make_shards,
    plan_shards,
    shard_range,
    unfinished,
)
from speech2image.data.shards.ray_tasks import RayCluster
from speech2image.data.speech.readers import SpeakerPools
from speech2image.data.speech.short_captions import short_entries
from speech2image.data.speech.speaking import (
    SoundSources,
    UtteranceSpec,
    VoicePlan,
    first_utterances,
    make_speech_shard,
    plan_utterances,
    specs_digest,
)
from speech2image.data.speech.voices import choose_voices, kokoro_speakers, voices_here
from speech2image.data.speech.word_bank import WordBank
from speech2image.errors import DataError, SettingsError
from speech2image.files import check_writable

if TYPE_CHECKING:
    CorpusName = str
else:  # so that --help lists the names and no other is taken
    CorpusName = Literal[(*CORPORA, "toy")]


@dataclass(frozen=True)
class PrepareSettings:
    """Turn a corpus into shards; run it again to go on after an interruption or to add speech.

    Example: speech2image prepare toy --out shards/toy

    Attributes:
        corpus: published data sets by name, in their publishers' layouts; lists: train.json and test.json as
            released with the paper (birds, flowers, Places-subset); folder: your own manifest; toy: made up.
        out: shards folder to write.
        root: folder of the corpus; for folder, the JSONL manifest or the folder it lies in; not for toy.
        protocol: oxford102 alone: "zero-shot" splits by class, "published" by setid.mat.
        crop: of pictures with a box (cub; lists, if CUB's lists lie there): "stackgan", a square of 1.5 times
            the box's larger side, as the published code crops; "paper", 1.33 times, so that the bird is at
            least 0.75 of it, as the papers say.
        speak: speak captions that have no recording.
        voices: voices heard in training, as names or patterns such as "flite/*" (default: the natural ones
            that are there, Kokoro's and Piper's; else flite's and festival's; else two of espeak-ng's);
            "kokoro/mix" is another mixture of Kokoro's speakers in every utterance.
        held_out_voices: voices, likewise, kept for test captions, which they speak beside a seen voice;
            without --voices, under another --part of a set that is spoken already, test captions alone.
        voices_per_caption: utterances of each training caption.
        speak_splits: speak the captions of these splits alone (default: of all).
        speak_limit: make this many utterances alone, an even sample; a larger multiple of
            --utterances-per-shard later goes on from there.
        delivery: "even" speaks at each voice's own speed; "varied" every caption at another (0.8 to 1.25
            times), and Piper's voices with more or less variation.
        augment: share of utterances with changed rate, pitch, formants, level, noise or room, 0 to 1.
        codec: opus (small) or flac (lossless).
        captions: "full" speaks the captions, "short" brief forms of them ("uh a red flower").
        domain: noun for what the pictures show, for short forms: flower, bird, room ...
        effects: "default" changes rate, voice, level, noise and room; "strong" adds pauses, silence before
            and after, babble (with a word bank), telephone lines and low bit rates.
        noise_folder: folder of noise or music to lay under speech with strong effects.
        word_bank: folder that `prepare words` wrote: its readers become voices "reader/NAME".
        word_voices: engine voices for words that no reader of the bank says.
        held_out_word_voices: the same for held-out readers.
        part: name of this speech in the shards' names; another name adds speech to a prepared set.
        recordings: JSONL files of further recordings: audio, image, text or caption, voice.
        validation: share of the training pictures kept out of training as split "val", 0 to 0.5; their
            captions are spoken by a seen and a held-out voice, like the test captions.
        limit: take this many pictures alone, spread evenly over the corpus; for toy, how many to make.
        seed: of voices, augmentation and the toy set.
        workers: processes.
        ray: do the work on a Ray cluster, in place of --workers: its address, auto, or local.
        shards: make the shards START:STOP of pictures, recordings and speech alone, for one job of
            many; the same command without it then puts all together.
        skip_bad: leave out pictures and recordings that cannot be used, and say which; by default they are
            all named, and nothing is made of the shards they belong to.
        overwrite: remake shards that were made from other data or with other settings, or are damaged.
        samples_per_shard: pictures a shard.
        utterances_per_shard: spoken utterances a shard.
    """

    corpus: tyro.conf.Positional[CorpusName]
    out: Path
    root: Path | None = None
    protocol: Literal["zero-shot", "published"] = "zero-shot"
    crop: Crop = "stackgan"
    speak: bool = True
    voices: tuple[str, ...] = ()
    held_out_voices: tuple[str, ...] = ()
    voices_per_caption: int = 1
    speak_splits: tuple[Literal["train", "val", "test"], ...] = ()
    speak_limit: int | None = None
    delivery: Literal["even", "varied"] = "even"
    augment: float = 0.5
    codec: Literal["opus", "flac"] = "opus"
    captions: Literal["full", "short"] = "full"
    domain: str = "flower"
    effects: Literal["default", "strong"] = "default"
    noise_folder: Path | None = None
    word_bank: Path | None = None
    word_voices: tuple[str, ...] = ("flite/slt", "flite/rms", "flite/awb")
    held_out_word_voices: tuple[str, ...] = ("flite/kal16",)
    part: str = "spoken"
    recordings: tuple[Path, ...] = ()
    validation: float = 0.0
    limit: int | None = None
    seed: int = 0
    workers: int = 1
    ray: str | None = None
    shards: str | None = None
    skip_bad: bool = False
    overwrite: bool = False
    samples_per_shard: int = SAMPLES_PER_SHARD
    utterances_per_shard: int = UTTERANCES_PER_SHARD

    @property
    def place(self) -> Workers:
        """Where the shards are made."""
        return self.workers if self.ray is None else RayCluster(self.ray)


def prepare(settings: PrepareSettings) -> Path:
    """Write the shards and the manifest that `settings` ask for.

    Returns:
        The shards folder.

    Raises:
        SettingsError: a setting is out of range, or names a voice that is not there.
        DataError: the corpus is missing, damaged or unfit, or `out` holds something else; all of its files
            that cannot be used are named together.
        OutputError: `out` cannot be written.
    """
    _check(settings)
    only = shard_range(settings.shards)
    check_writable(settings.out / "manifest.jsonl")
    if settings.corpus == "toy":
        from speech2image.data.corpora.toy import write_toy

        return write_toy(settings)
    entries = _limited(list_entries(settings), settings.limit)
    entries = [_with_validation(entry, settings.validation) for entry in entries]
    entries = check_entries(entries, _name(settings), skip_bad=settings.skip_bad)
    _check_captions(entries, settings)
    entries = write_pictures(
        entries,
        settings.out,
        _name(settings),
        per_shard=settings.samples_per_shard,
        overwrite=settings.overwrite,
        workers=settings.place,
        skip_bad=settings.skip_bad,
        only=only,
    )
    for manifest in settings.recordings:
        write_recordings(
            manifest,
            entries,
            settings.out,
            per_shard=settings.utterances_per_shard,
            overwrite=settings.overwrite,
            workers=settings.place,
            skip_bad=settings.skip_bad,
            only=only,
        )
    if settings.speak:
        splits = settings.speak_splits or ("train", "val", "test")
        write_speech([entry for entry in entries if entry.split in splits], settings)
    if only == ALL:
        write_manifest(settings.out)
    return settings.out


def _check_captions(entries: Sequence[Entry], settings: PrepareSettings) -> None:
    """Say at once, before any work, if there is nothing to speak.

    Raises:
        DataError: no picture has a caption, and flags ask for speech.

    Warns:
        UserWarning: no picture has a caption or a recording, or some have none.
    """
    silent = sum(not entry.captions and not entry.recordings for entry in entries)
    if not silent or settings.recordings or not settings.speak:
        return
    name, where = _name(settings), "docs/data.md shows where they are looked for"
    if silent < len(entries):
        warnings.warn(f"{silent} of {len(entries)} pictures of {name} have no caption; {where}", stacklevel=3)
        return
    asked = [f"--{field.replace('_', '-')}" for field in SPEECH_FLAGS if getattr(settings, field)]
    if asked or settings.captions == "short":
        flags = ", ".join(asked or ["--captions short"])
        raise DataError(
            f"none of {len(entries)} pictures of {name} has a caption, so there is nothing to speak "
            f"({flags}); {where}; --no-speak prepares the pictures alone"
        )
    warnings.warn(
        f"none of {len(entries)} pictures of {name} has a caption or a recording: they stay silent, and no "
        f"speech encoder can be trained on them; {where}",
        stacklevel=3,
    )


SPEECH_FLAGS = ("voices", "held_out_voices", "speak_splits", "speak_limit", "word_bank")
"""Flags that ask for speech by being given."""


def _name(settings: PrepareSettings) -> str:
    return f"{settings.corpus} in {settings.root}"


def list_entries(settings: PrepareSettings) -> list[Entry]:
    """The pictures of the corpus that `settings` name."""
    if settings.root is None:
        raise SettingsError(f"--root is missing: the folder (or manifest) of {settings.corpus}")
    options = {"protocol": settings.protocol} if settings.corpus == "oxford102" else {}
    listed = CORPORA[settings.corpus](settings.root, **options)
    if settings.crop == "stackgan":
        return listed
    if not any(entry.box for entry in listed):
        raise SettingsError(
            f"--crop {settings.crop}: {_name(settings)} has no boxes to crop to; leave it out"
        )
    source = f"cropped to the {settings.crop}'s square"
    return [
        replace(entry, crop=settings.crop, source=f"{entry.source}; {source}") if entry.box else entry
        for entry in listed
    ]


def write_speech(entries: Sequence[Entry], settings: PrepareSettings) -> None:
    """Speak the captions without a recording; without any engine, say so and leave the pictures silent."""
    if not plan_utterances(entries, VoicePlan(voices=("any",))):
        return
    bank = WordBank.open(settings.word_bank) if settings.word_bank else None
    found = voices_here(settings.voices, settings.held_out_voices, bank.voices if bank else ())
    if not found and not settings.voices:
        warnings.warn(
            "no speaking engine was found, so captions stay silent; install flite, festival or espeak-ng "
            "(e.g. apt-get install flite) and run this again",
            stacklevel=2,
        )
        return
    later = bool(settings.held_out_voices and not settings.voices)
    spoken_by = _spoken_by(settings, found) if later else set()
    seen, held_out = choose_voices(
        settings.voices, settings.held_out_voices, found, held_out_alone=bool(spoken_by)
    )
    if both := sorted(spoken_by & set(held_out)):
        raise SettingsError(
            f"{', '.join(both)} cannot be kept out: training captions are spoken by them already; name "
            "another voice (--held-out-voices)"
        )
    if spoken_by:
        print(
            f"{settings.out} is spoken already, so {', '.join(held_out)} speak{'s' * (len(held_out) == 1)} "
            "test captions only (--voices adds training speech)",
            file=sys.stderr,
        )
    elif not settings.voices:
        print(f"captions are spoken by {', '.join(seen)} (--voices names others)", file=sys.stderr)
    voice_plan = VoicePlan(
        tuple(seen),
        tuple(held_out),
        settings.voices_per_caption,
        settings.augment,
        settings.seed,
        settings.codec,
        _pools(bank, held_out, settings) if bank else None,
        settings.effects,
        settings.delivery,
        kokoro_speakers(found, held_out),
    )
    specs = _specs(entries, voice_plan, settings)
    path_of = partial(speech_shard, settings.out, settings.part)
    plans = plan_shards(specs, settings.utterances_per_shard, path_of, specs_digest)
    todo = unfinished(plans, part_shards(settings.out, settings.part), overwrite=settings.overwrite)
    make = partial(make_speech_shard, sources=SoundSources(settings.word_bank, settings.noise_folder))
    chosen = {plan.path for plan in plans[shard_range(settings.shards)]}
    todo = [plan for plan in todo if plan.path in chosen]
    make_shards(make, todo, [len(plan.items) for plan in todo], "speech", settings.place)


def _spoken_by(settings: PrepareSettings, found: Sequence[str]) -> set[str]:
    """Engines' and readers' voices that speak training captions in other parts; none if this part has such
    captions already, and so goes on as it began."""
    train = {
        row["id"]
        for path in picture_shards(settings.out)
        for row in read_header(path).rows
        if row["split"] == "train"
    }
    own, heard = set(part_shards(settings.out, settings.part)), set()
    for path in speech_shards(settings.out):
        voices = {row["voice"] for row in read_header(path).rows if row["id"] in train}
        if path in own and voices:
            return set()
        heard |= voices & set(found)
    return heard


def _specs(entries: Sequence[Entry], voice_plan: VoicePlan, settings: PrepareSettings) -> list[UtteranceSpec]:
    if settings.captions == "full":
        specs = plan_utterances(entries, voice_plan)
    else:
        short = plan_utterances(short_entries(entries, settings.domain, settings.seed), voice_plan)
        specs = [replace(spec, caption=-1) for spec in short]
    return specs if settings.speak_limit is None else first_utterances(specs, settings.speak_limit)


def _pools(bank: WordBank, held_out: Sequence[str], settings: PrepareSettings) -> SpeakerPools:
    from speech2image.tts import find_voice

    for name in (*settings.word_voices, *settings.held_out_word_voices):
        find_voice(name)
    return SpeakerPools.of(bank, held_out, settings.word_voices, settings.held_out_word_voices)


def _limited(entries: list[Entry], limit: int | None) -> list[Entry]:
    """At most `limit` entries, evenly spread over the list, so that many classes are among them."""
    if limit is None or limit >= len(entries):
        return entries
    return [entries[i * len(entries) // limit] for i in range(limit)]


def _with_validation(entry: Entry, share: float) -> Entry:
    """The entry, moved to split "val" for a share of the training pictures, chosen by their ids alone."""
    digest = hashlib.blake2b(f"validation {entry.id}".encode(), digest_size=4).digest()
    number = int.from_bytes(digest, "little")
    return replace(entry, split="val") if entry.split == "train" and number < share * 2**32 else entry


def _check(settings: PrepareSettings) -> None:
    for name, least in (
        ("voices_per_caption", 1),
        ("workers", 1),
        ("samples_per_shard", 1),
        ("utterances_per_shard", 1),
        ("limit", 1),
        ("speak_limit", 1),
    ):
        value = getattr(settings, name)
        if value is not None and value < least:
            raise SettingsError(f"--{name.replace('_', '-')} is {value}, must be at least {least}")
    if settings.shards and settings.corpus == "toy":
        raise SettingsError("--shards is for corpora of pictures; the toy set is made at once")
    if not 0 <= settings.validation <= 0.5:
        raise SettingsError(f"--validation is {settings.validation}, must lie between 0 and 0.5")
    if not 0 <= settings.augment <= 1:
        raise SettingsError(f"--augment is {settings.augment}, must lie between 0 and 1")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", settings.part) or settings.part == RECORDED:
        raise SettingsError(
            f"--part is {settings.part!r}, must be small letters, digits and dashes, and not {RECORDED!r}"
        )
    if settings.out.exists() and not os.path.isdir(settings.out):
        raise SettingsError(f"--out {settings.out} is a file; name a folder")
