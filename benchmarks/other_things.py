"""Who gets the remark "I only know flowers and birds"? Sentences about other things, and descriptions.

    python benchmarks/other_things.py --data shards/flowers shards/birds --part kokoro-kept-out

Six sentences about other things are spoken here by the voice in which the page speaks what is typed, by
another, and by two that no training has heard: each should be told to be about something else. Utterances of
the data sets' test split, `known` in all, and every recording of the folders --recordings describe what the
model draws: none should be. What is wrong is listed with what was heard. A recording that cannot be used
(nobody speaks, no words) is refused, which is neither.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import tyro

import speech2image
from speech2image import audio, tts
from speech2image.data.pairs import part_shards, picture_shards, stream_speech
from speech2image.data.shards.header import read_header
from speech2image.errors import SpeechError
from speech2image.pipeline.base import Route
from speech2image.pipeline.domains import OTHER
from speech2image.pipeline.registry import DEFAULT_MODEL

SENTENCES = (
    "a red sports car on the road",
    "a yellow school bus with black stripes",
    "a small brown dog running along the beach",
    "a plate of spaghetti with red tomato sauce",
    "my brother plays the guitar in a band",
    "what time does the next train to the city leave",
)


@dataclass(frozen=True)
class Settings:
    """What to listen to.

    Attributes:
        data: shards folders with speech of the test split.
        part: of that speech.
        recordings: folders of recordings that describe what the model draws.
        known: utterances of the data sets, shared out evenly.
        voices: that speak the sentences about other things.
        model: name or folder.
    """

    data: tuple[Path, ...] = ()
    part: str = "kokoro-kept-out"
    recordings: tuple[Path, ...] = ()
    known: int = 40
    voices: tuple[str, ...] = ("flite/slt", "espeak-ng/en-us", "flite/kal16", "espeak-ng/en-gb-scotland")
    model: str = DEFAULT_MODEL


@dataclass(frozen=True)
class Clip:
    """A recording, who speaks, and what is said, as far as that is known."""

    speech: audio.Source
    voice: str
    text: str


def main(settings: Settings) -> None:
    """Listen, count, print."""
    route = speech2image.load(settings.model)
    if not route.capabilities.domain:
        raise SystemExit(f"{settings.model} does not tell what a recording is about")
    for folder in settings.data:
        if not part_shards(folder, settings.part):
            raise SystemExit(f"{folder} has no speech of the part {settings.part!r}")
    print("| said | recordings | with the remark | without | refused |\n|---|---|---|---|---|")
    wrong = []
    for voice in settings.voices:
        wrong += count(route, f"other things, {voice}", others(tts.find_voice(voice)), wanted=True)
    for folder in settings.data:
        described = islice(utterances(folder, settings.part), settings.known // len(settings.data))
        wrong += count(route, folder.name, described, wanted=False)
    for folder in settings.recordings:
        found = sorted(path for path in folder.iterdir() if path.suffix in {".wav", ".flac", ".opus", ".mp3"})
        wrong += count(route, str(folder), (Clip(path, path.name, "") for path in found), wanted=False)
    print("\n".join(["", *wrong]))


def count(route: Route, name: str, clips: Iterator[Clip], wanted: bool) -> list[str]:
    """Print a row of the clips, of which all or none should get the remark; a line for each that is wrong."""
    found, wrong = {True: 0, False: 0, None: 0}, []
    for clip in clips:
        remarked = None
        try:
            heard = route.encode(clip.speech)
            remarked = heard.decision.domain == OTHER
            told = f"{heard.decision.domain} ({heard.decision.confidence:.2f}), heard: {heard.transcript}"
        except SpeechError as error:
            told = error.code
        found[remarked] += 1
        if remarked != wanted:
            wrong.append(f"{clip.voice}: {clip.text!r}: {told}")
    print(f"| {name} | {sum(found.values())} | {found[True]} | {found[False]} | {found[None]} |")
    return wrong


def others(voice: tts.Voice) -> Iterator[Clip]:
    """The sentences about other things."""
    for text in SENTENCES:
        yield Clip((tts.speak(text, voice), audio.SAMPLE_RATE), voice.id, text)


def utterances(folder: Path, part: str) -> Iterator[Clip]:
    """Utterances of the test split, as they come."""
    rows = [row for path in picture_shards(folder) for row in read_header(path, "pictures").rows]
    unseen = {row["id"] for row in rows if row["split"] == "test"}
    for spoken in stream_speech(part_shards(folder, part)):
        if spoken.sample in unseen:
            yield Clip(spoken.utterance.audio, spoken.utterance.voice, spoken.text)


if __name__ == "__main__":
    main(tyro.cli(Settings))
