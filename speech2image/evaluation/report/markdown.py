"""The report as Markdown, and a model's one row for a table of many."""

from collections.abc import Sequence
from typing import Any

from speech2image.evaluation.report.sections import sections
from speech2image.evaluation.report_parts import Section, number, share

ROW_HEAD = (
    "model",
    "data",
    "pictures",
    "network",
    "FID",
    "KID x 1000",
    "IS",
    "precision",
    "recall",
    "class mAP",
    "R@10",
    "mAP",
    "colour",
)


def markdown(results: dict[str, Any]) -> str:
    """The report of one model."""
    title = f"# Evaluation of {results['model']['name']} on {results['data']['name']}"
    row = table(ROW_HEAD, [row_cells(results)])
    parts = [title, "\n".join(f"- {line}" for line in facts(results)), "Its row (voices kept out):", row]
    for section in sections(results):
        parts += _section(section)
    return "\n\n".join(parts) + "\n"


def facts(results: dict[str, Any]) -> list[str]:
    """Model, data, protocol, versions: a line each."""
    data, model, voices = results["data"], results["model"], results["voices"]
    size, counts = model["picture_size"], ", ".join(f"{n} {split}" for split, n in data["pictures"].items())
    return [
        f"Model: {model['name']}, {size} x {size} pixels, {model['bytes'] / 1e6:.1f} MB; "
        + ", ".join(f"{network}.onnx sha256 `{checksum}`" for network, checksum in model["sha256"].items())
        + _recognizer(model.get("recognizer")),
        f"Data: {data['name']}, {counts} pictures; shards sha256 `{data['digest'][:16]}`",
        f"Voices heard in training: {', '.join(voices['heard']) or 'none'}",
        f"Voices kept out: {', '.join(voices['kept out'])}",
        *results["protocol"],
        "Settings: " + ", ".join(f"{name} {_told(value)}" for name, value in results["settings"].items()),
        "Versions: " + ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
    ]


def _recognizer(told: dict[str, str] | None) -> str:
    if told is None:
        return ""
    checksum = f" sha256 `{told['sha256']}`" if "sha256" in told else ""
    return f"; speech written down by the recognizer {told['name']}{checksum}"


def _told(value: object) -> str:
    return (" ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def row_cells(results: dict[str, Any]) -> list[str]:
    """One model's row of `ROW_HEAD`: pictures drawn from voices kept out."""
    spoken = "drawn from voices kept out"
    drawn = first_row(results["pictures"], pictures=spoken)
    found = first_row(results["retrieval"], classes="unseen", voices="kept out")
    colour = first_row(results["colours"], pictures=spoken)
    return [results["model"]["name"], *figures(results, drawn, found, colour)]


def figures(
    results: dict[str, Any], drawn: dict[str, Any], found: dict[str, Any], colour: dict[str, Any]
) -> list[str]:
    """What follows the name in a row of `ROW_HEAD`, from a row of each table; "-" where it is empty."""
    network = results["network"]
    return [
        results["data"]["name"],
        str(drawn.get("n", colour.get("n", "-"))),
        "-" if network is None else network["name"],
        number(drawn.get("fid")),
        number(None if "kid" not in drawn else 1000 * drawn["kid"]),
        number(drawn.get("is")),
        share(drawn.get("precision")),
        share(drawn.get("recall")),
        share(drawn.get("class_map")),
        share(found.get("R@10")),
        share(found.get("mAP")),
        share(colour.get("agreement")),
    ]


def first_row(rows: Sequence[dict[str, Any]], **wanted: str) -> dict[str, Any]:
    """The first row with these entries, empty if there is none."""
    return next((row for row in rows if wanted.items() <= row.items()), {})


def _section(section: Section) -> list[str]:
    parts = [f"## {section.title}", section.text]
    if section.rows:
        parts.append(table(section.head, section.rows))
    return [part for part in parts if part]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)
