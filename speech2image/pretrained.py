"""Trained models: a name or a path -> the model folder, its checksums, its licence; `load` opens it.

A model folder holds `model.json` (written by `export.py`), `speech_encoder.onnx` and `generator.onnx`.
The shipped ones lie in `pretrained_models/<name>/` inside this package.
"""

import difflib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speech2image.errors import CheckpointError

if TYPE_CHECKING:
    from speech2image.pipeline import DirectRoute

MODELS_FOLDER = Path(__file__).parent / "pretrained_models"
CARD = "model.json"
FORMAT = "speech2image direct route 1"
NETWORKS = ("speech_encoder", "generator")
DEFAULT_MODEL = "flowers"


@dataclass(frozen=True)
class Model:
    """A model folder whose `model.json` was read and found whole; its networks are not read yet.

    Attributes:
        name: the model's name.
        folder: where it lies.
        card: everything `model.json` says: licence, sizes, measures, checksums, what it was trained on.
    """

    name: str
    folder: Path
    card: dict[str, Any]

    def path(self, network: str) -> Path:
        """The file of `network` ("speech_encoder" or "generator")."""
        return self.folder / self.card["files"][network]["file"]

    def read(self, network: str) -> bytes:
        """Read the file of `network` and compare its SHA-256 with the stated one, where one is stated.

        Raises:
            CheckpointError: the file is missing, unreadable, or not the one that was published.
        """
        path, stated = self.path(network), self.card["files"][network].get("sha256")
        content = _read(path)
        found = hashlib.sha256(content).hexdigest()
        if stated is not None and found != stated:
            raise CheckpointError(
                f"{path} is damaged or was replaced: its SHA-256 is {found[:12]}..., {CARD} states "
                f"{str(stated)[:12]}...; install the package or fetch the model again"
            )
        return content

    @property
    def sha256(self) -> dict[str, str | None]:
        """The stated checksum of each network."""
        return {network: self.card["files"][network].get("sha256") for network in NETWORKS}

    @property
    def size(self) -> int:
        """Bytes of the networks on disk."""
        return sum(self.path(network).stat().st_size for network in NETWORKS)


def available_models() -> list[str]:
    """The names of the models that came with this installation, in alphabetical order."""
    return sorted(card.parent.name for card in MODELS_FOLDER.glob(f"*/{CARD}"))


def find(name_or_path: str | os.PathLike[str]) -> Model:
    """Find a model by the name of a shipped one, by its folder, or by a file in its folder.

    Raises:
        CheckpointError: no such model (the message lists the names there are), or its `model.json` is
            missing, damaged or something else.
    """
    wanted = os.fspath(name_or_path)
    if wanted in available_models():
        return read_card(MODELS_FOLDER / wanted)
    path = Path(wanted)
    if path.is_dir():
        return read_card(path)
    if path.suffix == ".onnx" or path.name == CARD:
        if path.is_file():
            return read_card(path.parent)
        raise CheckpointError(f"there is no file {path}")
    if path.is_file():
        raise CheckpointError(
            f"{path} is not a model folder with {CARD}; "
            "speech2image export makes one from training checkpoints"
        )
    raise CheckpointError(_unknown(wanted))


def _unknown(wanted: str) -> str:
    names = available_models()
    close = difflib.get_close_matches(wanted.lower(), names, n=1, cutoff=0.5)
    guess = f"did you mean '{close[0]}'? " if close else ""
    shipped = ", ".join(names) or "none"
    return f"unknown model '{wanted}', and no folder of that name; {guess}shipped models: {shipped}"


def read_card(folder: Path) -> Model:
    """Read and check `model.json` of a model folder.

    Raises:
        CheckpointError: it is missing, not JSON, of another format, or names files outside its folder.
    """
    path = folder / CARD
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is not a model folder: it has no {CARD} (speech2image export writes one)"
        )
    try:
        card = json.loads(_read(path))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: it is not JSON ({error})") from error
    found = card.get("format") if isinstance(card, dict) else None
    if found != FORMAT:
        raise CheckpointError(f"{path} is of the format {found!r}, this version reads {FORMAT!r}")
    _check_card(card, path)
    return Model(str(card.get("name") or folder.name), folder, card)


def _check_card(card: dict[str, Any], path: Path) -> None:
    files = card.get("files")
    for network in NETWORKS:
        entry = files.get(network) if isinstance(files, dict) else None
        file = entry.get("file") if isinstance(entry, dict) else None
        if not isinstance(file, str) or Path(file).name != file:
            raise CheckpointError(f"{path} is damaged: it does not name the file of '{network}'")
    for key in ("noise_size", "picture_size", "embedding_size"):
        if not isinstance(card.get(key), int) or card[key] < 1:
            raise CheckpointError(
                f"{path} is damaged: '{key}' is {card.get(key)!r}, not a whole number from 1"
            )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing from its model folder") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def load(
    name_or_path: str | os.PathLike[str] = DEFAULT_MODEL, *, threads: int | None = None
) -> "DirectRoute":
    """Open a model and make it ready to turn speech into pictures.

    Args:
        name_or_path: the name of a shipped model (`available_models()`), a model folder, or a file in one.
        threads: processor threads to use; by default all this process may use.

    Raises:
        CheckpointError: no such model, or its files are damaged or something else.
        SettingsError: `threads` is not a whole number from 1.
    """
    from speech2image.pipeline import DirectRoute
    from speech2image.runtime import Session

    model = find(name_or_path)
    encoder, generator = (model.read(network) for network in NETWORKS)
    encoder_name, generator_name = (str(model.path(network)) for network in NETWORKS)
    return DirectRoute(
        model,
        Session(encoder, ("log_mel", "n_frames"), "speech_embedding", encoder_name, threads),
        Session(generator, ("condition", "noise"), "picture", generator_name, threads),
    )
