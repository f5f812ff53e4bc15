"""POST /v1/images and its neighbours, in this process."""

import base64
import html
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_model import SIZE, make_model, speech
from web_server import client_of

import speech2image
from speech2image import audio
from speech2image.errors import SettingsError
from speech2image.pipeline import images
from speech2image.web import middleware, schemas
from speech2image.web.compatible import GenerationRequest
from speech2image.web.description import EXAMPLES
from speech2image.web.settings import ServerSettings


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def decoded(picture: dict) -> np.ndarray:
    return pixels(base64.b64decode(picture["png"]))


# ---- what comes back ---------------------------------------------------------------------------


def test_raw_body_becomes_the_picture_that_the_library_makes(client, tiny: Path, clip: Path) -> None:
    answer = client.post("/v1/images", params={"seed": 5}, content=clip.read_bytes())
    expected = speech2image.load(tiny).translate(clip, 1, 5).images[0]
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-speech2image-model"] == "tiny"
    assert answer.headers["x-speech2image-seed"] == "5"
    assert np.array_equal(pixels(answer.content), np.asarray(expected))


def test_several_pictures_come_as_a_grid_or_one_by_one(client, tiny: Path, clip: Path) -> None:
    expected = speech2image.load(tiny).translate(clip, 3, 2)
    files = {"audio": ("a.wav", clip.read_bytes())}
    grid = client.post("/v1/images", params={"n": 3, "seed": 2}, files=files)
    assert np.array_equal(pixels(grid.content), np.asarray(expected.grid()))
    told = client.post("/v1/images", params={"n": 3, "seed": 2, "format": "json"}, files=files).json()
    assert (told["model"], told["route"], told["seed"]) == ("tiny", "direct", 2)
    assert told["speech_seconds"] == 1.5
    assert "transcript" not in told
    for picture, image in zip(told["pictures"], expected.images, strict=True):
        assert (picture["width"], picture["height"]) == (SIZE, SIZE)
        assert np.array_equal(decoded(picture), np.asarray(image))


def test_pictures_may_be_chosen_among_more(client, tiny: Path, clip: Path) -> None:
    expected = speech2image.load(tiny).translate(clip, 4, 2, diverse=True)
    asked = {"n": 4, "seed": 2, "diverse": True, "format": "json"}
    told = client.post("/v1/images", params=asked, content=clip.read_bytes()).json()
    assert told["noise_rows"] == list(expected.noise_rows) != [0, 1, 2, 3]
    for picture, image in zip(told["pictures"], expected.images, strict=True):
        assert np.array_equal(decoded(picture), np.asarray(image))


def test_the_largest_seed_survives_json(client, clip: Path) -> None:
    seed = 2**64 - 1
    answer = client.post(f"/v1/images?seed={seed}&format=json", content=clip.read_bytes())
    assert answer.json()["seed"] == seed


def test_interpolation(client, tiny: Path, clip: Path, other_clip: Path) -> None:
    expected = speech2image.load(tiny).interpolate(clip, other_clip, 5, 3)
    files = {"first": clip.read_bytes(), "second": other_clip.read_bytes()}
    told = client.post("/v1/interpolate?steps=5&seed=3&format=json", files=files).json()
    assert told["alphas"] == [1, 0.75, 0.5, 0.25, 0]
    assert all(
        np.array_equal(decoded(picture), np.asarray(image))
        for picture, image in zip(told["pictures"], expected.images, strict=True)
    )
    row = client.post("/v1/interpolate?steps=5&seed=3", files=files)
    assert np.array_equal(pixels(row.content), np.asarray(expected.grid()))


def test_models_and_limits(client) -> None:
    told = client.get("/v1/models").json()
    (model,) = told["models"]
    assert (model["name"], model["routes"], model["picture_size"]) == ("tiny", ["direct"], SIZE)
    assert told["limits"] == {"max_bytes": 32_000_000, "max_seconds": 60, "max_pictures": 16}


def test_several_models(tiny: Path, tmp_path: Path, clip: Path) -> None:
    second = make_model(tmp_path / "second", description="another")
    with client_of(tiny, models=(str(second), str(tiny))) as client:
        assert [m["name"] for m in client.get("/v1/models").json()["models"]] == ["second", "tiny"]
        for query, name in (("", "second"), ("?model=tiny", "tiny")):
            answer = client.post(f"/v1/images{query}", content=clip.read_bytes())
            assert answer.headers["x-speech2image-model"] == name


