"""Drawing jobs: flags of the commands that draw, and what these do: check, load, draw, write, report.

The flags avoid `| None`: tyro checks such defaults with typeguard, whose import takes 60 ms.
"""

import json
import os
import sys
import time
import wave
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from speech2image.errors import OutputError, SettingsError, SpeechError, printable
from speech2image.files import check_writable, writing
from speech2image.pipeline import loading, registry
from speech2image.pipeline.domains import OTHER, something_else

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from speech2image.pipeline.base import Route, Translation
    from speech2image.pipeline.recipe import Recipe

STANDARD = Path("-")
Out = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


@dataclass(frozen=True)
class Drawing:
    """Flags of every command that draws.

    Attributes:
        out: picture file to write (png, jpg, webp); several pictures become one grid, a row for each of
            several recordings; - writes a PNG to standard output.
        seed: where the noise comes from; the same seed gives the same pictures.
        model: a shipped model's name (see: speech2image models) or a model folder.
        json: print what was done as JSON; where the model tells them, each clip's transcript, its words with
            their confidences, and its domain (flower, bird, other ...) with its confidence, too.
        threads: processor threads to use; 0 takes all.
        run_on: where encoder and generator run: cpu, cuda, openvino, coreml, directml or rocm, as far as the
            installed ONNX Runtime has it.
        route: direct (without text; where the model hears words, too, no picture depends on them) or cascade
            (speech recognizer, then text to pictures; what was heard is shown): takes the model of that route
            which belongs to the one named; own is the model's.
        recipe: keep in each picture file, as text, what drew it (model, route, seed, words heard);
            "speech2image models --recipe FILE" reads it.
    """

    out: Out = Path("picture.png")
    seed: int = 0
    model: str = registry.DEFAULT_MODEL
    json: bool = False
    threads: int = 0
    run_on: str = "cpu"
    route: str = "own"
    recipe: bool = True


@dataclass(frozen=True)
class Pictures(Drawing):
    """Flags of the commands that draw recordings one by one.

    Attributes:
        n: pictures for each recording, drawn from different noise.
        separate: write every picture to a file of its own, out-1.png, out-2.png ..., as soon as it is drawn.
        diverse: of more pictures give the n that differ most, so that none is nearly another's copy; the
            first stays.
    """

    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1
    separate: bool = False
    diverse: bool = False


@dataclass(frozen=True)
class Row(Drawing):
    """Flags of `interpolate`.

    Attributes:
        out: picture file to write (png, jpg, webp); - writes a PNG to standard output.
    """

    out: Out = Path("row.png")


PicturesFlags = Annotated[Pictures, tyro.conf.arg(name="")]
"""As a parameter of a command: its flags go without a prefix."""


def draw_pictures(
    flags: Pictures,
    sources: Sequence[str],
    translate: "Callable[[Route], Iterable[Translation | SpeechError]]",
    *,
    recognizer: str = "own",
    skip_bad: bool = False,
    manifest: str = "",
) -> None:
    """The whole job of a command that draws sources one by one.

    With `flags.separate` pictures are written as they come; a sheet is written at the end.

    Args:
        flags: what to draw and where to.
        sources: names of the recordings or embeddings, or sentences.
        translate: makes pictures of each source in turn, once the flags have been checked and the model is
            open; an error stands for a recording that cannot be used.
        recognizer: what writes down speech in a cascade.
        skip_bad: go on without recordings that cannot be used.
        manifest: JSON-lines file of a row a source, written as they come; "" writes none.

    Raises:
        SettingsError: a flag is out of its range, or two exclude each other.
        SpeechError: a recording cannot be used, and `skip_bad` is off, or none can.
        OutputError: the pictures or the manifest cannot be written where they should go.
    """
    from speech2image.pipeline import images, noise
    from speech2image.pipeline.recipe import together

    started = time.perf_counter()
    _check(flags)
    noise.check_count(flags.n)
    if flags.out == STANDARD and flags.separate:
        raise SettingsError("-o - writes one picture to standard output, so it excludes --separate")
    files = _separate_files(flags, len(sources)) if flags.separate else [flags.out]
    if flags.separate:
        images.check_path(files[-1])
    if manifest:
        check_writable(manifest)
    route = _load(flags, recognizer)
    loaded = time.perf_counter()
    columns = flags.n if len(sources) > 1 else None
    if not flags.separate:  # before any work on pictures that no file could hold
        images.check_sheet(flags.out, flags.n * len(sources), route.picture_size, columns)

    drawn = _Drawn(flags, route, files, many=len(sources) > 1)
    with _rows(manifest) as write_row:
        for number, (source, result) in enumerate(
            zip(sources, _tracked(translate(route), len(sources)), strict=True)
        ):
            if isinstance(result, SpeechError):
                if not skip_bad:
                    raise _with_advice(result) if len(sources) > 1 else result
                print(f"speech2image: warning: left out: {printable(str(result))}", file=sys.stderr)
                drawn.failed.append({"clip": source, "error": str(result), "code": result.code})
                write_row(drawn.failed[-1])
            else:
                write_row(drawn.add(number, source, result))
    if not drawn.sources:
        raise SpeechError(
            f"none of {len(sources)} recordings can be used; the first: {drawn.failed[0]['error']}"
        )
    if not flags.separate:
        recipe = together(drawn.recipes) if flags.recipe else None
        _write(images.grid(drawn.pictures, columns), flags.out, recipe)
    drawn.report({"load": loaded - started}, started)


