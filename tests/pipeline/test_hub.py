"""Models at a hub: fetched and pushed over HTTP, against a server in this process that speaks as it does."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tiny_cascade import make_cascade
from tiny_model import make_model, write_wav

import speech2image
from speech2image import cli
from speech2image.errors import CheckpointError, SettingsError
from speech2image.pipeline import hub, registry

TOKEN = "of a test"


class Hub(ThreadingHTTPServer):
    """As much of Hugging Face as `pipeline/hub.py` asks for: revisions, files, large files, commits."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.models: dict[str, dict[str, bytes]] = {}
        self.stored: dict[str, bytes] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[tuple[str, str, str | None]] = []

    def sha(self, name: str) -> str:
        """Of a model's files: another commit where they are others."""
        rows = sorted(
            (path, hashlib.sha256(content).hexdigest()) for path, content in self.models[name].items()
        )
        return hashlib.sha1(json.dumps(rows).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, content: bytes | dict[str, Any], status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def note(self) -> list[str]:
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        return self.path.strip("/").split("/")

    def do_GET(self) -> None:
        match self.note():
            case ["api", "models", user, name, "revision", revision] if (
                f"{user}/{name}" in self.server.models
            ):
                name = f"{user}/{name}"
                if revision not in ("main", self.server.sha(name)):
                    return self.answer(b"no such revision", 404)
                listed = [{"rfilename": path} for path in self.server.models[name]]
                return self.answer({"sha": self.server.sha(name), "siblings": listed})
            case [user, name, "resolve", _, *path] if f"{user}/{name}" in self.server.models:
                content = self.server.models[f"{user}/{name}"]["/".join(path)]
                if path[-1].endswith(".onnx"):  # as the hub sends large files from elsewhere
                    sha = hashlib.sha256(content).hexdigest()
                    self.server.stored[sha] = content
                    return self.answer(
                        b"", 302, Location=f"http://localhost:{self.server.server_address[1]}/stored/{sha}"
                    )
                return self.answer(content)
            case ["stored", sha]:
                return self.answer(self.server.stored[sha])
        return self.answer(b"nothing there", 404)

    def do_POST(self) -> None:
        path = self.note()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(b"who are you?", 401)
        match path:
            case ["api", "repos", "create"]:
                wanted = json.loads(body)
                name = f"{wanted['organization']}/{wanted['name']}"
                if name in self.server.models:
                    return self.answer(b"it is there", 409)
                self.server.models[name], self.server.private[name] = {}, wanted["private"]
                return self.answer({"url": name})
            case [_, _, "info", "lfs", "objects", "batch"]:
                objects = json.loads(body)["objects"]
                for one in objects:
                    if one["oid"] not in self.server.stored:
                        one["actions"] = {"upload": {"href": f"{self.server.address}/stored/{one['oid']}"}}
                return self.answer({"objects": objects})
            case ["api", "models", user, name, "commit", "main"]:
                files = self.server.models[f"{user}/{name}"]
                for line in map(json.loads, body.decode().splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        files[value["path"]] = self.server.stored[value["oid"]]
                return self.answer({"commitUrl": "x"})
        return self.answer(b"nothing there", 404)

    def do_PUT(self) -> None:
        path = self.note()
        content = self.rfile.read(int(self.headers["Content-Length"]))
        assert hashlib.sha256(content).hexdigest() == path[-1]
        self.server.stored[path[-1]] = content
        self.answer(b"")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", made.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.delenv("http_proxy", raising=False)
        yield made
        made.shutdown()


def test_what_was_pushed_is_loaded(server: Hub, tmp_path: Path, capsys) -> None:
    model = make_model(tmp_path / "mine", description='red "birds"')
    clip = write_wav(tmp_path / "a.wav", 1.5)
    assert cli.main(["push", str(model), "hf://ann/birds", "--private"]) == 0
    assert capsys.readouterr().out == f"{server.address}/ann/birds\n"
    assert server.private == {"ann/birds": True}
    assert set(server.models["ann/birds"]) == {
        "model.json",
        "README.md",
        "speech_encoder.onnx",
        "generator.onnx",
    }
    known = speech2image.load(model).translate(clip, 2)
    route = speech2image.load("hf://ann/birds")
    assert [a.tobytes() for a in route.translate(clip, 2).images] == [b.tobytes() for b in known.images]
    assert (
        cli.main(["translate", str(clip), "--model", "hf://ann/birds@main", "-o", str(tmp_path / "p.png")])
        == 0
    )
    fetched = [token for method, path, token in server.asked if method == "GET" and "/stored/" in path]
    assert fetched and not any(fetched)  # the token stays with the hub


def test_a_revision_is_fetched_once_and_stands_without_the_network(
    server: Hub, tmp_path: Path, monkeypatch
) -> None:
    hub.push(registry.find(make_model(tmp_path / "mine")), "hf://ann/birds")
    first = hub.fetch("hf://ann/birds")
    n = len(server.asked)
    assert hub.fetch("hf://ann/birds") == first and len(server.asked) == n + 1
    hub.push(registry.find(make_model(tmp_path / "other", description="more")), "hf://ann/birds")
    second = hub.fetch("hf://ann/birds")
    assert second != first and registry.read_card(second).card["description"] == "more"
    assert hub.fetch(f"hf://ann/birds@{second.name}") == second
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    with pytest.warns(UserWarning, match="cannot be reached .* fetched before"):
        assert hub.fetch("hf://ann/birds") == second
    with pytest.raises(CheckpointError, match="cannot be reached"):
        hub.fetch("hf://ann/others")


def test_a_model_that_shares_networks_is_pushed_whole(server: Hub, tmp_path: Path) -> None:
    lender = make_model(tmp_path / "lender")
    borrower = make_cascade(tmp_path / "borrower")
    card = json.loads((borrower / "model.json").read_text())
    card["files"]["generator"] = json.loads((lender / "model.json").read_text())["files"]["generator"] | {
        "of": "lender"
    }
    (borrower / "model.json").write_text(json.dumps(card))
    (borrower / "generator.onnx").unlink()
    hub.push(registry.find(borrower), "hf://ann/words")
    files = server.models["ann/words"]
    assert {"generator.onnx", "text_encoder.onnx", "recognizer/recognizer.json"} <= set(files)
    fetched = hub.fetch("hf://ann/words")
    assert not registry.read_card(fetched).shared
    clip = write_wav(tmp_path / "a.wav", 1.5)
    assert speech2image.load("hf://ann/words").translate(clip).transcript


def test_damage_is_found(server: Hub, tmp_path: Path) -> None:
    hub.push(registry.find(make_model(tmp_path / "mine")), "hf://ann/birds")
    server.models["ann/birds"]["generator.onnx"] += b"x"
    with pytest.raises(CheckpointError, match="damaged or was replaced"):
        speech2image.load("hf://ann/birds")
    del server.models["ann/birds"]["generator.onnx"]
    with pytest.raises(CheckpointError, match=r"not whole: it lacks generator\.onnx"):
        hub.fetch("hf://ann/birds")
    server.models["ann/birds"] = {"config.json": b"{}"}
    with pytest.raises(CheckpointError, match=r"no model of speech2image: it has no model\.json"):
        hub.fetch("hf://ann/birds")
    assert not list((tmp_path / "cache").rglob("*.speech2image"))


@pytest.mark.parametrize("name", ["hf://birds", "hf://a/b/c", "hf://../b", "hf://a/b@", "hf://a/b?c"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(SettingsError, match="names no model at a hub"):
        speech2image.load(name)


def test_what_the_hub_refuses_is_told(server: Hub, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(CheckpointError, match=r"has no ann/none at 'main', or it is private .*\(404\)"):
        speech2image.load("hf://ann/none")
    model = registry.find(make_model(tmp_path / "mine"))
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(CheckpointError, match=r"not yours \(401\)"):
        hub.push(model, "hf://ann/birds")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(SettingsError, match="set HF_TOKEN"):
        hub.push(model, "hf://ann/birds")
    monkeypatch.setenv("HF_ENDPOINT", "huggingface.co")
    with pytest.raises(SettingsError, match="HF_ENDPOINT"):
        hub.fetch("hf://ann/birds")


def test_a_readme_has_front_matter_and_says_how_it_was_trained() -> None:
    card = {
        "name": "birds",
        "licence": "CC-BY-4.0",
        "picture_size": 64,
        "files": {"generator": {"file": "generator.onnx", "bytes": 5, "sha256": "ab" * 32}},
        "training": {
            "generator": {"steps": 800, "seed": 3, "data": "cub: 60 pictures", "versions": {"torch": "2"}}
        },
    }
    text = hub.readme(card)
    front, body = text.removeprefix("---\n").split("---\n\n", 1)
    assert "license: cc-by-4.0\n" in front and "library_name: speech2image\n" in front
    assert body.startswith("# birds\n")
    assert "| generator | 800 | 3 |  | cub: 60 pictures | torch 2 |" in body
    other = hub.readme(card | {"licence": "see: WEIGHTS # of mine"})
    assert 'license: other\nlicense_name: "see: WEIGHTS # of mine"\n' in other
