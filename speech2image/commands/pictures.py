"""translate, say, interpolate, models: what needs no extra.

The flags of `translate` avoid `| None`, as those of `picture_jobs` do, which says why.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from speech2image import pretrained
from speech2image.commands.picture_jobs import DrawingFlags, Job, Out, check_wav, dump, write_wav
from speech2image.errors import SettingsError, printable

if TYPE_CHECKING:
    from speech2image.pipeline import Route, Translation


@dataclass
class Row(Job):
    """Flags of `interpolate`.

    Attributes:
        out: picture file to write (png, jpg, webp); - writes a PNG to standard output.
    """

    out: Out = Path("row.png")


def run(command: str, arguments: list[str]) -> None:
    """Parse `arguments` for `command` and do it."""
    functions: dict[str, Callable[..., None]] = {
        "translate": translate,
        "say": say,
        "interpolate": interpolate,
        "models": models,
    }
    tyro.cli(
        functions[command],
        prog=f"speech2image {command}",
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def translate(
    clips: tyro.conf.Positional[list],  # type: ignore[type-arg]  # list[str] makes tyro import typeguard
    drawing: DrawingFlags,
    text: str = "",
    recognizer: str = "own",
) -> None:
    """Turn recordings into pictures.

    Args:
        clips: recordings in any common format (wav, mp3, ogg, m4a, webm ...); - reads standard input.
        drawing: what to draw, how and where to.
        text: a sentence to draw in place of a recording, with a model of the cascade.
        recognizer: what writes down speech in a cascade: own (the model's), own:FOLDER, whisper:NAME or
            pocketsphinx.
    """
    if text and clips:
        raise SettingsError("give recordings or --text, not both")
    if not clips and not text:
        raise SettingsError(
            "no recording given; name at least one file, or - for standard input, or give --text SENTENCE"
        )
    if clips.count("-") > 1:
        raise SettingsError("standard input (-) can be read only once")
    if text and drawing.route == "own":
        drawing.route = "cascade"
    recordings = len(clips) or 1
    drawing.check(recordings)
    opened = drawing.load(recognizer, recordings)
    n, seed = drawing.n, drawing.seed
    if text:
        drawing.finish(opened, [(text, _draw_text(opened, text, n, seed))])
    else:
        drawing.finish(opened, [(clip, opened.translate(clip, n, seed)) for clip in clips])


def _draw_text(route: "Route", text: str, n: int, seed: int) -> "Translation":
    from speech2image.cascade import CascadeRoute

    if not isinstance(route, CascadeRoute):
        raise SettingsError(f"model '{route.name}' is of the {route.model.route} route, which reads no text")
    return route.draw_text(text, n, seed)


def say(
    text: tyro.conf.Positional[str],
    drawing: DrawingFlags,
    voice: str | None = None,
    keep_speech: Path | None = None,
) -> None:
    """Speak a sentence with an installed voice (Kokoro, Piper, flite, ...) and turn it into pictures.

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

    drawing.check()
    if keep_speech is not None:
        check_wav(keep_speech)
    speech = speak(text, find_voice(voice) if voice else None)
    opened = drawing.load()
    result = opened.translate((speech, SAMPLE_RATE), drawing.n, drawing.seed)
    if keep_speech is not None:
        write_wav(keep_speech, speech, SAMPLE_RATE)
    drawing.finish(opened, [(text, result)])


def interpolate(
    first: tyro.conf.Positional[str],
    second: tyro.conf.Positional[str],
    job: Annotated[Row, tyro.conf.arg(name="")],
    steps: int = 9,
) -> None:
    """Draw a row of pictures from one recording to another, under one noise.

    Args:
        first: the recording at the left end.
        second: the recording at the right end.
        job: how to draw and where to.
        steps: pictures in the row, both ends included.
    """
    from speech2image import images

    if first == second == "-":
        raise SettingsError("standard input (-) can be read only once")
    job.check()
    opened = job.load()
    images.check_sheet(job.out, steps, opened.picture_size, steps)
    walk = opened.interpolate(first, second, steps, job.seed)
    job.write(walk.grid(), job.out)
    job.report(opened, {"clips": [first, second], "alphas": walk.alphas}, [job.out], steps, walk.timings)


def models(json: bool = False) -> None:
    """List the models that came with this installation.

    Args:
        json: print everything their cards say, as JSON.
    """
    found = [pretrained.find(name) for name in pretrained.available_models()]
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
