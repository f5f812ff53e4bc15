"""What reports are made of: sections, charts, and figures as text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """A bar of a chart, with its interval if it has one."""

    label: str
    value: float
    interval: Sequence[float] | None = None


@dataclass(frozen=True)
class Chart:
    """Bars of one measure; `better` says which way."""

    title: str
    bars: list[Bar]
    better: str = "higher is better"


@dataclass(frozen=True)
class Section:
    """A heading, what the table says, the table, its charts."""

    title: str
    text: str
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    charts: list[Chart] = field(default_factory=list)


def number(value: float | None) -> str:
    """A figure, "-" if it was not measured; more digits where it is small, as FIDs of 768 numbers are."""
    return "-" if value is None else f"{value:.{3 if abs(value) < 10 else 2}f}"


def share(value: float | None) -> str:
    """A share in %."""
    return "-" if value is None else f"{100 * value:.1f}"


def span(interval: Sequence[float] | None) -> str:
    """An interval of figures, "-" if there is none."""
    return "-" if interval is None else " to ".join(map(number, interval))


def share_span(interval: Sequence[float] | None) -> str:
    """An interval of shares in %, "-" if there is none."""
    return "-" if interval is None else " to ".join(map(share, interval))


def bracketed(text: str, interval: str) -> str:
    """A figure with its interval in brackets, if it has one."""
    return text if interval == "-" else f"{text} ({interval})"


def chart(
    title: str,
    rows: Sequence[Row],
    key: str,
    interval: str | None,
    scale: float = 1.0,
    better: str = "higher is better",
    label: str = "pictures",
) -> Chart:
    """A bar a row that has the figure."""
    bars = []
    for row in rows:
        if row.get(key) is not None:
            ends = row.get(interval) if interval else None
            scaled = None if ends is None else [scale * end for end in ends]
            bars.append(Bar(row[label], scale * row[key], scaled))
    return Chart(title, bars, better)
