"""What the two-step system's training leaves to look at."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from speech2image import cli
from speech2image.data.training_sets import CaptionPairs
from speech2image.models.gan.stackgan_v1 import Architecture, StageOne, StageTwo
from speech2image.training.core.checkpoint import save_checkpoint

ONE = Architecture(
    size=128, generator_width=8, discriminator_width=2, noise=3, code=4, residual_blocks=1, condition=6
)


def checkpoint(path: Path, stage: int) -> Path:
    """An untrained stage as its training stores it."""
    torch.manual_seed(0)
    first = StageOne(ONE)
    sizes = Architecture(**{**asdict(ONE), "stage": stage})
    generator = first if stage == 1 else StageTwo(sizes, first)
    weights = {"kind": "stackgan_v1", "settings": {"networks": asdict(sizes)}, "step": 1}
    save_checkpoint(path, {**weights, "ema": {"module": generator.state_dict()}})
    return path


def recognizer(folder: Path) -> Path:
    """The folder of a recognizer's training that was taken up again at step 20."""
    folder.mkdir()
    lines = [
        {"step": 10, "seconds": 1.0, "loss": 3.0},
        {"step": 10, "seconds": 2.0, "heard/WER": 0.9, "heard/content WER": 0.95, "kept out/WER": 1.0},
        {"step": 20, "seconds": 3.0, "heard/WER": 0.7, "kept out/WER": 0.8},
        {"step": 20, "seconds": 4.0, "heard/WER": 0.6, "kept out/WER": 0.75},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_both_stages_beside_the_photographs(shards: Path, tmp_path: Path) -> None:
    pairs = CaptionPairs.open(shards)
    rng = np.random.default_rng(0)
    pairs.save_embeddings(rng.normal(size=(len(pairs.texts), 6)))
    two = checkpoint(tmp_path / "two.safetensors", 2)
    words = ["--data", str(shards), "--stage-two", str(two), "--captions", "2", "--noises", "2"]
    assert cli.main(["tables", "two-step", *words, "--out", str(tmp_path / "out")]) == 0
    sheet = np.asarray(Image.open(tmp_path / "out" / "stages.png").convert("RGB"))
    assert sheet.shape == (20 + 2 * 130 - 2, 230 + 5 * 130 - 2, 3)
    heads, sheet = sheet[:20], sheet[20:]
    written = [(heads[:, 230 + column * 130 :][:, :128] < 128).any() for column in range(5)]
    assert written == [True] * 5
    first = sheet[:128, 230 + 130 : 230 + 258]
    assert (first[::2, ::2] == first[1::2, 1::2]).all(), "Stage I's 64 pixels, each shown as four"
    second = sheet[:128, 230 + 3 * 130 : 230 + 3 * 130 + 128]
    assert (second[::2, ::2] != second[1::2, 1::2]).any()


def test_word_error_curve(tmp_path: Path) -> None:
    run = recognizer(tmp_path / "run")
    assert cli.main(["tables", "two-step", "--recognizer", str(run), "--out", str(tmp_path / "out")]) == 0
    curves = json.loads((tmp_path / "out" / "word-errors.json").read_text())
    assert curves == {"heard": [[10, 0.9], [20, 0.6]], "kept out": [[10, 1.0], [20, 0.75]]}
    assert "<svg" in (tmp_path / "out" / "word-errors.svg").read_text()


def test_what_is_missing_is_named(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    one = checkpoint(tmp_path / "one.safetensors", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    for words, said in (
        ([], "nothing to do"),
        (["--data", str(shards)], "--stage-two"),
        (["--data", str(shards), "--stage-two", str(one)], "is Stage I"),
        (["--recognizer", str(tmp_path)], "log.jsonl is not there"),
        (["--recognizer", str(tmp_path / "empty")], "no word error rate"),
    ):
        assert cli.main(["tables", "two-step", *words, *out]) in (1, 2)
        assert said in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*")), "nothing half-written"
