"""Live streams: what comes back while somebody speaks, that the end is what a POST draws, and the bounds."""

import base64
import io
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from starlette.websockets import WebSocketDisconnect
from tiny_model import make_model, speech
from web_server import client_of, server_of

import speech2image
from speech2image import audio
from speech2image.pipeline.live import LiveTranslation
from speech2image.web import live
from speech2image.web.login import COOKIE, Login

END = json.dumps({"type": "end"})
URL = "ws://127.0.0.1/v1/live"


def pcm(seconds: float, seed: int = 0) -> bytes:
    return (speech(seconds, seed) * 32767).astype("<i2").tobytes()


def webm(samples: np.ndarray) -> bytes:
    """What a browser records: Opus in WebM, of unknown length."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="webm", options={"live": "1"}) as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype("<i2")[None], "s16", "mono")
        frame.rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return buffer.getvalue()


@contextmanager
def opened(client: TestClient, query: str = "", headers: dict[str, str] | None = None) -> Iterator:
    """A stream, and that it ends when the client goes: the test's client then cancels it."""
    with (
        suppress(CancelledError),
        client.websocket_connect(f"{URL}?{query}", headers=headers or {}) as socket,
    ):
        yield socket


def stream(client: TestClient, query: str, content: bytes, chunk: int = 8_000) -> list[dict]:
    """All events of a stream; each chunk is sent when the update of the one before has come."""
    with opened(client, query) as socket:
        events = [socket.receive_json()]
        for start in range(0, len(content), chunk):
            socket.send_bytes(content[start : start + chunk])
            events.append(socket.receive_json())
        socket.send_text(END)
        while events[-1]["type"] not in ("final", "error"):
            events.append(socket.receive_json())
    return events


