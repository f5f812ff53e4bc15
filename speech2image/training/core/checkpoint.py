"""Checkpoints as one safetensors file: weights, optimiser state and settings, without pickle.

A state is a nested dict (or list) whose leaves are tensors or JSON values. Tensors go into the body, under
`/`-joined names; everything else goes, as JSON, into the header. Loading executes nothing. The header states
checksums of the state and of the tensors; checkpoints from before these are read without.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from speech2image.errors import CheckpointError, OutputError, Speech2ImageError
from speech2image.files import writing

State = dict[str, Any]
"""A training's state, or a part of it: nested dicts and lists of tensors and JSON values."""

FORMAT = "speech2image-checkpoint-1"
_TENSOR = "__tensor__"
_DAMAGE = (SafetensorError, OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError)
"""Errors that reading a damaged or hand-made file may raise."""


def save_checkpoint(path: str | os.PathLike[str], state: State) -> None:
    """Write `state` to `path` atomically.

    Args:
        path: file to write, usually `*.safetensors`.
        state: nested dicts and lists of tensors and JSON values; must hold `kind` (str) and `settings`
            (dict).

    Raises:
        OutputError: the file cannot be written, or does not fit on the disk.
    """
    assert isinstance(state["kind"], str) and isinstance(state["settings"], dict)
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_split(state, "", tensors))
    checksums = {"state_sha256": _text_digest(text), "tensors_sha256": _tensors_digest(tensors)}
    try:
        with writing(path) as temporary:
            save_file(tensors, temporary, metadata={"format": FORMAT, "state": text, **checksums})
    except SafetensorError as error:  # its kind for a full disk, too
        raise OutputError(f"cannot write {path}: {error}; make room or choose another disk") from error


def load_checkpoint(path: str | os.PathLike[str], *kinds: str) -> State:
    """Read what `save_checkpoint` wrote; tensors arrive on the CPU.

    Args:
        path: file to read.
        kinds: those that are taken; none takes every kind.

    Raises:
        CheckpointError: no such file; not a safetensors file, cut short or damaged; written by something
            else; or of another kind than `kinds`.
    """
    state = _read(Path(path), _tensors)
    taken = {*kinds, *(OLD_KINDS[kind] for kind in kinds if kind in OLD_KINDS)}
    if kinds and state["kind"] not in taken:
        needed = " or a ".join(f"'{kind}'" for kind in kinds)
        raise CheckpointError(f"{path} holds a '{state['kind']}', need a {needed}")
    return state


def read_facts(path: str | os.PathLike[str]) -> State:
    """A checkpoint without its tensors (None in their places): kind, settings, step, seconds.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    return _read(Path(path), lambda file, metadata: dict.fromkeys(file.keys()))


def _read(path: Path, tensors_of: Callable[[Any, dict[str, str]], State]) -> State:
    if not os.path.isfile(path):  # Path.is_file raises an error for names that are too long
        raise CheckpointError(f"no checkpoint at {path}; give the .safetensors file a training wrote")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path} is a safetensors file, but not a checkpoint of speech2image ({FORMAT}); "
                    "give a file that `speech2image train` wrote"
                )
            _check(metadata, "state_sha256", _text_digest(metadata["state"]))
            return check_facts(_join(json.loads(metadata["state"]), tensors_of(file, metadata)), path)
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise CheckpointError(f"{path} is damaged or not a safetensors file ({error})") from error


def stored_settings(state: State, name: str) -> State:
    """The settings that a checkpoint keeps under `name`, with tuples where JSON knows lists alone."""
    stored: State = state["settings"][name]
    return {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}


def averaged_weights(state: State) -> dict[str, torch.Tensor]:
    """Weights of the averaged network in a checkpoint (`ema.Ema`): those that are used and exported."""
    weights: dict[str, torch.Tensor] = state["ema"]["module"]
    return weights


def _split(node: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Move tensors out of `node` into `tensors`, leaving JSON with references."""
    if isinstance(node, torch.Tensor):
        # clone: safetensors refuses tensors that share memory
        tensors[name] = node.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(node, dict):
        keys = [["i", key] if isinstance(key, int) else ["s", key] for key in node]
        values = [_split(value, f"{name}/{key}", tensors) for key, value in node.items()]
        return {"keys": keys, "values": values}
    if isinstance(node, (list, tuple)):
        return [_split(value, f"{name}/{i}", tensors) for i, value in enumerate(node)]
    return node