# ---- ten formats -------------------------------------------------------------------------------

FORMATS = {
    "wav": ("wav", "pcm_s16le", "s16", 16_000),
    "wav-float-48k": ("wav", "pcm_f32le", "flt", 48_000),
    "aiff": ("aiff", "pcm_s16be", "s16", 44_100),
    "au": ("au", "pcm_s16be", "s16", 8_000),
    "flac": ("flac", "flac", "s16", 44_100),
    "mp3": ("mp3", "libmp3lame", "fltp", 44_100),
    "ogg-flac": ("ogg", "flac", "s16", 16_000),
    "opus": ("ogg", "libopus", "flt", 48_000),
    "webm": ("webm", "libopus", "flt", 48_000),
    "m4a": ("mp4", "aac", "fltp", 44_100),
    "mp2": ("mp2", "mp2", "s16", 48_000),
}


def encoded(container: str, codec: str, sample_format: str, rate: int) -> bytes:
    import av

    frame = av.AudioFrame.from_ndarray(speech(1.5)[None], format="flt", layout="mono")
    frame.sample_rate, frame.pts = 16_000, 0
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.layout, stream.format = "mono", sample_format
        resampler = av.AudioResampler(format=sample_format, layout="mono", rate=rate)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize("name", FORMATS)
def test_formats_of_audio(client, tiny: Path, name: str) -> None:
    """What the server makes of a file is what the library makes of it."""
    content = encoded(*FORMATS[name])
    answer = client.post("/v1/images", content=content)
    assert answer.status_code == 200, answer.text
    expected = speech2image.load(tiny).translate(content).images[0]
    assert np.array_equal(pixels(answer.content), np.asarray(expected))


# ---- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ("n=0", 422, "n: "),
        ("n=17", 422, "n: "),
        ("seed=-1", 422, "seed: "),
        (f"seed={2**64}", 422, "seed: "),
        ("n=many", 422, "n: "),
        ("format=gif", 422, "format: "),
        ("model=horses", 404, "tiny"),
        ("route=cascade", 404, "direct"),
    ],
)
def test_wrong_settings(client, clip: Path, query: str, status: int, told: str) -> None:
    answer = client.post(f"/v1/images?{query}", content=clip.read_bytes())
    assert answer.status_code == status
    assert told in answer.json()["detail"]


@pytest.mark.parametrize(
    ("speech_", "told"),
    [
        (b"", "no body"),
        (b"nonsense" * 100, "the recording cannot be decoded"),
        (audio.encode_flac(np.zeros(32_000, np.float32)), "no speech heard"),
        (audio.encode_flac(speech(0.3)), "too short"),
        (audio.encode_flac(speech(61.0)), "at most 60 s"),
    ],
    ids=["nothing", "nonsense", "silence", "short", "long"],
)
def test_useless_recordings(client, speech_: bytes, told: str) -> None:
    answer = client.post("/v1/images", content=speech_)
    assert answer.status_code == 422
    assert told in answer.json()["detail"]


