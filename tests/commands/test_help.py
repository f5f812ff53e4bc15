"""Help of every command: an example, and no line longer than the terminal."""

import importlib.util

import pytest

from speech2image import cli

NEED_TRAIN = {"prepare", "evaluate"}


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help_fits_80_columns_and_has_an_example(command: str, capsys, monkeypatch) -> None:
    if command in NEED_TRAIN and not importlib.util.find_spec("torch"):
        pytest.skip("needs the extra train")
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "xample: speech2image " in shown
    assert max(map(len, shown.splitlines())) <= 80
