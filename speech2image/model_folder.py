"""Writing a model folder: networks and `model.json`, whole or not at all."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from speech2image import __version__
from speech2image.errors import OutputError, SettingsError
from speech2image.files import check_writable, writing
from speech2image.pretrained import CARD, FORMATS, RECOGNIZER_CARD, check_model_card

MAX_BYTES = 25_000_000


def check_size(contents: dict[str, bytes], max_bytes: int) -> None:
    """Refuse networks of which one takes more than `max_bytes`."""
    if max(map(len, contents.values())) > max_bytes:
        each = ", ".join(f"{network} {len(content) / 1e6:.2f} MB" for network, content in contents.items())
        raise SettingsError(
            f"a network is too large ({each}), at most {max_bytes / 1e6:.2f} MB is allowed for each; "
            "train narrower networks or allow more; nothing was written"
        )


def check_folder(folder: Path) -> None:
    """Never replace a folder that holds something else than a model."""
    check_writable(folder)
    if folder.exists() and not (folder.is_dir() and ((folder / CARD).is_file() or not any(folder.iterdir()))):
        raise OutputError(f"{folder} exists and is not a model folder; choose a new folder")


def write_folder(
    folder: Path,
    contents: dict[str, bytes],
    card: dict[str, Any],
    recognizer: Path | None = None,
    borrowed: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Write a model folder: networks, `model.json` and, if given, a copy of a recogniser's folder.

    `borrowed` says what `model.json` shall state of networks that lie in another model's folder.

    Raises:
        CheckpointError: the card could not be read again, for instance for a name of several lines.
        OutputError: the folder cannot be written.
    """
    files = {
        network: {"file": f"{network}.onnx", **told_content(content)} for network, content in contents.items()
    } | (borrowed or {})
    made_by = f"speech2image {__version__}"
    whole = {"format": FORMATS[card.get("route", "direct")], **card, "files": files, "made_by": made_by}
    check_model_card(whole, folder / CARD)
    with writing(folder) as temporary:
        temporary.mkdir()
        for network, content in contents.items():
            (temporary / f"{network}.onnx").write_bytes(content)
        if recognizer is not None:
            (temporary / card["recognizer"]).mkdir()
            for path in (recognizer / RECOGNIZER_CARD, *recognizer.glob("*.onnx")):
                shutil.copy(path, temporary / card["recognizer"])
        (temporary / CARD).write_text(
            json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def told_content(content: bytes) -> dict[str, Any]:
    """What a card says of a file, so that damage is found: its length and checksum."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
