"""Markdown report: the tables of the HTML report, facts, and a model's one row for a table of many."""

from collections.abc import Sequence

from speech2image.evaluation.report.sections import SUMMARY_HEAD, Section, sections, summary
from speech2image.evaluation.results import Results, main_group


def markdown(results: Results) -> str:
    """The report of one model."""
    title = f"# Evaluation of {results['model']['name']} on {results['data']['name']}"
    row, own = table(SUMMARY_HEAD, [summary(results)]), main_group(results)
    parts = [title, "\n".join(f"- {line}" for line in facts(results)), f"Its row (voices {own}):", row]
    for section in sections(results):
        parts += _section(section)
    return "\n\n".join(parts) + "\n"


def facts(results: Results) -> list[str]:
    """Model, data, protocol, versions: a line each."""
    data, model, voices = results["data"], results["model"], results["voices"]
    size, counts = model["picture_size"], ", ".join(f"{n} {split}" for split, n in data["pictures"].items())
    return [
        f"Model: {model['name']}, {size} x {size} pixels, {model['bytes'] / 1e6:.1f} MB; "
        + ", ".join(f"{network}.onnx sha256 `{checksum}`" for network, checksum in model["sha256"].items())
        + _recognizer(model.get("recognizer")),
        f"Data: {data['name']}, {counts} pictures; shards sha256 `{data['digest'][:16]}`",
        f"Voices heard in training: {', '.join(voices['heard']) or 'none'}",
        f"Voices kept out: {', '.join(voices['kept out']) or 'none'}",
        *results["protocol"],
        "Settings: " + ", ".join(f"{name} {_text(value)}" for name, value in results["settings"].items()),
        "Versions: " + ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
    ]


def _recognizer(described: dict[str, str] | None) -> str:
    if described is None:
        return ""
    checksum = f" sha256 `{described['sha256']}`" if "sha256" in described else ""
    return f"; speech written down by the recognizer {described['name']}{checksum}"


def _text(value: object) -> str:
    return (" ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def _section(section: Section) -> list[str]:
    parts = [f"## {section.title}", section.text]
    if section.rows:
        parts.append(table(section.head, section.rows))
    return [part for part in parts if part]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)
