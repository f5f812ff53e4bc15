"""translate, say, interpolate, models: what needs no extra.

The flags of `translate` avoid `| None`: tyro checks such defaults with typeguard, whose import takes 60 ms.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from speech2image import opening, pretrained
from speech2image.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from PIL import Image

    from speech2image.pipeline import Route, Translation

Out = Annotated[Path, tyro.conf.arg(aliases=["-o"])]
Count = Annotated[int, tyro.conf.arg(aliases=["-n"])]
WhichRoute = Literal["own", "direct", "cascade"]
STANDARD = Path("-")


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
    clips: tyro.conf.Positional[list],
    n: Count = 1,
    out: Out = Path("picture.png"),
    seed: int = 0,
    model: str = pretrained.DEFAULT_MODEL,
    separate: bool = False,
    json: bool = False,
    threads: int = 0,
    route: WhichRoute = "own",
    text: str = "",
    recognizer: str = "own",
) -> None:
    """Turn recordings into pictures.

    Args:
        clips: recordings in any common format (wav, mp3, ogg, m4a, webm ...); - reads standard input.
        n: pictures for each recording, drawn from different noise.
        out: picture file to write (png, jpg, webp); several pictures become one grid, a row for each of
            several recordings; - writes a PNG to standard output.
        seed: where the noise comes from; the same seed gives the same pictures.
        model: a shipped model's name (see: speech2image models) or a model folder.
        separate: write every picture to a file of its own, out-1.png, out-2.png ...
        json: print what was done as JSON.
        threads: processor threads to use; 0 takes all.
        route: direct (without text) or cascade (speech recogniser, then text to pictures; what was heard is
            shown): takes the model of that route which belongs to the one named; own is the model's.
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
    if text and route == "own":
        route = "cascade"
    job = Job(n, out, seed, model, separate, json, threads, route, recognizer)
    job.check()
    opened = job.load()
    if text:
        job.finish(opened, [(text, _draw_text(opened, text, n, seed))])
    else:
        job.finish(opened, [(clip, opened.translate(clip, n, seed)) for clip in clips])


def _draw_text(route: "Route", text: str, n: int, seed: int) -> "Translation":
    from speech2image.cascade import CascadeRoute

    if not isinstance(route, CascadeRoute):
        raise SettingsError(f"model '{route.name}' is of the {route.model.route} route, which reads no text")
    return route.draw_text(text, n, seed)


def say(
    text: tyro.conf.Positional[str],
    voice: str | None = None,
    n: Count = 1,
    out: Out = Path("picture.png"),
    keep_speech: Path | None = None,
    seed: int = 0,
    model: str = pretrained.DEFAULT_MODEL,
    separate: bool = False,
    json: bool = False,
    threads: int = 0,
    route: WhichRoute = "own",
) -> None:
    """Speak a sentence with an installed voice (espeak-ng, flite, festival, Piper) and turn it into pictures.

    Args:
        text: the sentence, in quotes.
        voice: the voice to speak with, such as flite/slt; by default the most natural one there is.
        n: pictures to draw, from different noise.
        out: picture file to write (png, jpg, webp); several pictures become one grid; - writes a
            PNG to standard output.
        keep_speech: also write what was spoken to this wav file.
        seed: where the noise comes from; the same seed gives the same pictures.
        model: a shipped model's name (see: speech2image models) or a model folder.
        separate: write every picture to a file of its own, out-1.png, out-2.png ...
        json: print what was done as JSON.
        threads: processor threads to use; 0 takes all.
        route: direct (without text) or cascade (speech recogniser, then text to pictures; what was heard is
            shown): takes the model of that route which belongs to the one named; own is the model's.
    """
    from speech2image.audio import SAMPLE_RATE
    from speech2image.tts import find_voice, speak

    job = Job(n, out, seed, model, separate, json, threads, route)
    job.check()
    if keep_speech is not None:
        _check_wav(keep_speech)
    speech = speak(text, find_voice(voice) if voice else None)
    opened = job.load()
    result = opened.translate((speech, SAMPLE_RATE), n, seed)
    if keep_speech is not None:
        _write_wav(keep_speech, speech, SAMPLE_RATE)
    job.finish(opened, [(text, result)])


def interpolate(
    first: tyro.conf.Positional[str],
    second: tyro.conf.Positional[str],
    steps: int = 9,
    out: Out = Path("row.png"),
    seed: int = 0,
    model: str = pretrained.DEFAULT_MODEL,
    json: bool = False,
    threads: int = 0,
    route: WhichRoute = "own",
) -> None:
    """Draw a row of pictures from one recording to another, under one noise.

    Args:
        first: the recording at the left end.
        second: the recording at the right end.
        steps: pictures in the row, both ends included.
        out: picture file to write (png, jpg, webp); - writes a PNG to standard output.
        seed: where the noise comes from; the same seed gives the same row.
        model: a shipped model's name (see: speech2image models) or a model folder.
        json: print what was done as JSON.
        threads: processor threads to use; 0 takes all.
        route: direct (without text) or cascade (speech recogniser, then text to pictures):
            takes the model of that route which belongs to the one named; own is the model's.
    """
    if first == second == "-":
        raise SettingsError("standard input (-) can be read only once")
    job = Job(1, out, seed, model, False, json, threads, route)
    job.check()
    opened = job.load()
    walk = opened.interpolate(first, second, steps, seed)
    job.write(walk.grid(), out)
    job.report(opened, {"clips": [first, second], "alphas": walk.alphas}, [out], steps, walk.timings)


