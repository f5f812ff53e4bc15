"""What attackers try at the page and the interface: each answer is a refusal, and nothing stays behind."""

import asyncio
import gc
import itertools
import json
import os
import socket
import threading
import time
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from tiny_model import make_model
from web_server import client_of, server_of

from speech2image.errors import CheckpointError
from speech2image.web import login, middleware, registry

EVIL = {"Origin": "https://evil.org"}
POSTS = ("/v1/images", "/page/pictures")


@pytest.fixture(scope="module")
def page(tiny: Path) -> Iterator:
    """The page and the interface of the tiny model, in this process."""
    with client_of(tiny, page=True) as client:
        yield client


# ---- neither a proxy nor a store ----------------------------------------------------------------


def test_only_these_routes_are_there(page) -> None:
    """What the page and the interface need; a new route has to be added here, and thought about."""
    found = {(method, path) for path, methods in routes_of(page.app) for method in methods - {"HEAD"}}
    assert found == {
        ("GET", "/"),
        ("GET", "/assets/{name}"),
        ("GET", "/examples/{name}"),
        ("GET", "/examples/{name}/picture"),
        ("GET", "/preview.jpg"),
        ("POST", "/page/pictures"),
        ("POST", "/page/picture"),
        ("POST", "/page/interpolation"),
        ("POST", "/page/speech"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/v1/models"),
        ("POST", "/v1/images"),
        ("POST", "/v1/interpolate"),
        ("POST", "/v1/transcriptions"),
        ("POST", "/v1/audio/transcriptions"),
        ("POST", "/v1/images/generations"),
        ("GET", "/v1/live"),
        ("WebSocket", "/v1/live"),
    }


def routes_of(app) -> list[tuple[str, set[str]]]:
    from fastapi.routing import iter_route_contexts

    found = iter_route_contexts(app.routes)
    return [(context.path, set(context.methods or {"WebSocket"})) for context in found]


# fmt: off
PAGE_SERVERS = (
    "file={listener}", "file=/etc/passwd", "file/etc/passwd", "proxy={listener}", "upload",
    "upload_progress?upload_id=x", "stream/x", "stream/x/0/1/playlist.m3u8", "queue/join",
    "queue/data?session_hash=x", "heartbeat/x", "run/predict", "call/predict", "api/predict", "cancel",
    "reset", "config", "info", "startup-events", "component_server", "monitoring", "theme.css",
    "manifest.json", "static/img/logo.svg", "custom_component/x/client/component/index.js",
    "login_check", "deep_link",
)
# fmt: on
"""Routes of Gradio, which served the page before."""


@pytest.mark.parametrize("prefix", ["", "/gradio_api"])
def test_routes_of_page_servers_are_not_there(page, listener: str, prefix: str) -> None:
    for path in PAGE_SERVERS:
        address = f"{prefix}/{path.format(listener=listener)}"
        assert page.get(address).status_code == 404, path
        event = {"data": [], "fn_index": 0, "session_hash": "x"}
        assert page.post(address, json=event).status_code == 404, path


@pytest.fixture(scope="module")
def listener() -> Iterator[str]:
    """A server that must never be called."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(BlockingIOError):  # nobody came
            server.accept()


@pytest.mark.parametrize(
    "name", ["page.html", "login.html", "../page.py", "..%2fpage.py", "%2e%2e/page.py", "."]
)
def test_files_beside_the_page_stay_there(page, name: str) -> None:
    assert page.get(f"/assets/{name}").status_code == 404
    assert page.get(f"/examples/{name}").status_code == 404
    assert page.get("/examples/captions.json").status_code == 404


def test_nothing_is_kept_of_requests_that_are_done(page, clip: Path) -> None:
    """Of a dozen answers that nobody looked at, memory holds less than two."""
    content = clip.read_bytes()
    size = len(page.post("/page/pictures?n=4", content=content).content)
    tracemalloc.start()
    try:
        for seed in range(12):
            page.post(f"/page/pictures?n=4&seed={seed}", content=content)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 2 * size
    finally:
        tracemalloc.stop()


# ---- scripts of other sites, and proxies that nobody trusts --------------------------------------


@pytest.mark.parametrize("path", [*POSTS, "/page/interpolation", "/page/speech", "/v1/interpolate", "/no"])
@pytest.mark.parametrize(
    "origin",
    ["https://evil.org", "null", "http://127.0.0.1.evil.org", "http://127.0.0.1@evil.org", "x", "http://["],
)
def test_other_sites_cannot_make_it_work(page, path: str, origin: str) -> None:
    answer = page.post(path, content=b"x", headers={"Origin": origin})
    assert answer.status_code == 403
    assert "--origins" in answer.json()["detail"]


@pytest.mark.parametrize("path", POSTS)
def test_its_own_page_and_sites_that_are_named_may(tiny: Path, clip: Path, path: str) -> None:
    content = clip.read_bytes()
    with client_of(tiny, page=True, origins=("https://friend.org",)) as client:
        for origin in ("http://127.0.0.1", "https://friend.org"):
            assert client.post(path, content=content, headers={"Origin": origin}).status_code == 200
        assert client.post(path, content=content, headers=EVIL).status_code == 403
    with client_of(tiny, page=True, base_url="http://127.0.0.1:7860") as client:
        for port, status in (("7860", 200), ("8000", 403)):
            headers = {"Origin": f"http://127.0.0.1:{port}"}
            assert client.post(path, content=content, headers=headers).status_code == status


FORWARDED = {
    "X-Forwarded-Host": "speak.org",
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
}


@pytest.mark.parametrize(("proxies", "status"), [((), 400), (("10.0.0.0/8",), 200), (("192.0.2.1",), 400)])
def test_a_forwarded_host_is_believed_of_trusted_proxies_alone(
    tiny: Path, proxies: tuple, status: int
) -> None:
    settings = {"allowed_hosts": ("speak.org",), "trusted_proxies": proxies, "peer": "10.1.2.3"}
    with client_of(tiny, page=True, **settings) as client:
        assert client.get("/", headers=FORWARDED).status_code == status
        assert client.get("/", headers={"Host": "speak.org"}).status_code == 200
        evil = {"X-Forwarded-Host": "speak.org, evil.org"}  # the proxy's own is the last
        assert client.get("/", headers=evil).status_code == 400
        assert client.get("/", headers={"X-Forwarded-Host": "speak.org/../evil"}).status_code == 400


@pytest.mark.parametrize(("proxies", "status"), [((), 429), (("10.1.2.3",), 200)])
def test_a_forwarded_address_does_not_get_around_the_places(
    tiny: Path, clip: Path, proxies: tuple, status: int
) -> None:
    with client_of(tiny, page=True, per_client=1, trusted_proxies=proxies, peer="10.1.2.3") as client:
        client.app.state.service.queue._slots.enter("10.1.2.3", 1)
        for path in POSTS:
            answer = client.post(path, content=clip.read_bytes(), headers={"X-Forwarded-For": "203.0.113.7"})
            assert answer.status_code == status


def test_no_answer_names_a_host_that_the_request_named(page) -> None:
    for path in ("/", "/docs", "/openapi.json"):
        answer = page.get(path, headers={"X-Forwarded-Host": "evil.org", "Forwarded": "host=evil.org"})
        assert "evil.org" not in answer.text + str(answer.headers)


# ---- the key, the page's bounds ------------------------------------------------------------------


def test_the_key_guards_the_page(tiny: Path, clip: Path, monkeypatch) -> None:
    monkeypatch.setenv("SPEECH2IMAGE_API_KEY", "much secret")
    content = clip.read_bytes()
    with client_of(tiny, page=True) as client:
        assert "s2i-talk" not in client.get("/").text
        forged = {"Cookie": f"{login.COOKIE}=" + "0" * 64}
        for headers in ({}, forged, {"Cookie": f"{login.COOKIE}=much secret"}):
            for path in ("pictures", "interpolation", "speech"):
                assert client.post(f"/page/{path}", content=content, headers=headers).status_code == 401
        for wrong in (
            {},
            {"password": "wrong"},
            {"password": "\N{CHERRY BLOSSOM}"},
            {"username": "much secret"},
        ):
            assert client.post("/login", data=wrong).status_code == 400
        assert client.post("/login", data={"password": "much secret"}, headers=EVIL).status_code == 403
        assert client.post("/login", data={"username": "", "password": "wrong"}).status_code == 400
        welcome = client.post("/login", data={"password": "much secret"}, follow_redirects=False)
        assert (welcome.status_code, welcome.headers["location"]) == (303, "/")
        assert "s2i-talk" in client.get("/").text
        assert client.post("/page/pictures", content=content).status_code == 200
        assert client.post("/v1/images", content=content).status_code == 401  # programs send the key itself


def test_the_cookie_travels_over_https_alone_where_there_is_https(tiny: Path, monkeypatch) -> None:
    monkeypatch.setenv("SPEECH2IMAGE_API_KEY", "k")
    for proxies, secure in (((), False), (("10.1.2.3",), True)):
        with client_of(tiny, page=True, trusted_proxies=proxies, peer="10.1.2.3") as client:
            https = {"X-Forwarded-Proto": "https"}
            answer = client.post("/login", data={"password": "k"}, headers=https, follow_redirects=False)
            assert ("secure" in answer.headers["set-cookie"].lower()) == secure


@pytest.mark.parametrize("path", [*POSTS, "/page/interpolation", "/login"])
def test_bodies_have_one_bound(tiny: Path, path: str, monkeypatch) -> None:
    monkeypatch.setenv("SPEECH2IMAGE_API_KEY", "k")
    monkeypatch.setattr(middleware, "LINGER_SECONDS", 0.01)
    with client_of(tiny, page=True, max_megabytes=0.1) as client:
        client.post("/login", data={"password": "k"})
        key, files = {"X-API-Key": "k"}, {"first": b"x" * 200_000}
        assert client.post(path, files=files, headers=key).status_code == 413
        chunked = {"Content-Type": "multipart/form-data; boundary=x"} | key
        parts = (
            b"--x\r\nContent-Disposition: form-data; name=first; filename=a\r\n\r\n",
            *[b"x" * 50_000] * 4,
        )
        assert client.post(path, content=iter(parts), headers=chunked).status_code == 413


@pytest.mark.parametrize(
    "query",
    [
        *("n=0", "n=17", "n=1e999", "n=NaN", "n=many", "n=[]", "n=1&n=99", "seed=-1", f"seed={2**64}"),
        *("model=horses", "model=%ed%a0%80", "model=" + "x" * 10_000),
        *("route=%00", "route=side by side&model=%0a"),
    ],
)
def test_tampered_settings_are_refused(page, clip: Path, query: str) -> None:
    answer = page.post(f"/page/pictures?{query}", content=clip.read_bytes())
    assert answer.status_code in (404, 422)
    assert answer.json()["detail"]


KINDS = ("application/json", "multipart/form-data", "multipart/form-data; boundary=x", "text/plain", "\xff")
CONTENTS = (
    b"",
    b'{"data": [{"__type__": "update"}], "fn_index": -1}',
    b"--x\r\n\r\n\r\n--x--",
    b"--x\r\nContent-Disposition: form-data\r\n\r\nx\r\n--x--",
    b"[" * 100_000,
)


@pytest.mark.parametrize(
    "path", ["/page/pictures", "/page/interpolation", "/page/speech", "/v1/images", "/v1/interpolate"]
)
def test_tampered_bodies_are_refused(page, path: str, monkeypatch) -> None:
    monkeypatch.setattr("speech2image.tts.available_voices", lambda **_: [])  # nothing is spoken
    for kind, content in itertools.product(KINDS, CONTENTS):
        answer = page.post(path, content=content, headers={"Content-Type": kind.encode("latin-1")})
        assert answer.status_code in (400, 404, 422, 503), (kind, content[:40])
        assert answer.json()["detail"]


# ---- a real server ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def temporary(tmp_path_factory) -> Path:
    """The server's folder for temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def served(tiny: Path, temporary: Path) -> Iterator:
    """A real server with the page and few places."""
    flags = ("--per-client", "4", "--workers", "2", "--request-seconds", "2")
    with server_of(tiny, *flags, environment={"TMPDIR": str(temporary)}) as (process, address):
        yield process, address
        process.terminate()
        process.wait(60)
        assert "Traceback" not in process.stderr.read()  # after all that follows


def post(address: str, path: str, content: bytes) -> int:
    try:
        with urllib.request.urlopen(f"{address}{path}", content, timeout=120) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def half_sent(address: str, path: str, size: int, content: bytes) -> socket.socket:
    parts = urlsplit(address)
    client = socket.create_connection((parts.hostname, parts.port), timeout=60)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n\r\n"
    client.sendall(head.encode() + content)
    return client


def open_files(process: int, folder: Path) -> list[str]:
    """Files of a process in this folder, those without a name included."""
    found = [str(path) for path in folder.rglob("*")]
    for link in Path(f"/proc/{process}/fd").iterdir():
        try:
            found += [target for target in [os.readlink(link)] if target.startswith(str(folder))]
        except OSError:
            continue  # closed meanwhile
    return found


def until(condition) -> None:
    """Wait for what will be; a test's own time limit ends it otherwise."""
    while not condition():
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("path", POSTS)
def test_temporary_files_of_uploads_go(served, temporary: Path, clip: Path, path: str) -> None:
    """Of those that break off, and of those that were whole."""
    process, address = served
    before = open_files(process.pid, temporary)
    clients = [half_sent(address, path, 8_000_000, bytes(3_000_000)) for _ in range(3)]
    until(lambda: len(open_files(process.pid, temporary)) == len(before) + 3)
    for client in clients:
        client.close()
    until(lambda: open_files(process.pid, temporary) == before)
    post(address, path, clip.read_bytes() + bytes(3_000_000))
    until(lambda: open_files(process.pid, temporary) == before)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("path", [*POSTS, "/page/interpolation"])
def test_an_upload_that_comes_too_slowly_leaves_no_file(
    tiny: Path, tmp_path: Path, path: str, monkeypatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    head = (
        b"--x\r\nContent-Disposition: form-data; name=first; filename=a\r\n\r\n"
        if "interpolation" in path
        else b""
    )
    kind = b"multipart/form-data; boundary=x" if head else b"audio/wav"
    held: list[int] = []

    async def receive() -> dict:
        if not held:
            held.append(0)
            return {"type": "http.request", "body": head + bytes(3_000_000), "more_body": True}
        held.append(len(open_files(os.getpid(), tmp_path)))
        await asyncio.Event().wait()  # the rest never comes

    with client_of(tiny, page=True, body_seconds=0.2) as client:
        assert asyncio.run(status_of(client.app, path, kind, receive)) == 408
    assert held == [0, 1]
    gc.collect()
    assert not open_files(os.getpid(), tmp_path)


async def status_of(app, path: str, kind: bytes, receive) -> int:
    """What an application answers to a body that `receive` gives."""
    headers = [(b"host", b"127.0.0.1"), (b"content-type", kind)]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": headers}
    scope |= {"query_string": b"", "client": ("127.0.0.1", 1), "scheme": "http", "http_version": "1.1"}
    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    await app(scope | {"root_path": "", "server": ("127.0.0.1", 80)}, receive, send)
    return sent[0]["status"]


@pytest.mark.parametrize("path", POSTS)
def test_one_address_fills_no_more_places_than_its_own(served, path: str) -> None:
    _, address = served
    slow = [half_sent(address, path, 1000, b"RIFF") for _ in range(4)]
    until(lambda: post(address, path, b"RIFF") == 429)  # once all of them have begun
    for client in slow:
        client.close()
    until(lambda: post(address, path, b"RIFF") == 422)


def webm_of_tiny_elements(count: int) -> bytes:
    """A recording whose 2-byte elements take long to walk through one by one."""
    return (
        bytes.fromhex("1a45dfa3")
        + b"\x80"
        + bytes.fromhex("18538067")
        + b"\x01"
        + b"\xff" * 7
        + b"\xec\x80" * count
    )


@pytest.mark.parametrize("path", POSTS)
def test_a_recording_that_takes_too_long_is_given_up(served, clip: Path, path: str) -> None:
    """Meanwhile and afterwards others are served, though both workers had one."""
    _, address = served
    statuses: list[int] = []
    evil = webm_of_tiny_elements(2_000_000)
    threads = [threading.Thread(target=lambda: statuses.append(post(address, path, evil))) for _ in range(2)]
    for thread in threads:
        thread.start()
    with urllib.request.urlopen(f"{address}/healthz", timeout=60) as health:
        assert health.status == 200
    for thread in threads:
        thread.join(120)
    assert set(statuses) <= {422, 503}
    assert post(address, path, clip.read_bytes()) == 200


# ---- names of models ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["цветы", "花 100 %", "a\u00e9\u0301", "\U0001f338", "plain-name_1"])
def test_a_model_may_be_called_anything_that_can_be_shown(tmp_path: Path, clip: Path, name: str) -> None:
    model = make_model(tmp_path / "m", name=name)
    content = clip.read_bytes()
    with client_of(model, page=True) as client:
        answer = client.post("/v1/images", params={"model": name}, content=content)
        assert answer.status_code == 200
        assert unquote(answer.headers["x-speech2image-model"]) == name
        assert client.post("/v1/images?format=json", content=content).json()["model"] == name
        files = {"first": content, "second": content}
        walk = client.post("/v1/interpolate", files=files)
        assert unquote(walk.headers["x-speech2image-model"]) == name
        told = client.post("/page/pictures", content=content).text.splitlines()
        assert json.loads(told[0])["model"] == name
        assert client.get("/v1/models").json()["models"][0]["name"] == name
        assert client.post("/v1/images?model=other", content=content).status_code == 404
        assert client.get("/").status_code == client.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    "name", ["a\nb", "a\r\nSet-Cookie: x=y", "a\0b", "\ud800", "\x1b[31mred", "\u202egnp"]
)
def test_a_name_that_cannot_be_shown_is_refused(tmp_path: Path, name: str) -> None:
    model = make_model(tmp_path / "m", name=name)
    with pytest.raises(CheckpointError) as refused:
        registry.open_registry([model], 1)
    assert str(refused.value).isprintable()


def test_plain_names_are_sent_as_they_are(page, clip: Path) -> None:
    assert page.post("/v1/images", content=clip.read_bytes()).headers["x-speech2image-model"] == "tiny"
