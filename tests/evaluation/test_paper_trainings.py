"""The plan trains every row of the tables; steps wait for others, go on and fail as they should."""

from pathlib import Path

import numpy as np
import pytest

from speech2image.cli import main as speech2image
from speech2image.data.corpora.toy import toy_samples
from speech2image.data.pairs import write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError
from speech2image.evaluation.paper import trainings
from speech2image.evaluation.paper.tables import TABLES, find_row
from speech2image.evaluation.paper.trainings import BUDGETS, CHECKPOINT, Step, TrainingPlan
from speech2image.training.core.checkpoint import load_checkpoint


@pytest.mark.slow
def test_the_plan_trains_every_row(tmp_path: Path) -> None:
    data = tmp_path / "shards"
    write_shards(toy_samples(48), data)
    features = np.random.default_rng(0).standard_normal((48, 2, 1024)).astype(np.float16)
    PairArrays.open(data).save_teacher(features)
    plan = TrainingPlan((data,), tmp_path / "models", BUDGETS["toy"])
    done: set[str] = set()
    for step in plan.steps((2, 4, 5), (0,)):
        assert set(step.needs) <= done, "what others wait for comes first"
        step.before()
        for command in step.commands:
            assert speech2image(command) == 0, step.name
        done.add(step.name)
    for number in (2, 4, 5):
        for row in TABLES[number].rows:
            place = row.same_as if row.row == "stackgan-v1-text" else row.row
            assert find_row(plan.out / "seed-0" / place) is not None, row.row
    losses = [plan.out / "seed-0" / row.row for row in TABLES[4].rows]
    weights = [load_checkpoint(row / "speech_encoder" / CHECKPOINT)["settings"]["loss"] for row in losses]
    assert [(w["joint_embedding"], w["distribution"]) for w in weights] == [
        (0, 0),
        (1, 0),
        (0, 1000),
        (1, 1000),
    ]
    own = [(row / "data" / "shards" / "arrays" / "speech_embeddings.npy").read_bytes() for row in losses]
    assert len(set(own)) == 4, "each row's generator draws from its own encoder's embeddings"
    sizes = [
        load_checkpoint(plan.out / "seed-0" / f"scale-{side}" / "generator" / CHECKPOINT)["settings"]
        for side in (64, 128, 256)
    ]
    assert [size["networks"]["branches"] for size in sizes] == [1, 2, 3]


def test_rows_of_another_seed_share_what_is_common(tmp_path: Path) -> None:
    plan = TrainingPlan((tmp_path,), tmp_path / "models", BUDGETS["cpu"])
    names = [step.name for step in plan.steps((2, 4, 5), (0, 1))]
    assert len(names) == len(set(names)) == 3 + 1 + 2 * (3 * 4 + 3) + 7
    given = TrainingPlan((tmp_path,), tmp_path, BUDGETS["cpu"], tmp_path / "encoder", tmp_path / "words")
    fewer = [step.name for step in given.steps((2, 4, 5), (0, 1))]
    assert set(names) - set(fewer) == {"speech-encoder", "recognizer"}


def test_run(tmp_path: Path) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "before").touch()
    begun: list[str] = []
    steps = [
        Step("before", (["models"],), (), lambda: begun.append("before")),
        Step("first", (["models"], ["--version"]), ("before",), lambda: begun.append("first")),
        Step("broken", (["models"], ["paint"], ["--version"]), ("first",), lambda: begun.append("broken")),
        Step("waits", (["models"],), ("broken",), lambda: begun.append("waits")),
        Step("apart", (["models"],), (), lambda: begun.append("apart")),
    ]
    with pytest.raises(DataError, match=r"failed: broken \(see .*\); not begun: \['waits'\]"):
        trainings.run(steps, tmp_path, parallel=2)
    assert sorted(begun) == ["apart", "broken", "first"], "done steps stay done"
    assert sorted(path.name for path in (tmp_path / "done").iterdir()) == ["apart", "before", "first"]
    assert "unknown command" in (tmp_path / "logs" / "broken.log").read_text()


def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert speech2image(["tables", "train", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "is no shards folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
