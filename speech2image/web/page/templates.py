"""HTML of the server, by the Jinja2 templates in `assets/`, which escape what came from outside."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from speech2image import audio
from speech2image.pipeline import images
from speech2image.pipeline.base import Interpolation
from speech2image.pipeline.domains import OTHER, something_else
from speech2image.web.page.plots import plot_spectrogram, plot_waveform
from speech2image.web.service import RenderResult

ASSETS = Path(__file__).parent / "assets"
UNSURE = 0.5
"""Words of less confidence are marked."""


@dataclass(frozen=True)
class _Embedded:
    """A picture that a page shows without asking the server again."""

    url: str
    width: int
    height: int


@cache
def template(name: str) -> jinja2.Template:
    """A template of `assets/`."""
    loader = jinja2.FileSystemLoader(ASSETS)
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template(name)


def recording(result: RenderResult) -> str:
    """What the model listened to: waveform, log-mel, player, download."""
    wave, mel = plot_waveform(result.waveform), plot_spectrogram(result.result.log_mel)
    sound = _data_url(audio.encode_flac(result.waveform), "audio/flac")
    seconds = len(result.waveform) / audio.SAMPLE_RATE
    return _result("recording", seconds, sound, _embed(wave), _embed(mel))


def pictures(result: RenderResult, title: str | None = None) -> str:
    """The pictures of one route, each with a link that saves it, the transcript if there is one, and a hint
    where the recording is about something that the model cannot draw."""
    drawn = result.result
    warning = something_else(drawn.domains) if drawn.domain == OTHER else ""
    shown = [_embed(image) for image in drawn.images]
    sheet = _embed(drawn.grid())
    return _result("pictures", drawn, shown, sheet, title, warning[:1].upper() + warning[1:], UNSURE)


def side_by_side(parts: Sequence[str]) -> str:
    """The pictures of several routes beside each other; the parts are HTML."""
    return f'<div class="s2i-side" data-count="{len(parts)}">{"".join(parts)}</div>'


def interpolation(result: Interpolation) -> str:
    """An interpolation: one large picture, a slider that chooses which, and the row of all."""
    return _result("interpolation", result, [_embed(image) for image in result.images], _embed(result.grid()))


def _result(macro: str, *values: Any) -> str:
    return str(getattr(template("results.html").module, macro)(*values))


def _embed(image: Image.Image) -> _Embedded:
    return _Embedded(_data_url(images.encode(image), "image/png"), image.width, image.height)


def _data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


# ---- description of the HTTP interface -----------------------------------------------------------


def api_docs(openapi: dict[str, Any]) -> str:
    """An OpenAPI description as a page that loads nothing else.

    Swagger UI, which FastAPI offers, is a script of more than a megabyte that would have to be shipped, and
    it is started by an inline script, which this server's content security policy forbids.
    """
    operations = [
        {
            "verb": verb.upper(),
            "path": path,
            "summary": operation.get("summary", ""),
            "parameters": [
                (p["name"], _parameter(p)) for p in operation.get("parameters", []) if p["in"] == "query"
            ],
            "bodies": _bodies(operation),
            "answers": [
                (key, answer.get("description", "")) for key, answer in operation["responses"].items()
            ],
        }
        for path, verbs in openapi["paths"].items()
        for verb, operation in verbs.items()
    ]
    info = {"description": "", **openapi["info"]}
    return template("api_docs.html").render(info=info, openapi=openapi["openapi"], operations=operations)


def _parameter(parameter: dict[str, Any]) -> str:
    schema = parameter.get("schema", {})
    low, high = schema.get("minimum"), schema.get("maximum")
    words = [parameter.get("description", "")]
    words += [f"From {low} to {high}."] if low is not None else []
    words += [f"One of: {', '.join(schema['enum'])}."] if "enum" in schema else []
    words += [f"By default {schema['default']}."] if "default" in schema else []
    return " ".join(word for word in words if word)


def _bodies(operation: dict[str, Any]) -> list[tuple[str, str]]:
    content = operation.get("requestBody", {}).get("content", {})
    return [(kind, _body(body.get("schema", {}))) for kind, body in content.items()]


def _body(schema: dict[str, Any]) -> str:
    names = ", ".join(schema.get("properties", {}))
    return f"files: {names}" if names else schema.get("description", "")
