"""A real server in a process of its own: rude clients, overload, stopping."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from web_server import server_of

import speech2image
from speech2image import cli

QUEUE = 4


@pytest.fixture(scope="module")
def address(tiny: Path) -> Iterator[str]:
    flags = (
        "--no-page",
        "--queue",
        str(QUEUE),
        "--workers",
        "2",
        "--body-seconds",
        "3",
        "--per-client",
        "64",
    )
    with server_of(tiny, *flags) as (_, address):
        yield address


def post(address: str, content: bytes, query: str = "", path: str = "/v1/images") -> tuple[int, dict, bytes]:
    request = urllib.request.Request(f"{address}{path}?{query}", data=content, method="POST")
    request.add_header("Content-Type", "application/octet-stream")
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def connected(address: str) -> socket.socket:
    parts = urlsplit(address)
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def accepted(address: str) -> float:
    with urllib.request.urlopen(f"{address}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith("speech2image_accepted ")).split()[1])


def test_serves_what_the_command_line_makes(address: str, tiny: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    assert (
        cli.main(["translate", str(clip), "-n", "4", "--seed", "9", "-o", str(out), "--model", str(tiny)])
        == 0
    )
    _, _, content = post(address, clip.read_bytes(), "n=4&seed=9")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), np.asarray(Image.open(out)))


def test_every_request_is_answered_or_clearly_refused(address: str, tiny: Path, clip: Path) -> None:
    """Twenty clients at a queue of four places: each gets its own picture, or 503 and when to come back."""
    content, route = clip.read_bytes(), speech2image.load(tiny)
    expected = {seed: np.asarray(route.translate(clip, 1, seed).images[0]) for seed in range(60)}

    def ask(seed: int) -> int:
        status, headers, body = post(address, content, f"seed={seed}")
        if status == 200:
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(body))), expected[seed])
        else:
            assert int(headers["retry-after"]) >= 1
            assert json.loads(body)["detail"]
        return status

    with ThreadPoolExecutor(20) as pool:
        statuses = Counter(pool.map(ask, range(60)))
    assert set(statuses) <= {200, 503}
    assert statuses[200] >= QUEUE
    assert accepted(address) == 0


def test_a_slow_client_keeps_nobody_waiting_and_is_shown_out(address: str, clip: Path) -> None:
    """Far more slow clients than the queue has places hold up nobody, and get 408 in the end."""
    head = b"POST /v1/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\nRIFF"
    slow = [connected(address) for _ in range(3 * QUEUE)]
    for client in slow:
        client.sendall(head)
    assert post(address, clip.read_bytes())[0] == 200
    for client in slow:
        assert client.recv(4096).startswith(b"HTTP/1.1 408 ")
        client.close()


def test_a_client_that_does_not_read_its_answer(address: str, clip: Path) -> None:
    content = clip.read_bytes()
    stated = f"Host: 127.0.0.1\r\nContent-Length: {len(content)}"
    head = f"POST /v1/images?n=16&format=json HTTP/1.1\r\n{stated}\r\n\r\n"
    deaf = [connected(address) for _ in range(3)]
    for client in deaf:
        client.sendall(head.encode() + content)
    assert post(address, content)[0] in (200, 503)
    for client in deaf:
        client.close()


def test_a_cut_connection_frees_its_place(address: str, clip: Path) -> None:
    content = clip.read_bytes()
    head = f"POST /v1/images?n=16 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
    for part in (content, content[: len(content) // 2]):  # while it waits, and while it is sent
        for _ in range(3 * QUEUE):
            with connected(address) as client:
                client.sendall(head.encode() + part)
    while accepted(address):
        time.sleep(0.01)
    assert post(address, content)[0] == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_500_megabytes(address: str, chunked: bool) -> None:
    """Refused with 413 that the sender comes to read, whether or not the size is stated first."""
    block = b"\0" * 2**20
    stated = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {500 * 2**20}"
    with connected(address) as client:
        client.sendall(f"POST /v1/images HTTP/1.1\r\nHost: 127.0.0.1\r\n{stated}\r\n\r\n".encode())
        answer = bytearray()
        reader = threading.Thread(target=lambda: answer.extend(client.recv(4096)))
        reader.start()
        for _ in range(500):
            try:
                client.sendall(b"100000\r\n" + block + b"\r\n" if chunked else block)
            except OSError:
                break
        reader.join(60)
    assert answer.startswith(b"HTTP/1.1 413 ")
    with urllib.request.urlopen(f"{address}/healthz", timeout=60) as health:
        assert health.status == 200


def test_memory_does_not_hold_what_is_uploaded(address: str) -> None:
    """Eight bodies of 20 MB at once lie on disk, not in memory."""

    def resident() -> float:
        with urllib.request.urlopen(f"{address}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line for line in lines if line.startswith("process_resident_memory")).split()[1])

    before, size = resident(), 20_000_000
    head = f"POST /v1/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size + 1}\r\n\r\n"
    clients = [connected(address) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda client: client.sendall(head.encode() + b"\0" * size), clients))
    grown = resident() - before
    for client in clients:
        client.close()
    assert grown < 80_000_000


def test_nonsense_instead_of_http(address: str) -> None:
    with connected(address) as client:
        client.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert accepted(address) == 0


def test_a_stop_finishes_what_it_began(tiny: Path, clip: Path) -> None:
    """SIGTERM while requests run: all of them are answered, the port is closed, the process ends with 0."""
    content = clip.read_bytes()
    with server_of(tiny, "--no-page", "--workers", "1") as (process, address):
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(post, address, content, "n=16&format=json") for _ in range(8)]
            while accepted(address) < 1:
                pass
            os.kill(process.pid, signal.SIGTERM)
            statuses = []
            for answer in answers:
                try:
                    statuses.append(answer.result(120)[0])
                except (urllib.error.URLError, ConnectionError):
                    statuses.append(0)  # it came after the port was closed
        assert process.wait(60) == 0
        assert statuses.count(200) >= 1
        assert set(statuses) <= {200, 0}
        with pytest.raises(OSError):
            connected(address)


SLOW_SERVER = """
import sys, time
from speech2image.pipeline.direct import DirectRoute
from speech2image.web.server import serve
from speech2image.web.settings import ServerSettings

