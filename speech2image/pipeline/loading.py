"""Loading: opens a trained model; its networks become a route that turns speech into pictures."""

import importlib
import os
import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack, overload

from speech2image.errors import SettingsError
from speech2image.pipeline.registry import DEFAULT_MODEL, Model, find, find_route
from speech2image.pipeline.routes import DETECTOR, GENERATOR, PRIOR, ROUTES

if TYPE_CHECKING:
    from speech2image.asr.backends import AsrBackend
    from speech2image.audio.vad import VoiceActivityDetector
    from speech2image.pipeline.base import Route
    from speech2image.pipeline.cascade import CascadeRoute
    from speech2image.pipeline.direct import DirectRoute


class Options(TypedDict, total=False):
    """Keywords of `load` beside `route`; it explains them."""

    recognizer: "str | AsrBackend"
    threads: int | None
    vad: bool
    words: bool
    device: str | None
    providers: Sequence[str] | None
    detect_speech: bool | None


@overload
def load(
    name_or_path: str | os.PathLike[str] = ..., *, route: Literal["direct"], **options: Unpack[Options]
) -> "DirectRoute": ...
@overload
def load(
    name_or_path: str | os.PathLike[str] = ..., *, route: Literal["cascade"], **options: Unpack[Options]
) -> "CascadeRoute": ...
@overload
def load(
    name_or_path: str | os.PathLike[str] = ..., *, route: str | None = None, **options: Unpack[Options]
) -> "Route": ...
def load(
    name_or_path: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    route: str | None = None,
    recognizer: "str | AsrBackend" = "own",
    threads: int | None = None,
    vad: bool = True,
    words: bool = True,
    device: str | None = None,
    providers: Sequence[str] | None = None,
    detect_speech: bool | None = None,
) -> "Route":
    """Open a model and make it ready to turn speech into pictures.

    Args:
        name_or_path: the name of a shipped model (`available_models()`), a model folder, or a file in one.
        route: "direct" or "cascade", to take the model of that route which belongs to the one named
            (`find_route`); by default the model's own.
        recognizer: what writes down speech in a cascade: "own", the model's; "own:FOLDER", one that
            speech2image exported; "whisper:NAME"; "pocketsphinx"; or any `asr.backends.AsrBackend`.
        threads: processor threads to use; by default all this process may use.
        vad: refuse recordings without speech, if the model has a speech detector, and in a cascade
            those of which no word is written down.
        words: tell the words heard as well as the model can, where no picture depends on them (direct route):
            some 40 ms a recording; without, those that its encoder tells by the way, if any.
        device: where encoder, condition prior and generator run: "cpu" (the default), "cuda", "openvino",
            "coreml", "directml" or "rocm", as far as the installed ONNX Runtime has it. A recognizer, the
            decoder of the words and the speech detector stay on the processor, and so does what the device
            cannot run. Pictures may differ in the last bits from one device to another.
        providers: the same as names of ONNX Runtime's execution providers, the first that can runs a network.
        detect_speech: old name of `vad`, until version 0.3.

    Raises:
        CheckpointError: no such model, it has no such route, or its files are damaged or something else.
        SettingsError: `threads` is not a whole number from 1; there is no such recognizer or route; a
            recognizer is given to a model that goes without text; the device is not there, or given twice.
        MissingExtraError: the recognizer's package is not installed.
    """
    if detect_speech is not None:
        warnings.warn(
            "load(detect_speech=...) is called vad since version 0.2; the old name goes with 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        vad = detect_speech
    from speech2image.pipeline.base import Parts
    from speech2image.pipeline.networks import open_network
    from speech2image.pipeline.onnx import execution_providers

    model = find(name_or_path) if route is None else find_route(name_or_path, route)
    kind = ROUTES[model.route]
    chosen = execution_providers(device, providers)
    if not kind.text and recognizer != "own":
        raise SettingsError(f"model '{model.name}' goes without text, so it needs no speech recognizer")
    # Everything is read and checked before the route opens more, such as a recognizer.
    parts = Parts(
        model,
        encoder=open_network(model, kind.encoder, threads, chosen, optimise=False) if kind.encoder else None,
        generator=open_network(model, GENERATOR, threads, chosen),
        prior=open_network(model, PRIOR, threads, chosen) if PRIOR in model.networks else None,
        vad=open_vad(model) if vad else None,
        threads=threads,
        recognizer=recognizer,
        strict=vad,
        words=words,
    )
    opened: Route = importlib.import_module(kind.module).open_route(parts)
    opened._reopen = partial(
        load,
        model.folder.resolve(),
        recognizer=recognizer,
        threads=threads,
        vad=vad,
        words=words,
        providers=chosen,
    )
    return opened


def open_vad(model: Model) -> "VoiceActivityDetector | None":
    """The speech detector of a model, None if it has none.

    Raises:
        CheckpointError: its file is damaged or something else.
    """
    from speech2image.audio.vad import VoiceActivityDetector
    from speech2image.pipeline.networks import open_network

    if DETECTOR not in model.networks:
        return None
    # So small a network is fastest on one thread.
    return VoiceActivityDetector(open_network(model, DETECTOR, threads=1))