def _tensors(file: Any, metadata: dict[str, str]) -> dict[str, torch.Tensor]:
    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if "tensors_sha256" in metadata:
        _check(metadata, "tensors_sha256", _tensors_digest(tensors))
    return tensors


def _check(metadata: dict[str, str], name: str, digest: str) -> None:
    if metadata.get(name, digest) != digest:
        raise SafetensorError(f"{name} is not what it was when the file was written")


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _tensors_digest(tensors: dict[str, torch.Tensor]) -> str:
    """Digest of names, kinds, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _join(node: Any, tensors: State) -> Any:
    if isinstance(node, dict):
        if _TENSOR in node:
            return tensors[node[_TENSOR]]
        return {
            key: _join(value, tensors) for (_, key), value in zip(node["keys"], node["values"], strict=True)
        }
    if isinstance(node, list):
        return [_join(value, tensors) for value in node]
    return node


_STUMBLES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)


OLD_SETTINGS = {
    "told": "n_predicted",
    "borrowed": "residual_blend",
}
"""Setting in checkpoints of version 0.1, at any depth -> its name now."""

OLD_KINDS = {"classifier": "speech_encoder"}
"""Kind of checkpoint -> the kind that version 0.1 stated in its place."""


def check_facts(state: object, path: str | os.PathLike[str]) -> State:
    """The state, once what every checkpoint states is of its kind; its settings by their present names.

    Raises:
        CheckpointError: it is no dict, or its kind, settings, steps or seconds are something else.
    """
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not the state of a training")
    step, seconds = state.get("step", 0), state.get("seconds", 0.0)
    allowed = {
        "kind": isinstance(state.get("kind"), str),
        "settings": isinstance(state.get("settings"), dict),
        "step": isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 2**63,
        "seconds": isinstance(seconds, int | float) and math.isfinite(seconds) and seconds >= 0,
    }
    wrong = [key for key, right in allowed.items() if not right]
    if wrong:
        found = ", ".join(f"'{key}' is {state.get(key)!r:.60}" for key in wrong)
        raise CheckpointError(
            f"{path} is damaged: {found}; needed are a name, a table, whole steps from 0 and seconds from 0"
        )
    return {**state, "settings": _renamed(state["settings"])}


def _renamed(settings: Any) -> Any:
    """Settings with present names in place of old ones."""
    if isinstance(settings, dict):
        return {OLD_SETTINGS.get(name, name): _renamed(value) for name, value in settings.items()}
    return settings


@contextmanager
def building_from(path: str | os.PathLike[str] | str) -> Iterator[None]:
    """While a network is built from a checkpoint: whatever its content makes fail is one `CheckpointError`.

    Args:
        path: of the checkpoint, for the message.
    """
    try:
        yield
    except Speech2ImageError:
        raise
    except _STUMBLES as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path} does not hold what its kind of training keeps ({type(error).__name__}: {reason}); "
            "it is damaged or of another version"
        ) from error


def load_optimizer(optimizer: torch.optim.Optimizer, state: State) -> None:
    """Restore an optimiser; its moments must be of its weights' shapes, which it would find out a step later.

    Raises:
        ValueError: a moment is of another shape; else as torch.
    """
    optimizer.load_state_dict(state)
    for weight, moments in optimizer.state.items():
        for name, value in moments.items():
            if not isinstance(value, torch.Tensor) or (value.ndim and value.shape != weight.shape):
                raise ValueError(f"the optimiser's {name} does not fit its weight")
