"""`speech2image fid` from the command line, with a small random network in place of Inception-v3."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from small_network import RandomNetwork, pictures

import speech2image
from speech2image import cli
from speech2image.metrics import feature_network


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(feature_network, "load_inception", lambda path, layer: RandomNetwork())
    for seed, name in enumerate(("real", "drawn")):
        (tmp_path / name).mkdir()
        for i, picture in enumerate(pictures(30, seed=seed)):
            Image.fromarray(picture).save(tmp_path / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_prints_the_figures(folders, capsys):
    assert cli.main(["fid", "real", "drawn", "--network", "n.pth", "--resamples", "0"]) == 0
    out, err = capsys.readouterr()
    assert "pictures   30 and 30" in out
    assert "FID " in out
    assert "precision" in out
    assert "warning" not in err
    assert (folders / "cache" / "speech2image" / "features").is_dir()


def test_json(folders, capsys):
    words = ["fid", "real", "real", "--network", "n.pth", "--json", "--cache", "kept", "--resamples", "3"]
    assert cli.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["fid"] == pytest.approx(0, abs=1e-6)
    assert (told["precision"], told["recall"], told["n"]) == (1, 1, [30, 30])
    assert (told["seed"], told["size"], told["network"]) == (0, None, "random/24")
    assert (folders / "kept" / "features").is_dir()
    assert not (folders / "cache").exists()


def test_broken_files_and_few_pictures_are_told(folders, capsys):
    for i in range(12):
        (folders / "drawn" / f"{i}.png").write_bytes(b"broken")
    assert cli.main(["fid", "real", "drawn", "--network", "n.pth", "--resamples", "0"]) == 0
    out, err = capsys.readouterr()
    assert "pictures   30 and 18" in out
    assert "12 broken files in drawn were left out" in err
    assert "0.png: unreadable picture" in err
    assert "and 2 more" in err
    assert "warning: fewer pictures than dimensions: 18 give" in err


def test_bad_use(folders, capsys):
    (folders / "empty").mkdir()
    assert cli.main(["fid", "real", "empty", "--network", "n.pth"]) == 1
    assert "no pictures in empty" in capsys.readouterr().err
    assert cli.main(["fid", "real", "drawn", "--network", "n.pth", "--size", "0"]) == 2
    assert cli.main(["fid", "real", "drawn"]) == 2
    assert "--network" in capsys.readouterr().err
    (folders / "one").mkdir()
    Image.fromarray(pictures(1)[0]).save(folders / "one" / "a.png")
    assert cli.main(["fid", "real", "one", "--network", "n.pth"]) == 1
    assert "has 1 readable picture" in capsys.readouterr().err


def test_wrong_network_file(folders, capsys, monkeypatch):
    monkeypatch.undo()
    (folders / "n.pth").write_bytes(b"another network")
    words = ["fid", str(folders / "real"), str(folders / "drawn"), "--network", str(folders / "n.pth")]
    assert cli.main(words) == 1
    assert "its sha256 begins with" in capsys.readouterr().err


def test_help(capsys):
    assert cli.main(["fid", "--help"]) == 0
    assert "--network" in capsys.readouterr().out


def test_missing_extra_tells_the_pip_command(folders, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert cli.main(["fid", "real", "drawn", "--network", "n.pth"]) == 1
    assert "pip install 'speech2image[train]'" in capsys.readouterr().err


@pytest.mark.slow
def test_real_network_in_a_process_of_its_own(folders, shared):
    """Nothing patched: two folders of six pictures, the real 768 features, figures on standard output."""
    for name in ("real", "drawn"):
        for path in sorted((folders / name).iterdir())[6:]:
            path.unlink()
    weights = shared / "weights" / "inception_v3_fid_mixed6e.fp16.safetensors"
    command = [sys.executable, "-m", "speech2image", "fid", "real", "drawn", "--network", str(weights)]
    environment = os.environ | {"PYTHONPATH": str(Path(speech2image.__file__).parents[1])}
    words = ["--json", "--resamples", "2"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, env=environment, check=True)
    told = json.loads(done.stdout)
    assert told["network"] == "inception-v3-2015-12-05/mixed_6e"
    assert told["fid"] > 0
    assert "fewer pictures than dimensions" in done.stderr
