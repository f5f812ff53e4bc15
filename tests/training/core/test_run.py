"""A run's folder: log, resume, refusal of other settings, when to stop."""

import dataclasses
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from speech2image.errors import CheckpointError, OutputError, SettingsError
from speech2image.training.core.checkpoint import load_checkpoint, save_checkpoint
from speech2image.training.core.gan import GanSettings
from speech2image.training.core.run import Run, dry_run, make_fabric, step_rng, step_torch_rng


@dataclasses.dataclass(frozen=True)
class Settings:
    steps: int = 10
    minutes: float | None = None
    checkpoint_minutes: float = 0.0
    log_every: int = 2
    seed: int = 0
    width: tuple[int, ...] = (1, 2)


def make(folder: Path, **changes: object) -> Run:
    return Run(folder, "test", Settings(**changes), make_fabric("32-true", 0))  # type: ignore[arg-type]


def test_starts_empty_and_restores_what_was_saved(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert run.restore() is None
    run.save({"step": 4, "weights": torch.arange(3.0)})
    state = make(tmp_path, steps=20).restore()
    assert state is not None and state["step"] == 4
    assert torch.equal(state["weights"], torch.arange(3.0))


def test_refuses_to_go_on_with_other_settings(tmp_path: Path) -> None:
    make(tmp_path).save({"step": 1})
    with pytest.raises(SettingsError, match=r"width \[1, 2\], now \[3\]"):
        make(tmp_path, width=(3,)).restore()


def test_how_fast_it_runs_may_change(tmp_path: Path) -> None:
    def run(**changes: object) -> Run:
        settings = GanSettings(**{"steps": 5, **changes})  # type: ignore[arg-type]
        return Run(tmp_path, "test", settings, make_fabric("32-true", 0))

    run().save({"step": 1})
    assert run(read_ahead=2, compile=True, channels_last=True).restore() is not None
    with pytest.raises(SettingsError, match="seed 0, now 1;"):
        run(read_ahead=2, seed=1).restore()
    make(tmp_path).save({"step": 1})  # as from before there were these settings
    with pytest.raises(SettingsError, match=r"other settings: width \[1, 2\], now None;"):
        run().restore()


def test_settings_that_came_later_count_as_their_defaults(tmp_path: Path) -> None:
    """A training of an older version goes on, and only as it began."""

    @dataclasses.dataclass(frozen=True)
    class Part:
        size: int = 1
        kind: str = "old"

    @dataclasses.dataclass(frozen=True)
    class Later(Settings):
        rate: float = 0.5
        part: Part = dataclasses.field(default_factory=Part)

    def later(**changes: object) -> Run:
        return Run(tmp_path, "test", Later(**changes), make_fabric("32-true", 0))  # type: ignore[arg-type]

    make(tmp_path).save({"step": 1})
    assert later().restore() is not None
    with pytest.raises(SettingsError, match=r"rate 0.5, now 0.1;"):
        later(rate=0.1).restore()
    run = later()
    settings = dataclasses.asdict(run.settings)  # type: ignore[call-overload]
    del settings["part"]["kind"]
    save_checkpoint(run.checkpoint, {"kind": "test", "settings": settings, "seconds": 0.0, "step": 1})
    assert later().restore() is not None
    with pytest.raises(SettingsError, match=r"part .*'old'.*now .*'new'"):
        later(part=Part(kind="new")).restore()


def test_refuses_another_kind(tmp_path: Path) -> None:
    make(tmp_path).save({"step": 1})
    with pytest.raises(CheckpointError, match="holds a 'test'"):
        Run(tmp_path, "other", Settings(), make_fabric("32-true", 0)).restore()


def test_stops_by_steps_and_by_minutes_over_all_sessions(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert not run.finished(9) and run.finished(10)
    run.save({"step": 1})
    again = make(tmp_path, minutes=1.0)
    assert not again.finished(1)
    again.restore()
    again._earlier_seconds = 61.0
    assert again.finished(1)
    again.close()
    run.close()


@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_training_after_its_step_with_a_checkpoint(
    number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    run, step = make(tmp_path, checkpoint_minutes=60.0), 0
    with pytest.raises(KeyboardInterrupt):
        while not run.finished(step):
            if step == 3:
                os.kill(os.getpid(), number)
            step += 1
            if run.checkpoint_due():
                run.save({"step": step})
    assert step == 4
    state = make(tmp_path).restore()
    assert state is not None and state["step"] == 4
    assert "the same command goes on" in capsys.readouterr().err
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_last_checkpoint_is_not_forgotten(number: signal.Signals, tmp_path: Path) -> None:
    """Else what follows the training, such as the next one, would go on."""
    run = make(tmp_path)
    assert run.finished(10)
    run.save({"step": 10})
    os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt):
        run.close()


@pytest.mark.usefixtures("usual_signals")
def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    run = make(tmp_path, checkpoint_minutes=60.0)
    assert not run.finished(0)
    os.kill(os.getpid(), signal.SIGINT)
    assert not run.finished(0)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    assert not (tmp_path / "checkpoint.safetensors").exists()


@pytest.mark.usefixtures("usual_signals")
def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run = make(tmp_path, checkpoint_minutes=60.0)
    assert not run.finished(0)
    os.kill(os.getpid(), signal.SIGINT)
    assert not run.checkpoint_due()
    run.close()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.usefixtures("usual_signals")
def test_signals_are_left_alone_elsewhere(tmp_path: Path) -> None:
    """Handlers can be set in the main thread alone, and a finished training gives them back."""
    before = signal.getsignal(signal.SIGINT)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(make(tmp_path).finished(0)))
    thread.start()
    thread.join()
    assert answers == [False] and signal.getsignal(signal.SIGINT) is before
    run = make(tmp_path)
    assert run.finished(10) and signal.getsignal(signal.SIGINT) is not before
    run.close()
    assert signal.getsignal(signal.SIGINT) is before


def test_logs_every_second_step_as_json(tmp_path: Path) -> None:
    run = make(tmp_path)
    for step in range(1, 5):
        run.log(step, {"loss": torch.tensor(float(step))})
    run.warn("once", "look out")
    run.warn("once", "look out")
    run.close()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row.get("step") for row in rows] == [2, 4, None]
    assert rows[1]["loss"] == 4.0 and rows[2]["warning"] == "once"
    assert list((tmp_path / "tensorboard").iterdir())


