"""record: the microphone in the terminal, with a level meter; needs the `mic` extra and PortAudio."""

import math
import select
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from speech2image.audio import MAX_SECONDS
from speech2image.commands.drawing import STANDARD, PicturesFlags, check_wav, draw_pictures, write_wav
from speech2image.commands.flags import NO_PAIRS, parse
from speech2image.errors import MissingExtraError, SettingsError, SpeechError, printable, require

if TYPE_CHECKING:
    from speech2image.pipeline.base import Route, Translation

_WIDTH = 30
_QUIETEST_DB = -50.0
_TICK = 0.1
_INTERVAL = 0.5  # seconds from one live picture to the next
_FIRST_INTERVAL = 0.1  # the same until something was heard


def run(command: str, arguments: list[str]) -> None:
    """Parse `arguments` and do it."""
    parse(record, command, arguments, config=NO_PAIRS)


def record(
    drawing: PicturesFlags,
    seconds: float = 0.0,
    device: str = "",
    keep_speech: Path | None = None,
    live: bool = False,
) -> None:
    """Speak into the microphone and turn it into pictures.

    Example: speech2image record --live -o flower.png

    Args:
        drawing: what to draw, how and where to.
        seconds: how long to listen; 0 listens until Enter is pressed, a minute at most.
        device: microphone to use, a part of its name; by default the system's. "list" names them all.
        keep_speech: also write what was heard to this wav file.
        live: draw while listening, too: about twice a second the picture file is written anew with what was
            said so far, and the words heard are shown; at the end it holds what it would without this.
    """
    if not 0 <= seconds <= MAX_SECONDS:
        raise SettingsError(f"--seconds must be from 0 (until Enter) to {MAX_SECONDS:g}, not {seconds:g}")
    if not seconds and sys.stdin is None:
        raise SettingsError("standard input is closed, so nobody can press Enter; give --seconds")
    if live and (drawing.separate or drawing.out == STANDARD):
        raise SettingsError("--live writes one file again and again: it excludes --separate and -o -")
    portaudio = open_portaudio()
    if device == "list":
        print(portaudio.query_devices())
        return
    if keep_speech is not None:
        check_wav(keep_speech)

    def translate_recorded(route: "Route") -> "list[Translation]":
        follower = LivePicture(route, drawing.seed, drawing.out) if live else None
        samples, rate = listen(
            portaudio, device or None, seconds or MAX_SECONDS, stop_on_enter=not seconds, follower=follower
        )
        if keep_speech is not None:
            write_wav(keep_speech, samples, rate)
        return [route.translate((samples, rate), drawing.n, drawing.seed, diverse=drawing.diverse)]

    draw_pictures(drawing, ["microphone"], translate_recorded)


class LivePicture:
    """Draws what was said so far into the picture's file.

    Args:
        route: of the open model.
        seed: where the noise comes from.
        out: the file.
    """

    def __init__(self, route: "Route", seed: int, out: Path) -> None:
        from speech2image.pipeline.live import LiveTranslation

        self._live, self._out, self._due = LiveTranslation(route, seed), out, 0.0
        self._interval, self.words = _FIRST_INTERVAL, ""

    def update(self, samples: NDArray[np.float32], rate: int) -> None:
        """Draw samples [n], the recording so far, if it is time and something was said in it."""
        from speech2image.pipeline import images

        start = time.monotonic()
        if start < self._due:
            return
        with suppress(SpeechError):
            result = self._live.update((samples, rate))
            self.words = result.transcript or ""
            images.save(result.images[0], self._out)
            self._interval = _INTERVAL
        spent = time.monotonic() - start
        self._due = start + max(
            self._interval, 2 * spent
        )  # long recordings take longer; so that Enter is seen


def open_portaudio() -> ModuleType:
    """The module `sounddevice`, with PortAudio behind it.

    Raises:
        MissingExtraError: one of the two is not installed; the message holds the command that installs it.
    """
    try:
        return require("sounddevice", "mic")
    except OSError as error:
        raise MissingExtraError(
            f"the microphone needs PortAudio, which is not installed ({error}); install it with: "
            "apt-get install libportaudio2 (Debian, Ubuntu), dnf install portaudio (Fedora) or "
            "brew install portaudio (macOS); or record with another program and use: "
            "speech2image translate FILE"
        ) from error


def listen(
    portaudio: ModuleType,
    device: str | None,
    seconds: float,
    stop_on_enter: bool,
    follower: LivePicture | None = None,
) -> tuple[NDArray[np.float32], int]:
    """Record mono float32 samples and their rate, showing the level, and what a follower hears, meanwhile.

    Raises:
        SpeechError: there is no such microphone, it cannot be opened, or it gave nothing.
    """
    blocks: list[NDArray[np.float32]] = []

    def heard(block: NDArray[np.float32], frames: int, when: Any, status: Any) -> None:
        blocks.append(block[:, 0].copy())

    with _named_errors(portaudio):
        rate = int(portaudio.query_devices(device, "input")["default_samplerate"])
        with portaudio.InputStream(
            device=device, samplerate=rate, channels=1, dtype="float32", callback=heard
        ):
            _wait(blocks, rate, seconds, stop_on_enter, follower)
    if not blocks:
        raise SpeechError("the microphone gave no sound; try another one (--device list names them)")
    return np.concatenate(blocks), rate


@contextmanager
def _named_errors(portaudio: ModuleType) -> Iterator[None]:
    try:
        yield
    except (portaudio.PortAudioError, ValueError) as error:
        raise SpeechError(
            f"the microphone cannot be used: {error}; --device list names those there are"
        ) from error


def _wait(
    blocks: list[NDArray[np.float32]],
    rate: int,
    seconds: float,
    stop_on_enter: bool,
    follower: LivePicture | None,
) -> None:
    """Show the level until enough was heard or Enter was pressed."""
    start, shown = time.monotonic(), 0
    while time.monotonic() - start < seconds and not (stop_on_enter and _enter_pressed()):
        time.sleep(0 if stop_on_enter else _TICK)
        new, shown = blocks[shown:], len(blocks)
        peak = max((float(np.abs(block).max(initial=0.0)) for block in new), default=0.0)
        hint = "Enter stops" if stop_on_enter else f"of {seconds:g} s"
        if follower is not None and blocks:
            follower.update(np.concatenate(blocks), rate)
        words = f'  "{printable(follower.words)}"' if follower is not None and follower.words else ""
        _show(f"{meter(peak)} {time.monotonic() - start:5.1f} s, {hint}{words}")
    _show("")


def meter(peak: float) -> str:
    """A bar for a peak level, from -50 dB (empty) to full scale (full).

    >>> meter(1.0) == "[" + 30 * "#" + "]", meter(0.0) == "[" + 30 * " " + "]"
    (True, True)
    """
    level = 20 * math.log10(max(peak, 1e-9))
    filled = round(_WIDTH * min(1.0, max(0.0, 1 - level / _QUIETEST_DB)))
    return f"[{'#' * filled}{' ' * (_WIDTH - filled)}]"


def _enter_pressed() -> bool:
    """Wait a moment for a line on standard input; where there is no terminal, its end counts too."""
    ready, _, _ = select.select([sys.stdin], [], [], _TICK)
    return bool(ready) and sys.stdin.readline() is not None


def _show(text: str) -> None:
    """Put a line in the place of the last one; what does not fit is left out at its end."""
    if sys.stderr.isatty():
        fitting = text[: shutil.get_terminal_size().columns - 1]
        print(f"\r\033[K{fitting}", end="", file=sys.stderr, flush=True)