def models(json: bool = False) -> None:
    """List the models that came with this installation.

    Args:
        json: print everything their cards say, as JSON.
    """
    found = [pretrained.find(name) for name in pretrained.available_models()]
    if json:
        print(_dump({model.name: model.card for model in found}))
        return
    for model in found:
        size, megabytes = model.card["picture_size"], model.size / 1e6
        route = "" if model.route == "direct" else f", {model.route}"
        text, licence = model.card.get("description", ""), model.card.get("licence", "?")
        print(f"{model.name}  {size} x {size}{route}, {megabytes:.1f} MB, {licence}  {text}")
    if not found:
        print("no models came with this installation; give --model a folder that speech2image export wrote")


@dataclass
class Job:
    """What translate, say and interpolate have in common: check first, load, write, report."""

    n: int
    out: Path
    seed: int
    model: str
    separate: bool
    json: bool
    threads: int
    route: str = "own"
    recognizer: str = "own"

    def check(self) -> None:
        """Refuse, before any work, what cannot end well."""
        from speech2image import images, runtime

        self._start = time.perf_counter()
        runtime.check_count(self.n)
        runtime.check_seed(self.seed)
        if self.out != STANDARD:
            images.check_path(self.out)
        elif self.json or self.separate:
            raise SettingsError(
                "-o - writes one picture to standard output, so it excludes --json and --separate"
            )

    def load(self) -> "Route":
        """Open the model."""
        wanted = None if self.route == "own" else self.route
        route = opening.load(
            self.model, route=wanted, recognizer=self.recognizer, threads=self.threads or None
        )
        self._loaded = time.perf_counter() - self._start
        return route

    def finish(self, route: "Route", results: list[tuple[str, "Translation"]]) -> None:
        """Write the pictures of all recordings and say so; of a route through text, say what was heard."""
        from speech2image import images

        heard = [result.transcript for _, result in results if result.transcript is not None]
        written = not results[0][1].log_mel.size  # a text was given, nothing was heard
        for (clip, _), text in zip(results, [] if written else heard, strict=False):
            print(f'{f"{clip}: " if len(results) > 1 else ""}heard: "{text}"', file=sys.stderr)
        pictures = [image for _, result in results for image in result.images]
        columns = self.n if len(results) > 1 else None
        sheets = pictures if self.separate else [images.grid(pictures, columns)]
        files = self._names(len(results)) if self.separate else [self.out]
        for image, file in zip(sheets, files, strict=True):
            self.write(image, file)
        timings = {key: sum(result.timings[key] for _, result in results) for key in results[0][1].timings}
        told: dict[str, Any] = {"texts" if written else "clips": [clip for clip, _ in results]}
        if heard and not written:
            told["transcripts"] = heard
        self.report(route, told, files, len(pictures), timings)

    def _names(self, clips: int) -> list[Path]:
        """out-1.png ... for one recording; out-1-1.png, recording before picture, for several."""
        pictures = [f"{k:0{len(str(self.n))}}" for k in range(1, self.n + 1)]
        each = [f"{c:0{len(str(clips))}}-" for c in range(1, clips + 1)] if clips > 1 else [""]
        return [self.out.with_stem(f"{self.out.stem}-{clip}{k}") for clip in each for k in pictures]

    def write(self, image: "Image.Image", file: Path) -> None:
        """Write one picture to a file or to standard output."""
        from speech2image import images

        if file == STANDARD:
            sys.stdout.buffer.write(images.encode(image))
            sys.stdout.buffer.flush()
        else:
            images.save(image, file)

    def report(
        self,
        route: "Route",
        what: dict[str, Any],
        files: list[Path],
        pictures: int,
        timings: dict[str, float],
    ) -> None:
        """Say what was done, as a line or as JSON; nothing when the picture went to standard output."""
        seconds = time.perf_counter() - self._start
        if self.json:
            rounded = {key: round(value, 4) for key, value in ({"load": self._loaded} | timings).items()}
            print(
                _dump(
                    what
                    | {
                        "files": [str(file) for file in files],
                        "pictures": pictures,
                        "model": route.name,
                        "route": route.model.route,
                        "sha256": route.model.sha256,
                        "seed": self.seed,
                        "seconds": round(seconds, 4),
                        "timings": rounded,
                    }
                )
            )
        elif self.out != STANDARD:
            names = str(files[0]) if len(files) == 1 else f"{files[0]} ... {files[-1]}"
            plural = "s" if pictures > 1 else ""
            print(
                f"{names}: {pictures} picture{plural}, model {route.name}, seed {self.seed}, {seconds:.2f} s"
            )


def _dump(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _check_wav(path: Path) -> None:
    from speech2image.files import check_writable

    if path.suffix.lower() != ".wav" or path.is_dir():
        raise OutputError(f"--keep-speech writes a wav file; '{path}' should end in .wav")
    check_writable(path)


def _write_wav(path: Path, waveform: Any, rate: int) -> None:
    import wave

    from speech2image.files import writing

    with writing(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((waveform.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
