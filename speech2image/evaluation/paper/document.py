"""Measures the models of the paper's tables on every data set and writes one document.

    python scripts/paper_tables.py --models models/seed-0 models/seed-1 --data shards/flowers shards/birds \
        --network pt_inception-2015-12-05-6726825d.pth --out tables --limit 500

`MODELS/<row>` holds a row's model, as for `speech2image evaluate --table` (docs/evaluation.md says what lies
where); a further folder holds the same rows trained from another seed. `OUT/tables.md` has all tables,
`OUT/tables.json` their figures, `OUT/<set>/table-<number>-seed-<place>/` each model's own report. The same
command goes on after an interruption; rows whose model is not there yet stay empty. Table III has three rows
of Table II on Places-subset: `--tables 3 --data shards/places`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from speech2image.errors import Speech2ImageError
from speech2image.evaluation import EvaluationSettings
from speech2image.evaluation.paper import tables as experiments
from speech2image.evaluation.report.markdown import first_row, table
from speech2image.files import writing

SPOKEN = "drawn from voices kept out"


@dataclass(frozen=True)
class Measure:
    """A column of figures.

    Attributes:
        head: what the column is called.
        of: which of a report's tables holds it.
        key: its name there.
        scale, digits: how it is written.
        falls: lower is better.
    """

    head: str
    of: Literal["pictures", "colours", "retrieval"]
    key: str
    scale: float = 1.0
    digits: int = 3
    falls: bool = False

    def read(self, row: dict[str, Any]) -> tuple[float | None, Sequence[float] | None]:
        """The figure in a row of `of` and its interval; None where there is none."""
        intervals = {
            "pictures": row.get(f"{self.key}_interval"),
            "colours": row.get("interval"),
            "retrieval": (row.get("intervals") or {}).get(self.key),
        }
        return row.get(self.key), intervals[self.of]

    def cell(self, row: dict[str, Any]) -> str:
        """The figure as it is written, with its interval; "-" if there is none."""
        value, interval = self.read(row)
        if value is None:
            return "-"
        ends = [f"{self.scale * end:.{self.digits}f}" for end in interval or ()]
        return f"{self.scale * value:.{self.digits}f}" + (f" ({' - '.join(ends)})" if ends else "")


MEASURES = (
    Measure("FID", "pictures", "fid", falls=True),
    Measure("KID x 1000", "pictures", "kid", 1000, falls=True),
    Measure("IS", "pictures", "is"),
    Measure("colour, %", "colours", "agreement", 100, 1),
    Measure("R@10, %", "retrieval", "R@10", 100, 1),
    Measure("class mAP, %", "retrieval", "mAP", 100, 1),
)
HEAD = ("row", "seed", "steps, minutes", *(measure.head for measure in MEASURES), "published IS / FID")
Table = Literal[2, 3, 4, 5]
TABLES: tuple[Table, ...] = (2, 4, 5)
"""Those measured if none are named."""
SCALES = """The published figures are not on one scale with ours. Theirs come from the last pool of
Inception-v3 (2048 numbers) and from an Inception Score whose classifier was fitted to the data set, over
many more pictures; ours from the layer and the classifier that each report names, over as many pictures
as it counts; both measures depend on all of these. Their models were trained on the published captions,
ten a picture, for 100,000 and 220,000 steps; ours on this project's captions, two a picture, for as many
steps as docs/recipes.md says. So compare the rows of one table with each other and with the ceiling and
the floors measured beside them, and their order with the published order; never a figure of ours with a
published one."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        print(write_tables(**vars(options)))
    except Speech2ImageError as error:
        print(f"paper_tables: {error}", file=sys.stderr)
        return 1
    return 0


def write_tables(
    models: Sequence[Path],
    data: Sequence[Path],
    network: Path | None,
    out: Path,
    tables: Sequence[Table] = TABLES,
    limit: int | None = None,
    resamples: int = 1000,
    threads: int | None = None,
    measures: Sequence[str] = ("retrieval", "colours", "fid", "kid", "inception-score"),
) -> Path:
    """Measure what is there and write `tables.md` and `tables.json`.

    Args:
        models: folders of models, one a seed; Table II is of the first alone.
        data: shards folders; a model of several sets is measured on each.
        network: Inception file; without it there is no FID.
        out: folder to write.
        tables: numbers of the paper's tables.
        limit, resamples, threads, measures: as of `speech2image evaluate`.

    Returns:
        `tables.md`.

    Raises:
        Speech2ImageError: as `speech2image evaluate`.
    """
    own = EvaluationSettings(
        data=data[0],
        out=out,
        network=network,
        limit=limit,
        resamples=resamples,
        threads=threads,
        measures=tuple(measures),
        drawn=("kept out",),
        only_drawn=True,
    )
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number in tables:
        of_table = results[experiments.TITLES[number]] = {}
        for folder in data:
            seeds = models[:1] if number == 2 else models
            of_table[folder.name] = [
                experiments.table(
                    replace(
                        own,
                        data=folder,
                        table=number,
                        models=place,
                        out=out / folder.name / f"table-{number}-seed-{seed}",
                    )
                )
                for seed, place in enumerate(seeds)
            ]
    document(results, out)
    return out / "tables.md"


