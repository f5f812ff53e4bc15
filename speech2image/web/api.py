"""The HTTP interface: POST /v1/images, POST /v1/interpolate, GET /v1/models, /healthz, /metrics."""

import secrets
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from string import punctuation
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.params import Depends as DependsOn
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from PIL import Image
from pydantic import BaseModel
from pydantic.json_schema import SkipJsonSchema

from speech2image.pipeline.base import Interpolation, Translation
from speech2image.pipeline.images import encode
from speech2image.web import metrics, schemas
from speech2image.web.errors import RequestRejected
from speech2image.web.service import RenderRequest, RenderResult, Service
from speech2image.web.uploads import cancel_on_disconnect, closing, receive

Result = TypeVar("Result")


class Format(StrEnum):
    """What comes back."""

    png = "png"
    json = "json"


_Name = str | SkipJsonSchema[None]

_bearer = HTTPBearer(auto_error=False, description="The server's key, if it has one.")
_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same in a header of its own.")

_REJECTIONS: dict[int | str, dict[str, Any]] = {
    400: {"model": schemas.Problem, "description": "The multipart body is broken."},
    401: {"model": schemas.Problem, "description": "The server has a key, and it was not sent."},
    403: {"model": schemas.Problem, "description": "A script of another web site sent it."},
    404: {"model": schemas.Problem, "description": "No such model or route."},
    408: {"model": schemas.Problem, "description": "The body took too long to arrive."},
    413: {"model": schemas.Problem, "description": "The body is too large."},
    422: {"model": schemas.Problem, "description": "The recording or a setting cannot be used."},
    429: {"model": schemas.Problem, "description": "Too many requests of yours at once; see Retry-After."},
    503: {
        "model": schemas.Problem,
        "description": "The queue is full, or the work took too long; see Retry-After.",
    },
}
_SEED = Query(ge=0, le=2**64 - 1, description="Where the noise comes from; the same seed, the same pictures.")
_FORMAT = Query(description="png: one picture, or all on one sheet. json: each by itself, in base64.")
_DIVERSE = Query(description="Give the n pictures that differ most of more; the first stays.")
_BINARY = {"type": "string", "format": "binary"}
_PNG = {"image/png": {"schema": _BINARY}}


def make_router(service: Service, key: str | None) -> APIRouter:
    """The HTTP interface of one service; a `key` must come with every request to /v1 and /metrics."""
    router, protected = APIRouter(), [Depends(_key_check(key))]
    _add_images(router, service, protected)
    _add_interpolate(router, service, protected)
    _add_information(router, service, protected)
    return router


def _add_images(router: APIRouter, service: Service, protected: list[DependsOn]) -> None:
    limits, registry = service.settings, service.registry
    count = Query(ge=1, le=limits.max_pictures, description="Pictures to draw.")

    @router.post(
        "/v1/images",
        summary="A recording becomes pictures",
        responses=_REJECTIONS | _pictures_or_png(schemas.Pictures),
        response_model=None,
        dependencies=protected,
        openapi_extra=_body(("audio",), raw=True),
    )
    async def images(
        request: Request,
        n: Annotated[int, count] = 1,
        seed: Annotated[int, _SEED] = 0,
        model: Annotated[_Name, _one_of(registry.models, "A name of /v1/models.")] = None,
        route: Annotated[_Name, _one_of(registry.route_names, "Way from speech to pictures.")] = None,
        diverse: Annotated[bool, _DIVERSE] = False,
        format: Annotated[Format, _FORMAT] = Format.png,
    ) -> Response:
        registry.find(model, route)
        with closing(await receive(request, ("audio",))) as files:
            finish = _answer_pictures if format is Format.png else _json_of(schemas.pictures)
            wanted = RenderRequest(n, seed, model, route, diverse)
            return await cancel_on_disconnect(
                request, service.translate(files["audio"], wanted, client_of(request), finish)
            )


