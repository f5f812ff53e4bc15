"""Bar charts with intervals, as SVG text."""

from html import escape

from speech2image.evaluation.report_parts import Bar, Chart, number

LABELS, BARS, VALUES, LINE = 290, 300, 70, 26
"""Widths of the labels, the bars and the numbers, and height of a line (pixels)."""


def svg(chart: Chart) -> str:
    """One bar a line, from zero; its interval is a thin line across its end."""
    most = max([*(bar.value for bar in chart.bars), *(max(bar.interval or [0]) for bar in chart.bars), 1e-9])
    height = LINE * len(chart.bars) + 6
    lines = "".join(_line(bar, number * LINE + 4, BARS / most) for number, bar in enumerate(chart.bars))
    axis = f'<line class="axis" x1="{LABELS}" x2="{LABELS}" y1="0" y2="{height}"/>'
    width = LABELS + BARS + VALUES
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(chart.title)}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">{axis}{lines}</svg>'
    )


def _line(bar: Bar, top: float, scale: float) -> str:
    middle, end = top + LINE / 2 - 3, LABELS + scale * max(bar.value, 0)
    reach = end
    parts = [
        f'<text x="{LABELS - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(_short(bar.label))}</text>',
        f'<rect class="bar" x="{LABELS}" y="{top:.1f}" width="{end - LABELS:.1f}" height="{LINE - 8}"/>',
    ]
    if bar.interval is not None:
        low, reach = (LABELS + scale * max(edge, 0) for edge in bar.interval)
        parts.append(
            f'<line class="interval" x1="{low:.1f}" x2="{reach:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>'
        )
    parts.append(f'<text x="{max(end, reach) + 6:.1f}" y="{middle + 4:.1f}">{number(bar.value)}</text>')
    return "".join(parts)


def _short(label: str, letters: int = 46) -> str:
    return label if len(label) <= letters else label[: letters - 1] + "…"
