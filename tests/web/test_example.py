"""The example client and the curl line of the docs, against a real server."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from web_server import server_of

import speech2image

ROOT = Path(__file__).parents[2]


def test_client_and_curl(tiny: Path, clip: Path, tmp_path: Path) -> None:
    expected = speech2image.load(tiny).translate(clip, 3, 0)
    (tmp_path / "clip.wav").write_bytes(clip.read_bytes())
    line = re.search(r"^ +(curl --data-binary .*)$", (ROOT / "docs/serving.md").read_text(), re.MULTILINE)
    with server_of(tiny, "--no-page") as (_, address):
        script = [sys.executable, str(ROOT / "examples/http_client.py"), "clip.wav", "f.png", address, "3"]
        done = subprocess.run(script, cwd=tmp_path, check=True, capture_output=True, text=True)
        assert done.stdout.splitlines()[0] == "f.png: model tiny, seed 0"
        for name, image in zip(("f.png", "f-2.png", "f-3.png"), expected.images, strict=True):
            assert np.array_equal(np.asarray(Image.open(tmp_path / name)), np.asarray(image))
        (tmp_path / "text.wav").write_text("no recording")
        script[2] = "text.wav"
        failed = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
        assert failed.returncode != 0
        assert "422: the recording cannot be decoded" in failed.stderr
        if shutil.which("curl"):
            command = shlex.split(line[1].replace("http://127.0.0.1:7860", address))
            subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
            grid = np.asarray(speech2image.load(tiny).translate(clip, 8, 0).grid())
            assert np.array_equal(np.asarray(Image.open(tmp_path / "flower.png")), grid)


def test_live_client(tiny: Path, clip: Path, tmp_path: Path) -> None:
    expected = speech2image.load(tiny).translate(clip, 2, 0)
    with server_of(tiny, "--no-page") as (_, address):
        script = [sys.executable, str(ROOT / "examples/live_client.py"), str(clip), "f.png"]
        script += [address.replace("http", "ws"), "2"]
        done = subprocess.run(script, cwd=tmp_path, check=True, capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "f-2.png: model tiny, seed 0"
        for name, image in zip(("f.png", "f-2.png"), expected.images, strict=True):
            assert np.array_equal(np.asarray(Image.open(tmp_path / name)), np.asarray(image))
        failed = subprocess.run([*script[:-1], "17"], cwd=tmp_path, capture_output=True, text=True)
        assert failed.returncode != 0 and "422: n must be" in failed.stderr


def test_ray_application(tiny: Path, clip: Path, monkeypatch) -> None:
    """The same pictures through Ray Serve; where Ray is installed."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    for check in ("READY", "HEALTH"):  # Ray gives its proxy five seconds to start, a busy machine needs more
        monkeypatch.setenv(f"RAY_SERVE_PROXY_{check}_CHECK_TIMEOUT_S", "300")
    pytest.importorskip("ray")
    import urllib.request

    import ray
    from ray import serve

    from speech2image.web.ray_app import app

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": 18_765})
        serve.run(app({"copies": "1", "models": str(tiny)}))
        request = urllib.request.Request("http://127.0.0.1:18765/v1/images?seed=4", clip.read_bytes())
        with urllib.request.urlopen(request, timeout=60) as answer:
            (clip.parent / "ray.png").write_bytes(answer.read())
    finally:
        serve.shutdown()
        ray.shutdown()
    expected = speech2image.load(tiny).translate(clip, 1, 4).images[0]
    assert np.array_equal(np.asarray(Image.open(clip.parent / "ray.png")), np.asarray(expected))
