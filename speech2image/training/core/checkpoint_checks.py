"""Checks of what a checkpoint says, so that a damaged or hand-made one ends in one clear error."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from speech2image.errors import CheckpointError, Speech2ImageError

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


def check_facts(state: Any, path: str | os.PathLike[str]) -> dict[str, Any]:
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


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore an optimiser; its moments must be of its weights' shapes, which it would find out a step later.

    Raises:
        ValueError: a moment is of another shape; else as torch.
    """
    optimizer.load_state_dict(state)
    for weight, moments in optimizer.state.items():
        for name, value in moments.items():
            if not isinstance(value, torch.Tensor) or (value.ndim and value.shape != weight.shape):
                raise ValueError(f"the optimiser's {name} does not fit its weight")
