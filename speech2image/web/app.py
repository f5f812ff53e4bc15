"""ASGI application: the HTTP interface, its description, the page, and the bounds before all of them."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from speech2image import __version__
from speech2image.errors import SettingsError, Speech2ImageError, SpeechError
from speech2image.web.api import make_router
from speech2image.web.compatible import ALIAS, make_compatible_router
from speech2image.web.description import ADDRESS, EXAMPLES, TAGS, add_examples
from speech2image.web.errors import CODES, RequestRejected
from speech2image.web.jobs import Slots
from speech2image.web.live import make_live_router
from speech2image.web.login import Login
from speech2image.web.middleware import RequestLimits, SameOriginOnly, TrustedProxies
from speech2image.web.page.templates import api_docs
from speech2image.web.service import Service
from speech2image.web.settings import ServerSettings
from speech2image.web.uploads import ClientDisconnected

_ABOUT = f"""A recording of any common format goes in, pictures come out; one seed, the same pictures again.

    {EXAMPLES["draw_images"].command}
"""

ARRIVING = 4
"""Bodies that may arrive at the same time for each place of the queue: slow clients keep nobody waiting."""
_COUNTED = (
    "/v1/images",
    "/v1/images/generations",
    "/v1/interpolate",
    "/v1/transcriptions",
    ALIAS,
    "/v1/models",
    "/healthz",
    "/readyz",
    "/metrics",
    "/docs",
    "/openapi.json",
)

_EXPOSED = ["Retry-After", "Server-Timing", "X-Request-ID", "X-Speech2Image-Model", "X-Speech2Image-Seed"]


def make_app(settings: ServerSettings, service: Service | None = None) -> FastAPI:
    """The whole server as an ASGI application: HTTP interface, its description, and the page.

    Args:
        settings: what to serve and within which bounds.
        service: opened models, for those who have some already; by default they are opened here.

    Raises:
        CheckpointError: a model is unknown or damaged, or there is none.
        SettingsError: the key cannot be read.
    """
    key = settings.api_key()
    service = service or Service(settings)
    app = FastAPI(
        title="speech2image",
        version=__version__,
        description=_ABOUT,
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
        root_path=settings.root_path,
    )
    app.state.service = service
    app.include_router(make_router(service, key))
    app.include_router(make_compatible_router(service, key))
    app.include_router(make_live_router(service, Login(key)))
    _add_description(app)
    _add_docs(app, key is not None)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    _add_bounds(app, settings, service)
    return _with_page(app, service, key) if settings.page else _without_page(app)


def _add_bounds(app: FastAPI, settings: ServerSettings, service: Service) -> None:
    """What stands before the routes, the innermost first."""
    methods = ["GET", "POST"]
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.origins,
        allow_methods=methods,
        allow_headers=["*"],
        expose_headers=_EXPOSED,
    )
    app.add_middleware(SameOriginOnly, allowed=settings.origins)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.hosts)
    app.add_middleware(
        RequestLimits,
        metrics=service.metrics,
        max_bytes=settings.max_bytes,
        body_seconds=settings.body_seconds,
        arriving=Slots(ARRIVING * settings.queue, settings.per_client),
        paths=_COUNTED,
    )
    app.add_middleware(TrustedProxies, addresses=settings.trusted_proxies)


def _add_description(app: FastAPI) -> None:
    """Make the OpenAPI description, once all routes are there, with an example of each operation."""

    @cache
    def described() -> dict[str, Any]:
        description = FastAPI.openapi(app)
        add_examples(description)
        return description

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's way to change it


def _add_docs(app: FastAPI, has_key: bool) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        address = str(request.base_url).rstrip("/")
        return HTMLResponse(api_docs(_at(app.openapi(), address, has_key), address, has_key))


def _at(description: dict[str, Any], address: str, has_key: bool) -> dict[str, Any]:
    """A description whose examples work as they stand: with the address that was asked, and the key."""
    socket = address.replace("http", "ws", 1)
    text = json.dumps(description).replace(ADDRESS, address).replace(ADDRESS.replace("http", "ws"), socket)
    if has_key:
        text = text.replace("curl ", r"curl -H \"X-API-Key: $SPEECH2IMAGE_API_KEY\" ")
    found: dict[str, Any] = json.loads(text)
    return found


def _with_page(app: FastAPI, service: Service, key: str | None) -> FastAPI:
    from speech2image.web.page.views import add_page

    add_page(app, service, key)
    return app


def _without_page(app: FastAPI) -> FastAPI:
    @app.get("/", include_in_schema=False)
    async def home(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")

    return app


# ---- errors ------------------------------------------------------------------------------------


def _problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, code: str | None = None
) -> JSONResponse:
    return JSONResponse({"detail": detail, "code": code or CODES.get(status, "refused")}, status, headers)


def _refused(request: Request, error: RequestRejected) -> Response:
    return _problem(error.status, error.detail, error.headers, error.code)


def _unusable(request: Request, error: Speech2ImageError) -> Response:
    return _problem(422, str(error), code=error.code)


def _invalid(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:2])  # then which of several types was tried
    return _problem(422, f"{where}: {first['msg']}, got {str(first.get('input'))[:100]!r}")


def _http(request: Request, error: HTTPException) -> Response:
    detail, headers = str(error.detail), dict(error.headers or {})
    if error.status_code == 405:
        allowed = headers.get("Allow", "")
        headers["Allow"] = allowed = allowed.replace("GET", "GET, HEAD")  # see middleware.RequestLimits
        detail = f"this address takes {allowed or 'other methods'}, not {request.method}"
    elif error.status_code == 404:
        detail = "there is nothing at this address; /docs describes what there is"
    return _problem(error.status_code, detail, headers)


def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)


_HANDLERS: dict[Any, Any] = {
    RequestRejected: _refused,
    SpeechError: _unusable,
    SettingsError: _unusable,
    RequestValidationError: _invalid,
    HTTPException: _http,
    ClientDisconnected: _gone,
    ClientDisconnect: _gone,
}
