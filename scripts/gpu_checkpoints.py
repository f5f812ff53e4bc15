"""Training checkpoints cut into parts that travel, most wanted first, and made whole again.

A checkpoint becomes three pieces, each in files of a limited size:

    average   averaged networks, condition prior, settings, step: enough to export a model
    weights   the networks in training and their optimisers' settings: enough to start another training from
    moments   the optimisers' running moments: with the others, the training goes on as it was

Matrices travel as float16 (moments as bfloat16), vectors as they are. Adam's first moment is left out where
its decay is 0, since the next step overwrites it.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from speech2image.errors import CheckpointError
from speech2image.files import writing
from speech2image.training.checkpoint import load_checkpoint, save_checkpoint

FORMAT = "speech2image-checkpoint-part-1"
PIECES = ("average", "weights", "moments")
AVERAGED = {"ema", "prior"}
PART_BYTES = 15_000_000
HEADER_BYTES = 1000
"""Room left for a part's first line."""

State = dict[str, Any]


def split(
    checkpoint: Path, out: Path, name: str, part_bytes: int = PART_BYTES, pieces: Sequence[str] = PIECES
) -> list[Path]:
    """Write the parts of a checkpoint.

    Args:
        checkpoint: what a training wrote.
        out: folder for `<name>.<piece>-0-of-2.part` ...
        name: of the run.
        part_bytes: the most a part may take.
        pieces: which to write.

    Returns:
        The parts, most wanted piece first.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    state = load_checkpoint(checkpoint)
    contents = pieces_of(state)
    written = []
    for piece in pieces:
        data = _as_bytes({"kind": state["kind"], "settings": state["settings"], "state": contents[piece]})
        written += _cut(data, out, {"name": name, "piece": piece, "step": state["step"]}, part_bytes)
    return written


def join(parts: Sequence[Path], out: Path) -> list[Path]:
    """Make ordinary checkpoints of parts: `out/<name>/checkpoint.safetensors` for every run among them.

    A run of which only the `average` came gives a checkpoint to export, not to go on training from.

    Raises:
        CheckpointError: a part is missing or damaged, or parts of different steps are mixed.
    """
    runs: dict[str, dict[str, list[tuple[State, bytes]]]] = {}
    for part in parts:
        header, payload = read_part(part)
        runs.setdefault(header["name"], {}).setdefault(header["piece"], []).append((header, payload))
    return [_join_run(name, pieces, out / name / "checkpoint.safetensors") for name, pieces in runs.items()]


def pieces_of(state: State) -> dict[str, State]:
    """A checkpoint's state in three nested dicts of halved tensors; see this module's first lines."""
    optimizers = {key: value for key, value in state.items() if key.endswith("optimizer")}
    networks = {
        key: value for key, value in state.items() if isinstance(value, dict) and key not in optimizers
    }
    networks = {key: value for key, value in networks.items() if key not in {*AVERAGED, "settings"}}
    average = {key: value for key, value in state.items() if key not in {*optimizers, *networks}}
    groups = {key: {"state": {}, "param_groups": value["param_groups"]} for key, value in optimizers.items()}
    moments = {key: _moments(value) for key, value in optimizers.items()}
    return {
        "average": _halved(average, torch.float16),
        "weights": _halved({**networks, **groups}, torch.float16),
        "moments": _halved(moments, torch.bfloat16),
    }


def whole_state(pieces: dict[str, State]) -> State:
    """What `pieces_of` took apart, in float32."""
    if "average" not in pieces:
        raise CheckpointError("the piece 'average' did not come; a checkpoint cannot do without it")
    state: State = {**_widened(pieces["average"]), **_widened(pieces.get("weights", {}))}
    if "weights" in pieces:
        for key, value in _widened(pieces.get("moments", {})).items():
            state[key] = {**state[key], "state": {i: _with_first_moment(m) for i, m in value.items()}}
    return state


def read_part(path: Path) -> tuple[State, bytes]:
    """A part's header and payload.

    Raises:
        CheckpointError: it is absent, something else, or damaged.
    """
    try:
        first, _, payload = path.read_bytes().partition(b"\n")
        header: State = json.loads(first)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no part of a checkpoint ({error})") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no part of a checkpoint ({FORMAT})")
    if hashlib.sha256(payload).hexdigest() != header["sha256"]:
        raise CheckpointError(f"{path} is damaged: its checksum differs from what it states; bring it again")
    return header, payload


def _moments(optimizer: State) -> State:
    """An optimizer's state without first moments that the next step overwrites."""
    memoryless = {
        index
        for group in optimizer["param_groups"]
        for index in group["params"]
        if group.get("betas", [1.0])[0] == 0.0
    }
    return {
        index: {key: value for key, value in moments.items() if key != "exp_avg" or index not in memoryless}
        for index, moments in optimizer["state"].items()
    }


def _with_first_moment(moments: State) -> State:
    if "exp_avg_sq" in moments and "exp_avg" not in moments:
        return {**moments, "exp_avg": torch.zeros_like(moments["exp_avg_sq"])}
    return moments


def _halved(node: Any, dtype: torch.dtype) -> Any:
    """Matrices of floats in 16 bits; those that do not fit into float16 in bfloat16."""
    if isinstance(node, dict):
        return {key: _halved(value, dtype) for key, value in node.items()}
    if isinstance(node, Tensor) and node.is_floating_point() and node.ndim >= 2:
        fits = dtype != torch.float16 or bool(node.abs().max() < torch.finfo(torch.float16).max)
        return node.to(dtype if fits else torch.bfloat16)
    return node


def _widened(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _widened(value) for key, value in node.items()}
    return node.float() if isinstance(node, Tensor) and node.is_floating_point() else node


def _as_bytes(state: State) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "piece.safetensors"
        save_checkpoint(path, state)
        return path.read_bytes()


def _from_bytes(data: bytes) -> State:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "piece.safetensors"
        path.write_bytes(data)
        state: State = load_checkpoint(path)["state"]
        return state


def _cut(data: bytes, out: Path, header: State, part_bytes: int) -> list[Path]:
    room = part_bytes - HEADER_BYTES
    chunks = [data[i : i + room] for i in range(0, len(data), room)]
    paths = []
    for i, chunk in enumerate(chunks):
        path = out / f"{header['name']}.{header['piece']}-{i}-of-{len(chunks)}.part"
        stated = {"format": FORMAT, **header, "index": i, "count": len(chunks)}
        stated["sha256"] = hashlib.sha256(chunk).hexdigest()
        with writing(path) as temporary:
            temporary.write_bytes(json.dumps(stated).encode() + b"\n" + chunk)
        paths.append(path)
    return paths


def _join_run(name: str, pieces: dict[str, list[tuple[State, bytes]]], target: Path) -> Path:
    steps = {header["step"] for parts in pieces.values() for header, _ in parts}
    if len(steps) > 1:
        raise CheckpointError(f"parts of {name} are of different steps: {sorted(steps)}; give those of one")
    contents = {piece: _from_bytes(_in_order(name, piece, parts)) for piece, parts in pieces.items()}
    save_checkpoint(target, whole_state(contents))
    return target


def _in_order(name: str, piece: str, parts: Iterable[tuple[State, bytes]]) -> bytes:
    found = {header["index"]: (header, payload) for header, payload in parts}
    count = next(iter(found.values()))[0]["count"]
    lost = [f"{name}.{piece}-{i}-of-{count}.part" for i in range(count) if i not in found]
    if lost:
        raise CheckpointError(f"missing: {', '.join(lost)}")
    return b"".join(found[i][1] for i in range(count))
