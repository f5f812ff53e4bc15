"""Parts of the OpenAPI description that several routes share, and an example of each operation."""

from typing import Any, NamedTuple

from fastapi import Query
from pydantic import BaseModel

from speech2image.web import schemas

ADDRESS = "http://127.0.0.1:7860"
"""Of the server in examples; the page that shows them puts its own in place of it."""
COMMAND = "x-codeSamples"
"""Where an operation has its example as a command."""
_JSON_TYPE = "application/json"
BINARY = {"type": "string", "format": "binary"}
TAGS = [
    {"name": "pictures", "description": "Speech or text becomes pictures."},
    {"name": "words", "description": "Speech becomes text."},
    {"name": "server", "description": "What is served, and how it fares."},
]

_TEXTS = {
    400: "The body is broken.",
    401: "The server has a key, and it was not sent.",
    403: "A script of another web site sent it.",
    404: "No such model or route, or it cannot do this.",
    406: "The header Accept names nothing that can be sent.",
    408: "The body took too long to arrive.",
    413: "The body is too large.",
    422: "The recording, the text or a setting cannot be used.",
    426: "Not asked for as a WebSocket.",
    429: "Too many requests of yours at once; see Retry-After.",
    503: "The queue is full, or the work took too long; see Retry-After.",
}
_REJECTIONS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Problem, "description": text} for status, text in _TEXTS.items()
}


def rejections(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Refusals with these statuses; without any, those of all requests that bring something."""
    chosen = statuses or tuple(status for status in _TEXTS if status not in (406, 426))
    return {status: _REJECTIONS[status] for status in chosen}


def one_of(names: list[str], description: str) -> Any:
    """A parameter that is one of these names."""
    return Query(description=description, json_schema_extra={"enum": names})


def recordings(
    names: tuple[str, ...],
    raw: bool,
    fields: type[BaseModel] | None = None,
    json: type[BaseModel] | None = None,
) -> dict[str, Any]:
    """The description of a body that brings recordings.

    Args:
        names: of multipart's files.
        raw: a recording may be the whole body.
        fields: of multipart, beside the files.
        json: what may come in place of it all.
    """
    about = "A recording in any common format (wav, mp3, ogg, opus, flac, m4a, webm, mp4 ...)."
    properties: dict[str, Any] = {name: BINARY | {"description": about} for name in names}
    if fields:
        properties |= fields.model_json_schema()["properties"]
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(names),
        "additionalProperties": False,
    }
    content: dict[str, Any] = {"multipart/form-data": {"schema": schema}}
    if raw:
        content["application/octet-stream"] = {"schema": BINARY | {"description": about}}
    if json:
        content |= _json_content(json)
    return {"requestBody": {"required": True, "content": content}}


def json_body(schema: type[BaseModel]) -> dict[str, Any]:
    """The description of a body in JSON."""
    return {"requestBody": {"required": True, "content": _json_content(schema)}}


def _json_content(schema: type[BaseModel]) -> dict[str, Any]:
    return {_JSON_TYPE: {"schema": schema.model_json_schema()}}


# ---- examples ------------------------------------------------------------------------------------


class Example(NamedTuple):
    """An example of an operation.

    Attributes:
        command: that asks, for a shell.
        status: of the answer.
        answer: its body: JSON, or text.
        body: of the request, where that is JSON.
    """

    command: str
    answer: Any
    body: dict[str, Any] | None = None
    status: int = 200


_PNG = "iVBORw0KGgo="  # how every PNG file begins
_PICTURE = {"png": _PNG, "width": 256, "height": 256}
_WORDS = [{"text": "a", "confidence": 0.98}, {"text": "red", "confidence": 0.99}]
_WORDS += [{"text": "flower", "confidence": 0.97}]
_TEXT = "a red flower"
_JSON = "-H 'Content-Type: application/json'"

EXAMPLES = {
    "draw_images": Example(
        f"curl --data-binary @clip.wav '{ADDRESS}/v1/images?n=8&seed=0' -o flower.png",
        {
            "model": "flowers-and-birds",
            "route": "direct",
            "seed": 0,
            "speech_seconds": 2.4,
            "seconds": 0.1412,
            "transcript": _TEXT,
            "words": _WORDS,
            "domain": "flower",
            "confidence": 0.9987,
            "noise_rows": [0],
            "pictures": [_PICTURE],
        },
        {"text": _TEXT},
    ),
    "interpolate": Example(
        f"curl -F first=@a.wav -F second=@b.wav '{ADDRESS}/v1/interpolate?steps=9' -o row.png",
        {
            "model": "flowers-and-birds",
            "seed": 0,
            "seconds": 0.9105,
            "alphas": [1.0, 0.0],
            "pictures": [_PICTURE, _PICTURE],
        },
    ),
    "transcribe": Example(
        f"curl -F file=@clip.wav {ADDRESS}/v1/transcriptions",
        {
            "text": _TEXT,
            "words": _WORDS,
            "domain": "flower",
            "confidence": 0.9987,
            "speech_seconds": 2.4,
            "seconds": 0.0922,
            "model": "flowers-and-birds",
            "route": "direct",
        },
    ),
    "generate_images": Example(
        f'curl {_JSON} -d \'{{"prompt": "{_TEXT}"}}\' {ADDRESS}/v1/images/generations',
        {
            "created": 1796050800,
            "data": [{"b64_json": _PNG}],
            "output_format": "png",
            "size": "256x256",
            "model": "flowers-and-birds-cascade",
            "seed": 0,
        },
        {"prompt": _TEXT, "n": 1, "size": "256x256", "response_format": "b64_json"},
    ),
    "draw_live": Example(
        f"python examples/live_client.py clip.wav flower.png {ADDRESS.replace('http', 'ws')}",
        {"detail": "this is a WebSocket: ask with Upgrade: websocket", "code": "not_upgraded"},
        status=426,
    ),
    "list_models": Example(
        f"curl {ADDRESS}/v1/models",
        {
            "models": [
                {
                    "name": "flowers-and-birds",
                    "routes": ["direct", "cascade"],
                    "picture_size": 256,
                    "description": "spoken descriptions of flowers and birds, 256 x 256 pictures",
                    "licence": "research and teaching; see WEIGHTS_LICENSE.md",
                }
            ],
            "limits": {"max_bytes": 32_000_000, "max_seconds": 60.0, "max_pictures": 16},
        },
    ),
    "is_up": Example(f"curl {ADDRESS}/healthz", {"status": "ok"}),
    "is_ready": Example(f"curl {ADDRESS}/readyz", {"status": "ok"}),
    "read_metrics": Example(f"curl {ADDRESS}/metrics", "speech2image_accepted 0.0\n"),
}
"""Operation id -> its example."""


def add_examples(description: dict[str, Any]) -> None:
    """Write into an OpenAPI description the example of each operation: command, body and answer."""
    for verbs in description["paths"].values():
        for operation in verbs.values():
            example = EXAMPLES[operation["operationId"]]
            operation[COMMAND] = [{"lang": "Shell", "source": example.command}]
            kind = "text/plain" if isinstance(example.answer, str) else _JSON_TYPE
            operation["responses"][str(example.status)]["content"][kind]["example"] = example.answer
            if example.body is not None:
                operation["requestBody"]["content"][_JSON_TYPE]["example"] = example.body
