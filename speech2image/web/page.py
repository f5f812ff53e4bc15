"""The page to speak to, laid out in Gradio: a tab for one recording, a tab for what lies between two.

What its events do is in `actions.py`; how results look is in `markup.py` and `assets/`.
"""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import FileResponse

from speech2image.web import markup
from speech2image.web.actions import SIDE_BY_SIDE, Actions
from speech2image.web.refusals import Refused
from speech2image.web.service import Service
from speech2image.web.theme import make_theme

ASSETS = Path(__file__).parent / "assets"
PICTURES = 8
"""Pictures drawn unless another number is chosen."""

_SESSIONS = 32  # Gradio keeps the last values of every session in memory
_WAITING = 16
_EXAMPLE_FOLDERS = (
    Path(__file__).parent / "recordings",
    Path(__file__).parents[2] / "examples" / "recordings",
)


def mount_page(app: FastAPI, service: Service, key: str | None) -> FastAPI:
    """Add the page to the HTTP interface; with a `key`, the page asks for it."""
    folder, captions = find_examples()
    _add_examples(app, folder, captions)
    blocks = make_page(service, captions)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        root_path=service.settings.root_path or None,
        server_name=service.settings.host,
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=1,  # nothing is uploaded through Gradio
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        auth=None
        if key is None
        else lambda name, given: secrets.compare_digest(given.encode(), key.encode()),
        auth_message="The password is the server's key; the name does not matter.",
        theme=make_theme(),
        css=(ASSETS / "page.css").read_text(encoding="utf-8"),
        head='<link rel="icon" href="data:,">',
    )
    gradio_app: Any = app.routes[-1]
    app.state.end_streams = gradio_app.app.stop_event.set
    return app


def find_examples() -> tuple[Path, dict[str, str]]:
    """The folder of example recordings that came along, and what each file in it says."""
    for folder in _EXAMPLE_FOLDERS:
        if (folder / "captions.json").is_file():
            captions = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
            return folder, {name: text for name, text in captions.items() if (folder / name).is_file()}
    return _EXAMPLE_FOLDERS[0], {}


def _add_examples(app: FastAPI, folder: Path, captions: dict[str, str]) -> None:
    @app.get("/examples/{name}", include_in_schema=False)
    async def example(name: str) -> FileResponse:
        if name not in captions:
            raise Refused(404, f"no example {name!r}")
        return FileResponse(folder / name)


@dataclass(frozen=True)
class Choices:
    """What can be chosen beside the recording."""

    n: Any
    seed: Any
    model: Any
    route: Any

    @property
    def inputs(self) -> list[Any]:
        """In the order in which the functions of `Actions` take them."""
        return [self.n, self.seed, self.model, self.route]


def make_page(service: Service, captions: dict[str, str]) -> gr.Blocks:
    """The page of a service."""
    actions = Actions(service)
    with gr.Blocks(title="Say it and see it", analytics_enabled=False) as blocks:
        gr.HTML(_header(service), elem_classes="s2i-head")
        with gr.Tabs(elem_classes="s2i-tabs"):
            with gr.Tab("Say it", id="say"):
                _say_tab(actions, captions)
            with gr.Tab("From one to another", id="between"):
                _between_tab(actions)
        gr.HTML(_footer(service), elem_classes="s2i-foot")
    blocks.queue(max_size=_WAITING, default_concurrency_limit=service.settings.workers, api_open=False)
    blocks.state_session_capacity = _SESSIONS
    return blocks


def _say_tab(actions: Actions, captions: dict[str, str]) -> None:
    with gr.Row(elem_classes="s2i-columns"):
        with gr.Column(scale=2, min_width=260, elem_classes="s2i-card"):
            recording = recorder("say", "Hold to speak", actions.service, captions)
            with gr.Row(elem_classes="s2i-type"):
                sentence = gr.Textbox(
                    label="Or type a sentence and hear it spoken",
                    placeholder="this flower has bright yellow petals",
                    max_lines=1,
                    scale=4,
                    elem_id="sentence",
                )
                speak = gr.Button("Speak", scale=1, min_width=90, elem_id="speak")
            with gr.Accordion(_options_title("Number", actions.service), open=False):
                choices = _choices(actions.service)
        with gr.Column(scale=3, min_width=260):
            shown = gr.HTML(markup.waiting(), js_on_load=_asset("results.js"), elem_id="pictures")
            again = gr.Button("Again, with new noise", elem_id="again", interactive=False)
            heard = gr.HTML("", elem_id="heard")
    inputs, outputs = [recording, *choices.inputs], [shown, heard, again]
    _on(recording.heard, actions.translate, inputs, outputs)
    _on(again.click, None, [choices.seed], [choices.seed], js="(seed) => (Number(seed) || 0) + 1").then(
        **_quiet(actions.translate, inputs, outputs)
    )
    for event in (speak.click, sentence.submit):
        _on(event, actions.speak, [sentence], [recording, shown]).success(
            **_quiet(actions.translate, inputs, outputs)
        )


