"""README of a model folder: what its card says, for people and, as YAML front matter, for model hubs."""

import json
import re
from typing import Any

from speech2image.pipeline.card import Card

README = "README.md"
_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.-]*")


def readme(card: Card) -> str:
    """The README of a model with this card.

    Args:
        card: what `model.json` holds.
    """
    return f"---\n{_front_matter(card)}---\n\n{_body(card)}"


def _front_matter(card: Card) -> str:
    """YAML; JSON's strings are YAML's, too."""
    licence = str(card.get("licence", "unstated"))
    known = _IDENTIFIER.fullmatch(licence.lower()) is not None and licence.lower() != "unstated"
    rows = [f"license: {licence.lower()}" if known else "license: other"]
    if not known:
        rows.append(f"license_name: {json.dumps(licence, ensure_ascii=False)}")
    rows += [
        "language: en",
        "library_name: speech2image",
        "pipeline_tag: text-to-image",
        "tags:",
        *(
            f"- {tag}"
            for tag in ("speech-to-image", "audio-to-image", "onnx", str(card.get("route", "direct")))
        ),
    ]
    return "".join(f"{row}\n" for row in rows)


def _body(card: Card) -> str:
    name, size = str(card.get("name", "model")), card.get("picture_size", "?")
    parts = [
        f"# {name}",
        str(card.get("description") or "Spoken descriptions become pictures.")
        + f" Pictures of {size} x {size} pixels; route {card.get('route', 'direct')}; made by "
        f"{card.get('made_by', 'speech2image')}.",
        "    pip install speech2image\n"
        "    speech2image translate clip.wav --model FOLDER -n 8 -o pictures.png",
        _table(("network", "file", "bytes", "sha256"), _networks(card)),
    ]
    training = card.get("training")
    if isinstance(training, dict) and training:
        rows = [(network, *map(str, _facts(facts))) for network, facts in training.items()]
        parts += ["## Training", _table(("network", "steps", "seed", "hours", "data", "versions"), rows)]
    parity = card.get("parity")
    if isinstance(parity, dict) and parity:
        rows = [(key, f"{value:.1e}") for key, value in parity.items() if isinstance(value, int | float)]
        parts += ["## Largest differences from torch", _table(("what", "difference"), rows)]
    parts += ["## Licence", str(card.get("licence", "unstated"))]
    return "\n\n".join(parts) + "\n"


def _networks(card: Card) -> list[tuple[str, ...]]:
    files = card.get("files")
    rows = files.items() if isinstance(files, dict) else ()
    return [
        (name, str(one.get("file", "")), str(one.get("bytes", "")), str(one.get("sha256", ""))[:16])
        for name, one in rows
    ]


def _facts(facts: Any) -> tuple[object, ...]:
    facts = facts if isinstance(facts, dict) else {}
    versions = facts.get("versions")
    made = ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else ""
    return (*(facts.get(key, "") for key in ("steps", "seed", "hours", "data")), made)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)
