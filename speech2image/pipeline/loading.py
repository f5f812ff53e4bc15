"""Opens a trained model: its networks become a route that turns speech into pictures."""

import os
import warnings
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from speech2image.errors import SettingsError
from speech2image.pipeline.registry import (
    CASCADE,
    DEFAULT_MODEL,
    DETECTOR,
    PRIOR,
    SIGNATURES,
    Model,
    find,
    find_route,
    needed_networks,
)

if TYPE_CHECKING:
    from speech2image.asr.backends import AsrBackend
    from speech2image.audio.vad import VoiceActivityDetector
    from speech2image.pipeline.base import Route
    from speech2image.pipeline.onnx import Session

_SHARED: "WeakValueDictionary[tuple[str, int | None], Session]" = WeakValueDictionary()
"""Open generators and condition priors by checksum and threads, as long as a route uses them."""


def load(
    name_or_path: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    route: str | None = None,
    recognizer: "str | AsrBackend" = "own",
    threads: int | None = None,
    vad: bool = True,
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
        detect_speech: old name of `vad`, until version 0.3.

    Raises:
        CheckpointError: no such model, it has no such route, or its files are damaged or something else.
        SettingsError: `threads` is not a whole number from 1; there is no such recognizer or route; a
            recognizer is given to a model that goes without text.
        MissingExtraError: the recognizer's package is not installed.
    """
    if detect_speech is not None:
        warnings.warn(
            "load(detect_speech=...) is called vad since version 0.2; the old name goes with 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        vad = detect_speech
    from speech2image.pipeline.base import DirectRoute
    from speech2image.pipeline.onnx import Session

    model = find(name_or_path) if route is None else find_route(name_or_path, route)
    if model.route != CASCADE and recognizer != "own":
        raise SettingsError(f"model '{model.name}' goes without text, so it needs no speech recognizer")
    own, _ = needed_networks(model.route)
    encoder, encoder_name = model.read(own), str(model.path(own))
    generator = _shared(model, "generator", threads)
    prior = _shared(model, PRIOR, threads) if PRIOR in model.networks else None
    detector = open_vad(model) if vad else None
    if model.route != CASCADE:
        heard = Session(encoder, *SIGNATURES[own], encoder_name, threads)
        return DirectRoute(model, heard, generator, detector, prior)

    from speech2image.asr.backends import open_recognizer
    from speech2image.pipeline.cascade import CascadeRoute

    read = Session(encoder, *SIGNATURES[own], encoder_name, threads)
    asr: AsrBackend | None
    if isinstance(recognizer, str):
        asr = open_recognizer(recognizer, model.recognizer if recognizer == "own" else None, threads)
    else:
        asr = recognizer
    return CascadeRoute(model, asr, read, generator, detector, prior, require_words=vad)


def _shared(model: Model, network: str, threads: int | None) -> "Session":
    """The session of a model's generator or condition prior; one open already, where two models share it."""
    from speech2image.pipeline.onnx import Session

    content = model.read(network)
    key = model.card["files"][network]["sha256"], threads  # read has compared it
    session = _SHARED.get(key)
    if session is None:
        name = str(model.path(network))
        session = _SHARED[key] = Session(content, *SIGNATURES[network], name, threads)
    return session


def open_vad(model: Model) -> "VoiceActivityDetector | None":
    """The speech detector of a model, None if it has none.

    Raises:
        CheckpointError: its file is damaged or something else.
    """
    from speech2image.audio.vad import VoiceActivityDetector
    from speech2image.pipeline.onnx import Session

    if DETECTOR not in model.networks:
        return None
    name = str(model.path(DETECTOR))
    # So small a network is fastest on one thread.
    return VoiceActivityDetector(Session(model.read(DETECTOR), *SIGNATURES[DETECTOR], name, threads=1))
