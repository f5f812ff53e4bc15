"""HTML of the server, by the Jinja2 templates in `assets/`, which escape what came from outside."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

ASSETS = Path(__file__).parent / "assets"


@cache
def template(name: str) -> jinja2.Template:
    """A template of `assets/`."""
    loader = jinja2.FileSystemLoader(ASSETS)
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template(name)


# ---- description of the HTTP interface -----------------------------------------------------------


def api_docs(openapi: dict[str, Any], address: str, has_key: bool) -> str:
    """An OpenAPI description as a page that loads nothing else.

    Args:
        openapi: the description.
        address: of the server.
        has_key: whether requests must bring its key.

    Swagger UI, which FastAPI offers, is a script of more than a megabyte that would have to be shipped, and
    it is started by an inline script, which this server's content security policy forbids.
    """
    operations = [
        {
            "id": operation["operationId"],
            "verb": verb.upper(),
            "path": path,
            "summary": operation.get("summary", ""),
            "parameters": [
                (p["name"], _parameter(p)) for p in operation.get("parameters", []) if p["in"] == "query"
            ],
            "tag": operation["tags"][0],
            "command": operation["x-codeSamples"][0]["source"],
            "answer": _answer(operation),
            "bodies": _bodies(operation),
            "answers": [
                (key, answer.get("description", "")) for key, answer in operation["responses"].items()
            ],
        }
        for path, verbs in openapi["paths"].items()
        for verb, operation in verbs.items()
    ]
    info = {"description": "", **openapi["info"]}
    about = {"info": info, "openapi": openapi["openapi"], "address": address, "has_key": has_key}
    return template("api_docs.html").render(**about, tags=openapi["tags"], operations=operations)


def _answer(operation: dict[str, Any]) -> str:
    """The example of an answer."""
    examples = [
        content["example"]
        for answer in operation["responses"].values()
        for content in answer.get("content", {}).values()
        if "example" in content
    ]
    return examples[0] if isinstance(examples[0], str) else json.dumps(examples[0], indent=2)


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
    about = schema.get("properties", {})
    names = [name for name, one in about.items() if one.get("format") == "binary"]
    fields = [name for name in about if name not in names]
    parts = [f"files: {', '.join(names)}"] if names else []
    parts += [f"fields: {', '.join(fields)}"] if fields else []
    return "; ".join(parts) or schema.get("description", "")
