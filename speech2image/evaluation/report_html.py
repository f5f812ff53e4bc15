"""The report as one HTML file that needs nothing else: pictures and charts lie inside it."""

import base64
import re
from collections.abc import Sequence
from html import escape

from PIL import Image

from speech2image.evaluation.charts import svg
from speech2image.evaluation.report_parts import Section
from speech2image.pipeline import images

_STYLE = """
:root { color-scheme: light dark;
  --ink: #1c2024; --soft: #5b6570; --line: #d9dee3; --ground: #fff; --bar: #3b76c4 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #9aa5b1; --line: #363d45; --ground: #16191c; --bar: #6ba1e6 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem }
.table { overflow-x: auto } table { border-collapse: collapse; font-size: 14px; white-space: nowrap }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  font-variant-numeric: tabular-nums }
th { color: var(--soft); font-weight: 600 } td.wide { white-space: normal; min-width: 20rem }
.charts { display: flex; flex-wrap: wrap; gap: 1.5rem; margin-top: 1rem }
figure { margin: 0 } figcaption { color: var(--soft); font-size: 13px }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif } svg .bar { fill: var(--bar) }
svg .interval { stroke: var(--ink); stroke-width: 1.5 } svg .axis { stroke: var(--line) }
img { max-width: 100%; height: auto } ul { color: var(--soft); font-size: 14px }
code { overflow-wrap: anywhere }
"""
_WIDE = 45
"""Cells of more letters than this break into lines."""


def page(
    title: str, facts: Sequence[str], sections: Sequence[Section], pictures: dict[str, Image.Image]
) -> str:
    """A whole page.

    Args:
        title: the heading.
        facts: lines of a list at the end: how it was measured.
        sections: tables and charts, in order.
        pictures: heading -> picture, shown after the sections.
    """
    body = [f"<h1>{escape(title)}</h1>", *map(_section, sections)]
    body += [f"<h2>{escape(name)}</h2>{_picture(name, picture)}" for name, picture in pictures.items()]
    body.append("<h2>How it was measured</h2><ul>" + "".join(f"<li>{_text(f)}</li>" for f in facts) + "</ul>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>"
        + "\n".join(body)
        + "</body></html>\n"
    )


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{_text(section.text)}</p>")
    if section.rows:
        parts.append(_table(section))
    drawn = "".join(
        f"<figure>{svg(chart)}<figcaption>{escape(chart.title)}: {escape(chart.better)}</figcaption></figure>"
        for chart in section.charts
    )
    return "".join(parts) + (f'<div class="charts">{drawn}</div>' if drawn else "")


def _table(section: Section) -> str:
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in section.head)
    rows = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in section.rows)
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cell(text: str) -> str:
    return f'<td class="wide">{_text(text)}</td>' if len(text) > _WIDE else f"<td>{_text(text)}</td>"


def _text(text: str) -> str:
    """Escaped, with `code` set as such."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _picture(name: str, picture: Image.Image) -> str:
    data = base64.b64encode(images.encode(picture)).decode()
    return f'<img alt="{escape(name)}" src="data:image/png;base64,{data}">'
