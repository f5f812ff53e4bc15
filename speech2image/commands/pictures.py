"""translate, say, interpolate, models: the commands that need no extra.

The flags of `translate` avoid `| None`, as those of `drawing` do, which says why.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from speech2image.commands.drawing import (
    Pictures,
    PicturesFlags,
    Row,
    check_wav,
    draw_pictures,
    draw_row,
    dump,
    write_wav,
)
from speech2image.commands.flags import NO_PAIRS, parse, read_embeddings
from speech2image.errors import SettingsError, SpeechError, printable
from speech2image.pipeline import registry

if TYPE_CHECKING:
    from speech2image.pipeline.base import Route, Translation


def run(command: str, arguments: list[str]) -> None:
    """Parse `arguments` for `command` and do it."""
    functions: dict[str, Callable[..., None]] = {
        "translate": translate,
        "say": say,
        "interpolate": interpolate,
        "models": models,
    }
    parse(functions[command], command, arguments, config=NO_PAIRS)


def translate(
    clips: tyro.conf.Positional[list],  # type: ignore[type-arg]  # list[str] makes tyro import typeguard
    drawing: PicturesFlags,
    text: str = "",
    embedding: str = "",
    row: int = -1,
    recognizer: str = "own",
    skip_bad: bool = False,
    manifest: str = "",
    at_once: int = 0,
    ray: str = "",
) -> None:
    """Turn recordings into pictures.

    Example: speech2image translate clip.wav -n 8 -o flower.png

    Many recordings: speech2image translate *.wav --separate -o drawn/p.png --skip-bad
    --manifest drawn/results.jsonl

    Args:
        clips: recordings in any common format (wav, mp3, ogg, m4a, webm ...); - reads standard input.
        drawing: what to draw, how and where to.
        text: a sentence to draw in place of a recording, with a model of the cascade.
        embedding: file of embeddings to draw in place of recordings: .npy [n, size], or published ones
            (char-CNN-RNN-embeddings.pickle); they must be of the kind the model draws from.
        row: of the file of embeddings this one alone, from 0; by default all.
        recognizer: what writes down speech in a cascade: own (the model's), own:FOLDER, whisper:NAME or
            pocketsphinx.
        skip_bad: go on without recordings that cannot be used, and name them; by default the first ends the
            work.
        manifest: file to write results to, one JSON object a recording, as they come: its files, what was
            heard, or its error.
        at_once: recordings to work on at once; 0 takes as many as there are cores.
        ray: work on a Ray cluster whose machines see the same files: its address, auto, or local.
    """
    if bool(text) + bool(clips) + bool(embedding) > 1:
        raise SettingsError("give recordings, --text or --embedding, not several of them")
    if not clips and not text and not embedding:
        raise SettingsError(
            "no recording given; name at least one file, or - for standard input, or give --text SENTENCE"
        )
    if row != -1 and not embedding:
        raise SettingsError("--row is for --embedding FILE")
    if clips.count("-") > 1:
        raise SettingsError("standard input (-) can be read only once")
    n, seed, diverse = drawing.n, drawing.seed, drawing.diverse
    if embedding:
        _draw_embeddings(drawing, embedding, row, manifest)
        return
    if text:
        flags = replace(drawing, route="cascade") if drawing.route == "own" else drawing
        draw_pictures(
            flags,
            [text],
            lambda route: [route.draw_text(text, n, seed, diverse=diverse)],
            recognizer=recognizer,
            manifest=manifest,
        )
        return
    if at_once < 0:
        raise SettingsError(f"--at-once is {at_once}, must be 0 (as many as there are cores) or more")
    if ray and "-" in clips:
        raise SettingsError("standard input (-) cannot be read by a cluster; name files")
    threads = min(at_once, len(clips)) or None if len(clips) > 1 else 1
    draw_pictures(
        drawing,
        clips,
        lambda route: (
            _on_cluster(route, clips, ray, n, seed, diverse)
            if ray
            else route.attempts(clips, n, seed, threads=threads, diverse=diverse)
        ),
        recognizer=recognizer,
        skip_bad=skip_bad,
        manifest=manifest,
    )


CLIPS_A_TASK = 32


def _on_cluster(
    route: "Route", clips: list[str], address: str, n: int, seed: int, diverse: bool
) -> "Iterator[Translation | SpeechError]":
    """Results of all clips in their order; a worker opens the model anew for each part of them."""
    from speech2image.data.shards.ray_tasks import RayCluster

    paths = [os.path.abspath(clip) for clip in clips]
    parts = [paths[start : start + CLIPS_A_TASK] for start in range(0, len(paths), CLIPS_A_TASK)]
    function = partial(_attempts, route=route, n=n, seed=seed, diverse=diverse)
    for results in RayCluster(address).run(function, parts):
        yield from results


def _attempts(
    clips: list[str], *, route: "Route", n: int, seed: int, diverse: bool
) -> "list[Translation | SpeechError]":
    return list(route.attempts(clips, n, seed, threads=1, diverse=diverse))


def _draw_embeddings(drawing: Pictures, file: str, row: int, manifest: str) -> None:
    vectors = read_embeddings(Path(file))
    if not -1 <= row < len(vectors):
        raise SettingsError(f"--row is {row}, but {file} holds {len(vectors)} embeddings, 0 and up")
    rows = range(len(vectors)) if row < 0 else [row]
    draw_pictures(
        drawing,
        [f"{file} row {k}" for k in rows],
        lambda route: (
            route.draw_embedding(vectors[k], drawing.n, drawing.seed, diverse=drawing.diverse) for k in rows
        ),
        manifest=manifest,
    )


def say(
    text: tyro.conf.Positional[str],
    drawing: PicturesFlags,
    voice: str | None = None,
    keep_speech: Path | None = None,
) -> None:
    """Speak a sentence with an installed voice (Kokoro, Piper, flite, ...) and turn it into pictures.

    Example: speech2image say "this flower has bright yellow petals" -o flower.png

    Args:
        text: the sentence, in quotes.
        drawing: what to draw, how and where to.
        voice: the voice to speak with, such as flite/slt, piper/en_US-joe-medium, kokoro/af_heart or
            kokoro/af_bella*0.6+am_adam*0.4; by default the most natural one there is. The files of Piper and
            Kokoro lie in $SPEECH2IMAGE_VOICES (~/.local/share/speech2image/voices).
        keep_speech: also write what was spoken to this wav file.
    """
    from speech2image.audio import SAMPLE_RATE
    from speech2image.tts import find_voice, speak

    if keep_speech is not None:
        check_wav(keep_speech)

    def translate_spoken(route: "Route") -> "list[Translation]":
        speech = speak(text, find_voice(voice) if voice else None)
        spoken, diverse = (speech, SAMPLE_RATE), drawing.diverse
        result = route.translate(spoken, drawing.n, drawing.seed, diverse=diverse)
        if keep_speech is not None:
            write_wav(keep_speech, speech, SAMPLE_RATE)
        return [result]

    draw_pictures(drawing, [text], translate_spoken)


def interpolate(
    first: tyro.conf.Positional[str],
    second: tyro.conf.Positional[str],
    drawing: Annotated[Row, tyro.conf.arg(name="")],
    steps: int = 9,
) -> None:
    """Draw a row of pictures from one recording to another, under one noise.

    Example: speech2image interpolate red.wav blue.wav --steps 9 -o row.png

    Args:
        first: the recording at the left end.
        second: the recording at the right end.
        drawing: how to draw and where to.
        steps: pictures in the row, both ends included.
    """
    if first == second == "-":
        raise SettingsError("standard input (-) can be read only once")
    draw_row(drawing, first, second, steps)


def models(json: bool = False, recipe: str = "") -> None:
    """List the models that came with this installation, or say which one drew a picture.

    Example: speech2image models --recipe flower.png

    Args:
        json: print everything their cards say, or the recipe, as JSON.
        recipe: a picture that speech2image wrote: says which model, route, seed and words drew it.
    """
    if recipe:
        _tell_recipe(recipe, json)
        return
    found = [registry.find(name) for name in registry.available_models()]
    if json:
        print(dump({model.name: model.card for model in found}))
        return
    for model in found:
        size, megabytes = model.card["picture_size"], model.size / 1e6
        route = "" if model.route == "direct" else f", {model.route}"
        text, licence = model.card.get("description", ""), model.card.get("licence", "?")
        shown = f"{model.name}  {size} x {size}{route}, {megabytes:.1f} MB, {licence}  {text}"
        print(printable(shown))
    if not found:
        print("no models came with this installation; give --model a folder that speech2image export wrote")


def _tell_recipe(picture: str, as_json: bool) -> None:
    from speech2image.pipeline.recipe import read_recipe

    found = read_recipe(picture)
    if as_json:
        print(dump(asdict(found)))
        return
    here = {model.name: model.checksum for model in map(registry.find, registry.available_models())}
    state = "not installed here" if found.model not in here else "another one of that name is installed"
    if here.get(found.model) == found.checksum:
        state = "installed here"
    rows = found.noise_rows or range(found.pictures)
    shown = f"rows 0 to {len(rows) - 1}" if list(rows) == list(range(len(rows))) else f"rows {[*rows]}"
    print(f"model: {printable(found.model)} ({state}), checksum {printable(found.checksum)}")
    print(f"route: {printable(found.route)}, seed {found.seed}, {shown} of its noise")
    for words in found.words:
        if words is not None:
            print(f'words: "{printable(words)}"')
    print(f"by: {printable(found.software)}")
