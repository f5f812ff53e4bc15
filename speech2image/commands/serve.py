"""serve: the page and the HTTP interface. Needs the `web` extra."""

import tyro

from speech2image.errors import require


def run(command: str, arguments: list[str]) -> None:
    """Parse `arguments` and serve until told to stop."""
    from speech2image.web.settings import ServerSettings

    settings = tyro.cli(
        ServerSettings,
        prog=f"speech2image {command}",
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    for module in ("fastapi", "uvicorn", "prometheus_client", "python_multipart", "jinja2"):
        require(module, "web")
    require("speech2image.web.server", "web").serve(settings)
