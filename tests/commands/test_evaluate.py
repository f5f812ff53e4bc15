"""`evaluate` shows its tables and says where the report lies."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from speech2image.commands import measure


@dataclass
class Settings:
    """What the command reads.

    Attributes:
        out: where the report goes.
    """

    out: Path


def test_tables_and_then_the_reports_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluate(settings: Settings) -> None:
        (settings.out / "results.md").write_text("# Tables\n\na \x1b[2J row\n")
        (settings.out / "report.html").touch()

    module = SimpleNamespace(EvaluationSettings=Settings, evaluate=evaluate)
    monkeypatch.setattr(measure, "import_training", lambda name: module)
    measure.evaluate(["--out", str(tmp_path)])
    assert capsys.readouterr().out.splitlines() == [
        "# Tables",
        "",
        r"a \x1b[2J row",
        "",
        f"report with charts and pictures: {(tmp_path / 'report.html').resolve()}",
    ]
