"""Help of every command: an example, and no line longer than the terminal."""

import importlib.util

import pytest

from speech2image import cli
from speech2image.commands import export, prepare

PARTS = [*(f"prepare {part}" for part in prepare.PARTS), *(f"export {part}" for part in export.PARTS)]
NEED_TRAIN = {"prepare toy", "evaluate"}


@pytest.mark.parametrize("command", ["", *cli.COMMANDS, *PARTS, "prepare toy", "export direct"])
def test_help_fits_80_columns_and_has_an_example(command: str, capsys, monkeypatch) -> None:
    if command in NEED_TRAIN and not importlib.util.find_spec("torch"):
        pytest.skip("needs the extra train")
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "xample: speech2image " in " ".join(shown.split())  # older tyro wraps within it
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(("command", "parts"), [("prepare", prepare.PARTS), ("export", export.PARTS)])
def test_all_that_a_command_can_do_is_listed(command: str, parts: dict[str, object], capsys) -> None:
    assert cli.main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in parts)
    assert cli.main([command]) == 2
    assert capsys.readouterr().out == shown
    assert cli.main([command, "pancakes"]) == 2
    told = capsys.readouterr().err
    assert "'pancakes'; there are: " in told and all(name in told for name in parts)