def _with_advice(error: SpeechError) -> SpeechError:
    return SpeechError(f"{error}; mend it or take it out, or go on without it: --skip-bad", error.code)


def _tracked(results: "Iterable[Translation | SpeechError]", n: int) -> "Iterable[Translation | SpeechError]":
    """The results, while a bar counts them if there are several and somebody looks."""
    if n == 1:
        return results
    from speech2image.data.progress import track

    return track(results, "translate", n)


@contextmanager
def _rows(manifest: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Writes rows to a JSON-lines file, each as it comes, so that it stands there whatever follows."""
    if not manifest:
        yield lambda row: None
        return
    try:
        with open(manifest, "w", encoding="ascii") as file:

            def write(row: dict[str, Any]) -> None:
                file.write(json.dumps(row) + "\n")
                file.flush()

            yield write
    except OSError as error:
        raise OutputError(f"cannot write {manifest}: {error.strerror or error}") from error


class _Drawn:
    """What was drawn of the sources so far.

    Args:
        flags: as of `draw_pictures`.
        route: drew it.
        files: all files, in their order; one sheet if not `flags.separate`.
        many: whether there are several sources, which lines then name.
    """

    def __init__(self, flags: Pictures, route: "Route", files: list[Path], many: bool) -> None:
        self._flags, self._route, self._files, self._many = flags, route, files, many
        self.sources: list[str] = []
        self.pictures: list[Image.Image] = []  # of the sheet; files of their own are written at once
        self.recipes: list[Recipe] = []  # of the sheet's recordings
        self.failed: list[dict[str, str]] = []
        self._written: list[Path] = []
        self._spoken: list[Translation] = []
        self._noise_rows: list[list[int]] = []
        self._timings: dict[str, float] = {}
        self._given = "clips"

    def add(self, number: int, source: str, result: "Translation") -> dict[str, Any]:
        """Keep or write the pictures of source `number`, say what was heard; its row of the manifest."""
        n, row = self._flags.n, len(self.sources)
        is_speech = bool(result.log_mel.size)  # a sentence, or an embedding, was not heard
        line = _line_of_speech(result, f"{printable(source)}: " if self._many else "") if is_speech else ""
        if line:
            print(line, file=sys.stderr)
        files = self._files[n * number : n * (number + 1)] if self._flags.separate else self._files
        if self._flags.separate:
            for row, image, file in zip(result.noise_rows, result.images, files, strict=True):
                one = replace(result.recipe, pictures=1, noise_rows=(row,))
                _write(image, file, one if self._flags.recipe else None)
            self._written += files
        else:
            self.pictures += result.images
            self.recipes.append(result.recipe)
        self.sources.append(source)
        self._noise_rows.append(list(result.noise_rows))
        self._given = "clips" if is_speech else "embeddings" if result.transcript is None else "texts"
        if is_speech:
            self._spoken.append(replace(result, images=[]))  # pictures are large
        for key, seconds in result.timings.items():
            self._timings[key] = self._timings.get(key, 0.0) + seconds
        return {
            "clip" if is_speech else "embedding" if result.transcript is None else "text": source,
            "files": [str(file) for file in files],
            **({} if self._flags.separate else {"row": row + 1}),
            "pictures": n,
            "model": result.model,
            "seed": result.seed,
            **({"noise_rows": self._noise_rows[-1]} if self._flags.diverse else {}),
            **{key: values[0] for key, values in speech_as_json([result] if is_speech else []).items()},
            "seconds": round(result.seconds, 4),
        }

    def report(self, loading: dict[str, float], started: float) -> None:
        """Say what was done."""
        done: dict[str, Any] = {self._given: self.sources}
        done |= speech_as_json(self._spoken) | ({"failed": self.failed} if self.failed else {})
        done |= {"noise_rows": self._noise_rows} if self._flags.diverse else {}
        files, pictures = self._written or self._files, self._flags.n * len(self.sources)
        _report(self._flags, self._route, done, files, pictures, loading | self._timings, started)
        if self.failed:
            left = f"left out {len(self.failed)} of {len(self.failed) + len(self.sources)} recordings"
            print(f"speech2image: warning: {left}", file=sys.stderr)


def draw_row(flags: Row, first: str, second: str, steps: int) -> None:
    """The whole job of `interpolate`: a row of `steps` pictures from one recording to another.

    Raises:
        SettingsError: a flag is out of its range, or two exclude each other.
        OutputError: the row cannot be written where it should go.
    """
    from speech2image.pipeline import images

    started = time.perf_counter()
    _check(flags)
    route = _load(flags, "own", words=False)
    loaded = time.perf_counter()
    images.check_sheet(flags.out, steps, route.picture_size, steps)
    row = route.interpolate(first, second, steps, flags.seed)
    _write(row.grid(), flags.out, row.recipe if flags.recipe else None)
    timings = {"load": loaded - started} | row.timings
    done = {"clips": [first, second], "alphas": row.alphas}
    _report(flags, route, done, [flags.out], steps, timings, started)


def _check(flags: Drawing) -> None:
    """Refuse, before any work, what cannot end well."""
    from speech2image.pipeline import images, noise

    noise.check_seed(flags.seed)
    if flags.out != STANDARD:
        images.check_path(flags.out)
    elif flags.json:
        raise SettingsError("-o - writes a picture to standard output, so it excludes --json")


def _load(flags: Drawing, recognizer: str, words: bool = True) -> "Route":
    route, threads = None if flags.route == "own" else flags.route, flags.threads or None
    return loading.load(
        flags.model, route=route, recognizer=recognizer, threads=threads, words=words, device=flags.run_on
    )


def _separate_files(flags: Pictures, sources: int) -> list[Path]:
    """out-1.png ... for one source; out-1-1.png, source before picture, for several."""
    pictures = [f"{k:0{len(str(flags.n))}}" for k in range(1, flags.n + 1)]
    each = [f"{c:0{len(str(sources))}}-" for c in range(1, sources + 1)] if sources > 1 else [""]
    return [flags.out.with_stem(f"{flags.out.stem}-{source}{k}") for source in each for k in pictures]


def _write(image: "Image.Image", file: Path, recipe: "Recipe | None") -> None:
    """Write one picture to a file or to standard output."""
    from speech2image.pipeline import images

    if file == STANDARD:
        _write_to_standard_output(images.encode(image, recipe=recipe))
    else:
        images.save(image, file, recipe)


def _report(
    flags: Drawing,
    route: "Route",
    done: dict[str, Any],
    files: list[Path],
    pictures: int,
    timings: dict[str, float],
    started: float,
) -> None:
    """Say what was done, as a line or as JSON; nothing when the picture went to standard output."""
    seconds = time.perf_counter() - started
    if flags.json:
        facts = {
            "files": [str(file) for file in files],
            "pictures": pictures,
            "model": route.name,
            "route": route.model.route,
            "sha256": route.model.sha256,
            "seed": flags.seed,
            "seconds": round(seconds, 4),
            "timings": {key: round(value, 4) for key, value in timings.items()},
        }
        print(dump(done | facts))
    elif flags.out != STANDARD:
        names = str(files[0]) if len(files) == 1 else f"{files[0]} ... {files[-1]}"
        plural, model = "s" if pictures > 1 else "", printable(route.name)
        done_line = f"{pictures} picture{plural}, model {model}, seed {flags.seed}, {seconds:.2f} s"
        print(f"{printable(names)}: {done_line}")


def _line_of_speech(result: "Translation", source: str) -> str:
    """A line on what was heard, in `source` if it is named; "" if the model tells nothing."""
    heard = "" if result.transcript is None else f'heard: "{printable(result.transcript)}"'
    if result.domain == OTHER:
        warning = f"speech2image: warning: {source}{printable(something_else(result.domains))}"
        return f"{warning} ({heard})" if heard else warning
    unused = "" if result.route == "cascade" else " (not used: drawn from the sound)"
    return f"{source}{heard}{unused}" if heard else ""


def speech_as_json(results: "Sequence[Translation]") -> dict[str, Any]:
    """Transcripts, words and domains of all clips as JSON: null or an empty list for a clip without one; no
    key where no clip has one."""
    found: dict[str, list[Any]] = {
        "transcripts": [result.transcript for result in results],
        "words": [
            [{"text": word.text, "confidence": round(word.confidence, 4)} for word in result.words]
            for result in results
        ],
        "domains": [result.domain for result in results],
        "confidences": [
            None if result.confidence is None else round(result.confidence, 4) for result in results
        ],
    }
    return {key: values for key, values in found.items() if any(values)}


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


def write_wav(path: Path, waveform: "NDArray[np.float32]", rate: int) -> None:
    """Write samples [n] in [-1, 1] as 16-bit mono."""
    with writing(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((waveform.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
