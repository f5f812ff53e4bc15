"""/docs: the OpenAPI description as a plain page. Swagger UI would fetch its scripts from another host."""

from html import escape
from typing import Any

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: HTTP interface</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 2rem 1rem 4rem; }}
h1 {{ font-size: 1.7rem; margin-bottom: 0; }} h2 {{ margin-top: 2.5rem; font-size: 1.15rem; }}
code, pre {{ font: 14px/1.5 ui-monospace, monospace; }}
pre {{ overflow-x: auto; padding: .8rem 1rem; border: 1px solid #8884; border-radius: .5rem; }}
table {{ border-collapse: collapse; width: 100%; font-size: .93rem; }}
th, td {{ text-align: left; vertical-align: top; border-top: 1px solid #8884; padding: .4rem .5rem .4rem 0; }}
.verb {{ font-weight: 700; }} .wide {{ overflow-x: auto; }}
</style></head><body><main>
<h1>{title} {version}</h1>
<p>The machine-readable description is <a href="openapi.json">openapi.json</a> (OpenAPI {openapi}).</p>
{about}{operations}
</main></body></html>
"""


def describe(openapi: dict[str, Any]) -> str:
    """An OpenAPI description as HTML that loads nothing else."""
    operations = "".join(
        _operation(path, verb, operation)
        for path, verbs in openapi["paths"].items()
        for verb, operation in verbs.items()
    )
    info = openapi["info"]
    return _PAGE.format(
        title=escape(info["title"]),
        version=escape(info["version"]),
        openapi=escape(openapi["openapi"]),
        about=_about(info.get("description", "")),
        operations=operations,
    )


def _about(text: str) -> str:
    blocks = [block for block in text.split("\n\n") if block.strip()]
    return "".join(
        f"<pre>{escape(block.strip())}</pre>" if block.startswith("    ") else f"<p>{escape(block)}</p>"
        for block in blocks
    )


def _operation(path: str, verb: str, operation: dict[str, Any]) -> str:
    parts = [
        f'<h2><span class="verb">{escape(verb.upper())}</span> <code>{escape(path)}</code></h2>',
        f"<p>{escape(operation.get('summary', ''))}</p>",
        _table("Setting in the query", _parameters(operation)),
        _table("Body", _bodies(operation)),
        _table("Answer", _answers(operation)),
    ]
    return "".join(parts)


def _parameters(operation: dict[str, Any]) -> list[tuple[str, str]]:
    return [(p["name"], _parameter(p)) for p in operation.get("parameters", []) if p["in"] == "query"]


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


def _answers(operation: dict[str, Any]) -> list[tuple[str, str]]:
    return [(status, answer.get("description", "")) for status, answer in operation["responses"].items()]


def _table(title: str, rows: list[tuple[str, str]]) -> str:
    if not rows:
        return ""
    body = "".join(f"<tr><td><code>{escape(a)}</code></td><td>{escape(b)}</td></tr>" for a, b in rows)
    return f'<div class="wide"><table><tr><th>{escape(title)}</th><th></th></tr>{body}</table></div>'