def test_bomb_of_silence(client) -> None:
    """Ten minutes of silence in a few kilobytes: decoding stops after one."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ogg") as output:
        stream = output.add_stream("libopus", rate=8_000, options={"frame_duration": "60"})
        stream.layout, stream.format, stream.bit_rate = "mono", "flt", 500
        quiet = np.zeros((1, 8_000 * 60), np.float32)
        for minute in range(10):
            frame = av.AudioFrame.from_ndarray(quiet, format="flt", layout="mono")
            frame.sample_rate, frame.pts = 8_000, minute * quiet.shape[1]
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    bomb = buffer.getvalue()
    assert len(bomb) < 100_000
    answer = client.post("/v1/images", content=bomb)
    assert answer.status_code == 422
    assert "too long" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("format=webp", "image/png", "image/webp"),
        ("", "image/webp", "image/webp"),
        ("", "image/jpeg;q=0.5, image/*;q=0.4, application/json;q=0.2", "image/jpeg"),
        ("", "*/*", "image/png"),
        ("", "text/html, */*;q=0.1", "image/png"),
        ("", "application/json", "application/json"),
    ],
)
def test_the_query_or_the_header_accept_chooses_the_format(client, clip: Path, query, accept, kind) -> None:
    answer = client.post(f"/v1/images?n=2&{query}", content=clip.read_bytes(), headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    if kind.startswith("image/"):
        assert Image.open(io.BytesIO(answer.content)).get_format_mimetype() == kind
    assert re.fullmatch(
        r"listen;dur=.*, embed;dur=.*, draw;dur=.*, encode;dur=[0-9.]+", answer.headers["server-timing"]
    )


def test_nothing_acceptable(client, clip: Path) -> None:
    answer = client.post("/v1/images", content=clip.read_bytes(), headers={"Accept": "text/html"})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


def test_a_row_longer_than_webp_holds(client, clip: Path, monkeypatch) -> None:
    monkeypatch.setitem(images._LONGEST, "WEBP", 100)
    both = {"first": clip.read_bytes(), "second": clip.read_bytes()}
    answer = client.post("/v1/interpolate?steps=16&format=webp", files=both)
    assert answer.status_code == 422 and "holds at most 100 pixels" in answer.json()["detail"]
    assert client.post("/v1/interpolate?steps=16&format=jpeg", files=both).status_code == 200


def test_pictures_keep_their_recipe_unless_told_not_to(
    client, tiny: Path, clip: Path, tmp_path: Path
) -> None:
    from speech2image.errors import DataError
    from speech2image.pipeline.recipe import Recipe, read_recipe

    expected = Recipe("tiny", speech2image.load(tiny).model.checksum, "direct", 5, 2, (), (None,))
    for kind in ("png", "webp", "jpeg"):
        sent = client.post(f"/v1/images?n=2&seed=5&format={kind}", content=clip.read_bytes())
        (tmp_path / kind).write_bytes(sent.content)
        assert read_recipe(tmp_path / kind) == expected
    sent = client.post("/v1/images?n=2&seed=5&format=json&encoding=webp", content=clip.read_bytes()).json()
    (tmp_path / "second").write_bytes(base64.b64decode(sent["pictures"][1]["webp"]))
    assert read_recipe(tmp_path / "second").noise_rows == (1,)
    sent = client.post("/v1/images?recipe=false", content=clip.read_bytes())
    (tmp_path / "none").write_bytes(sent.content)
    with pytest.raises(DataError):
        read_recipe(tmp_path / "none")


def test_unknown_parameters_are_refused(client) -> None:
    for method, path in (("POST", "/v1/images?sede=1"), ("GET", "/v1/models?n=1"), ("GET", "/readyz?y=1")):
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), path
        assert "unknown parameter" in answer.json()["detail"]
    assert "'sede'; known here: n, seed" in client.post("/v1/images?sede=1").json()["detail"]


def test_the_field_may_be_called_file(client, clip: Path) -> None:
    named = [client.post("/v1/images", files={name: clip.read_bytes()}) for name in ("audio", "file")]
    assert named[0].content == named[1].content and named[1].status_code == 200
    both = client.post("/v1/images", files={name: clip.read_bytes() for name in ("audio", "file")})
    assert both.status_code in (400, 422)


def test_a_models_name_is_taken_as_it_was_answered(tmp_path: Path, clip: Path) -> None:
    with client_of(make_model(tmp_path / "桜")) as client:
        name = client.post("/v1/images", content=clip.read_bytes()).headers["x-speech2image-model"]
        assert name == "%E6%A1%9C"
        for model in (name, "桜"):
            answer = client.post("/v1/images", params={"model": model}, content=clip.read_bytes())
            assert answer.status_code == 200


def test_the_description_is_for_this_server(tiny: Path, monkeypatch) -> None:
    monkeypatch.setenv("SPEECH2IMAGE_API_KEY", "much secret")
    with client_of(tiny, base_url="http://localhost:81") as client:
        page = client.get("/docs").text
        assert "http://localhost:81/v1/images" in page and "X-API-Key: $SPEECH2IMAGE_API_KEY" in page
        assert "much secret" not in page
        told = client.post("/v1/images")
        assert (told.status_code, told.headers["www-authenticate"]) == (401, 'Bearer realm="speech2image"')
        assert "ws://localhost:81" in page and "127.0.0.1" not in page


def test_every_operation_is_described_with_an_example(client) -> None:
    described = client.get("/openapi.json").json()
    operations = [one for verbs in described["paths"].values() for one in verbs.values()]
    assert [one["operationId"] for one in operations] == [
        "draw_images",
        "interpolate",
        "list_models",
        "is_up",
        "is_ready",
        "read_metrics",
        "transcribe",
        "generate_images",
        "draw_live",
    ]
    tags = {tag["name"] for tag in described["tags"]}
    page = html.unescape(client.get("/docs").text)
    for one in operations:
        assert one["summary"] and set(one["tags"]) <= tags, one["operationId"]
        (sample,) = one["x-codeSamples"]
        assert sample["source"].replace("127.0.0.1:7860", "127.0.0.1") in page
        assert any("example" in kind for answer in one["responses"].values() for kind in of(answer)), one
        in_json = one.get("requestBody", {}).get("content", {}).get("application/json")
        assert in_json is None or "example" in in_json


def of(answer: dict) -> list[dict]:
    return list(answer.get("content", {}).values())


def test_examples_fit_their_schemas() -> None:
    answers = {
        "draw_images": schemas.Pictures,
        "interpolate": schemas.InterpolatedPictures,
        "transcribe": schemas.Transcription,
        "generate_images": schemas.Generated,
        "draw_live": schemas.Problem,
        "list_models": schemas.Models,
        "is_up": schemas.Health,
        "is_ready": schemas.Health,
    }
    for name, schema in answers.items():
        answer = EXAMPLES[name].answer
        assert schema.model_validate(answer).model_dump(mode="json", exclude_none=True) == answer
    assert schemas.Sentence.model_validate(EXAMPLES["draw_images"].body)
    assert GenerationRequest.model_validate(EXAMPLES["generate_images"].body)


def test_head_is_get_without_its_body(tiny: Path) -> None:
    with client_of(tiny, page=True) as client:
        for path in ("/", "/docs", "/healthz", "/readyz", "/v1/models", "/openapi.json", "/assets/page.css"):
            answer, whole = client.head(path), client.get(path)
            assert (answer.status_code, answer.content) == (200, b""), path
            assert answer.headers["content-length"] == str(len(whole.content)), path
        assert client.head("/v1/images").status_code == 405


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/images", "POST"),
        ("DELETE", "/v1/images", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("PUT", "/", "GET, HEAD"),
    ],
)
def test_other_methods_are_told_which_there_are(client, method: str, path: str, allowed: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"], answer.json()["code"]) == (405, allowed, "method")
    assert f"takes {allowed}, not {method}" in answer.json()["detail"]


def test_ready_means_room_in_the_queue(tiny: Path) -> None:
    with client_of(tiny, queue=1) as client:
        assert client.get("/readyz").json() == {"status": "ok"}
        slots = client.app.state.service.queue._slots
        slots.enter("someone", 1)
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
        assert answer.headers["retry-after"] == "1"
        slots.leave("someone")
        assert client.get("/readyz").status_code == 200


def test_every_answer_has_an_id(client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "a.b-C_1"}).headers["x-request-id"] == "a.b-C_1"
    made = [
        client.get("/nothing", headers={"X-Request-ID": sent}).headers["x-request-id"]
        for sent in ("", "a b", "x" * 200)
    ]
    assert len({*made}) == 3 and all(re.fullmatch("[0-9a-f]{16}", one) for one in made)


def test_refusals_have_a_code_for_programs(tiny: Path, clip: Path) -> None:
    silence = audio.encode_flac(np.zeros(32_000, np.float32))
    sent = {
        "no_speech": silence,
        "unreadable": b"no sound at all" * 100,
        "too_short": audio.encode_flac(speech(0.05)),
        "too_long": audio.encode_flac(np.zeros(80_000, np.float32)),
        "too_large": b"x" * 200_001,
    }
    with client_of(tiny, max_seconds=4, max_megabytes=0.2) as client:
        codes = {code: client.post("/v1/images", content=body).json()["code"] for code, body in sent.items()}
        assert codes == {code: code for code in sent}
        assert client.post("/v1/images?n=0", content=silence).json()["code"] == "invalid"
        assert client.get("/nothing").json()["code"] == "unknown"
        other_site = client.post("/v1/images", headers={"Origin": "https://evil.example"})
        assert other_site.json()["code"] == "other_site"


def test_shorter_limit_of_duration(tiny: Path, clip: Path, other_clip: Path) -> None:
    with client_of(tiny, max_seconds=1.3) as client:
        assert "at most 1.3 s" in client.post("/v1/images", content=clip.read_bytes()).json()["detail"]
        assert client.post("/v1/images", content=other_clip.read_bytes()).status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_a_body(tiny: Path, chunked: bool, monkeypatch) -> None:
    """With its length stated, and without (chunked)."""
    monkeypatch.setattr(middleware, "LINGER_SECONDS", 0.01)
    block = b"x" * 100_000
    content = (block for _ in range(11)) if chunked else block * 11
    with client_of(tiny, max_megabytes=1) as client:
        answer = client.post("/v1/images", content=content)
    assert answer.status_code == 413
    assert "1000000 bytes" in answer.json()["detail"]


def test_too_large_a_file_in_multipart(tiny: Path) -> None:
    with client_of(tiny, max_megabytes=1) as client:
        answer = client.post("/v1/images", files={"audio": b"x" * 1_100_000})
    assert answer.status_code == 413


def test_multipart_with_something_else(client, clip: Path) -> None:
    content = clip.read_bytes()
    wrong = client.post("/v1/images", files={"sound": content})
    assert (wrong.status_code, wrong.json()["detail"]) == (
        422,
        "multipart needs just the files audio: the file 'audio' is missing; settings go into the query",
    )
    for files, data in (({"audio": content, "b": content}, None), ({"audio": content}, {"n": "3"})):
        assert client.post("/v1/images", files=files, data=data).status_code in (400, 422)
    two = client.post("/v1/interpolate", files={"first": content})
    assert "'second' is missing" in two.json()["detail"]
    raw = client.post("/v1/interpolate", content=content)
    assert "send multipart/form-data with the files first, second" in raw.json()["detail"]


def test_broken_multipart(client) -> None:
    kind = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/v1/images", content=b"--y\r\nnonsense", headers=kind)
    assert answer.status_code in (400, 422)
    assert (
        client.post("/v1/images", content=b"x", headers={"content-type": "multipart/form-data"}).status_code
        == 400
    )


@pytest.mark.parametrize(("method", "path", "status"), [("get", "/v1/images", 405), ("get", "/nothing", 404)])
def test_wrong_paths_and_methods(client, method: str, path: str, status: int) -> None:
    answer = getattr(client, method)(path)
    assert answer.status_code == status
    assert answer.json()["detail"]


# ---- who may ask -------------------------------------------------------------------------------


def test_key(tiny: Path, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("much secret\n")
    with client_of(tiny, api_key_file=tmp_path / "key") as client:
        for path in ("/v1/models", "/metrics"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"X-API-Key": "wrong"}).status_code == 401
            assert client.get(path, headers={"X-API-Key": "much secret"}).status_code == 200
        refused = client.post("/v1/images", content=clip.read_bytes())
        assert refused.status_code == 401
        assert "needs its key" in refused.json()["detail"]
        bearer = {"Authorization": "Bearer much secret"}
        assert client.post("/v1/images", content=clip.read_bytes(), headers=bearer).status_code == 200
        assert client.get("/healthz").status_code == 200


def test_key_from_the_environment(tiny: Path, monkeypatch) -> None:
    monkeypatch.setenv("SPEECH2IMAGE_API_KEY", "k")
    with client_of(tiny) as client:
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers={"X-API-Key": "k"}).status_code == 200


def test_key_files_that_hold_none(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for name in ("empty", "absent"):
        with pytest.raises(SettingsError, match=name):
            ServerSettings(api_key_file=tmp_path / name).api_key()


def test_no_other_site_may_call_unless_told(tiny: Path) -> None:
    headers = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    allowed = "access-control-allow-origin"
    with client_of(tiny) as client:
        assert allowed not in client.get("/v1/models", headers=headers).headers
        assert allowed not in client.options("/v1/images", headers=headers).headers
    with client_of(tiny, origins=("https://example.org",)) as client:
        assert client.get("/v1/models", headers=headers).headers[allowed] == "https://example.org"
        assert client.options("/v1/images", headers=headers).headers[allowed] == "https://example.org"
        assert allowed not in client.get("/v1/models", headers={"Origin": "https://evil.org"}).headers


def test_other_names_of_this_machine_are_refused(tiny: Path) -> None:
    """A web site whose name is made to point to 127.0.0.1 does not get in (DNS rebinding)."""
    with client_of(tiny, base_url="http://evil.org") as client:
        assert client.get("/v1/models").status_code == 400
    with client_of(tiny, base_url="http://speak.org", allowed_hosts=("speak.org",)) as client:
        assert client.get("/v1/models").status_code == 200


# ---- description, health, metrics --------------------------------------------------------------


def test_description(client) -> None:
    described = client.get("/openapi.json").json()
    names = {"/v1/images", "/v1/interpolate", "/v1/models", "/healthz", "/readyz", "/metrics"}
    names |= {"/v1/transcriptions", "/v1/images/generations", "/v1/live"}
    assert set(described["paths"]) == names
    page = client.get("/docs")
    assert all(name in page.text for name in names)
    assert "http" not in page.text.replace("http://127.0.0.1", "").replace("HTTP", "")  # loads nothing else
    assert client.get("/", follow_redirects=False).headers["location"] == "/docs"


def test_health_and_metrics(tiny: Path, clip: Path) -> None:
    with client_of(tiny) as client:
        check_health_and_metrics(client, clip)


def check_health_and_metrics(client, clip: Path) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    client.post("/v1/images?n=3", content=clip.read_bytes())
    client.post("/v1/images", content=b"x")
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
    assert lines['speech2image_requests_total{path="/v1/images",status="200"}'] == "1.0"
    assert lines['speech2image_requests_total{path="/v1/images",status="422"}'] == "1.0"
    assert lines['speech2image_pictures_total{model="tiny",route="direct"}'] == "3.0"
    assert lines["speech2image_speech_seconds_total"] == "1.5"
    assert lines["speech2image_accepted"] == "0.0"
    assert float(lines["process_resident_memory_bytes"]) > 1e6


def test_an_unforeseen_failure_is_a_500_without_its_inner_life(tiny: Path, clip: Path) -> None:
    with client_of(tiny) as client:
        service = client.app.state.service
        service._decode = lambda *arguments: 1 // 0
        answer = client.post("/v1/images", content=clip.read_bytes())
    assert answer.status_code == 500
    assert "Zero" not in answer.text


def test_of_two_sound_tracks_the_one_with_speech_is_drawn() -> None:
    from spoken import encoded, sentence

    tone = 0.3 * np.sin(np.arange(len(sentence())) / 5).astype(np.float32)
    with client_of(Path("flowers-and-birds")) as client:
        alone, behind_a_tone = (
            client.post("/v1/images", content=encoded(*tracks, kind="mkv"))
            for tracks in ([sentence()], [tone, sentence()])
        )
    assert alone.status_code == 200 and behind_a_tone.content == alone.content


# ---- a route with a transcript (issue 5) ---------------------------------------------------------


def test_another_route_shows_its_transcript(tiny: Path, clip: Path, monkeypatch) -> None:
    from understood_route import open_understood

    from speech2image.web import registry

    monkeypatch.setitem(registry.OPENERS, "cascade", open_understood)
    with client_of(tiny) as client:
        assert client.get("/v1/models").json()["models"][0]["routes"] == ["direct", "cascade"]
        query = "/v1/images?format=json&route="
        heard = client.post(query + "cascade", content=clip.read_bytes()).json()
        assert (heard["route"], heard["transcript"]) == ("cascade", "a red flower")
        assert "transcript" not in client.post(query + "direct", content=clip.read_bytes()).json()
        parameters = client.get("/openapi.json").json()["paths"]["/v1/images"]["post"]["parameters"]
        route = next(parameter for parameter in parameters if parameter["name"] == "route")
        assert route["schema"]["enum"] == ["direct", "cascade"]


def test_a_route_that_a_model_lacks_is_not_offered(tiny: Path, monkeypatch) -> None:
    from speech2image.web import registry

    monkeypatch.setitem(registry.OPENERS, "cascade", lambda model, threads: None)
    with client_of(tiny) as client:
        assert client.get("/v1/models").json()["models"][0]["routes"] == ["direct"]
        paths = client.get("/openapi.json").json()["paths"]
        assert "cascade" not in json.dumps(
            [verbs["post"]["parameters"] for verbs in list(paths.values())[:2]]
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"queue": 0},
        {"port": 70_000},
        {"max_seconds": 0},
        {"origins": ("*",)},
        {"workers": 1000},
    ],
)
def test_settings_out_of_range(wrong: dict) -> None:
    with pytest.raises(SettingsError):
        ServerSettings(**wrong)
