"""The plan trains every row of the tables; steps wait for others, go on and fail as they should."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speech2image.cli import main as speech2image
from speech2image.data.corpora.toy import toy_samples
from speech2image.data.pairs import write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError, SettingsError
from speech2image.evaluation.paper import trainings
from speech2image.evaluation.paper.tables import TABLES, find_row
from speech2image.evaluation.paper.trainings import BUDGETS, CHECKPOINT, Step, TrainingPlan
from speech2image.training.core.checkpoint import read_facts


def make_data(folder: Path) -> Path:
    write_shards(toy_samples(48), folder)
    features = np.random.default_rng(0).standard_normal((48, 2, 1024)).astype(np.float16)
    PairArrays.open(folder).save_teacher(features)
    return folder


def do(plan: TrainingPlan, tables: tuple[int, ...]) -> None:
    """All steps in their order."""
    done: set[str] = set()
    for step in plan.steps(tables, (0,)):
        assert set(step.needs) <= done, "what others wait for comes first"
        step.before()
        for command in step.commands:
            assert speech2image(command) == 0, step.name
        done.add(step.name)


def settings_of(plan: TrainingPlan, *place: str) -> dict[str, Any]:
    """Settings of a training, kept in its checkpoint."""
    facts: dict[str, Any] = read_facts(plan.out.joinpath(*place, CHECKPOINT))["settings"]
    return facts


@pytest.mark.slow
def test_the_plan_trains_every_row(tmp_path: Path) -> None:
    plan = TrainingPlan((make_data(tmp_path / "shards"),), tmp_path / "models", BUDGETS["toy"])
    do(plan, (2, 4, 5))
    for number in (2, 4, 5):
        for row in TABLES[number].rows:
            if not row.optional:
                assert find_row(plan.out / "seed-0" / (row.same_as or row.row)) is not None, row.row
    losses = [plan.out / "seed-0" / row.row for row in TABLES[4].rows]
    weights = [settings_of(plan, "seed-0", row.row, "speech_encoder") for row in TABLES[4].rows]
    assert [(w["loss"]["joint_embedding"], w["loss"]["distribution"], w["balance"]) for w in weights] == [
        (0, 0, 0),
        (1, 0, 0),
        (0, 1000, 0),
        (1, 1000, 0),
        (1, 1000, 8),
    ]
    own = [(row / "data" / "shards" / "arrays" / "speech_embeddings.npy").read_bytes() for row in losses]
    assert len(set(own)) == 5, "each row's generator draws from its own encoder's embeddings"
    scales = [settings_of(plan, "seed-0", f"scale-{side}", "generator") for side in (64, 128, 256)]
    assert [scale["networks"]["branches"] for scale in scales] == [1, 2, 3]
    assert {scale["steps"] * scale["batch_size"] for scale in scales} == {16}, "as many pictures each"
    assert "margin_same" in settings_of(plan, "common", "speech_encoder")["loss"], "the paper's loss"


@pytest.mark.slow
def test_the_plan_trains_the_rows_of_rooms(tmp_path: Path) -> None:
    plan = TrainingPlan((make_data(tmp_path / "shards"),), tmp_path / "models", BUDGETS["toy"])
    do(plan, (3,))
    for row in TABLES[3].rows:
        assert find_row(plan.out / "seed-0" / (row.same_as or row.row)) is not None, row.row
    for row in ("direct", "classifier", "two-step"):
        assert settings_of(plan, "seed-0", row, "generator")["networks"]["branches"] == 2


def commands_of(plan: TrainingPlan, tables: tuple[int, ...], seeds: tuple[int, ...] = (0,)) -> list[str]:
    return [" ".join(command) for step in plan.steps(tables, seeds) for command in step.commands]


def test_rows_of_another_seed_share_what_is_common(tmp_path: Path) -> None:
    plan = TrainingPlan((tmp_path,), tmp_path / "models", BUDGETS["cpu"])
    names = [step.name for step in plan.steps((2, 4, 5), (0, 1))]
    assert len(names) == len(set(names)) == 5 + 2 * (3 * 5 + 3) + 6


@pytest.mark.parametrize("budget", sorted(set(BUDGETS) - {"toy"}))
def test_rows_that_are_compared_have_one_budget(budget: str, tmp_path: Path) -> None:
    plan = TrainingPlan((tmp_path / "data",), tmp_path / "models", BUDGETS[budget])
    for tables, flags in (((2,), plan.budget.routes), ((3,), plan.budget.rooms)):
        drawn = [c for c in commands_of(plan, tables) if c.startswith("train stackgan-v2")]
        assert len(drawn) == 3 and all(flags in command for command in drawn), "speech, classes, text"
    of_losses = [c for c in commands_of(plan, (4,)) if c.startswith("train speech-encoder")]
    assert len(of_losses) == 5 and all(plan.budget.losses in command for command in of_losses)
    assert not any("--start-from" in command for command in of_losses), "from scratch"
    scales = [c for c in commands_of(plan, (5,)) if c.startswith("train stackgan-v2")]
    pictures = [int(number("--steps", c)) * int(number("--batch-size", c)) for c in scales]
    assert [number("--networks.branches", c) for c in scales] == ["1", "2", "3"] and len(set(pictures)) == 1


def number(flag: str, command: str) -> str:
    """The last value of a flag, which is the one that counts."""
    return command.split(f"{flag} ")[-1].split()[0]


def test_what_is_given_makes_rows_of_its_own(tmp_path: Path) -> None:
    plan = TrainingPlan((tmp_path / "data",), tmp_path / "models", BUDGETS["cpu"])
    given = replace(plan, encoder=tmp_path / "shipped.safetensors", recognizer=tmp_path / "words")
    usual, more = (commands_of(one, (2, 4, 5)) for one in (plan, given))
    assert more[: len(usual)] == usual, "the paper's rows are trained on the data alone"
    added = more[len(usual) :]
    assert all("-given" in command for command in added) and len(added) == 3
    assert not any("shipped" in command or str(tmp_path / "words") in command for command in usual)


def test_rooms_are_trained_alone(tmp_path: Path) -> None:
    plan = TrainingPlan((tmp_path,), tmp_path / "models", BUDGETS["cpu"])
    with pytest.raises(SettingsError, match="train it alone"):
        plan.steps((2, 3), (0,))


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
