"""What the page's events do: recordings in, HTML out.

Recordings travel as data: addresses inside the page's own events and are never written to disk. What is
drawn comes from `service.py`, as for the HTTP interface, so bounds and pictures are the same.
"""

import base64
import binascii
import struct
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from speech2image import audio
from speech2image.errors import Speech2ImageError
from speech2image.web import markup
from speech2image.web.api import client_of
from speech2image.web.refusals import Refused
from speech2image.web.service import Ask, Service

SIDE_BY_SIDE = "side by side"
"""The choice to show all routes of a model."""


class Actions:
    """What the page's events do."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def translate(
        self, recording: str, n: int, seed: int, model: str, route: str, request: gr.Request
    ) -> tuple[Any, Any, Any]:
        """A recording becomes pictures, the view of what was heard, and the button "again".

        Without one all stays as it is: what went wrong before is to be read.
        """
        if not recording:
            return gr.update(), gr.update(), gr.update()
        several = route == SIDE_BY_SIDE
        try:
            speech = decode(recording)
            names = self._routes(model) if several else [route]
            asks = [Ask(int(n), int(seed or 0), model, name) for name in names]
            parts = [
                await self.service.translate(
                    speech,
                    ask,
                    client_of(request),
                    lambda result: (
                        markup.pictures(result, result.route if several else None),
                        markup.heard(result),
                    ),
                )
                for ask in asks
            ]
        except Speech2ImageError as error:
            return markup.notice(str(error)), "", gr.update()
        shown = f'<div class="s2i-side" data-count="{len(parts)}">{"".join(part for part, _ in parts)}</div>'
        return shown, parts[0][1], gr.update(interactive=True)

    async def speak(self, text: str, request: gr.Request) -> tuple[Any, Any]:
        """A sentence becomes a recording."""
        try:
            if not text.strip():
                raise Refused(422, "type a sentence first")
            waveform = await self.service.speak(text, client_of(request))
        except Speech2ImageError as error:
            return "", markup.notice(str(error), "The sentence was not spoken")
        return markup.data_url(float_wav(waveform), "audio/wav"), gr.update()

    async def interpolate(
        self, first: str, second: str, n: int, seed: int, model: str, route: str, request: gr.Request
    ) -> str:
        """Two recordings become the pictures between them."""
        missing = [name for name, value in (("first", first), ("second", second)) if not value]
        if missing:
            return markup.notice(f"Please record the {' and the '.join(missing)} description.", "One moment")
        try:
            both, ask = (decode(first), decode(second)), Ask(int(n), int(seed or 0), model)
            return await self.service.interpolate(both, ask, client_of(request), markup.walk)
        except Speech2ImageError as error:
            return markup.notice(str(error))

    async def interpolate_if_both(
        self, first: str, second: str, n: int, seed: int, model: str, route: str, request: gr.Request
    ) -> Any:
        """The same as soon as both are there."""
        if not (first and second):
            return gr.update()
        return await self.interpolate(first, second, n, seed, model, route, request)

    def _routes(self, model: str) -> list[str]:
        return list(self.service.shelf.routes.get(model, {}))


def decode(recording: str) -> bytes:
    """The bytes of a data: address.

    Raises:
        Refused: it is none.
    """
    head, comma, content = recording.partition(",")
    try:
        if not (head.startswith("data:") and head.endswith(";base64") and comma):
            raise ValueError
        return base64.b64decode(content, validate=True)
    except (ValueError, binascii.Error) as error:
        raise Refused(422, "the recording did not arrive whole; please try again") from error


def float_wav(waveform: NDArray[np.float32]) -> bytes:
    """16 kHz samples as a wav file that loses nothing, so that a typed sentence gives what `say` gives."""
    content, rate = waveform.astype("<f4").tobytes(), audio.SAMPLE_RATE
    about = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, rate, 4 * rate, 4, 32)
    head = struct.pack("<4sI4s", b"RIFF", len(about) + len(content) + 12, b"WAVE")
    return head + about + struct.pack("<4sI", b"data", len(content)) + content
