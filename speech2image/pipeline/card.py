"""Model card: reads and checks what strangers wrote into a model folder, `model.json` and networks' bytes."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speech2image.errors import CheckpointError, printable
from speech2image.files import is_one_line, is_plain_name, parse_json, read_file

Card = dict[str, Any]
"""What `model.json` or `recognizer.json` holds."""
MAX_CARD_BYTES = 4_000_000
MAX_NETWORK_BYTES = 1_000_000_000
MAX_SIZE = 16_384
"""The longest noise or embedding, and the most pixels of a picture's side, that a card may state."""
MAX_NAME = 200
MAX_ARRAYS = 16
"""The most inputs or outputs a network may have."""
MAX_PIECES = 65_536
"""The most pieces of text a recognizer's card may list."""

_CHECKSUM = re.compile("[0-9a-f]{64}")


def read_content(path: Path, most: int = MAX_NETWORK_BYTES) -> bytes:
    """The bytes of a file of a model folder.

    Raises:
        CheckpointError: it is missing, unreadable, no regular file (a device, a pipe), or too large.
    """
    try:
        return read_file(path, most)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing from its model folder") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def read_json_card(path: Path) -> Card:
    """What a card holds; `{}` for JSON that is no object, which no format is.

    Raises:
        CheckpointError: as `read_content`, or it is not JSON, or nested too deeply, or holds what cannot be
            written again (see `files.parse_json`).
    """
    content = read_content(path, MAX_CARD_BYTES)
    try:
        card = parse_json(content)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: it is not JSON ({error})") from error
    return card if isinstance(card, dict) else {}


def check_card(card: Card, path: Path, networks: Sequence[str], sizes: Sequence[str]) -> None:
    """Check what a model's card says of its files and sizes.

    Args:
        card: the card.
        path: where it lies, for messages.
        networks: whose files it must name.
        sizes: keys of whole numbers it must state.

    Raises:
        CheckpointError: a file lies elsewhere or is without checksum; a size or a name is out of range.
    """
    files = card.get("files")
    for network in networks:
        check_file(files.get(network) if isinstance(files, dict) else None, network, path)
    for key in sizes:
        value = card.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SIZE:
            raise CheckpointError(
                f"{path} is damaged: '{key}' is {value!r}, not a whole number from 1 to {MAX_SIZE}"
            )
    if "recognizer" in card and not is_plain_name(card["recognizer"]):
        raise CheckpointError(
            f"{path} is damaged: 'recognizer' is {card['recognizer']!r}, not the name of a folder"
        )
    if not isinstance(card.get("parity", {}), dict):
        raise CheckpointError(f"{path} is damaged: 'parity' is {card['parity']!r}, not a table of figures")


def check_file(entry: object, network: str, path: Path) -> None:
    """Check what a card says of one network: its file in this folder, its checksum, whose folder it is in.

    Raises:
        CheckpointError: one of them is missing or something else.
    """
    entry = entry if isinstance(entry, dict) else {}
    if not is_plain_name(entry.get("file")):
        raise CheckpointError(f"{path} is damaged: it does not name the file of '{network}'")
    if "of" in entry and not is_plain_name(entry["of"]):
        raise CheckpointError(
            f"{path} is damaged: '{network}' is of {entry['of']!r}, not the name of a folder"
        )
    if not is_checksum(entry.get("sha256")):
        raise CheckpointError(
            f"{path} does not state the SHA-256 of '{network}', so a damaged or exchanged file could not be "
            "told; speech2image export states it"
        )
    if "inputs" in entry or "outputs" in entry:
        for key in ("inputs", "outputs"):
            if not _are_names(entry.get(key)):
                raise CheckpointError(
                    f"{path} is damaged: '{key}' of '{network}' is no list of 1 to {MAX_ARRAYS} different "
                    "names"
                )


def _are_names(names: object) -> bool:
    return (
        isinstance(names, list)
        and 1 <= len(names) <= MAX_ARRAYS
        and all(isinstance(name, str) and 1 <= len(name) <= MAX_NAME and is_one_line(name) for name in names)
        and len(set(names)) == len(names)
    )


def check_recognizer_card(card: Card, path: Path, files: Sequence[str]) -> None:
    """Check a recognizer's card: checksums of its files, pieces of text fit to be printed.

    Raises:
        CheckpointError: one of them is missing or something else.
    """
    stated, pieces = card.get("files"), card.get("pieces")
    for name in files:
        entry = stated.get(name) if isinstance(stated, dict) else None
        if not isinstance(entry, dict) or not is_checksum(entry.get("sha256")):
            raise CheckpointError(f"{path} is damaged: it does not state the SHA-256 of {name}")
    if not isinstance(pieces, list) or not 1 <= len(pieces) <= MAX_PIECES or not all(map(_is_piece, pieces)):
        raise CheckpointError(
            f"{path} is damaged: 'pieces' is no list of 1 to {MAX_PIECES} short texts without control "
            "characters"
        )


def _is_piece(piece: object) -> bool:
    return isinstance(piece, str) and 1 <= len(piece) <= MAX_NAME and is_one_line(piece)


def is_checksum(value: object) -> bool:
    """Whether this is a SHA-256 as cards state it, 64 hexadecimal digits."""
    return isinstance(value, str) and _CHECKSUM.fullmatch(value) is not None


def name_of(card: Card, path: Path) -> str:
    """The model's name, or its folder's where the card states none.

    It is printed, sent in headers and written into files, so it is one line without control characters; of
    any script.

    Raises:
        CheckpointError: the name is something else.
    """
    name = card.get("name") or printable(path.resolve().parent.name)
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME or not is_one_line(name):
        raise CheckpointError(
            f"{path} is damaged: its name is {str(name)[:60]!r}, not one line of at most {MAX_NAME} "
            "characters without control characters"
        )
    return name
