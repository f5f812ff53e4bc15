"""Plots of a report: bars with intervals, or points of several series, as SVG by matplotlib.

The same figures give the same bytes; letters stay text, in the font of the page.
"""

import io
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from speech2image.errors import require
from speech2image.evaluation.report.sections import Chart
from speech2image.metrics.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, BAR, SERIES = "#1c2024", "#3b76c4", ("#3b76c4", "#c8563b", "#3f9a63", "#8a63b8", "#b08a1e", "#4a9aa8")
"""The first is what the page's own colour takes the place of, so that plots follow its dark scheme."""
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "speech2image",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))

WIDTH = 6.0
"""Inches of a chart; a browser shows 96 pixels an inch, and two stand side by side on 1280."""


def svg(chart: Chart) -> str:
    """A chart as an SVG element: one line for each figure, zero on the axis."""
    matplotlib = require("matplotlib", "train")
    figures = require("matplotlib.figure", "train")
    lines = list(dict.fromkeys(line for series in chart.series.values() for line in series))
    several = len(chart.series) > 1
    with matplotlib.rc_context(_STYLE):
        height = 1.1 + (0.3 if several else 0.27) * len(lines) + 0.17 * (len(chart.series) if several else 0)
        figure = figures.Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots()
        places = {line: -place for place, line in enumerate(lines)}
        if several:
            _points(axes, chart, places)
        else:
            _bars(axes, chart, next(iter(chart.series.values())), places)
        axes.set_yticks(list(places.values()), [_short(line) for line in lines])
        axes.set_ylim(0.6 - len(lines), 0.6)
        axes.tick_params(axis="y", length=0)
        better = "lower" if chart.measure.lower_is_better else "higher"
        axes.set_xlabel(f"{chart.measure.head} ({better} is better)")
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata=_NO_METADATA)
    drawn = out.getvalue().partition("<svg")[2].replace(INK, "currentColor")
    return f'<svg role="img" aria-label="{escape(chart.title)}"{drawn}'


def _bars(axes: "Axes", chart: Chart, figures: Mapping[str, Estimate], places: Mapping[str, int]) -> None:
    form = chart.measure.format
    ends = [0.0]
    for line, found in figures.items():
        low, high = (form.scale * end for end in found.interval or (found.value, found.value))
        ends += [low, high, form.scale * found.value]
        axes.barh(places[line], form.scale * found.value, height=0.62, color=BAR)
        if found.interval is not None:
            axes.plot([low, high], [places[line]] * 2, color=INK, linewidth=1.2)
        end = (max(form.scale * found.value, high, 0.0), places[line])
        axes.annotate(form.number(found.value), end, xytext=(5, 0), textcoords="offset points", va="center")
    axes.set_xlim(1.1 * min(ends), 1.1 * max(ends) or (1.0 if not any(ends) else 0.0))
    axes.axvline(0, color=INK, linewidth=0.6)


def _points(axes: "Axes", chart: Chart, places: Mapping[str, int]) -> None:
    form, n = chart.measure.format, len(chart.series)
    everything = [found.value for figures in chart.series.values() for found in figures.values()]
    for number, (name, figures) in enumerate(chart.series.items()):
        colour, shift = SERIES[number % len(SERIES)], (n - 1) / 2 - number
        heights = [places[line] + 0.6 * shift / n for line in figures]
        values = [form.scale * found.value for found in figures.values()]
        axes.plot(values, heights, "o", color=colour, markersize=4, label=name)
        for height, found in zip(heights, figures.values(), strict=True):
            if found.interval is not None:
                ends = [form.scale * end for end in found.interval]
                axes.plot(ends, [height] * 2, color=colour, linewidth=1.1, alpha=0.6)
    low, high = axes.get_xlim()
    axes.set_xlim((min(0.0, low), high) if any(everything) else (0.0, 1.0))
    axes.grid(axis="x", alpha=0.25)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8)


def _short(line: str, letters: int = 46) -> str:
    return line if len(line) <= letters else line[: letters - 1] + "…"
