"""A data set goes to a GPU machine in parts, trains there, and its checkpoints come back in parts."""

import json
import os
import subprocess
import sys
import time
import zipfile
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_sets import sample

from speech2image.data.arrays import PairArrays
from speech2image.data.pairs import write_shards
from speech2image.data.shard_reading import stream_pictures
from speech2image.errors import CheckpointError, DataError, SettingsError
from speech2image.export import export_checkpoints
from speech2image.models.image_teacher import GoogLeNet
from speech2image.training.checkpoint import load_checkpoint, save_checkpoint

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import gpu_checkpoints  # noqa: E402
import gpu_data  # noqa: E402
import gpu_speed  # noqa: E402
import gpu_training  # noqa: E402
import pack_for_gpu  # noqa: E402
import train_on_gpu  # noqa: E402

LIMIT = 15_000_000
TINY = [
    "speech.steps=2",
    "speech.batch_size=4",
    "speech.evaluation_utterances=4",
    "gan.steps=2",
    "gan.batch_size=4",
    "gan.feature_size=64",
    "gan.log_every=1",
    "gan.heads.width=8",
    "gan.generator.code_size=16",
    "gan64.generator.channels=(8,8,8,8,8)",
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of three classes, two in test, each with two utterances; features at random."""
    folder = tmp_path_factory.mktemp("shards")
    write_shards(
        (sample(i, split="test" if i > 7 else "train") for i in range(10)), folder, samples_per_shard=4
    )
    rng = np.random.default_rng(0)
    arrays = PairArrays.open(folder)
    arrays.save_teacher(rng.random((10, 2, 1024)).astype(np.float16))
    arrays.save_speech_embeddings(rng.normal(1, 0.2, (20, 1024)).astype(np.float16))
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained teacher's weights, in coarse steps so that they pack quickly."""
    torch.manual_seed(0)
    weights = {k: (v * 8).round().half() / 8 for k, v in GoogLeNet().state_dict().items() if k != "shift"}
    path = tmp_path_factory.mktemp("teacher") / "googlenet.safetensors"
    save_file(weights, path)
    return path


@cache
def part_bytes(teacher: Path) -> int:
    return len(zlib.compress(teacher.read_bytes())) + 1000


@pytest.fixture(scope="module")
def packed(shards: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parts, since the teacher's weights fill one."""
    out = tmp_path_factory.mktemp("pack")
    pack_for_gpu.pack(shards, out, teacher, picture_size=64, part_megabytes=part_bytes(teacher) / 1e6)
    return out


@pytest.fixture(scope="module")
def data(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu") / "data"
    assert gpu_data.unpack(parts_of(packed), folder) == []
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RUNS and OUT of a training of two steps a stage."""
    folder = tmp_path_factory.mktemp("trained")
    assert train(data, folder, "--stages", "speech", "embeddings", "gan64") == 0
    return folder


def train(data: Path, folder: Path, *more: str, changes: tuple[str, ...] = ()) -> int:
    files = ["--data", str(data), "--runs", str(folder / "runs"), "--out", str(folder / "out")]
    return train_on_gpu.main(["train", *files, "--workers", "2", *more, "--set", *TINY, *changes])


def parts_of(folder: Path, pattern: str = "part-*.zip") -> list[Path]:
    return sorted(folder.glob(pattern))


def test_the_data_set_arrives_as_it_was(shards: Path, packed: Path, data: Path) -> None:
    there, here = PairArrays.open(data), PairArrays.open(shards)
    assert there.ids == here.ids
    for name in ("labels", "splits", "utterance_sample", "utterance_voice"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))
    np.testing.assert_array_equal(there.n_frames(), here.n_frames())
    errors = gpu_data.read_manifest(packed)["errors"]
    apart = [np.abs(there.log_mel(u) - here.log_mel(u)).max() for u in range(20)]
    assert 0 < max(apart) * gpu_data.DB_PER_NEPER <= errors["log_mel_db"]["largest"] < 15
    np.testing.assert_allclose(there.teacher, here.teacher, atol=0.005)
    np.testing.assert_array_equal(there.pictures(64), here.pictures(64))
    assert next(iter(stream_pictures([data / "pictures-000000.tar"]))).captions == ()


def test_parts_keep_the_limit_and_say_what_was_lost(packed: Path, teacher: Path) -> None:
    manifest = gpu_data.read_manifest(packed)
    assert len(manifest["parts"]) == 2
    assert all(path.stat().st_size <= part_bytes(teacher) for path in parts_of(packed))
    assert manifest["errors"]["teacher_cosine_least"] > 0.999
    assert manifest["megabytes"]["teacher weights"] > 0.02


def test_larger_pictures_are_shrunk(shards: Path, tmp_path: Path) -> None:
    pack_for_gpu.pack(shards, tmp_path / "pack", picture_size=16, picture_quality=90, speech="embeddings")
    gpu_data.unpack(parts_of(tmp_path / "pack"), tmp_path / "data")
    there, here = PairArrays.open(tmp_path / "data"), PairArrays.open(shards)
    assert there.pictures(16).shape == (10, 19, 19, 3)
    assert np.abs(there.pictures(16).astype(int) - here.pictures(16)).max() < 12
    np.testing.assert_allclose(there.speech_embeddings, here.speech_embeddings, atol=0.02)


def test_damaged_and_foreign_parts_are_refused(packed: Path, tmp_path: Path) -> None:
    first = parts_of(packed)[-1]
    (tmp_path / "pack.json").write_bytes((packed / "pack.json").read_bytes())
    spoilt = bytearray(first.read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    (tmp_path / first.name).write_bytes(spoilt)
    with pytest.raises(DataError, match="is damaged: its checksum"):
        gpu_data.unpack([tmp_path / first.name], tmp_path / "data")
    (tmp_path / "part-77.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"part-77.zip is not of this pack"):
        gpu_data.unpack([tmp_path / "part-77.zip"], tmp_path / "data")


def test_training_waits_for_all_parts(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    first, *others = parts_of(packed)
    for _ in range(2):  # the same part twice does no harm
        assert train_on_gpu.main(["unpack", str(first), "--data", str(tmp_path), "--workers", "1"]) == 0
        assert f"still missing: {others[0].name}" in capsys.readouterr().out
    assert train(tmp_path, tmp_path / "work") == 1
    assert f"lacks {others[0].name}" in capsys.readouterr().err


def test_what_travels_back_keeps_the_limits(trained: Path) -> None:
    files = list((trained / "out").iterdir())
    assert len(files) <= gpu_training.MOST_FILES
    assert all(path.stat().st_size <= LIMIT for path in files)
    assert {path.name.rsplit("-", 3)[0] for path in files if path.suffix == ".part"} == {
        "speech.average",
        "gan64.average",
        "gan64.weights",
        "gan64.moments",
    }
    with zipfile.ZipFile(trained / "out" / "reports.zip") as reports:
        assert {"report.json", "speech/log.jsonl", "gan64/log.jsonl", "gan64/0000002.webp"} <= set(
            reports.namelist()
        )
        assert json.loads(reports.read("report.json"))["gan64"]["steps"] == 2


def test_a_full_out_leaves_the_least_wanted_behind(
    data: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_training, "MOST_FILES", 3)
    options = train_on_gpu._parser().parse_args(
        ["train", "--data", str(data), "--runs", str(trained / "runs"), "--out", str(tmp_path)]
    )
    gpu_training.ship(gpu_training.Plan(options), ["speech", "gan64"])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["gan64.average-0-of-1.part", "reports.zip", "speech.average-0-of-1.part"]


def test_joined_checkpoints_export_and_go_on(data: Path, trained: Path, tmp_path: Path) -> None:
    made = gpu_checkpoints.join(parts_of(trained / "out", "*.part"), tmp_path / "runs")
    whole, joined = (
        load_checkpoint(folder / "gan64" / "checkpoint.safetensors")
        for folder in (trained / "runs", tmp_path / "runs")
    )
    assert_close(joined, whole)
    speech = tmp_path / "runs" / "speech" / "checkpoint.safetensors"
    assert speech in made and "model" not in load_checkpoint(speech)  # finished: only its average came
    parity = export_checkpoints(
        speech, tmp_path / "runs/gan64/checkpoint.safetensors", tmp_path / "model", name="t", licence="none"
    )
    assert parity.picture < 0.1 and (tmp_path / "model" / "model.json").exists()
    assert train(data, tmp_path, "--stages", "gan64", changes=("gan.steps=3",)) == 0
    assert load_checkpoint(made[0].parents[1] / "gan64" / "checkpoint.safetensors")["step"] == 3


@pytest.mark.slow
def test_a_killed_training_goes_on(data: Path, tmp_path: Path) -> None:
    """Killed without warning after some checkpoint, it goes on from there."""
    checkpoint = tmp_path / "runs" / "gan64" / "checkpoint.safetensors"
    endless = ["gan.steps=100000", "gan.checkpoint_minutes=0", "gan.speech_fraction=0.0"]
    files = ["--data", str(data), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    command = [sys.executable, str(SCRIPTS / "train_on_gpu.py"), "train", *files, "--stages", "gan64"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "--set", *TINY, *endless], env=environment, stderr=subprocess.PIPE)
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -9, process.stderr and process.stderr.read()
    reached = load_checkpoint(checkpoint)["step"]
    changes = (f"gan.steps={reached + 1}", "gan.speech_fraction=0.0")
    assert train(data, tmp_path, "--stages", "gan64", changes=changes) == 0
    assert load_checkpoint(checkpoint)["step"] == reached + 1


def test_parts_of_a_checkpoint_are_checked(trained: Path, tmp_path: Path) -> None:
    small = gpu_checkpoints.split(
        trained / "runs/gan64/checkpoint.safetensors", tmp_path, "gan64", part_bytes=60_000
    )
    assert len(small) > 4 and all(path.stat().st_size <= 60_000 for path in small)
    with pytest.raises(CheckpointError, match=rf"missing: {small[0].name}"):
        gpu_checkpoints.join(small[1:], tmp_path / "runs")
    small[1].write_bytes(small[1].read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="is damaged"):
        gpu_checkpoints.join(small, tmp_path / "runs")
    with pytest.raises(CheckpointError, match="'average' did not come"):
        gpu_checkpoints.join([p for p in small if "moments" in p.name], tmp_path / "runs")


def test_first_moments_travel_unless_the_next_step_overwrites_them(tmp_path: Path) -> None:
    network = torch.nn.Linear(3, 2)
    for beta in (0.0, 0.9):
        adam = torch.optim.Adam(network.parameters(), betas=(beta, 0.99))
        network(torch.ones(1, 3)).sum().backward()
        adam.step()
        state = {"kind": "k", "settings": {}, "seconds": 1.0, "step": 1, "model": network.state_dict()}
        save_checkpoint(tmp_path / "c.safetensors", {**state, "optimizer": adam.state_dict(), "ema": {}})
        parts = gpu_checkpoints.split(tmp_path / "c.safetensors", tmp_path, "run")
        (made,) = gpu_checkpoints.join(parts, tmp_path / "runs")
        moments = load_checkpoint(made)["optimizer"]["state"][0]
        expected = torch.zeros(2, 3) if beta == 0.0 else adam.state_dict()["state"][0]["exp_avg"]
        torch.testing.assert_close(moments["exp_avg"], expected, rtol=0.01, atol=0)
        adam.load_state_dict(load_checkpoint(made)["optimizer"])


def test_the_encoders_steps_fill_its_minutes(data: Path, tmp_path: Path) -> None:
    options = ["--data", str(data), "--runs", str(tmp_path), "--out", str(tmp_path), "--minutes", "speech=2"]
    plan = gpu_training.Plan(train_on_gpu._parser().parse_args(["train", *options]))
    (tmp_path / "speech").mkdir()
    # a slow start, then half a second a step: 70 of 120 seconds are left, a tenth of them for other things
    rows = [{"step": step, "seconds": 30 + step / 2, "loss": 1.0} for step in range(0, 41, 20)]
    (tmp_path / "speech" / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert plan._plan_steps("speech", 40) == 40 + 126
    assert plan._planned_steps("speech") == 166


def test_unknown_settings_are_named(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert train(data, tmp_path, "--stages", "gan64", changes=("gan64.width=3",)) == 1
    assert "there is no setting width" in capsys.readouterr().err
    with pytest.raises(SettingsError, match="STAGE one of speech, gan64"):
        gpu_training.Plan(
            train_on_gpu._parser().parse_args(
                ["train", "--data", ".", "--runs", ".", "--out", ".", "--set", "sound.steps=1"]
            )
        )


def test_what_is_shipped_first() -> None:
    assert gpu_training._wanted(["speech", "gan64", "gan128"]) == [
        ("gan128", "average"),
        ("speech", "average"),
        ("gan128", "weights"),
        ("gan128", "moments"),
        ("gan64", "average"),
    ]


def test_batches_read_ahead_are_the_same() -> None:
    asked: list[int] = []

    def batches(step: int) -> int:
        asked.append(step)
        return step * step

    ahead = gpu_speed.Ahead(batches, workers=2)
    assert [ahead(step) for step in (0, 1, 2, 7, 8)] == [0, 1, 4, 49, 64]
    ahead.close()
    assert max(asked) > 8


def assert_close(a: Any, b: Any, where: str = "") -> None:
    """Equal but for halved matrices and first moments."""
    if where.endswith("exp_avg"):
        return
    if isinstance(b, dict):
        assert a.keys() == b.keys(), where
        for key in b:
            assert_close(a[key], b[key], f"{where}/{key}")
    elif isinstance(b, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=0.01, atol=1e-6, msg=where)
    else:
        assert a == b, where
