"""The page to speak to: its files, and the requests that its buttons make (`/page/...`), answered with HTML.

The page is HTML, CSS and JavaScript from `assets/`; nothing of it is fetched from another host. What its
requests draw comes from `service.py`, as for the HTTP interface, so that bounds and pictures are the same.
"""

import json
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from numpy.typing import NDArray

from speech2image import audio
from speech2image.errors import MissingExtraError
from speech2image.pipeline.base import Route
from speech2image.web.api import client_of
from speech2image.web.errors import RequestRejected
from speech2image.web.login import COOKIE, Login
from speech2image.web.page import templates
from speech2image.web.page.templates import ASSETS, template
from speech2image.web.service import MAX_SENTENCE, RenderRequest, RenderResult, Service
from speech2image.web.uploads import cancel_on_disconnect, closing, receive

PICTURES = 8
"""Pictures drawn unless another number is chosen."""
STEPS = 9
"""Pictures between two recordings, likewise."""
SIDE_BY_SIDE = "side by side"
"""The choice to show all routes of a model."""

_SERVED = {"page.css": "text/css", "page.js": "text/javascript", "recorder.js": "text/javascript"}
_EXAMPLE_FOLDERS = (
    Path(__file__).parents[1] / "recordings",
    Path(__file__).parents[3] / "examples" / "recordings",
)
_Seed = Annotated[int, Query(ge=0, le=2**64 - 1)]
_Name = Annotated[str | None, Query()]


# ---- sign-in -------------------------------------------------------------------------------------


def login_page(wrong: bool = False) -> str:
    """The page that asks for the key."""
    return template("login.html").render(wrong=wrong)


def _add_login(app: FastAPI, login: Login) -> None:
    @app.post("/login", include_in_schema=False, response_model=None)
    async def log_in(request: Request) -> Response:
        form = await request.form(max_files=0, max_fields=4)
        if not login.is_key(str(form.get("password", ""))):
            return HTMLResponse(login_page(wrong=True), 400)
        answer = RedirectResponse(f"{request.scope.get('root_path', '')}/", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, login.proof, secure=secure, httponly=True, samesite="strict")
        return answer


# ---- files of the page ------------------------------------------------------------------------


def add_page(app: FastAPI, service: Service, key: str | None) -> None:
    """Add the page to the HTTP interface; with a `key`, the page asks for it."""
    login = Login(key)
    folder, captions = find_examples()
    _add_files(app, login, render(service, captions))
    _add_examples(app, folder, captions)
    if login.key is not None:
        _add_login(app, login)
    app.include_router(_make_router(service, login))


def find_examples() -> tuple[Path, dict[str, str]]:
    """The folder of example recordings that came along, and what each file in it says."""
    for folder in _EXAMPLE_FOLDERS:
        if (folder / "captions.json").is_file():
            captions = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
            return folder, {name: text for name, text in captions.items() if (folder / name).is_file()}
    return _EXAMPLE_FOLDERS[0], {}


def render(service: Service, captions: dict[str, str]) -> str:
    """The page of a service as HTML; `captions`: example file -> what it says."""
    limits, registry = service.settings, service.registry
    several = len(registry.route_names) > 1
    return template("page.html").render(
        captions=captions,
        max_seconds=limits.max_seconds,
        max_bytes=limits.max_bytes,
        max_sentence=MAX_SENTENCE,
        max_pictures=limits.max_pictures,
        pictures=min(PICTURES, limits.max_pictures),
        steps=min(STEPS, limits.max_pictures),
        models=registry.models,
        routes=[*registry.route_names, *([SIDE_BY_SIDE] if several else [])],
        options_title=_options_title("Number", service, several),
        steps_title=_options_title("Steps", service, False),
        about=[_about(name, routes) for name, routes in registry.routes.items()],
    )


def _options_title(count: str, service: Service, several_routes: bool) -> str:
    further = ["model"] if len(service.registry.models) > 1 else []
    further += ["route"] if several_routes else []
    return ", ".join([count, "seed", *further]) if further else f"{count} and noise seed"


def _about(name: str, routes: dict[str, Route]) -> str:
    card = next(iter(routes.values())).model.card
    return f"{name}: {card.get('description', '')} ({card.get('licence', 'licence unstated')})"


