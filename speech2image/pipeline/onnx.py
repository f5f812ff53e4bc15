"""ONNX Runtime, which no other file imports: sessions that check what they open and what they give."""

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import CheckpointError, SettingsError
from speech2image.pipeline.noise import check_whole
from speech2image.pipeline.onnx_check import EXPORTED, Allowed, check_network
from speech2image.pipeline.onnx_eight_bits import has_vnni, with_sign

_FATAL_ONLY = 4
_NUMBERS = ("tensor(float)", "tensor(int64)")
"""What a network may take; it gives the first."""


CPU = "CPUExecutionProvider"
DEVICES = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
"""Device -> the execution provider of ONNX Runtime that runs networks there."""
_PACKAGES = {
    "cuda": "onnxruntime-gpu",
    "openvino": "onnxruntime-openvino",
    "directml": "onnxruntime-directml",
}
"""Device -> the package of ONNX Runtime that has it, which takes the place of `onnxruntime`."""


def execution_providers(device: str | None, providers: Sequence[str] | None = None) -> tuple[str, ...]:
    """Names of the execution providers that a caller chose, the processor's at their end.

    Raises:
        SettingsError: no such device or provider in this installation; or both were given.
    """
    import onnxruntime

    if device is not None and providers is not None:
        raise SettingsError("give device or providers, not both")
    there = onnxruntime.get_available_providers()
    if device is not None:
        if device not in DEVICES:
            raise SettingsError(f"unknown device {device!r}; there are: {', '.join(DEVICES)}")
        providers = [DEVICES[device]]
        if providers[0] not in there:
            package = _PACKAGES.get(device)
            advice = f"; install {package} in place of onnxruntime" if package else ""
            raise SettingsError(f"the installed ONNX Runtime cannot run networks on {device!r}{advice}")
    chosen = tuple(dict.fromkeys(providers or (CPU,)))
    for name in chosen:
        if name not in there:
            raise SettingsError(
                f"the installed ONNX Runtime has no execution provider {name!r:.60}; "
                f"it has: {', '.join(there)}"
            )
    return chosen if CPU in chosen else (*chosen, CPU)


def default_threads() -> int:
    """The processor cores this process may use (less than the machine's where it is confined)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Session:
    """A network in ONNX.

    Threads may call it at the same time; as many runs go on at once as there are cores, the others wait. More
    would be no faster, and each takes memory for its intermediate results, of which ONNX Runtime keeps the
    most there ever were.

    Args:
        model: the bytes of an ONNX file.
        inputs: the names of the inputs it must have, in the order in which arrays are given.
        outputs: the names of outputs it must have; `__call__` returns the first.
        name: what to call it in errors, usually its path.
        threads: threads of one call; by default all cores this process may use.
        allowed: operators it may use.
        providers: execution providers, as `execution_providers` gives them; what the first cannot run, the
            next does.
        optimise: let ONNX Runtime rewrite the network first. That takes longer than opening it, and saves a
            tenth of each run at most: worth it for a generator, not for what runs once a recording.

    Raises:
        CheckpointError: not ONNX, damaged, more than weights and common operators (`onnx_check`), or a
            network with other inputs or outputs.
        SettingsError: fewer than one thread; or the first of the providers does not start here.
    """

    def __init__(
        self,
        model: bytes,
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str,
        threads: int | None = None,
        allowed: Allowed = EXPORTED,
        providers: Sequence[str] = (CPU,),
        optimise: bool = True,
    ) -> None:
        self.name, self.inputs, self.outputs = name, tuple(inputs), tuple(outputs)
        check_network(model, name, allowed)
        self._turns = threading.Semaphore(default_threads())
        if providers[0] == CPU and has_vnni():
            model = with_sign(model)
        self._session = _open(model, name, threads, providers, optimise)
        found = {node.name: node.type for node in self._session.get_inputs()}
        given = {node.name: node.type for node in self._session.get_outputs()}
        if set(found) != set(inputs) or not set(outputs) <= set(given):
            raise CheckpointError(
                f"{name} is not this project's: it takes {sorted(found)} and gives {sorted(given)}, "
                f"where {sorted(inputs)} and {', '.join(map(repr, outputs))} are needed"
            )
        if not set(found.values()) <= set(_NUMBERS) or {given[output] for output in outputs} != {_NUMBERS[0]}:
            raise CheckpointError(
                f"{name} is not this project's: it takes {found} and gives {given}, "
                f"where {' or '.join(_NUMBERS)} and {_NUMBERS[0]} are needed"
            )

    def __call__(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Run the network on arrays, in the order of `inputs`; its first output.

        Raises:
            CheckpointError: the network refuses arrays of this shape, so it is not what its folder says; or
                it gives numbers that are not finite.
        """
        return self._run(self.outputs[:1], inputs)[0]

    def all(self, *inputs: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Run the network; all of `outputs` by name, in their order. Errors as of `__call__`."""
        return dict(zip(self.outputs, self._run(self.outputs, inputs), strict=True))

    def _run(self, outputs: Sequence[str], inputs: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        named = dict(zip(self.inputs, inputs, strict=True))
        try:
            with self._turns:
                found: list[NDArray[np.float32]] = self._session.run(list(outputs), named)
        except Exception as error:
            # Names were checked when it was opened, so a ValueError or TypeError is a mistake of the caller.
            if not type(error).__module__.startswith("onnxruntime") and type(error) is not RuntimeError:
                raise
            raise CheckpointError(f"{self.name} does not run: {_first_line(error)}") from error
        for output, array in zip(outputs, found, strict=True):
            if not isinstance(array, np.ndarray) or array.dtype != np.float32:
                raise CheckpointError(f"{self.name} gives something else than float32 numbers in '{output}'")
            finite = np.isfinite(array)
            if not finite.all():
                raise CheckpointError(
                    f"{self.name} gave {array[~finite][0]} in '{output}': its weights are damaged or the "
                    "training went wrong; take another model"
                )
        return found


def _open(model: bytes, name: str, threads: int | None, providers: Sequence[str], optimise: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = check_whole(
        default_threads() if threads is None else threads, "threads", 1024
    )
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    # One block for all intermediate results, planned from the second run on, comes beside those of the first
    # and gains no time.
    options.enable_mem_pattern = False
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Idle threads that spin slow a busy machine down by several times and gain a lone one little.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Its own format is found by four bytes, which an ONNX file may have too, and is not what was checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        session = onnxruntime.InferenceSession(model, options, providers=list(providers))
    except Exception as error:
        if not _from_onnxruntime(error):
            raise
        raise CheckpointError(
            f"{name} cannot be opened as an ONNX network; it is damaged or something else: "
            f"{_first_line(error)}"
        ) from error
    # ONNX Runtime goes on silently with the rest where a provider's libraries are missing.
    if providers[0] not in session.get_providers():
        raise SettingsError(
            f"ONNX Runtime has {providers[0]} and cannot start it here (its libraries or driver are "
            "missing?); choose another device"
        )
    return session


def _from_onnxruntime(error: Exception) -> bool:
    return type(error).__module__.startswith("onnxruntime") or isinstance(error, RuntimeError | ValueError)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
