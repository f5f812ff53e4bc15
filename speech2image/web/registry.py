"""Models served and the routes each offers, opened once and shared by the page and the HTTP interface.

A route turns a recording into a `Translation`. One whose result has a `transcript` is shown with it. To offer
another route, add how it is opened to `OPENERS`: a function of the model's name and the threads, which
returns None where the model lacks it. Page, HTTP interface and OpenAPI description offer what was opened and
nothing else.

A model offers the cascade if it is one, or if the cascade that belongs to it lies beside it (`NAME-cascade`,
see `registry.companion`) and can hear: one without a speech recognizer draws texts alone.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

from speech2image.errors import CheckpointError
from speech2image.pipeline import loading, registry
from speech2image.pipeline.base import Capabilities, Route
from speech2image.pipeline.routes import ROUTES
from speech2image.web.errors import RequestRejected

Opener = Callable[[str, int | None], Route | None]


def _open(route: str, model: str, threads: int | None) -> Route | None:
    found = registry.find(model)
    if found.route != route:
        # A model through text may belong to another one; it is served as that one's second route.
        other = registry.companion(found, route) if ROUTES[route].text else None
        if other is None:
            return None
        found = other
    if ROUTES[route].text and found.recognizer is None:
        return None
    return loading.load(found.folder, threads=threads)


OPENERS: dict[str, Opener] = {route: partial(_open, route) for route, kind in ROUTES.items() if kind.encoder}
"""Route -> how it is opened for a model, the default first."""


@dataclass(frozen=True)
class ModelRegistry:
    """The opened routes: model name -> route name -> route; the first of each is the default."""

    routes: dict[str, dict[str, Route]]

    @property
    def models(self) -> list[str]:
        """Names of the models, the default first."""
        return list(self.routes)

    @property
    def route_names(self) -> list[str]:
        """Names of all routes that some model offers, the default first."""
        return list(dict.fromkeys(name for routes in self.routes.values() for name in routes))

    def find(self, model: str | None = None, route: str | None = None) -> tuple[str, Route]:
        """The route asked for and its name; None takes the default.

        Raises:
            RequestRejected: 404, no such model here, or it does not offer that route.
        """
        model, route = self._as_answered(model, route)
        routes = self.routes_of(model)
        route = next(iter(routes)) if route is None else route
        if route not in routes:
            raise RequestRejected(404, f"the model offers no route {route!r}, only: {', '.join(routes)}")
        return route, routes[route]

    def reader(self, model: str | None = None, route: str | None = None) -> tuple[str, Route]:
        """The route of a model that reads text, and its name; None takes the default.

        Raises:
            RequestRejected: 404, no such model or route here, or it reads no text.
        """
        return self._able(lambda can: can.text, model, route, "reads no text, only speech", "reads_no_text")

    def writer(self, model: str | None = None, route: str | None = None) -> tuple[str, Route]:
        """The route of a model that tells the words of a recording, and its name; None takes the default.

        Raises:
            RequestRejected: 404, no such model or route here, or it tells no words.
        """
        return self._able(lambda can: can.transcript, model, route, "tells no words", "tells_no_words")

    def _able(
        self,
        able: Callable[[Capabilities], bool],
        model: str | None,
        route: str | None,
        lack: str,
        code: str,
    ) -> tuple[str, Route]:
        model, route = self._as_answered(model, route)
        found = {name: one for name, one in self.routes_of(model).items() if able(one.capabilities)}
        name = next(iter(found), None) if route is None else self.find(model, route)[0]
        if name in found:
            return name, found[name]
        what = "the model" if route is None else f"the route {route!r}"
        advice = f"take the route {next(iter(found))!r}" if found else "take another model"
        raise RequestRejected(404, f"{what} {lack}; {advice}", code=code)

    def _as_answered(self, model: str | None, route: str | None) -> tuple[str | None, str | None]:
        """A model's name as answers tell it: of a route that has a name of its own, or with percent signs."""
        for name in (model, None if model is None else unquote(model)):
            if name is None or name in self.routes:
                return name, route
            for served, routes in self.routes.items():
                for key, opened in routes.items():
                    if opened.name == name:
                        return served, route or key
        return model, route

    def routes_of(self, model: str | None = None) -> dict[str, Route]:
        """The routes of a model, the default first; None takes the default model.

        Raises:
            RequestRejected: 404, no such model here.
        """
        model = self.models[0] if model is None else model
        if model not in self.routes:
            raise RequestRejected(404, f"no model {model!r} here; there are: {', '.join(self.models)}")
        return self.routes[model]


def open_registry(names: Sequence[str | os.PathLike[str]], threads: int | None) -> ModelRegistry:
    """Open every route of the named models; no names: of all models that came with this installation.

    Raises:
        CheckpointError: a model is unknown or damaged, two have one name, or there is none.
    """
    wanted = [os.fspath(name) for name in names] or _installed()
    registry: dict[str, dict[str, Route]] = {}
    for name in wanted:
        opened = {key: opener(name, threads) for key, opener in OPENERS.items()}
        routes = {key: route for key, route in opened.items() if route is not None}
        if not routes:
            raise CheckpointError(
                f"the model {name} offers none of the routes {', '.join(OPENERS)}; has it no recognizer?"
            )
        own_name = _checked_name(next(iter(routes.values())).name)
        if own_name in registry:
            raise CheckpointError(f"two models are called '{own_name}'; serve one of them")
        registry[own_name] = routes
    return ModelRegistry(registry)


def _checked_name(name: str) -> str:
    if not name.isprintable():
        raise CheckpointError(
            f"a model is called {name!r}; a name has no line breaks and nothing else that cannot be shown: "
            f"change it in its {registry.CARD}"
        )
    return name


def _installed() -> list[str]:
    names = [name for name in registry.available_models() if not _only_a_part(registry.find(name))]
    if not names:
        raise CheckpointError("no models came with this installation; name a model folder with --models")
    return sorted(names, key=lambda name: name != registry.DEFAULT_MODEL)


def _only_a_part(model: registry.Model) -> bool:
    """Whether this is a cascade that is offered as a route of another model, or that hears nothing."""
    if not ROUTES[model.route].text:
        return False
    others = (route for route in ROUTES if route != model.route)
    return model.recognizer is None or any(registry.companion(model, route) for route in others)
