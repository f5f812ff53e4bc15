"""download: resumable, checked, with licences, against a server of this machine."""

import hashlib
import http.server
import io
import socketserver
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from speech2image import cli
from speech2image.data import downloading
from speech2image.data.downloading import fetch
from speech2image.errors import DataError, OutputError, Speech2ImageError
from speech2image.models import published
from speech2image.models.published import PUBLISHED, Published, PublishedFile, where


@dataclass
class Server:
    """What the server has, what it was asked, and after how many bytes its answers break off."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    version: str = '"1"'
    ranges: bool = True
    breaks: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    busy: int = 0


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.asked.append(wanted)
            data = state.files.get(self.path)
            if state.busy:
                state.busy -= 1
                self.send_error(503)
                return
            if data is None:
                self.send_error(404)
                return
            same = self.headers.get("If-Range") in (None, state.version)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and same and state.ranges else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.send_header("ETag", state.version)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            size = state.breaks.pop(0) if state.breaks else len(data)
            self.wfile.write(data[start : start + size])
            self.close_connection = True

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        state.address = f"http://127.0.0.1:{served.server_address[1]}"
        monkeypatch.setattr(downloading.time, "sleep", lambda seconds: None)
        yield state
        served.shutdown()


CONTENT = bytes(range(256)) * 4000


def test_what_breaks_off_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.files["/a"], server.breaks = CONTENT, [300_000, 200_000]
    told: list[int] = []
    wanted = hashlib.md5(CONTENT).hexdigest()
    assert fetch(f"{server.address}/a", tmp_path / "x" / "a", f"md5:{wanted}", told.append) == wanted
    assert (tmp_path / "x" / "a").read_bytes() == CONTENT
    assert server.asked == ["", "bytes=300000-", "bytes=500000-"]
    assert sum(told) == len(CONTENT)
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["a"]
    fetch(f"{server.address}/a", tmp_path / "x" / "a", f"md5:{wanted}")
    assert len(server.asked) == 3  # it is there


def test_a_later_call_goes_on_too(server: Server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(downloading, "PAUSES", ())
    server.files["/a"], server.breaks = CONTENT, [300_000]
    with pytest.raises(Speech2ImageError, match=r"0\.3 MB are kept, and the same command goes on"):
        fetch(f"{server.address}/a", tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert fetch(f"{server.address}/a", tmp_path / "a") == hashlib.sha256(CONTENT).hexdigest()
    assert server.asked == ["", "bytes=300000-"]


@pytest.mark.parametrize("changed", [True, False])
def test_a_file_that_changed_or_a_server_without_ranges_begins_anew(
    changed: bool, server: Server, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(downloading, "PAUSES", ())
    server.files["/a"], server.breaks = CONTENT, [300_000]
    with pytest.raises(Speech2ImageError):
        fetch(f"{server.address}/a", tmp_path / "a")
    if changed:
        server.files["/a"], server.version = CONTENT[::-1], '"2"'
    else:
        server.ranges = False
    fetch(f"{server.address}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == server.files["/a"]


def test_a_wrong_checksum_is_an_error_and_nothing_stays(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = CONTENT
    with pytest.raises(DataError, match=r"its sha1 is [0-9a-f]{40}, not 0000"):
        fetch(f"{server.address}/a", tmp_path / "a", "sha1:0000")
    assert not list(tmp_path.iterdir())
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(DataError, match="is there, but its sha256"):
        fetch(f"{server.address}/a", tmp_path / "a", "sha256:0000")
    assert (tmp_path / "a").read_bytes() == b"mine"


def test_servers_that_have_nothing_or_are_busy(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Speech2ImageError, match="404"):
        fetch(f"{server.address}/b", tmp_path / "b")
    assert len(server.asked) == 1
    server.files["/a"], server.busy = CONTENT, 2
    fetch(f"{server.address}/a", tmp_path / "a")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        fetch(f"{server.address}/a", tmp_path / "file" / "a")


def test_the_command_shows_licences_fetches_and_unpacks(
    server: Server, tmp_path: Path, monkeypatch, capsys
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("set/jpg/1.jpg")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"jpg"))
    server.files = {"/set.tgz": out.getvalue(), "/labels": b"labels"}
    checksum = f"sha256:{hashlib.sha256(out.getvalue()).hexdigest()}"
    files = (
        PublishedFile(f"{server.address}/set.tgz", 0.1, checksum),
        PublishedFile(f"{server.address}/labels", 0.1, place="set/labels"),
    )
    made_up = {"set": Published("a made-up set", "CC0-1.0", "prepare", files)}
    monkeypatch.setattr(published, "PUBLISHED", made_up)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["download", "set"]) == 0
    shown = capsys.readouterr().out
    assert "licence: CC0-1.0" in shown and "as published" in shown and "not known here" in shown
    assert (tmp_path / "set/set/jpg/1.jpg").read_bytes() == b"jpg"
    assert (tmp_path / "set/set/labels").read_bytes() == b"labels"
    (tmp_path / "set/set/jpg/1.jpg").unlink()
    assert cli.main(["download", "set"]) == 0  # unpacked once
    assert not (tmp_path / "set/set/jpg/1.jpg").exists()


def test_without_a_name_all_are_listed_and_nothing_is_fetched(capsys) -> None:
    assert cli.main(["download"]) == 0
    shown = capsys.readouterr().out
    for name, found in PUBLISHED.items():
        assert f"{name}: " in shown and found.licence in shown
        assert found.files[0].url in shown
    assert cli.main(["download", "everything"]) == 2
    assert "there are: oxford102" in capsys.readouterr().err


def test_entries_are_complete_and_the_docs_name_them() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    for name, found in PUBLISHED.items():
        assert f"`{name}`" in docs and found.files[0].url in docs, name
        assert found.files[0].checksum.partition(":")[2][:8] in docs, name
        for file in found.files:
            assert file.url.startswith("http") and file.megabytes > 0
            kind, _, digits = file.checksum.partition(":")
            assert not kind or len(digits) <= {"md5": 32, "sha1": 40, "sha256": 64}[kind]
    assert "download googlenet" in where("googlenet") and "405fc5ac" in where("googlenet")


def test_errors_about_missing_weights_say_what_fetches_them(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from speech2image.errors import CheckpointError
    from speech2image.models import inception, whisper
    from speech2image.models.teacher.googlenet import load_teacher

    for load, name in (
        (load_teacher, "googlenet"),
        (inception.read_weights, "inception"),
        (whisper.load_backbone, "whisper-tiny.en"),
    ):
        with pytest.raises(CheckpointError, match=f"speech2image download {name} fetches it from http"):
            load(tmp_path / "absent.pth")
