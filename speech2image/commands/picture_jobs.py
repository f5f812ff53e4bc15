"""What the commands that draw have in common: their flags, and to check first, load, write, report.

The flags avoid `| None`: tyro checks such defaults with typeguard, whose import takes 60 ms.
"""

import json
import os
import sys
import time
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from speech2image import opening, pretrained
from speech2image.domains import OTHER, something_else
from speech2image.errors import OutputError, SettingsError, printable
from speech2image.files import check_writable, writing

if TYPE_CHECKING:
    from PIL import Image

    from speech2image.pipeline import Route, Translation

STANDARD = Path("-")
Out = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


@dataclass
class Job:
    """Flags of every command that draws, and what each does with them.

    Attributes:
        out: picture file to write (png, jpg, webp); several pictures become one grid, a row for each of
            several recordings; - writes a PNG to standard output.
        seed: where the noise comes from; the same seed gives the same pictures.
        model: a shipped model's name (see: speech2image models) or a model folder.
        json: print what was done as JSON; where the model tells them, each clip's transcript, its words with
            their confidences, and its domain (flower, bird, other ...) with its confidence, too.
        threads: processor threads to use; 0 takes all.
        route: direct (without text; where the model hears words, too, they are shown and not used) or cascade
            (speech recognizer, then text to pictures; what was heard is shown): takes the model of that route
            which belongs to the one named; own is the model's.
    """

    out: Out = Path("picture.png")
    seed: int = 0
    model: str = pretrained.DEFAULT_MODEL
    json: bool = False
    threads: int = 0
    route: Literal["own", "direct", "cascade"] = "own"
    started: float = field(init=False, default_factory=time.perf_counter)  # no flags: of this one job
    load_seconds: float = field(init=False, default=0.0)

    def check(self) -> None:
        """Refuse, before any work, what cannot end well."""
        from speech2image import images, runtime

        runtime.check_seed(self.seed)
        if self.out != STANDARD:
            images.check_path(self.out)
        elif self.json:
            raise SettingsError("-o - writes a picture to standard output, so it excludes --json")

    def load(self, recognizer: str = "own") -> "Route":
        """Open the model, and note how long that took since the job began."""
        wanted = None if self.route == "own" else self.route
        route = opening.load(self.model, route=wanted, recognizer=recognizer, threads=self.threads or None)
        self.load_seconds = time.perf_counter() - self.started
        return route

    def write(self, image: "Image.Image", file: Path) -> None:
        """Write one picture to a file or to standard output."""
        from speech2image import images

        if file == STANDARD:
            _write_to_standard_output(images.encode(image))
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
        seconds = time.perf_counter() - self.started
        if self.json:
            rounded = {key: round(value, 4) for key, value in ({"load": self.load_seconds} | timings).items()}
            print(
                dump(
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
            plural, model = "s" if pictures > 1 else "", printable(route.name)
            done = f"{pictures} picture{plural}, model {model}, seed {self.seed}, {seconds:.2f} s"
            print(f"{printable(names)}: {done}")


@dataclass
class Drawing(Job):
    """Flags of the commands that draw recordings one by one.

    Attributes:
        n: pictures for each recording, drawn from different noise.
        separate: write every picture to a file of its own, out-1.png, out-2.png ...
    """

    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1
    separate: bool = False

    def check(self, recordings: int = 1) -> None:
        """Refuse, before any work, what cannot end well with so many recordings."""
        from speech2image import images, runtime

        super().check()
        runtime.check_count(self.n)
        if self.out == STANDARD and self.separate:
            raise SettingsError("-o - writes one picture to standard output, so it excludes --separate")
        if self.separate:
            images.check_path(self._names(recordings)[-1])

    def load(self, recognizer: str = "own", recordings: int = 1) -> "Route":
        """Open the model; refuse, before any picture is drawn, a sheet too large for its file."""
        from speech2image import images

        route = super().load(recognizer)
        if not self.separate:
            n, columns = self.n * recordings, self._columns(recordings)
            images.check_sheet(self.out, n, route.picture_size, columns)
        return route

    def _columns(self, recordings: int) -> int | None:
        return self.n if recordings > 1 else None

    def finish(self, route: "Route", results: list[tuple[str, "Translation"]]) -> None:
        """Write the pictures of all recordings and say so; say what was heard, and warn where it was about
        something that the model cannot draw."""
        from speech2image import images

        written = not results[0][1].log_mel.size  # a text was given, nothing was heard
        for clip, result in [] if written else results:
            source = f"{printable(clip)}: " if len(results) > 1 else ""
            told = _told(result, source)
            if told:
                print(told, file=sys.stderr)
        pictures = [image for _, result in results for image in result.images]
        sheets = pictures if self.separate else [images.grid(pictures, self._columns(len(results)))]
        files = self._names(len(results)) if self.separate else [self.out]
        for image, file in zip(sheets, files, strict=True):
            self.write(image, file)
        timings = {key: sum(result.timings[key] for _, result in results) for key in results[0][1].timings}
        done: dict[str, Any] = {"texts" if written else "clips": [clip for clip, _ in results]}
        if not written:
            done |= _heard([result for _, result in results])
        self.report(route, done, files, len(pictures), timings)

    def _names(self, clips: int) -> list[Path]:
        """out-1.png ... for one recording; out-1-1.png, recording before picture, for several."""
        pictures = [f"{k:0{len(str(self.n))}}" for k in range(1, self.n + 1)]
        each = [f"{c:0{len(str(clips))}}-" for c in range(1, clips + 1)] if clips > 1 else [""]
        return [self.out.with_stem(f"{self.out.stem}-{clip}{k}") for clip in each for k in pictures]


def _told(result: "Translation", source: str) -> str:
    """A line on what was heard, in `source` if it is named; "" if nothing is to be told."""
    heard = "" if result.transcript is None else f'heard: "{printable(result.transcript)}"'
    if result.domain == OTHER:
        warning = f"speech2image: warning: {source}{printable(something_else(result.domains))}"
        return f"{warning} ({heard})" if heard else warning
    unused = "" if result.route == "cascade" else " (not used: drawn from the sound)"
    return f"{source}{heard}{unused}" if heard else ""


def _heard(results: "list[Translation]") -> dict[str, Any]:
    """What was heard in each clip, and what it is about, as JSON: null or an empty list for a clip without;
    nothing if all are."""
    words = [
        [{"text": word.text, "confidence": round(word.confidence, 4)} for word in result.words]
        for result in results
    ]
    told: dict[str, list[Any]] = {"transcripts": [result.transcript for result in results], "words": words}
    told["domains"] = [result.domain for result in results]
    told["confidences"] = [
        None if result.confidence is None else round(result.confidence, 4) for result in results
    ]
    return {key: values for key, values in told.items() if any(values)}


DrawingFlags = Annotated[Drawing, tyro.conf.arg(name="")]
"""As a parameter of a command: its flags go without a prefix."""


def dump(value: Any) -> str:
    """JSON as the commands print it: in ASCII, which every encoding holds and no terminal obeys."""
    return json.dumps(value, indent=2)


def _write_to_standard_output(content: bytes) -> None:
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise  # not an error: the reader has seen enough
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error


def check_wav(path: Path) -> None:
    """Refuse what --keep-speech cannot write."""
    if path.suffix.lower() != ".wav" or os.path.isdir(path):
        raise OutputError(f"--keep-speech writes a wav file; '{path}' should end in .wav")
    check_writable(path)


def write_wav(path: Path, waveform: Any, rate: int) -> None:
    """Write samples [n] in [-1, 1] as 16-bit mono."""
    with writing(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((waveform.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
