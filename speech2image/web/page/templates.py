"""HTML of the server, by the Jinja2 templates in `assets/`, which escape what came from outside."""

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