def _add_files(app: FastAPI, login: Login, page: str) -> None:
    @app.get("/", include_in_schema=False)
    async def home(request: Request) -> HTMLResponse:
        return HTMLResponse(page if login.sent_before(request) else login_page())

    @app.get("/assets/{name}", include_in_schema=False)
    async def asset(name: str) -> FileResponse:
        if name not in _SERVED:
            raise RequestRejected(404, f"no file {name!r}")
        return FileResponse(ASSETS / name, media_type=_SERVED[name], headers={"Cache-Control": "no-cache"})


def _add_examples(app: FastAPI, folder: Path, captions: dict[str, str]) -> None:
    @app.get("/examples/{name}", include_in_schema=False)
    async def example(name: str) -> FileResponse:
        if name not in captions:
            raise RequestRejected(404, f"no example {name!r}")
        return FileResponse(folder / name)


# ---- what the buttons ask for ------------------------------------------------------------------


def _check(login: Login) -> Callable[[Request], None]:
    def check(request: Request) -> None:
        if not login.sent_before(request):
            raise RequestRejected(401, "this page needs the server's key: load it again and sign in")

    return check


def _make_router(service: Service, login: Login) -> APIRouter:
    router = APIRouter(prefix="/page", include_in_schema=False, dependencies=[Depends(_check(login))])
    _add_pictures(router, service)
    _add_interpolation(router, service)
    _add_speech(router, service)
    return router


def _add_pictures(router: APIRouter, service: Service) -> None:
    @router.post("/pictures")
    async def pictures(
        request: Request, n: int = PICTURES, seed: _Seed = 0, model: _Name = None, route: _Name = None
    ) -> dict[str, str]:
        """A recording becomes pictures, and the view of what was heard."""
        several = route == SIDE_BY_SIDE
        names = list(service.registry.routes_of(model)) if several else [route]
        with closing(await receive(request, ("audio",))) as files:
            parts = []
            for name in names:
                files["audio"].seek(0)
                wanted = RenderRequest(n, seed, model, name)
                work = service.translate(files["audio"], wanted, client_of(request), partial(_shown, several))
                parts.append(await cancel_on_disconnect(request, work))
        return {"pictures": templates.side_by_side([part for part, _ in parts]), "heard": parts[0][1]}


def _shown(titled: bool, result: RenderResult) -> tuple[str, str]:
    return templates.pictures(result, result.route if titled else None), templates.recording(result)


def _add_interpolation(router: APIRouter, service: Service) -> None:
    @router.post("/interpolation")
    async def interpolation(
        request: Request, n: int = STEPS, seed: _Seed = 0, model: _Name = None
    ) -> dict[str, str]:
        """Two recordings become the pictures between them."""
        with closing(await receive(request, ("first", "second"))) as files:
            both, wanted = (files["first"], files["second"]), RenderRequest(n, seed, model)
            work = service.interpolate(both, wanted, client_of(request), templates.interpolation)
            return {"interpolation": await cancel_on_disconnect(request, work)}


def _add_speech(router: APIRouter, service: Service) -> None:
    @router.post("/speech")
    async def speech(request: Request) -> Response:
        """A sentence, the body as UTF-8, becomes a recording."""
        text = await _sentence(request)
        if not text.strip():
            raise RequestRejected(422, "type a sentence first")
        try:
            waveform = await cancel_on_disconnect(request, service.speak(text, client_of(request)))
        except MissingExtraError as error:
            raise RequestRejected(503, str(error)) from error
        return Response(float_wav(waveform), media_type="audio/wav")


async def _sentence(request: Request) -> str:
    content = bytearray()
    async for block in request.stream():
        content += block
        if len(content) > 4 * MAX_SENTENCE:  # bytes of the longest sentence in UTF-8
            raise RequestRejected(422, f"a sentence has at most {MAX_SENTENCE} characters; shorten it")
    return content.decode("utf-8", errors="replace")


def float_wav(waveform: NDArray[np.float32]) -> bytes:
    """16 kHz samples as a wav file that loses nothing, so that a typed sentence gives what `say` gives."""
    content, rate = waveform.astype("<f4").tobytes(), audio.SAMPLE_RATE
    about = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, rate, 4 * rate, 4, 32)
    head = struct.pack("<4sI4s", b"RIFF", len(about) + len(content) + 12, b"WAVE")
    return head + about + struct.pack("<4sI", b"data", len(content)) + content
