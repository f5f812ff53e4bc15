"""HTML report: one file that needs nothing else, with pictures and plots inside it."""

import base64
import re
from collections.abc import Mapping, Sequence

from PIL import Image

from speech2image.errors import require
from speech2image.evaluation.report.plots import svg
from speech2image.evaluation.report.sections import Section
from speech2image.pipeline import images


def page(
    title: str,
    facts: Sequence[str],
    sections: Sequence[Section],
    pictures: Mapping[str, Image.Image],
    warnings: Sequence[str] = (),
) -> str:
    """A whole page.

    Args:
        title: the heading.
        facts: lines of a list at the end: how it was measured.
        sections: tables and charts, in order.
        pictures: heading -> picture, shown after the sections.
        warnings: sentences shown before everything else.
    """
    jinja2, markupsafe = require("jinja2", "train"), require("markupsafe", "train")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("speech2image.evaluation.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )

    def code(text: str) -> object:
        """Escaped, with `code` set as such."""
        return markupsafe.Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(markupsafe.escape(text))))

    environment.filters |= {"code": code, "svg": lambda chart: markupsafe.Markup(svg(chart)), "data": _data}
    template = environment.get_template("report.html.j2")
    rendered: str = template.render(
        title=title, facts=facts, sections=sections, pictures=pictures, warnings=warnings
    )
    return rendered


def _data(picture: Image.Image) -> str:
    return f"data:image/png;base64,{base64.b64encode(images.encode(picture)).decode()}"
