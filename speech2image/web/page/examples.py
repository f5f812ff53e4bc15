"""Examples: what to say, so that the first sight shows what a model draws."""

import asyncio
import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from speech2image.pipeline import images
from speech2image.pipeline.domains import OTHER
from speech2image.pipeline.registry import Model
from speech2image.web.errors import RequestRejected
from speech2image.web.service import RenderRequest, Service

_FOLDERS = (
    Path(__file__).parents[1] / "recordings",
    Path(__file__).parents[3] / "examples" / "recordings",
)
_SENTENCES = {
    "flower": ("this flower has bright yellow petals", "a purple flower with a white center"),
    "bird": ("a small yellow bird with black wings", "a red bird sitting on a branch"),
    "room": ("a bedroom with blue walls", "a living room with a red sofa"),
}
"""Domain -> sentences that the shipped model gets right; a test speaks and draws each."""
_PREVIEW_COLUMNS, _PREVIEW_ROWS = 4, 2


def find_examples() -> tuple[Path, dict[str, str]]:
    """The folder of example recordings that came along, and what each file in it says."""
    for folder in _FOLDERS:
        if (folder / "captions.json").is_file():
            captions = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
            return folder, {name: text for name, text in captions.items() if (folder / name).is_file()}
    return _FOLDERS[0], {}


def domains_of(model: Model) -> list[str]:
    """What a model draws, such as flower and bird: as it tells, else those its description names."""
    if model.domains is not None:
        return [name for name in model.domains.names if name != OTHER]
    return [name for name in _SENTENCES if name in str(model.card.get("description", ""))]


def suggestions(domains: Sequence[str]) -> list[str]:
    """Sentences to say about these domains."""
    return [text for name in domains for text in _SENTENCES.get(name, ())]


def plural(domains: Sequence[str]) -> str:
    """Domains in a sentence.

    >>> plural(["flower", "bird", "room"])
    'flowers, birds and rooms'
    """
    *first, last = [f"{name}s" for name in domains]
    return f"{', '.join(first)} and {last}" if first else last


class Examples:
    """The example recordings, and the picture that the default model draws of each.

    A picture is drawn when somebody first asks for it and kept, so that it is what this very server draws.

    Args:
        service: whose default model draws.
        folder: of the recordings.
        captions: file -> what it says.
    """

    def __init__(self, service: Service, folder: Path, captions: dict[str, str]) -> None:
        self.captions = captions
        self._service, self._folder = service, folder
        self._pictures: dict[str, Image.Image] = {}
        self._drawing: dict[str, asyncio.Lock] = {name: asyncio.Lock() for name in captions}

    def path(self, name: str) -> Path:
        """The file of an example.

        Raises:
            RequestRejected: 404, there is none of that name.
        """
        if name not in self.captions:
            raise RequestRejected(404, f"no example {name!r}")
        return self._folder / name

    async def picture(self, name: str, client: str) -> Image.Image:
        """The first picture of an example.

        Raises:
            RequestRejected: 404, no such example; or the queue is full.
            SpeechError: the default model cannot use the recording.
        """
        path = self.path(name)
        async with self._drawing[name]:
            if name not in self._pictures:
                with path.open("rb") as recording:
                    self._pictures[name] = await self._service.translate(
                        recording, RenderRequest(), client, lambda result: result.result.images[0]
                    )
        return self._pictures[name]

    async def preview(self, client: str) -> bytes:
        """Eight of the pictures on one JPEG, for previews of links to the page.

        Raises:
            RequestRejected: 404, there are no examples; else as `picture`.
            SpeechError: as `picture`.
        """
        names = list(self.captions)[: _PREVIEW_COLUMNS * _PREVIEW_ROWS]
        if not names:
            raise RequestRejected(404, "there are no examples here")
        sheet = images.grid([await self.picture(name, client) for name in names], _PREVIEW_COLUMNS, gap=0)
        buffer = BytesIO()
        sheet.save(buffer, "JPEG", quality=88)
        return buffer.getvalue()