def _add_interpolate(router: APIRouter, service: Service, protected: list[DependsOn]) -> None:
    limits, registry = service.settings, service.registry
    most = max(2, limits.max_pictures)
    count = Query(ge=2, le=most, description="Pictures in the row, both ends included.")

    @router.post(
        "/v1/interpolate",
        summary="Two recordings become a row of pictures between them",
        responses=_REJECTIONS | _pictures_or_png(schemas.InterpolatedPictures),
        response_model=None,
        dependencies=protected,
        openapi_extra=_body(("first", "second"), raw=False),
    )
    async def interpolate(
        request: Request,
        steps: Annotated[int, count] = min(9, most),
        seed: Annotated[int, _SEED] = 0,
        model: Annotated[_Name, _one_of(registry.models, "A name of /v1/models.")] = None,
        format: Annotated[Format, _FORMAT] = Format.png,
    ) -> Response:
        registry.find(model)
        with closing(await receive(request, ("first", "second"))) as files:
            finish = _answer_row if format is Format.png else _json_of(schemas.interpolation)
            both, wanted = (files["first"], files["second"]), RenderRequest(steps, seed, model)
            return await cancel_on_disconnect(
                request, service.interpolate(both, wanted, client_of(request), finish)
            )


def _add_information(router: APIRouter, service: Service, protected: list[DependsOn]) -> None:
    @router.get(
        "/v1/models",
        summary="The models served, and what a request may hold",
        dependencies=protected,
        responses={401: _REJECTIONS[401]},
    )
    async def models() -> schemas.Models:
        return _models(service)

    @router.get("/healthz", summary="Whether the server is up")
    async def healthz() -> schemas.Health:
        return schemas.Health(status="ok")

    @router.get(
        "/readyz",
        summary="Whether there is room for a request",
        responses={503: _REJECTIONS[503]},
    )
    async def readyz() -> schemas.Health:
        service.check_ready()
        return schemas.Health(status="ok")

    @router.get(
        "/metrics",
        summary="Counters for Prometheus",
        dependencies=protected,
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, 401: _REJECTIONS[401]},
    )
    async def metrics_() -> Response:
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)


def _one_of(names: list[str], description: str) -> Any:
    return Query(description=description, json_schema_extra={"enum": names})


def _pictures_or_png(schema: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": schema, "content": _PNG, "description": "The pictures."}}


def client_of(request: Request) -> str:
    """Who asks: the address, behind trusted proxies the one they forward."""
    return request.client.host if request.client else "unknown"


def _key_check(key: str | None) -> Callable[..., None]:
    def check(
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
        header: Annotated[str | None, Depends(_header)],
    ) -> None:
        given = bearer.credentials if bearer else header
        if key is not None and not secrets.compare_digest((given or "").encode(), key.encode()):
            raise RequestRejected(
                401, "this server needs its key: send Authorization: Bearer KEY, or X-API-Key: KEY"
            )

    return check


def _body(names: tuple[str, ...], raw: bool) -> dict[str, Any]:
    """The OpenAPI description of a body that `receive` reads."""
    text = "A recording in any common format (wav, mp3, ogg, opus, flac, m4a, webm, mp4 ...)."
    schema = {
        "type": "object",
        "properties": {name: _BINARY | {"description": text} for name in names},
        "required": list(names),
        "additionalProperties": False,
    }
    content: dict[str, Any] = {"multipart/form-data": {"schema": schema}}
    if raw:
        content["application/octet-stream"] = {"schema": _BINARY | {"description": text}}
    return {"requestBody": {"required": True, "content": content}}


def _models(service: Service) -> schemas.Models:
    limits = service.settings
    served = [
        schemas.ServedModel(
            name=name,
            routes=list(routes),
            picture_size=next(iter(routes.values())).picture_size,
            description=str(next(iter(routes.values())).model.card.get("description", "")),
            licence=str(next(iter(routes.values())).model.card.get("licence", "unstated")),
        )
        for name, routes in service.registry.routes.items()
    ]
    bounds = schemas.Limits(
        max_bytes=limits.max_bytes, max_seconds=limits.max_seconds, max_pictures=limits.max_pictures
    )
    return schemas.Models(models=served, limits=bounds)


def _answer_pictures(heard: RenderResult) -> Response:
    return _png(heard.result.grid(), heard.result)


def _answer_row(result: Interpolation) -> Response:
    return _png(result.grid(), result)


def _png(sheet: Image.Image, result: Translation | Interpolation) -> Response:
    # Headers hold no letters beyond Latin-1, names of models any: UTF-8 with percent signs, as in addresses.
    name = quote(result.model, safe=punctuation.replace("%", ""))
    headers = {"X-Speech2Image-Model": name, "X-Speech2Image-Seed": str(result.seed)}
    return Response(encode(sheet), media_type="image/png", headers=headers)


def _json_of(schema: Callable[[Result], BaseModel]) -> Callable[[Result], Response]:
    return partial(_dump, schema)


def _dump(schema: Callable[[Result], BaseModel], result: Result) -> Response:
    return JSONResponse(schema(result).model_dump(exclude_none=True))
