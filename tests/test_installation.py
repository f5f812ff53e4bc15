"""Installed from wheel and sdist, without a home, for a user without a name; nothing sent, nothing left."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from speech2image.tts import available_voices

ROOT = Path(__file__).parents[1]
RECORDINGS = ROOT / "examples" / "recordings"
CLIP, OTHER = (str(RECORDINGS / f"{name}-kal16.opus") for name in ("blue-bird", "yellow-cup"))
SPEECH2IMAGE = [sys.executable, "-m", "speech2image"]
COMMANDS = [
    ["--version"],
    ["models"],
    ["translate", CLIP, "-o", "a.png"],
    ["translate", CLIP, "--route", "cascade", "-o", "b.png"],
    ["translate", "--text", "a blue bird", "-o", "c.png"],
    ["interpolate", CLIP, OTHER, "-o", "d.png"],
    ["interpolate", CLIP, OTHER, "--route", "cascade", "-o", "e.png"],
    ["record", "--help"],
    ["serve", "--help"],
]
NAMELESS = ["unshare", "--user", "--map-user", "54321"]
NAMESPACE = ["unshare", "--map-root-user", "--net", "--mount"]


def environment(home: Path | None) -> dict[str, str]:
    """This one with another home; and without what would keep ONNX Runtime quiet anyway."""
    quiet = {"HOME", "CI", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS"}
    kept = {name: value for name, value in os.environ.items() if name not in quiet and name[:4] != "XDG_"}
    return kept | ({} if home is None else {"HOME": str(home)})


def can(*command: str) -> bool:
    """Whether this machine lets us be another user, or have a network of our own."""
    return (
        bool(shutil.which(command[0]))
        and not subprocess.run([*command, "true"], capture_output=True).returncode
    )


def test_ten_commands_leave_home_empty(tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir(), work.mkdir()
    spoken = [["say", "a red flower", "-o", "f.png"]] if available_voices() else []
    for command in [*COMMANDS, *spoken]:
        done = subprocess.run(
            [*SPEECH2IMAGE, *command], env=environment(home), cwd=work, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert list(home.iterdir()) == [], command
    assert len(list(work.iterdir())) == 5 + len(spoken)


def test_libraries_are_told_before_they_are_imported() -> None:
    code = (
        "import os, sys, speech2image; from speech2image.pipeline.onnx import Session;"
        "assert 'onnxruntime' not in sys.modules; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    )
    told_otherwise = environment(None) | {"ORT_DISABLE_TELEMETRY": "0"}
    subprocess.run([sys.executable, "-c", code], env=told_otherwise, check=True)


@pytest.mark.slow
@pytest.mark.skipif(not can(*NAMESPACE), reason="this machine gives no network of one's own")
def test_no_name_is_asked_for(tmp_path: Path) -> None:
    """ONNX Runtime asked for its maker's host ten seconds after it was imported."""
    stays = (
        "import sys, time, speech2image;"
        "speech2image.load().translate(sys.argv[1], n=1, seed=0); time.sleep(13)"
    )
    asks = "import socket\ntry: socket.getaddrinfo('control.example', 80)\nexcept OSError: pass"
    commands = [[sys.executable, "-c", stays, CLIP], [sys.executable, "-c", asks]]
    shown = subprocess.run(
        [*NAMESPACE, sys.executable, str(Path(__file__).with_name("watched_names.py"))],
        input=json.dumps(commands),
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout) == {"statuses": [0, 0], "names": ["control.example"]}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree."""
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def build(kind: str, tree: Path, out: Path) -> Path:
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    return next(out.iterdir())


def test_the_sdist_gives_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since Python 3.11.4
        archive.extractall(tmp_path, **safe)  # type: ignore[arg-type]
    again = build("wheel", tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "wheel")
    assert contents(again) == contents(wheel)
    listed = subprocess.run(["git", "ls-files", "speech2image"], cwd=ROOT, capture_output=True, text=True)
    assert set(listed.stdout.split()) <= set(contents(wheel))


def contents(wheel: Path) -> dict[str, int]:
    """Name -> checksum of what lies in a wheel."""
    with zipfile.ZipFile(io.BytesIO(wheel.read_bytes())) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist()}


@pytest.mark.skipif(not can(*NAMELESS), reason="this machine gives no user of one's own")
def test_read_only_for_a_user_without_name_and_home(wheel: Path, tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    work.mkdir()
    for path in [site, *site.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    code = "import speech2image.cli, sys; print(speech2image.__file__); sys.exit(speech2image.cli.main())"
    done = subprocess.run(
        [*NAMELESS, sys.executable, "-c", code, "translate", CLIP, "-o", "a.png"],
        env=environment(None) | {"PYTHONPATH": str(site)},
        cwd=work,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))
    assert [path.name for path in work.iterdir()] == ["a.png"]
    assert not list(site.rglob("__pycache__"))