DirectRoute.translate = lambda *_, **flags: time.sleep(300)
serve(ServerSettings(models=(sys.argv[1],), page=False, port=0, grace_seconds=0.5))
"""


def test_requests_without_time_are_told_and_the_process_ends(tiny: Path, clip: Path) -> None:
    """At the end of grace a request at work, two that wait, and one whose body is not here yet get 503."""
    command = [sys.executable, "-c", SLOW_SERVER, str(tiny)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = re.search(r"http://\S+?:\d+", process.stdout.readline()).group()
            with ThreadPoolExecutor(3) as pool, connected(address) as slow:
                answers = [pool.submit(post, address, clip.read_bytes(), "n=1") for _ in range(3)]
                slow.sendall(b"POST /v1/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nfour")
                while accepted(address) < 3:
                    pass
                process.send_signal(signal.SIGTERM)
                for answer in answers:
                    status, _, content = answer.result(60)
                    assert (status, json.loads(content)["code"]) == (503, "stopping")
                told = slow.makefile("rb").read()
                assert told.startswith(b"HTTP/1.1 503") and b'"stopping"' in told
            assert process.wait(60) == 0
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_requests_are_logged_where_that_is_asked_for(tiny: Path, clip: Path) -> None:
    with server_of(tiny, "--no-page", "--log-requests") as (process, address):
        request = urllib.request.Request(f"{address}/v1/images?seed=5", clip.read_bytes())
        request.add_header("X-Request-ID", "mine-1")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.headers["X-Request-ID"] == "mine-1"
            size = len(answer.read())
        line = json.loads(process.stderr.readline())
    assert {key: line[key] for key in ("request_id", "client", "method", "path", "status")} == {
        "request_id": "mine-1",
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/v1/images",
        "status": 200,
    }
    assert (line["bytes_in"], line["bytes_out"]) == (clip.stat().st_size, size)
    assert line["seconds"] > 0


def test_the_key_guards_the_real_server(tiny: Path, clip: Path) -> None:
    with server_of(tiny, "--no-page", environment={"SPEECH2IMAGE_API_KEY": "k"}) as (_, address):
        assert post(address, clip.read_bytes())[0] == 401


def test_damaged_model_is_told_at_the_start(tmp_path: Path, capsys) -> None:
    assert cli.main(["serve", "--models", str(tmp_path), "--port", "0", "--no-page"]) == 1
    assert "model.json" in capsys.readouterr().err


def test_wrong_flags_are_wrong_usage(capsys) -> None:
    assert cli.main(["serve", "--workers", "0"]) == 2
    assert "workers must be from 1 to 256" in capsys.readouterr().err
