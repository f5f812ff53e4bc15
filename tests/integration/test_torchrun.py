"""Every training runs as two processes under torchrun."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

TESTS = Path(__file__).parents[1]
SCRIPT = """
import atexit, dataclasses, os, sys
from pathlib import Path
import torch

@atexit.register  # the first registered runs last, when Python is about to close
def threads_left() -> None:
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    left = [name for name in names if "gloo" in name]
    told = f"{{left}} {{torch.distributed.is_initialized()}}"
    Path({folder!r}).with_name("left-" + os.environ["RANK"]).write_text(told)

sys.path[:0] = [{tests!r}, {tests!r} + "/training/recipes"]
torch.set_num_threads(1)
torch.manual_seed(0)
folder = Path({folder!r})
{body}
print("done", flush=True)
"""
BODIES = {
    "one_stage_gan": """
from test_one_stage_gan import TINY, TinyArrays
from speech2image.models.teacher.googlenet import GoogLeNet
from speech2image.training.recipes.one_stage_gan import train
teacher = GoogLeNet().eval().requires_grad_(False)
train(dataclasses.replace(TINY, steps=2), TinyArrays(), teacher, folder)
""",
    "stackgan_v2": """
import test_stackgan_v2
from speech2image.training.recipes.stackgan_v2 import train
arrays = test_stackgan_v2.arrays.__wrapped__()
train(dataclasses.replace(test_stackgan_v2.TINY, steps=2), arrays, folder)
""",
    "speech_encoder": """
from test_speech_encoder import TINY, FakeArrays
from speech2image.training.recipes.speech_encoder import train
train(dataclasses.replace(TINY, steps=2), FakeArrays(), folder)
""",
}


def in_two_processes(*words: str) -> "subprocess.CompletedProcess[str]":
    """What torchrun showed of a script, or of a module after "-m", in two processes without a GPU."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", BODIES)
def test_two_processes_train_together(recipe: str, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(tests=str(TESTS), folder=str(tmp_path / "run"), body=BODIES[recipe]))
    shown = in_two_processes(str(script))
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert shown.stdout.count("done") == 2
    for rank in (0, 1):
        assert (tmp_path / f"left-{rank}").read_text() == "[] False"
    rows = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert sum('"step": 2' in row for row in rows) >= 1
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()


@pytest.mark.slow
def test_fresh_data(tmp_path: Path) -> None:
    """Nothing is there but shards: frames, features, embeddings, pictures and the model are made once."""
    import numpy as np

    from speech2image.data.features import cache_teacher_features
    from speech2image.data.prepare import PrepareSettings, prepare
    from speech2image.data.shards.arrays import PairArrays
    from speech2image.models.teacher.toy import ToyTeacher
    from speech2image.training.recipes.speech_embeddings import store_embeddings

    shards = prepare(PrepareSettings("toy", tmp_path / "shards", limit=30, samples_per_shard=10))
    run = tmp_path / "run"
    command = ["-m", "speech2image", "train", "direct", "--preset", "toy", "--data", str(shards)]
    command += ["--out", str(run), "--encoder.evaluation-utterances", "8"]
    for part in ("encoder", "generator"):
        command += [f"--{part}.steps", "2", f"--{part}.batch-size", "4"]
    shown = in_two_processes(*command)
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert shown.stdout.split() == [str(run / "model")]
    assert {path.name for path in (run / "model").iterdir()} >= {"model.json", "generator.onnx"}
    left = [path.name for path in (shards / "arrays").iterdir()]
    assert not [name for name in left if "part" in name or "process" in name or name.startswith(".")]

    arrays = PairArrays.open(shards)
    features, embeddings = np.array(arrays.teacher), np.array(arrays.embeddings)
    for path in (shards / "arrays").iterdir():
        path.unlink()
    cache_teacher_features(arrays, ToyTeacher(), crops=1)
    store_embeddings(arrays, run / "speech_encoder" / "checkpoint.safetensors")
    np.testing.assert_array_equal(arrays.teacher, features)
    np.testing.assert_allclose(arrays.embeddings, embeddings, rtol=0.01, atol=0.01)