def pixels(content: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_pictures_while_sound_comes_and_the_end_is_what_a_post_draws(client, clip: Path) -> None:
    samples = clip.read_bytes()[44:]
    ready, *updates, final = stream(client, "audio=s16le&n=3&seed=5&encoding=png", samples)
    assert (ready["type"], ready["model"], ready["seed"], ready["n"]) == ("ready", "tiny", 5, 3)
    partial = [event for event in updates if event["type"] == "partial"]
    assert len(partial) >= 2
    assert [event["number"] for event in partial] == list(range(1, len(partial) + 1))
    heard = [event["heard_seconds"] for event in updates]
    assert heard == sorted(heard) and heard[-1] <= 1.5
    assert not np.array_equal(pixels(partial[0]["picture"]["png"]), pixels(partial[-1]["picture"]["png"]))
    asked = client.post("/v1/images?n=3&seed=5&format=json", content=clip.read_bytes()).json()
    for key in ("model", "route", "seed", "speech_seconds", "pictures"):
        assert final[key] == asked[key], key


def test_a_recording_of_a_browser(client) -> None:
    content = webm(speech(1.5))
    _, *updates, final = stream(client, "encoding=png", content, chunk=2_000)
    assert any(event["type"] == "partial" for event in updates)
    asked = client.post("/v1/images?n=8&format=json", content=content).json()
    assert final["pictures"] == asked["pictures"] and len(final["pictures"]) == 8


def test_pictures_are_webp_unless_another_kind_is_asked_for(client) -> None:
    final = stream(client, "audio=s16le&n=1", pcm(1))[-1]
    (picture,) = final["pictures"]
    assert set(picture) == {"webp", "width", "height"}
    assert Image.open(io.BytesIO(base64.b64decode(picture["webp"]))).format == "WEBP"


def test_an_update_goes_a_part_of_the_way(tiny: Path) -> None:
    route = speech2image.load(tiny)
    following = LiveTranslation(route, seed=3, share=0.5)
    first, second = speech(1, 0), speech(1, 1)
    assert images_of(following.update((first, 16_000))) == images_of(route.translate((first, 16_000), 1, 3))
    between = following.update((second, 16_000)).images[0]
    f1, f2 = route.embed((first, 16_000)), route.embed((second, 16_000))
    assert between.tobytes() == route.generate((f1 + f2) / 2, 1, 3)[0].tobytes()
    with pytest.raises(speech2image.SpeechError):
        following.update((first[:100], 16_000))
    for _ in range(30):
        last = following.update((second, 16_000))
    assert images_of(last) == images_of(route.translate((second, 16_000), 1, 3))


def test_a_first_word_is_drawn_with_silence_before_it(tiny: Path) -> None:
    route, word = speech2image.load(tiny), speech(0.3)
    drawn = LiveTranslation(route, seed=3).update((word, 16_000))
    long_enough = np.pad(word, (audio.MIN_SAMPLES - len(word), 0))
    assert images_of(drawn) == images_of(route.translate((long_enough, 16_000), 1, 3))
    with pytest.raises(speech2image.SpeechError, match=r"0\.10 s, need at least 0\.20 s"):
        LiveTranslation(route).update((speech(0.1), 16_000))


def test_the_first_picture_needs_no_second_piece_of_sound(client) -> None:
    with opened(client, "audio=s16le&n=1") as socket:
        socket.receive_json()
        socket.send_bytes(pcm(0.1))
        assert socket.receive_json()["code"] == "too_short"
        socket.send_bytes(pcm(0.2))
        first = socket.receive_json()
        assert (first["type"], first["number"], first["heard_seconds"]) == ("partial", 1, 0.3)


def test_a_pause_of_the_client_drops_no_update(client, monkeypatch) -> None:
    monkeypatch.setattr(live, "INTERVAL", 0.01)
    with opened(client, "audio=s16le&n=1") as socket:
        socket.receive_json()
        for _ in range(2):
            socket.send_bytes(pcm(0.7))
            event = socket.receive_json()
            time.sleep(0.2)  # many intervals in which no sound comes
    assert (event["number"], event["dropped"]) == (2, 0)


def images_of(result) -> list[bytes]:
    return [image.tobytes() for image in result.images]


# ---- refusals ----


@pytest.mark.parametrize(
    ("query", "content", "status", "code"),
    [
        ("n=0", b"", 422, "invalid"),
        ("n=17", b"", 422, "setting"),
        ("pictures=3", b"", 422, "invalid"),
        ("audio=s16le&rate=96000", b"", 422, "invalid"),
        ("model=other", b"", 404, "unknown"),
        ("route=other", b"", 404, "unknown"),
        ("audio=s16le", bytes(32_000), 422, "no_speech"),
        ("audio=s16le", b"", 422, "empty"),
        ("audio=s16le", pcm(0.05), 422, "too_short"),
        ("audio=s16le", pcm(3), 422, "too_long"),
        ("", b"", 422, "empty"),
        ("", b"no sound " * 1000, 422, "unreadable"),
        ("", bytes(300_000), 413, "too_large"),
    ],
)
def test_refusals_are_events(tiny: Path, query: str, content: bytes, status: int, code: str) -> None:
    with client_of(tiny, max_seconds=2, max_megabytes=0.2) as client:
        with opened(client, query) as socket:
            events = [socket.receive_json()]
            while events[-1]["type"] != "error":
                if events[-1]["type"] == "ready":
                    for start in range(0, len(content), 100_000):
                        socket.send_bytes(content[start : start + 100_000])
                    socket.send_text(END)
                events.append(socket.receive_json())
            with pytest.raises(WebSocketDisconnect):
                socket.receive_json()
        assert (events[-1]["status"], events[-1]["code"]) == (status, code)
        assert events[-1]["detail"]
        metrics = client.get("/metrics").text
        assert f'speech2image_requests_total{{path="/v1/live",status="{status}"}} 1.0' in metrics
        assert "speech2image_live_streams 0.0" in metrics


def test_a_text_that_is_no_end(client) -> None:
    with opened(client) as socket:
        assert socket.receive_json()["type"] == "ready"
        socket.send_text('{"type": "stop"}')
        assert socket.receive_json()["code"] == "invalid"


def test_a_stream_that_brings_nothing_ends(client, monkeypatch) -> None:
    monkeypatch.setattr(live, "IDLE_SECONDS", 0.2)
    with opened(client) as socket:
        assert socket.receive_json()["type"] == "ready"
        assert socket.receive_json()["code"] == "arrived_too_slowly"


def test_streams_are_counted(tiny: Path) -> None:
    with client_of(tiny, streams=2) as client:
        with opened(client) as one, opened(client) as two:
            assert [one.receive_json()["type"], two.receive_json()["type"]] == ["ready"] * 2
            with opened(client) as three:
                refused = three.receive_json()
        assert (refused["status"], refused["code"], refused["retry_after"]) == (503, "busy", 1)
        with opened(client) as four:  # the places are free again
            assert four.receive_json()["type"] == "ready"


def test_a_key_or_the_pages_cookie_opens_it(tiny: Path, monkeypatch) -> None:
    monkeypatch.setenv("SPEECH2IMAGE_API_KEY", "secret")
    with client_of(tiny) as client:
        right = {"Cookie": f"{COOKIE}={Login('secret').proof}"}
        for headers in ({"Authorization": "Bearer secret"}, {"X-API-Key": "secret"}, right):
            with opened(client, headers=headers) as socket:
                assert socket.receive_json()["type"] == "ready"
        for headers in ({}, {"X-API-Key": "other"}, {"Cookie": f"{COOKIE}=secret"}):
            assert denied(client, headers) == (401, "needs_key")


def test_no_other_site_opens_it(tiny: Path) -> None:
    with client_of(tiny, origins=("https://friend.example",)) as client:
        assert denied(client, {"Origin": "https://evil.example"}) == (403, "other_site")
        for origin in ("http://127.0.0.1", "https://friend.example"):
            with opened(client, headers={"Origin": origin}) as socket:
                assert socket.receive_json()["type"] == "ready"


def denied(client: TestClient, headers: dict[str, str]) -> tuple[int, str]:
    from starlette.testclient import WebSocketDenialResponse

    with pytest.raises(WebSocketDenialResponse) as info, client.websocket_connect(URL, headers=headers):
        pass
    return info.value.status_code, info.value.json()["code"]


def test_a_request_that_is_no_websocket(tiny: Path, monkeypatch) -> None:
    monkeypatch.setenv("SPEECH2IMAGE_API_KEY", "secret")
    with client_of(tiny) as client:
        assert client.get("/v1/live").status_code == 401
        answer = client.get("/v1/live", headers={"X-API-Key": "secret"})
        assert (answer.status_code, answer.json()["code"]) == (426, "not_upgraded")
        assert answer.headers["upgrade"] == "websocket"
        assert client.post("/v1/live").headers["allow"] == "GET, HEAD"


# ---- a real server ----


@contextmanager
def real_stream(model: Path, query: str = "") -> Iterator:
    from websockets.sync.client import connect

    with server_of(model, "--no-page") as (_, address):
        url = f"ws{address.removeprefix('http')}/v1/live?{query}"
        with connect(url, close_timeout=5) as socket:
            assert json.loads(socket.recv(10))["type"] == "ready"
            yield socket


def test_a_real_server(tiny: Path) -> None:
    content, updates = pcm(1.5), []
    with real_stream(tiny, "audio=s16le&n=2") as socket:
        for start in range(0, len(content), 12_000):
            socket.send(content[start : start + 12_000])
            updates.append(json.loads(socket.recv(60))["type"])
        socket.send(END)
        events = [json.loads(message) for message in socket]
    assert updates.count("partial") >= 2
    assert events[-1]["type"] == "final" and len(events[-1]["pictures"]) == 2


@pytest.mark.slow
def test_a_stream_outlives_the_time_that_a_requests_head_may_take(tiny: Path) -> None:
    """`server.Connection` ends connections without a request after 10 s; a stream has its own bounds."""
    with real_stream(tiny, "audio=s16le&n=1") as socket:
        for _ in range(12):
            socket.send(pcm(0.1))
            time.sleep(1)
        socket.send(END)
        assert [json.loads(message)["type"] for message in socket][-1] == "final"


def test_a_message_that_is_too_large(tiny: Path) -> None:
    from websockets.exceptions import ConnectionClosedError

    with real_stream(tiny) as socket:
        socket.send(bytes(live.MAX_MESSAGE + 1))
        with pytest.raises(ConnectionClosedError) as info:
            socket.recv(10)
    assert info.value.rcvd.code == 1009


def test_a_busy_server_drops_updates_and_fails_no_stream(tmp_path: Path, monkeypatch) -> None:
    """Updates that take 0.2 s each, one at a time, for six streams that ask for twenty a second."""
    monkeypatch.setattr(live, "INTERVAL", 0.05)
    update = LiveTranslation.update

    def slow(self, content):
        time.sleep(0.2)
        return update(self, content)

    def speak(_: int) -> list[dict]:
        with opened(client, "audio=s16le&n=1") as socket:
            for start in range(0, 48_000, 4_000):
                socket.send_bytes(pcm(1.5)[start : start + 4_000])
                time.sleep(0.2)
            socket.send_text(END)
            events = [socket.receive_json()]
            while events[-1]["type"] not in ("final", "error"):
                events.append(socket.receive_json())
        return events

    monkeypatch.setattr(LiveTranslation, "update", slow)
    with client_of(make_model(tmp_path / "tiny"), workers=1) as client, ThreadPoolExecutor(6) as pool:
        streams = list(pool.map(speak, range(6)))
        metrics = client.get("/metrics").text
    assert all(events[-1]["type"] == "final" for events in streams)
    partial = [event for events in streams for event in events if event["type"] == "partial"]
    assert partial and max(event["dropped"] for event in partial) > 0
    (drawn,) = re.findall(r'live_updates_total{outcome="drawn"} (\d+)', metrics)
    assert int(drawn) >= len(partial)  # the last one of a stream may come too late for it


def test_a_stream_waits_for_a_place_in_the_queue(tiny: Path) -> None:
    with client_of(tiny, queue=1) as client, opened(client, "audio=s16le&n=1") as socket:
        socket.receive_json()
        socket.send_bytes(pcm(1))
        assert socket.receive_json()["type"] == "partial"
        slots = client.app.state.service.queue._slots
        slots.enter("someone", 1)
        leaving = threading.Timer(0.3, slots.leave, ["someone"])
        leaving.start()
        socket.send_text(END)
        event = socket.receive_json()
        while event["type"] == "partial":
            event = socket.receive_json()
        leaving.join()
    assert event["type"] == "final"
