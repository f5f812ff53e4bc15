"""Reading ahead changes when batches are made, never what they are."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from speech2image.data.prepare import PrepareSettings, prepare
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError, SettingsError
from speech2image.models.teacher.toy import ToyTeacher
from speech2image.training.core.checkpoint import load_checkpoint
from speech2image.training.core.prefetch import ReadAhead
from speech2image.training.core.run import Run, RunSettings, make_fabric
from speech2image.training.recipes import direct

TOY = direct.PRESETS["toy"]


def trained_on_toys(folder: Path, **changes: Any) -> list[Any]:
    """Logs without times and both checkpoints of five steps, the last two after a resumption."""
    shards = prepare(PrepareSettings("toy", folder / "shards", limit=30))
    for steps in (3, 5):
        few = {"steps": steps, "batch_size": 4, "log_every": 1, "precision": "32-true", **changes}
        settings = replace(
            TOY,
            encoder=replace(TOY.encoder, evaluation_utterances=0, **few),
            generator=replace(TOY.generator, **few),
        )
        direct.train(settings, PairArrays.open(shards), ToyTeacher(), folder / "run")
    found: list[Any] = []
    for part in ("speech_encoder", "generator"):
        rows = map(json.loads, (folder / "run" / part / "log.jsonl").read_text().splitlines())
        found.append([{name: row[name] for name in row if name != "seconds"} for row in rows])
        state = load_checkpoint(folder / "run" / part / "checkpoint.safetensors")
        found.append({name: state[name] for name in state if name not in ("seconds", "settings")})
    return found


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_equal(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    else:
        assert one == other


@pytest.mark.slow
def test_trainings_on_the_toy_set_are_the_same_step_by_step(tmp_path: Path) -> None:
    plain = trained_on_toys(tmp_path / "plain")
    ahead = trained_on_toys(tmp_path / "ahead", read_ahead=3)
    assert [row["step"] for row in plain[0]] == [1, 2, 3, 4, 5] and "discriminator" in plain[2][0]
    assert_equal(plain, ahead)


def test_batches_are_made_before_their_step() -> None:
    made = [threading.Event() for _ in range(8)]
    makers = set()

    def batches(step: int) -> int:
        makers.add(threading.current_thread())
        made[step].set()
        return step * step

    ahead = ReadAhead(batches, threads=2)
    assert ahead(0) == 0
    assert all(event.wait(10) for event in made[:4]), (
        "four steps are made though only the first was asked for"
    )
    assert [ahead(step) for step in (1, 2, 0, 4)] == [1, 4, 0, 16], "any step may be asked for"
    ahead.close()
    assert threading.main_thread() not in makers
    assert not any(thread.is_alive() for thread in makers)


def test_an_error_is_raised_where_its_batch_is_needed() -> None:
    def batches(step: int) -> int:
        if step == 2:
            raise DataError("shard 2 is damaged")
        return step

    ahead = ReadAhead(batches, threads=2)
    assert [ahead(0), ahead(1)] == [0, 1]
    with pytest.raises(DataError, match="shard 2 is damaged"):
        ahead(2)
    ahead.close()


def test_a_run_reads_ahead_as_its_settings_say(tmp_path: Path) -> None:
    def run(threads: int) -> Run:
        settings = RunSettings(steps=1, read_ahead=threads)
        return Run(tmp_path, "test", settings, make_fabric("32-true", 0))

    assert run(0).read_ahead(abs) is abs
    assert isinstance(run(1).read_ahead(abs), ReadAhead)
    with pytest.raises(SettingsError, match="read_ahead is -1; give a number of threads"):
        run(-1).read_ahead(abs)