def steps_logged(folder: Path) -> list[int | None]:
    return [json.loads(line).get("step") for line in (folder / "log.jsonl").read_text().splitlines()]


def curve(folder: Path) -> list[tuple[int, float]]:
    """What TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


def train_to(folder: Path, last: int, saved: int, loss: float, *, broken_off: str = "") -> None:
    """Log every step to the `last`, save and measure after the `saved` one, warn; then be killed."""
    run = make(folder, log_every=1)
    step = (run.restore() or {"step": 0})["step"]
    while step < last:
        step += 1
        run.log(step, {"loss": loss})
        if step == saved:
            run.save({"step": step})
            run.log(step, {"accuracy": 0.5}, now=True)
    time.sleep(0.2)  # the log counts tenths of seconds
    run.warn("late", "after the checkpoint")
    run.close()
    with open(folder / "log.jsonl", "a") as file:
        file.write(broken_off)


def test_a_killed_run_that_goes_on_repeats_no_step(tmp_path: Path) -> None:
    train_to(tmp_path, 5, 3, loss=1.0, broken_off='{"step": 6, "lo')
    assert steps_logged_before_the_kill(tmp_path) == [1, 2, 3, 3, 4, 5]
    time.sleep(1.1)  # TensorBoard names its files by seconds
    train_to(tmp_path, 6, 6, loss=2.0)
    assert steps_logged(tmp_path) == [1, 2, 3, 3, 4, 5, 6, 6, None]
    assert curve(tmp_path) == [(step, 1.0 if step <= 3 else 2.0) for step in range(1, 7)]


def steps_logged_before_the_kill(folder: Path) -> list[int | None]:
    lines = (folder / "log.jsonl").read_text().splitlines()[:-1]
    return [json.loads(line)["step"] for line in lines if "step" in json.loads(line)]


def test_a_run_killed_before_its_first_checkpoint_starts_its_log_anew(tmp_path: Path) -> None:
    train_to(tmp_path, 4, 99, loss=1.0)
    train_to(tmp_path, 2, 2, loss=2.0)
    assert steps_logged(tmp_path) == [1, 2, 2, None]
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["loss"] == 2.0


def test_a_finished_run_called_again_logs_nothing_twice(tmp_path: Path) -> None:
    train_to(tmp_path, 3, 3, loss=1.0)
    before = steps_logged(tmp_path)[:4]
    run = make(tmp_path, log_every=1)
    state = run.restore()
    assert state is not None and run.finished(10)
    run.save(state)
    run.log(3, {"accuracy": 0.5}, now=True)
    run.log(3, {"another measure": 0.5}, now=True)
    run.close()
    assert steps_logged(tmp_path) == [*before, 3]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_the_log(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"log\.jsonl: No space left"):
        make(tmp_path).log(2, {"loss": 1.0})


def test_grid_is_laid_out_by_rows(tmp_path: Path) -> None:
    from PIL import Image

    pictures = torch.linspace(-1, 1, 6)[:, None, None, None].expand(6, 3, 4, 4)
    make(tmp_path).grid(7, pictures, columns=3)
    sheet = Image.open(tmp_path / "samples" / "0000007.png")
    assert sheet.size == (12, 8)
    assert [sheet.getpixel((4 * i + 1, 4 * j + 1))[0] for j in range(2) for i in range(3)] == [
        0,
        51,
        102,
        153,
        204,
        255,
    ]


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        make(tmp_path / "file")


def test_random_numbers_depend_on_step_and_rank_only() -> None:
    assert step_rng(1, 2).random() == step_rng(1, 2).random() != step_rng(1, 3).random()
    draws = {torch.rand(1, generator=step_torch_rng(1, s, r)).item() for s in range(3) for r in range(2)}
    assert len(draws) == 6


@pytest.mark.parametrize(
    ("precision", "seed", "message"), [("half", 0, "precision is 'half'"), ("auto", -1, "seed is -1")]
)
def test_bad_settings(precision: str, seed: int, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make_fabric(precision, seed)


def test_goes_on_with_its_own_data_alone(tmp_path: Path, capsys) -> None:
    def run(**belongs: str) -> Run:
        return Run(tmp_path, "test", Settings(), make_fabric("32-true", 0), belongs)  # type: ignore[arg-type]

    run(data="flowers", space="speech 1").save({"step": 7})
    assert run(data="flowers", space="speech 1").restore() is not None
    assert f"test: resuming from step 7 in {tmp_path}" in capsys.readouterr().err
    with pytest.raises(SettingsError, match=r"holds a run on other pictures \(--data\); give another --out"):
        run(data="birds", space="speech 1").restore()
    assert run(data="flowers", space="speech 2").restore() is not None  # embeddings made anew
    assert run().restore() is not None  # not known now
    make(tmp_path).save({"step": 7})  # as from before runs stated what they belong to
    assert run(data="birds").restore() is not None


def test_checkpoints_can_be_read_by_the_group(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        path = make(tmp_path).save({"step": 1, "weights": torch.arange(3.0)})
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


def test_config_says_what_is_trained_and_how(tmp_path: Path) -> None:
    run = Run(tmp_path, "test", Settings(), make_fabric("32-true", 0), {"data": "d"})  # type: ignore[arg-type]
    run.restore()
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["kind"], config["belongs"], config["processes"]) == ("test", {"data": "d"}, 1)
    assert config["settings"]["width"] == [1, 2] and config["versions"]["torch"] == torch.__version__


def kept(tmp_path: Path, **changes: object) -> Run:
    return Run(tmp_path, "test", GanSettings(steps=9, **changes), make_fabric("32-true", 0))  # type: ignore[arg-type]


def test_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    run = kept(tmp_path, keep_last=2)
    for step in (1, 2, 3):
        run.save({"step": step})
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-0000002.safetensors", "step-0000003.safetensors"]
    assert load_checkpoint(tmp_path / "checkpoints" / names[0])["step"] == 2
    assert load_checkpoint(run.checkpoint)["step"] == 3
    with pytest.raises(SettingsError, match="keep_last is -1"):
        kept(tmp_path, keep_last=-1).restore()


@pytest.mark.parametrize(
    ("values", "lower", "best"), [((0.2, 0.5, 0.4), False, 2), ((9.0, 7.0, 8.0), True, 2)]
)
def test_the_best_checkpoint_is_kept(
    tmp_path: Path, values: tuple[float, ...], lower: bool, best: int
) -> None:
    for step, value in enumerate(values, start=1):
        run = kept(tmp_path)  # as after an interruption
        run.save({"step": step})
        run.judge(step, "figure", value, lower_is_better=lower)
    run.judge(4, "figure", float("nan"))
    assert load_checkpoint(tmp_path / "best.safetensors")["step"] == best
    assert json.loads((tmp_path / "best.json").read_text())["value"] == values[best - 1]


def test_a_dry_run_ends_before_the_first_step(tmp_path: Path, capsys) -> None:
    dry_run(True)
    try:
        run = kept(tmp_path)
        assert run.restore() is None
        with pytest.raises(SystemExit) as ended:
            run.finished(0)
    finally:
        dry_run(False)
    assert ended.value.code == 0
    assert "9 of 9 steps would follow" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert not run.finished(0)


def test_weights_and_biases_gets_numbers_and_sheets(tmp_path: Path, monkeypatch, capsys) -> None:
    """W&B's own package, which talks to its makers, is replaced by one that takes notes."""
    notes: list[tuple[str, object]] = []
    run_there = SimpleNamespace(
        id="x",
        log=lambda row, step: notes.append((step, row)),
        finish=lambda exit_code: notes.append(("end", exit_code)),
    )
    module = SimpleNamespace(init=lambda **told: notes.append(("init", told)) or run_there, Image=str)
    monkeypatch.setitem(sys.modules, "wandb", module)
    run = kept(tmp_path, wandb="flowers", log_every=1)
    run.restore()
    run.log(1, {"loss": 0.5})
    run.grid(1, torch.zeros(1, 3, 8, 8), 1)
    run.close()
    assert notes[0][1]["project"] == "flowers" and notes[0][1]["config"]["kind"] == "test"
    assert notes[1:] == [
        (1, {"loss": 0.5}),
        (1, {"samples": str(tmp_path / "samples/0000001.png")}),
        ("end", 0),
    ]
    module.init = lambda **told: (_ for _ in ()).throw(RuntimeError("no key"))
    with pytest.raises(SettingsError, match=r"cannot start \(no key\)"):
        kept(tmp_path, wandb="flowers").restore()
