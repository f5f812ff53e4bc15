"""How the server runs: the flags of `speech2image serve`."""

import os
from dataclasses import dataclass
from math import inf
from pathlib import Path

from speech2image.audio import MAX_SECONDS
from speech2image.errors import SettingsError

KEY_VARIABLE = "SPEECH2IMAGE_API_KEY"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServerSettings:
    """Serve a page to speak to, and an HTTP interface.

    Example: speech2image serve --port 7860 --models flowers-and-birds

    Attributes:
        host: address to listen on; 127.0.0.1 is reached from this machine alone, 0.0.0.0 from everywhere.
        port: port to listen on; 0 takes a free one.
        models: names of shipped models, or model folders; by default all that came with this installation.
        page: serve the page; without it there is only the HTTP interface.
        threads: processor threads of one network call; 0 takes all.
        workers: requests worked on at once (decoding, drawing, encoding).
        queue: most requests accepted and not yet answered; more are refused with 503.
        per_client: most of these that one address may have, and most live streams; more are refused with 429.
        streams: most live streams open at once; more are refused with 503.
        max_megabytes: largest request body; a larger one is refused with 413.
        max_seconds: longest recording; a longer one is refused with 422.
        max_pictures: most pictures of one request.
        body_seconds: time a request may take to arrive; a slower one is refused with 408.
        request_seconds: time the work on a request may take, its time in the queue left out; longer work is
            given up with 503.
        connections: most connections open at once, half of them from one address; more are refused with 503.
        grace_seconds: time that running requests have to finish after the server was told to stop; those that
            have not are then answered with 503.
        log_requests: write a line of JSON to standard error for each request: when, its id, who asked, what
            for (without the query), status, seconds and bytes.
        api_key_file: file whose first line is the key that requests must bring. The environment variable
            SPEECH2IMAGE_API_KEY does the same. With neither, everyone who reaches the port is served.
        origins: web sites whose scripts may call the interface (CORS), such as https://example.org; those of
            all others are refused with 403.
        allowed_hosts: names under which the server may be addressed; by default those of this machine when
            it listens on 127.0.0.1, else all.
        trusted_proxies: addresses of reverse proxies whose X-Forwarded-For, -Proto and -Host are believed;
            what others say of that is ignored.
        root_path: path under which a reverse proxy shows the server, such as /speech2image.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    models: tuple[str, ...] = ()
    page: bool = True
    threads: int = 0
    workers: int = 8
    queue: int = 64
    per_client: int = 16
    streams: int = 64
    max_megabytes: float = 32
    max_seconds: float = MAX_SECONDS
    max_pictures: int = 16
    body_seconds: float = 60
    request_seconds: float = 30
    connections: int = 512
    grace_seconds: float = 30
    log_requests: bool = False
    api_key_file: Path | None = None
    origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    root_path: str = ""

    def __post_init__(self) -> None:
        """Refuse, before any work, what cannot end well."""
        whole = {"workers": 256, "queue": 10_000, "per_client": 10_000, "max_pictures": 1_000}
        whole |= {"connections": 100_000, "streams": 10_000}
        for name, most in whole.items():
            if not 1 <= getattr(self, name) <= most:
                raise SettingsError(f"{name} must be from 1 to {most}, not {getattr(self, name)}")
        for name in ("max_megabytes", "max_seconds", "body_seconds", "request_seconds", "grace_seconds"):
            if not 0 < getattr(self, name) < inf:
                raise SettingsError(f"{name} must be more than 0 and finite, not {getattr(self, name)}")
        if not 0 <= self.port <= 65535 or self.threads < 0:
            raise SettingsError("port must be from 0 to 65535, threads from 0")
        if "*" in self.origins:
            raise SettingsError("origins names web sites one by one; '*' would let every site in")

    @property
    def max_bytes(self) -> int:
        """Largest request body in bytes."""
        return round(self.max_megabytes * 1e6)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK

    @property
    def hosts(self) -> list[str]:
        """Names under which the server may be addressed (the header Host)."""
        if self.allowed_hosts:
            return list(self.allowed_hosts)
        return ["127.0.0.1", "localhost", "[::1]"] if self.is_local else ["*"]

    def api_key(self) -> str | None:
        """The key that requests must bring, or None.

        Raises:
            SettingsError: the file cannot be read or holds no key.
        """
        if self.api_key_file is None:
            return os.environ.get(KEY_VARIABLE) or None
        try:
            key = self.api_key_file.read_text(encoding="utf-8").partition("\n")[0].strip()
        except OSError as error:
            raise SettingsError(f"cannot read the key in {self.api_key_file}: {error.strerror}") from error
        if not key:
            raise SettingsError(f"the first line of {self.api_key_file} is empty; it should hold the key")
        return key