def _between_tab(actions: Actions) -> None:
    with gr.Row(elem_classes="s2i-columns"):
        with gr.Column(scale=2, min_width=260, elem_classes="s2i-card"):
            gr.HTML("<h2>First</h2>")
            first = recorder("first", "Hold to speak the first description", actions.service, {})
            gr.HTML("<h2>Second</h2>")
            second = recorder("second", "Hold to speak the second description", actions.service, {})
            with gr.Accordion(_options_title("Steps", actions.service, ways=False), open=False):
                choices = _choices(actions.service, steps=True)
        with gr.Column(scale=3, min_width=260):
            go = gr.Button("Walk from one to the other", variant="primary", elem_id="walk-button")
            shown = gr.HTML(
                '<div class="s2i-empty"><p class="s2i-empty-title">Record two descriptions</p>'
                "<p>and see what lies between them, under one noise.</p></div>",
                js_on_load=_asset("walk.js"),
                elem_id="walk",
            )
    inputs = [first, second, *choices.inputs]
    _on(go.click, actions.interpolate, inputs, [shown])
    for recording in (first, second):
        _on(recording.heard, actions.interpolate_if_both, inputs, [shown])


def recorder(name: str, label: str, service: Service, captions: dict[str, str]) -> Any:
    """A component that records, takes files, and offers examples; its value is a data: address or empty."""
    bounds = {"seconds": service.settings.max_seconds, "bytes": page_bytes(service)}
    parts = {
        "@options": markup.options(bounds),
        "@label": escape(label),
        "@name": name,
        "@examples": markup.examples(captions),
    }
    template = _asset("recorder.html")
    for placeholder, value in parts.items():
        template = template.replace(placeholder, value)
    return gr.HTML(
        "",
        html_template=template,
        js_on_load=_asset("recorder.js"),
        elem_id=f"recorder-{name}",
        elem_classes="s2i-recorder-box",
    )


def page_bytes(service: Service) -> int:
    """Largest recording that the page sends: base64 makes it a third larger."""
    return min(20_000_000, round(service.settings.max_bytes * 0.7))


def _choices(service: Service, steps: bool = False) -> Choices:
    """Number, seed, and, where there is a choice, model and route."""
    most, shelf = service.settings.max_pictures, service.shelf
    n: Any = gr.Slider(
        min(2, most) if steps else 1,
        most,
        value=min(9 if steps else PICTURES, most),
        step=1,
        label="Steps" if steps else "Pictures",
    )
    seed = gr.Number(0, label="Noise seed", precision=0, minimum=0, maximum=2**53 - 1)
    model = gr.Dropdown(shelf.models, value=shelf.models[0], label="Model", visible=len(shelf.models) > 1)
    routes = [*shelf.route_names, *([SIDE_BY_SIDE] if len(shelf.route_names) > 1 else [])]
    route = gr.Radio(
        routes, value=routes[0], label="Way from speech to pictures", visible=len(routes) > 1 and not steps
    )
    return Choices(n, seed, model, route)


def _options_title(count: str, service: Service, ways: bool = True) -> str:
    """What an accordion holds: the way only where there is one to choose."""
    further = ["model"] if len(service.shelf.models) > 1 else []
    further += ["way"] if ways and len(service.shelf.route_names) > 1 else []
    return ", ".join([count, "seed", *further]) if further else f"{count} and noise seed"


def _on(event: Callable[..., Any], function: Any, inputs: list[Any], outputs: list[Any], **more: Any) -> Any:
    return event(**_quiet(function, inputs, outputs), **more)


def _quiet(function: Any, inputs: list[Any], outputs: list[Any]) -> dict[str, Any]:
    """An event that is no part of any interface for programs: those use /v1."""
    return {
        "fn": function,
        "inputs": inputs,
        "outputs": outputs,
        "api_visibility": "private",
        "show_progress": "minimal",
    }


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _header(service: Service) -> str:
    return (
        '<header class="s2i-title"><h1>Say it and see it</h1>'
        "<p>A spoken description becomes pictures, without text in between. "
        "Everything happens on this server; recordings are not kept.</p></header>"
    )


def _footer(service: Service) -> str:
    shelf = service.shelf
    lines = []
    for name, routes in shelf.routes.items():
        card = next(iter(routes.values())).model.card
        about, licence = card.get("description", ""), card.get("licence", "licence unstated")
        lines.append(escape(f"{name}: {about} ({licence})"))
    return f'<footer><p>{"; ".join(lines)}</p><p><a href="docs">HTTP interface</a></p></footer>'
