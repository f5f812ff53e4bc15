"""The HTTP interface on a Ray cluster: any number of copies of the service behind Ray's proxy (extra `ray`).

    serve run speech2image.web.ray_app:app
    serve run speech2image.web.ray_app:app copies=8 cores=2 models=flowers-and-birds

Each copy holds the models once and answers through the very functions that `speech2image serve` runs, so
bounds, answers and pictures are the same; Ray spreads requests over copies and machines and replaces copies
that fail. `docs/serving.md` says more.
"""

from typing import Any

from speech2image.errors import require
from speech2image.web.settings import ServerSettings


def app(arguments: dict[str, str]) -> Any:
    """Ray Serve's application builder.

    Args:
        arguments: of `serve run`: copies (default 1), cores of each (default 1), models (comma-separated;
            by default all installed).

    Raises:
        MissingExtraError: Ray is not installed.
    """
    serve = require("ray.serve", "ray")
    copies, cores = int(arguments.get("copies", 1)), int(arguments.get("cores", 1))
    models = tuple(name for name in arguments.get("models", "").split(",") if name)
    settings = ServerSettings(models=models, page=False, threads=cores, allowed_hosts=("*",))
    return make_deployment(serve, settings, copies, cores).bind()


def make_deployment(serve: Any, settings: ServerSettings, copies: int, cores: int) -> Any:
    """A deployment of `copies` copies of the HTTP interface, each on `cores` cores."""

    def build() -> Any:
        from speech2image.web.app import make_app

        return make_app(settings)

    @serve.deployment(
        num_replicas=copies,
        ray_actor_options={"num_cpus": cores},
        max_ongoing_requests=settings.queue,
        graceful_shutdown_timeout_s=settings.grace_seconds,
    )
    @serve.ingress(build)
    class Interface:
        """One copy of the HTTP interface."""

    return Interface
