"""Model folder: written whole or not at all, networks and `model.json`; networks shared between folders."""

import hashlib
import json
import shutil
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from speech2image import __version__
from speech2image.errors import OutputError, SettingsError
from speech2image.files import check_writable, writing
from speech2image.pipeline.card import Card
from speech2image.pipeline.readme import README, readme
from speech2image.pipeline.registry import (
    CARD,
    MODELS_FOLDER,
    RECOGNIZER_CARD,
    Model,
    check_model_card,
    read_card,
)
from speech2image.pipeline.routes import ROUTES

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
    card: Card,
    recognizer: Path | None = None,
    shared: dict[str, Card] | None = None,
) -> None:
    """Write a model folder: networks, `model.json` and, if given, a copy of a recognizer's folder.

    `shared` says what `model.json` shall state of networks that lie in another model's folder.

    Raises:
        CheckpointError: the card could not be read again, for instance for a name of several lines.
        OutputError: the folder cannot be written.
    """
    files = {
        network: {"file": f"{network}.onnx", **describe_content(content), **describe_arrays(content)}
        for network, content in contents.items()
    } | (shared or {})
    made_by = f"speech2image {__version__}"
    whole = {"format": ROUTES[card.get("route", "direct")].format, **card, "files": files, "made_by": made_by}
    check_model_card(whole, folder / CARD)
    with writing(folder) as temporary:
        temporary.mkdir()
        for network, content in contents.items():
            (temporary / f"{network}.onnx").write_bytes(content)
        if recognizer is not None:
            (temporary / card["recognizer"]).mkdir()
            for path in (recognizer / RECOGNIZER_CARD, *recognizer.glob("*.onnx")):
                shutil.copy(path, temporary / card["recognizer"])
        (temporary / README).write_text(readme(whole), encoding="utf-8")
        (temporary / CARD).write_text(
            json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def write_again(
    model: Model,
    contents: dict[str, bytes],
    shared: dict[str, Card],
    changes: Mapping[str, Any] | None = None,
) -> None:
    """`write_folder` for a model that is there: all else that its card says stays, and a recognizer inside.

    Raises:
        CheckpointError, OutputError: as `write_folder`.
    """
    card = {key: value for key, value in model.card.items() if key not in ("format", "files", "made_by")}
    recognizer = model.folder / str(card.get("recognizer", ""))
    inside = recognizer if recognizer != model.folder and recognizer.is_dir() else None
    write_folder(model.folder, contents, {**card, **(changes or {})}, inside, shared)


def own_contents(model: Model) -> dict[str, bytes]:
    """The networks of a model that lie in its own folder."""
    return {name: model.read(name) for name in model.networks if name not in model.shared}


def add_network(
    model: Model,
    network: str,
    content: bytes,
    parity: Mapping[str, float],
    max_bytes: int = MAX_BYTES,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Give a model a network, or another one in its place; its other networks stay as they are.

    Args:
        model: whose folder changes.
        network: its name, one of `routes.OPTIONAL`.
        content: the network in ONNX.
        parity: differences from torch that the card shall state.
        max_bytes: the most it may take.
        changes: what else the card shall state.

    Raises:
        CheckpointError, SettingsError, OutputError: as `write_folder` and `check_size`.
    """
    contents = own_contents(model)
    check_size({network: content}, max_bytes)
    shared = {name: entry for name, entry in model.shared.items() if name != network}
    told = {"parity": {**model.card.get("parity", {}), **parity}, **(changes or {})}
    write_again(model, contents | {network: content}, shared, told)


def shared_networks(lender: Model, folder: Path, networks: Sequence[str]) -> dict[str, Card]:
    """What `model.json` in `folder` says of networks that stay in the lender's folder; those it has of them.

    Raises:
        SettingsError: the lender lies neither beside `folder` nor among the shipped models, is the model to
            be written, or borrows one of the networks itself.
    """
    home, own = lender.folder.resolve(), folder.resolve()
    found = [network for network in lender.networks if network in networks]
    beside = home.parent in (own.parent, MODELS_FOLDER.resolve()) and home != own
    if not beside or any(network in lender.shared for network in found):
        raise SettingsError(
            f"the generator of {home} can be shared by models beside it, if it is its own and not one it "
            f"shares itself; {folder} lies elsewhere, or is that model"
        )
    return {network: lender.card["files"][network] | {"of": home.name} for network in found}


def share_networks(model: Model, lenders: Sequence[Model], **changes: Any) -> dict[str, str]:
    """Keep networks that two models have in common, byte for byte, in one folder: that of a lender.

    A lender that borrows from `model` takes what it borrows into its own folder first, so that the two change
    places. No network is changed.

    Args:
        model: whose folder is written again without what a lender has, too.
        lenders: models beside it, or shipped ones; the first that has a network lends it.
        **changes: what its card shall say otherwise: name, description ...

    Returns:
        Network -> name of the folder it lies in, for all networks of `model` that lie elsewhere now.

    Raises:
        SettingsError: a lender lies elsewhere, or is the model itself; or a third model beside it borrows
            what would leave its folder.
        CheckpointError: a file is damaged.
        OutputError: a folder cannot be written.
    """
    home, shared = model.folder.resolve().name, dict(model.shared)
    for lender in lenders:
        shared_networks(lender, model.folder, ())
        taken = {network for network, entry in lender.shared.items() if entry["of"] == home}
        if taken:
            others = {network: entry for network, entry in lender.shared.items() if network not in taken}
            contents = {network: lender.read(network) for network in lender.networks if network not in others}
            write_again(lender, contents, others)
    for lender in (read_card(lender.folder) for lender in reversed(lenders)):  # the first counts
        same = [
            network
            for network in lender.networks
            if network in model.networks
            and network not in lender.shared
            and lender.sha256[network] == model.sha256[network]
        ]
        for network in same:
            lender.read(network)  # whole, before another copy of it goes
        shared |= shared_networks(lender, model.folder, same)
    contents = {network: model.read(network) for network in model.networks if network not in shared}
    _check_borrowers(model, shared)
    write_again(model, contents, shared, changes)
    return {network: entry["of"] for network, entry in shared.items()}


def _check_borrowers(model: Model, leaving: Container[str]) -> None:
    """Refuse to take away what a third model draws with."""
    home = model.folder.resolve()
    for path in sorted(home.parent.glob(f"*/{CARD}")):
        other = read_card(path.parent)
        for network, entry in other.shared.items():
            if network in leaving and entry["of"] == home.name:
                raise SettingsError(
                    f"'{other.name}' borrows the {network} of '{model.name}' in {home}, which would no "
                    f"longer have it; let {path.parent} share with the lender first"
                )


def describe_arrays(content: bytes) -> dict[str, list[str]]:
    """What a card says of a network's inputs and outputs: their names, in order."""
    graph = onnx.load_from_string(content).graph
    return {"inputs": [one.name for one in graph.input], "outputs": [one.name for one in graph.output]}


def describe_content(content: bytes) -> Card:
    """What a card says of a file, so that damage is found: its length and checksum."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
