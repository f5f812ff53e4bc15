"""record: with a made-up PortAudio that hears what it is given, and without one."""

import json
import sys
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from tiny_cascade import HEARD, make_cascade
from tiny_model import speech

import speech2image
from speech2image import audio, cli
from speech2image.commands import record


def portaudio(samples: np.ndarray, rate: int = 16_000) -> ModuleType:
    """A module like sounddevice whose one microphone hears `samples` and then stays open."""
    module = ModuleType("sounddevice")

    class PortAudioError(Exception):
        pass

    class InputStream:
        def __init__(self, device, samplerate, channels, dtype, callback) -> None:
            assert (samplerate, channels, dtype) == (rate, 1, "float32")
            self._thread = threading.Thread(target=self._hear, args=(callback,))

        def _hear(self, callback) -> None:
            for start in range(0, len(samples), 1_000):
                block = samples[start : start + 1_000, None]
                callback(block, len(block), None, None)

        def __enter__(self) -> None:
            self._thread.start()
            self._thread.join()

        def __exit__(self, *_: object) -> None:
            pass

    def query_devices(device=None, kind=None):
        if device == "absent":
            raise ValueError("No input device matching 'absent'")
        return {"default_samplerate": float(rate)} if kind else "0 a made-up microphone"

    module.PortAudioError, module.InputStream, module.query_devices = (
        PortAudioError,
        InputStream,
        query_devices,
    )
    return module


@pytest.fixture
def microphone(monkeypatch, tmp_path: Path) -> np.ndarray:
    samples = speech(1.5)
    monkeypatch.setitem(sys.modules, "sounddevice", portaudio(samples))
    monkeypatch.setattr(record, "_TICK", 0.001)
    monkeypatch.chdir(tmp_path)
    return samples


def test_records_until_the_time_is_up(microphone, tiny: Path, capsys) -> None:
    words = ["record", "--seconds", "0.01", "-n", "2", "-o", "f.png", "--seed", "3", "--model", str(tiny)]
    assert cli.main([*words, "--json", "--keep-speech", "heard.wav"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 2
    expected = speech2image.load(tiny).translate((microphone, 16_000), 2, 3).grid()
    assert np.array_equal(np.asarray(Image.open("f.png")), np.asarray(expected))
    assert np.allclose(audio.load("heard.wav"), microphone, atol=1e-3)


def test_live_pictures_while_listening(microphone, tmp_path: Path, monkeypatch, capsys) -> None:
    """The file holds a picture of what was said so far before Enter is pressed, and the final one after."""
    make_cascade(tmp_path / "mine")
    route, seen = speech2image.load(tmp_path / "mine"), []

    def enter() -> bool:
        if Path("f.png").exists():
            seen.append(np.asarray(Image.open("f.png")))
        return bool(seen)

    monkeypatch.setattr(record, "_enter_pressed", enter)
    shown: list[str] = []
    monkeypatch.setattr(record, "_show", shown.append)
    words = ["record", "--live", "-n", "2", "-o", "f.png", "--seed", "3", "--model", str(tmp_path / "mine")]
    assert cli.main(words) == 0
    expected = route.translate((microphone, 16_000), 2, 3)
    assert np.array_equal(seen[0], np.asarray(expected.images[0]))  # the first update goes the whole way
    assert np.array_equal(np.asarray(Image.open("f.png")), np.asarray(expected.grid()))
    assert any(f'"{HEARD}"' in line for line in shown)


def test_live_without_speech_writes_nothing(monkeypatch, tiny: Path, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", portaudio(np.zeros(32_000, np.float32)))
    out = tmp_path / "f.png"
    assert cli.main(["record", "--live", "--seconds", "0.1", "-o", str(out), "--model", str(tiny)]) == 1
    assert not out.exists()


@pytest.mark.parametrize("flags", [["--separate", "-n", "2"], ["-o", "-"]])
def test_live_writes_one_file(microphone, tiny: Path, flags: list[str], capsys) -> None:
    assert cli.main(["record", "--live", "--model", str(tiny), *flags]) == 2
    assert "--live writes one file" in capsys.readouterr().err


def test_route_through_text(microphone, tmp_path: Path, capsys) -> None:
    make_cascade(tmp_path / "mine")
    words = ["record", "--seconds", "0.01", "-o", "f.png", "--model", str(tmp_path / "mine")]
    assert cli.main([*words, "--route", "cascade"]) == 0
    assert capsys.readouterr().err.endswith(f'heard: "{HEARD}"\n')
    assert cli.main([*words, "--route", "direct"]) == 1
    assert "direct" in capsys.readouterr().err


def test_enter_stops(microphone, tiny: Path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(record, "_enter_pressed", lambda: asked.append(1) or len(asked) == 3)
    assert cli.main(["record", "-o", "f.png", "--model", str(tiny)]) == 0
    assert len(asked) == 3


def test_other_sample_rate(monkeypatch, tiny: Path, tmp_path: Path) -> None:
    samples = np.repeat(speech(1.5), 3)
    monkeypatch.setitem(sys.modules, "sounddevice", portaudio(samples, 48_000))
    heard, rate = record.listen(sys.modules["sounddevice"], None, 0.01, stop_on_enter=False)
    assert rate == 48_000
    assert np.array_equal(heard, samples)


def test_silence(monkeypatch, tiny: Path, tmp_path: Path, capsys) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", portaudio(np.zeros(32_000, np.float32)))
    out = str(tmp_path / "f.png")
    assert cli.main(["record", "--seconds", "0.01", "-o", out, "--model", str(tiny)]) == 1
    assert "no speech heard" in capsys.readouterr().err


def test_no_such_microphone_and_list(microphone, tiny: Path, capsys) -> None:
    words = ["record", "--seconds", "0.01", "--model", str(tiny), "--device"]
    assert cli.main([*words, "absent"]) == 1
    assert "the microphone cannot be used: No input device" in capsys.readouterr().err
    assert cli.main([*words, "list"]) == 0
    assert "made-up" in capsys.readouterr().out


def test_without_the_package(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert cli.main(["record"]) == 1
    assert "pip install 'speech2image[mic]'" in capsys.readouterr().err


def test_without_portaudio(monkeypatch, capsys) -> None:
    def absent(module: str, extra: str) -> ModuleType:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr(record, "require", absent)
    assert cli.main(["record"]) == 1
    told = capsys.readouterr().err
    assert "apt-get install libportaudio2" in told
    assert "Traceback" not in told


def test_wrong_time_is_wrong_usage(capsys) -> None:
    assert cli.main(["record", "--seconds", "100"]) == 2
    assert "--seconds must be from 0" in capsys.readouterr().err


@pytest.mark.parametrize(("peak", "filled"), [(0.0, 0), (1.0, 30), (2.0, 30), (10 ** (-25 / 20), 15)])
def test_meter(peak: float, filled: int) -> None:
    assert record.meter(peak) == f"[{'#' * filled}{' ' * (30 - filled)}]"


@pytest.mark.parametrize("command", ["serve", "record"])
def test_help(command: str, capsys) -> None:
    assert cli.main([command, "--help"]) == 0
    assert f"speech2image {command}" in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["fastapi", "jinja2"])
def test_serve_without_its_extra(monkeypatch, capsys, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert cli.main(["serve"]) == 1
    assert "pip install 'speech2image[web]'" in capsys.readouterr().err
