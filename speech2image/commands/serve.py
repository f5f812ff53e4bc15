"""serve: the web page and the HTTP interface; needs the `web` extra."""

from speech2image.commands.flags import NO_PAIRS, parse
from speech2image.errors import require


def run(command: str, arguments: list[str]) -> None:
    """Parse `arguments` and serve until told to stop."""
    from speech2image.web.settings import ServerSettings

    settings = parse(ServerSettings, command, arguments, config=NO_PAIRS)
    for module in ("fastapi", "uvicorn", "prometheus_client", "python_multipart", "jinja2", "websockets"):
        require(module, "web")
    require("speech2image.web.server", "web").serve(settings)
