"""What `evaluation.py` found, written down: results.json, results.md, grid.png, and what was measured."""

import hashlib
import json
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from speech2image import __version__, images
from speech2image.data.arrays import PairArrays
from speech2image.data.pairs import Header, picture_shards, read_header, speech_shards
from speech2image.errors import OutputError
from speech2image.files import check_writable, writing
from speech2image.pipeline import DirectRoute
from speech2image.pretrained import NETWORKS

if TYPE_CHECKING:
    from speech2image.evaluation import Settings

FORMAT = "speech2image evaluation 1"
PACKAGES = ("numpy", "scipy", "onnxruntime", "av", "Pillow")
MEASURES = ("R@1", "R@5", "R@10", "R@50", "mAP")
_LABEL_WIDTH, _LABEL_LETTERS = 230, 34


def check_folder(out: Path) -> None:
    """Check, before any work is done, that the report can be written.

    Raises:
        OutputError: `out` is a file, or cannot be written.
    """
    if out.is_file():
        raise OutputError(f"{out} is a file; name a folder for the report")
    check_writable(out / "results.json")


def provenance(settings: "Settings", arrays: PairArrays, route: DirectRoute) -> dict[str, Any]:
    """Versions, settings, checksums and counts, so that a figure can be told from another; no paths."""
    model = route.model
    return {
        "format": FORMAT,
        "versions": {"speech2image": __version__, "python": platform.python_version(), **_versions()},
        "settings": {
            "seed": settings.seed,
            "pictures_per_utterance": settings.pictures_per_utterance,
            "limit": settings.limit,
            "held_out_voices": list(settings.held_out_voices),
        },
        "model": {
            "name": route.name,
            "picture_size": route.picture_size,
            "bytes": model.size,
            "sha256": {network: hashlib.sha256(model.read(network)).hexdigest() for network in NETWORKS},
        },
        "data": _data(arrays),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _data(arrays: PairArrays) -> dict[str, Any]:
    shards = [(path.name, read_header(path)) for path in _shards(arrays.folder)]
    spoken = [row for _, header in shards if header.kind == "speech" for row in header.rows]
    splits = sorted(set(arrays.splits.tolist()))
    members = {split: arrays.samples_of(split) for split in splits}
    return {
        "name": arrays.folder.resolve().name,
        "digest": _digest(shards),
        "pictures": {split: len(members[split]) for split in splits},
        "classes": {split: len(set(arrays.labels[members[split]].tolist())) for split in splits},
        "utterances": {split: len(arrays.utterances_of(split)) for split in splits},
        "augmented_utterances": sum("effects" in row for row in spoken),
    }


def _shards(folder: Path) -> list[Path]:
    return [*picture_shards(folder), *speech_shards(folder)]


def _digest(shards: Sequence[tuple[str, Header]]) -> str:
    """One checksum of all shards' names, digests and rows."""
    digest = hashlib.sha256()
    for name, header in shards:
        digest.update(json.dumps([name, header.digest, header.rows], sort_keys=True).encode())
    return digest.hexdigest()


def write_report(results: dict[str, Any], picture: Image.Image, out: Path) -> None:
    """Write grid.png, results.md and results.json, each whole or not at all, the last one last."""
    images.save(picture, out / "grid.png")
    for name, text in (
        ("results.md", markdown(results)),
        ("results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n"),
    ):
        with writing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def markdown(results: dict[str, Any]) -> str:
    """The report for people."""
    parts = [
        f"# Evaluation of {results['model']['name']} on {results['data']['name']}",
        _summary(results),
        "## Speech to picture retrieval",
        "Share of utterances whose own picture is among the first k of the gallery, and mean average "
        "precision of its class, in %; what chance reaches in brackets.",
        _retrieval_table(results["retrieval"]),
        "Unseen classes, voice by voice:",
        _voice_table(results["voice_by_voice"]),
        "## Colour agreement",
        _colours(results["colours"]),
        "## Sheet",
        f"`grid.png`: utterances of unseen classes in voices kept out of training, one a row, the same "
        f"{results['sheet']['noises']} noises in each.",
        _table(
            ("row", "spoken", "voice", "class of the photograph described"),
            [
                (str(number), row["caption"], row["voice"], row["class"])
                for number, row in enumerate(results["sheet"]["rows"], 1)
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(results: dict[str, Any]) -> str:
    data, model, voices = results["data"], results["model"], results["voices"]
    settings = results["settings"]
    limit = (
        "all utterances" if settings["limit"] is None else f"at most {settings['limit']} utterances a kind"
    )
    counts = ", ".join(f"{n} {split}" for split, n in data["pictures"].items())
    return "\n".join(
        [
            f"- model: {model['name']}, {model['picture_size']} x {model['picture_size']} pixels, "
            f"{model['bytes'] / 1e6:.1f} MB",
            *(f"- {network}.onnx: sha256 `{checksum}`" for network, checksum in model["sha256"].items()),
            f"- data: {counts} pictures; shards `{data['digest'][:16]}`",
            f"- voices heard in training: {', '.join(voices['heard']) or 'none'}",
            f"- voices kept out: {', '.join(voices['kept out'])}",
            f"- {limit}; {settings['pictures_per_utterance']} pictures an utterance; seed {settings['seed']}",
            "- " + ", ".join(f"{name} {number}" for name, number in results["versions"].items()),
        ]
    )


def _retrieval_table(rows: Sequence[dict[str, Any]]) -> str:
    head = ("classes", "voices", "queries", "gallery", *MEASURES)
    cells = [
        (row["classes"], row["voices"], str(row["queries"]), str(row["pictures"]), *_shares(row))
        for row in rows
    ]
    absent = {"seen", "unseen"} - {row["classes"] for row in rows}
    note = '\n\nNo pictures of seen classes (split "val") with speech: prepare with --validation 0.05.'
    return _table(head, cells) + (note if absent else "")


def _shares(row: dict[str, Any]) -> list[str]:
    return [f"{100 * row[name]:.1f} ({100 * row['chance'][name]:.1f})" for name in MEASURES]


def _voice_table(rows: Sequence[dict[str, Any]]) -> str:
    head = ("voice", "in training", "queries", *MEASURES)
    return _table(
        head,
        [
            (row["voice"], row["voices"], str(row["queries"]), *(f"{100 * row[m]:.1f}" for m in MEASURES))
            for row in rows
        ],
    )


def _colours(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return "Not measured: the captions of the training pictures, or those spoken, name no main colour."
    text = (
        "How often a reader fitted on the training photographs reads the caption's main colour, on unseen "
        "classes, with a 95 % interval (bootstrap over the photographs described)."
    )
    cells = [
        (
            row["pictures"],
            str(row["n"]),
            f"{100 * row['agreement']:.1f} %",
            "{:.1f} - {:.1f}".format(*(100 * share for share in row["interval"])),
        )
        for row in rows
    ]
    return f"{text}\n\n{_table(('pictures', 'n', 'agreement', '95 % interval'), cells)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def sheet(rows: Sequence[Sequence[Image.Image]], captions: Sequence[str], gap: int = 2) -> Image.Image:
    """Pictures in rows, each row's caption to its left in Pillow's own letters.

    Args:
        rows: pictures of one size, as many in each row.
        captions: one a row; wrapped to the column.
        gap: white pixels between neighbours.
    """
    font = ImageFont.load_default(13)
    labels = [fill(caption, _LABEL_LETTERS) for caption in captions]
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    tallest = max(int(pen.multiline_textbbox((0, 0), label, font)[3]) + 6 for label in labels)
    width, height = rows[0][0].size[0] + gap, max(tallest, rows[0][0].size[1]) + gap
    out = Image.new("RGB", (_LABEL_WIDTH + len(rows[0]) * width - gap, len(rows) * height - gap), "white")
    pen = ImageDraw.Draw(out)
    for number, (pictures, label) in enumerate(zip(rows, labels, strict=True)):
        pen.multiline_text((4, number * height + 2), label, fill="black", font=font)
        for place, picture in enumerate(pictures):
            out.paste(picture, (_LABEL_WIDTH + place * width, number * height))
    return out
