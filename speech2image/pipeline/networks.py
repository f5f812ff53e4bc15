"""Open networks of models, each once however many routes and models use it."""

from weakref import WeakValueDictionary

from speech2image.pipeline.onnx import CPU, Session
from speech2image.pipeline.registry import Model

_OPEN: "WeakValueDictionary[tuple[object, ...], Session]" = WeakValueDictionary()
"""By checksum, stated arrays and how they were opened, as long as a route uses them."""


def open_network(
    model: Model,
    network: str,
    threads: int | None = None,
    providers: tuple[str, ...] = (CPU,),
    optimise: bool = True,
) -> Session:
    """A network of a model with the inputs and outputs that the model's card states.

    It is one that is open already where another route or model uses the same file in the same way.

    Args:
        model: the folder.
        network: its name there.
        threads: as of `Session`.
        providers: as of `Session`.
        optimise: as of `Session`.

    Raises:
        CheckpointError, SettingsError: as `Session`; the file is not the one that the card states.
    """
    content = model.read(network)  # must be whole, although another's session may be used
    arrays = model.signature(network)
    key = model.card["files"][network]["sha256"], arrays, threads, providers, optimise
    session = _OPEN.get(key)
    if session is None:
        path = str(model.path(network))
        session = Session(content, *arrays, path, threads, providers=providers, optimise=optimise)
        _OPEN[key] = session
    return session