def document(results: dict[str, dict[str, list[dict[str, Any]]]], out: Path) -> None:
    """Write `tables.md` and `tables.json` of title -> data set -> a table for each seed."""
    parts = ["# The paper's tables under one evaluator", " ".join(SCALES.split())]
    for title, sets in results.items():
        parts.append(f"## {title}")
        for name, seeds in sets.items():
            rows = [line for seed, one in enumerate(seeds) for line in _lines(one, seed)]
            parts += [f"### {name}", table(HEAD, [*rows, *_bounds(seeds)]), *_orders(seeds)]
    files = {"tables.md": "\n\n".join(parts) + "\n", "tables.json": json.dumps(results, indent=1) + "\n"}
    for name, content in files.items():
        with writing(out / name) as temporary:
            temporary.write_text(content, encoding="utf-8")


def _lines(one: dict[str, Any], seed: int) -> list[list[str]]:
    """A line for every row of a table."""
    lines = []
    for row in one["rows"]:
        found = row["results"]
        cells = (
            ["missing", *["-"] * (len(MEASURES) - 1)]
            if found is None
            else _cells(found, SPOKEN, SPOKEN, "kept out")
        )
        lines.append([row["label"], str(seed), _trained(row["trained"]), *cells, row["published"] or "-"])
    return lines


def _trained(trainings: dict[str, dict[str, float]]) -> str:
    """How long a row's generator was trained, each of its stages."""
    own = [trainings[name] for name in ("stage_one", "generator") if name in trainings]
    return " + ".join(f"{one['steps']:.0f}, {one['minutes']:.0f}" for one in own) or "-"


def _bounds(seeds: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Ceiling and floors, of the first model that was measured."""
    measured = (row["results"] for one in seeds for row in one["rows"] if row["results"])
    first = next(measured, None)
    if first is None:
        return []
    return [
        [pictures, "-", "-", *_cells(first, pictures, colours, voices), "-"]
        for pictures, voices, colours in experiments.BOUNDS
    ]


def _rows(found: dict[str, Any], pictures: str, colours: str, voices: str) -> dict[str, dict[str, Any]]:
    """A report's row in each of its tables."""
    return {
        "pictures": first_row(found["pictures"], pictures=pictures),
        "colours": first_row(found["colours"], pictures=colours),
        "retrieval": first_row(found["retrieval"], classes="unseen", voices=voices),
    }


def _cells(found: dict[str, Any], pictures: str, colours: str, voices: str) -> list[str]:
    rows = _rows(found, pictures, colours, voices)
    return [measure.cell(rows[measure.of]) for measure in MEASURES]


def _orders(seeds: Sequence[dict[str, Any]]) -> list[str]:
    """How each measure orders the rows, and which of them it orders alike in all seeds.

    Nothing for one seed or a row missing.
    """
    if len(seeds) < 2 or any(row["results"] is None for one in seeds for row in one["rows"]):
        return []
    told = []
    for measure in MEASURES:
        orders = [_order(one, measure) for one in seeds]
        if not all(orders):
            continue
        same = all(order == orders[0] for order in orders)
        each = (f"seed {seed}: {' > '.join(order)}" for seed, order in enumerate(orders))
        differing = f"{'; '.join(each)}; in all seeds: {' and '.join(_agreed(orders)) or 'none'}"
        told.append(f"{measure.head}: " + (f"the same, {' > '.join(orders[0])}" if same else differing))
    head = "Order of the rows, best first:"
    return ["\n".join([head, "", *(f"- {line}" for line in told)])] if told else []


def _agreed(orders: Sequence[Sequence[str]]) -> list[str]:
    """Pairs of rows that stand in the same order everywhere."""
    return [
        f"{first} > {second}"
        for first, second in combinations(orders[0], 2)
        if all(order.index(first) < order.index(second) for order in orders)
    ]


def _order(one: dict[str, Any], measure: Measure) -> list[str]:
    """The rows of a table by a measure; none if a row lacks it or all have the same."""
    found = {
        row["label"]: measure.read(_rows(row["results"], SPOKEN, SPOKEN, "kept out")[measure.of])[0]
        for row in one["rows"]
    }
    values = {label: value for label, value in found.items() if value is not None}
    if len(values) < len(found) or len(set(values.values())) == 1:
        return []
    return sorted(values, key=lambda label: values[label], reverse=not measure.falls)


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="folders of models, one a seed")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="shards folders")
    parser.add_argument("--network", type=Path, help="Inception-v3 of 2015-12-05, for FID")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    numbers = tuple(experiments.TABLES)
    parser.add_argument("--tables", type=int, nargs="+", choices=numbers, default=TABLES, help="which")
    parser.add_argument("--limit", type=int, help="utterances of each kind")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap intervals")
    parser.add_argument("--threads", type=int, help="processor threads")
    return parser


if __name__ == "__main__":
    sys.exit(main())
