"""All of the paper's tables on several data sets, as one document."""

import json
import tomllib
from pathlib import Path

import pytest
import torch
from evaluation_parts import TinyNetwork
from tiny_model import make_model

from speech2image import cli
from speech2image.evaluation import run
from speech2image.evaluation.paper import tables
from speech2image.training.core.checkpoint import save_checkpoint


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> TinyNetwork:
    """Stands for the Inception file, which tests do without."""
    made = TinyNetwork()
    monkeypatch.setattr(run, "load_inception", lambda path, layer: made)
    return made


def test_document_of_two_seeds(shards: Path, tmp_path: Path, network: TinyNetwork) -> None:
    for seed in ("a", "b"):
        for row in ("scale-64", "scale-128", "scale-256"):
            make_model(tmp_path / seed / row)
    make_model(tmp_path / "a" / "direct" / "model")
    for name, steps, seconds in (("generator", 7, 300.0), ("stage_one", 2, 3.0), ("speech_encoder", 9, 60.0)):
        facts = {"kind": "a", "settings": {}, "step": steps, "seconds": seconds, "weights": torch.ones(2)}
        path = tmp_path / "a" / "direct" / name / "checkpoint.safetensors"
        path.parent.mkdir()
        save_checkpoint(path, facts)
    words = [
        "--models",
        str(tmp_path / "a"),
        str(tmp_path / "b"),
        "--data",
        str(shards),
        "--limit",
        "8",
        "--resamples",
        "40",
        "--least-pictures",
        "10",
    ]
    words += [
        "--network",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
        "--tables",
        "2",
        "5",
        "--threads",
        "1",
    ]
    assert cli.main(["tables", "build", *words]) == 0
    text = (tmp_path / "out" / "tables.md").read_text()
    assert text.index("Table II") < text.index("Table V")
    assert text.count("| missing |") == 5 and "3.23 / 54.76" in text
    assert "real against real" in text and "drawn from noise" in text
    assert text.count("| 64 x 64, 1 discriminator |") == 2, "a line for each seed"
    assert "Order of the rows" not in text, "models that are all the same stand in no order"
    told = json.loads((tmp_path / "out" / "tables.json").read_text())
    rows = told["Table II: routes"][shards.name][0]["rows"]
    assert [row["results"] is None for row in rows] == [False, True, True, True, True, True]
    fid = next(row["fid"] for row in rows[0]["results"]["pictures"] if row["id"] == "kept out")
    assert f"| direct | 0 | 2, 0 + 7, 5 | {fid:.3f} (" in text


def test_a_row_in_training_is_not_measured(shards: Path, tmp_path: Path, network: TinyNetwork) -> None:
    make_model(tmp_path / "models" / "scale-64" / "model")
    facts = {"kind": "a", "settings": {"steps": 9, "minutes": None}, "step": 4, "seconds": 60.0}
    path = tmp_path / "models" / "scale-64" / "generator" / "checkpoint.safetensors"
    path.parent.mkdir()
    save_checkpoint(path, facts | {"weights": torch.ones(2)})
    words = ["--models", str(tmp_path / "models"), "--data", str(shards), "--network", str(tmp_path)]
    assert cli.main(["tables", "build", *words, "--out", str(tmp_path / "out"), "--tables", "5"]) == 0
    told = (tmp_path / "out" / shards.name / "table-5-seed-0" / "results.md").read_text()
    assert "is at step 4 of 9; let its training end" in told
    assert "| 4, 1 | missing |" in (tmp_path / "out" / "tables.md").read_text()


def test_order_is_told_only_where_every_row_is_there() -> None:
    def table(**figures: tuple[float, float] | None) -> dict:
        def results(fid: float, agreement: float) -> dict:
            spoken = {"pictures": "drawn from voices kept out"}
            kept = {"classes": "unseen", "voices": "kept out", "mAP": 0.2}
            return {
                "pictures": [spoken | {"fid": fid}],
                "colours": [spoken | {"agreement": agreement}],
                "retrieval": [kept],
            }

        found = {label: value and results(*value) for label, value in figures.items()}
        return {"rows": [{"label": label, "results": one} for label, one in found.items()]}

    first = table(a=(3.0, 0.5), b=(2.0, 0.4))
    assert tables.orders([first]) == []
    assert tables.orders([first, table(a=(1.0, 0.1), b=None)]) == []
    (told,) = tables.orders([first, table(a=(2.0, 0.3), b=(1.0, 0.4))])
    assert "- FID: the same, b > a" in told, "lower is better"
    assert "- colour, %: seed 0: a > b; seed 1: b > a; in all seeds: none" in told, "higher is better"
    assert "mAP" not in told, "all rows have the same"
    three = table(a=(3.0, 0.5), b=(1.0, 0.4), c=(2.0, 0.3)), table(a=(3.0, 0.5), b=(2.0, 0.4), c=(1.0, 0.3))
    (told,) = tables.orders(three)
    assert "- FID: seed 0: b > c > a; seed 1: c > b > a; in all seeds: b > a and c > a" in told


def made(label: str, fid: float, kid: float, noise: tuple[float, float] = (3.0, 0.003)) -> dict:
    """A row of a table as measured, of one figure each of the pictures and of its model's noise."""
    pictures = [
        {"id": "kept out", "pictures": "drawn", "fid": fid, "kid": kid},
        {"id": "noise", "pictures": "noise", "fid": noise[0], "kid": noise[1]},
    ]
    return {"label": label, "results": {"pictures": pictures, "colours": [], "retrieval": []}}


def test_what_holds_by_both_measures_is_told() -> None:
    first = {"rows": [made("a", 2.0, 0.002), made("b", 4.0, 0.004), made("c", 5.0, 0.001)]}
    assert tables.alike([first]) == ["By FID and KID alike: a > b."]
    other = {"rows": [made("a", 2.5, 0.002), made("b", 2.0, 0.001), made("c", 5.0, 0.003)]}
    assert tables.alike([first, other]) == ["By FID and KID alike, in all seeds: no two rows."]
    assert tables.alike([{"rows": [made("a", 2.0, 0.002), {"label": "b", "results": None}]}]) == []


def test_each_row_stands_below_or_above_its_noise_floor() -> None:
    one = {"rows": [made("a", 2.0, 0.002), made("b", 4.0, 0.004), made("c", 5.0, 0.001)]}
    below, above, split = tables.floors([one])
    assert below.startswith("a: below the noise floor by FID and KID (")
    assert above == "b: above the noise floor by FID and KID"
    assert split == "c: above the noise floor by FID, but below the noise floor by KID"
    assert tables.floors([one, one])[4] == "b, seed 1: above the noise floor by FID and KID"


def test_bad_input_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--models", str(tmp_path), "--data", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]
    make_model(tmp_path / "direct")
    assert cli.main(["tables", "build", *words, "--tables", "2"]) == 1
    assert "absent" in capsys.readouterr().err
    assert not (tmp_path / "out" / "tables.md").exists()


def test_published_figures_are_those_of_the_paper() -> None:
    golden = tomllib.loads(
        (Path(__file__).parents[1] / "reference" / "paper.toml").read_text(encoding="utf-8")
    )
    found = {
        str(number): {row.row: row.published for row in table.rows if row.published}
        for number, table in tables.TABLES.items()
    }
    assert {number: rows for number, rows in found.items() if rows} == golden["published"]


def test_figures_of_before_give_the_document_of_the_docs() -> None:
    """Results written before rows had ids are read; the document is the one that was made of them."""
    docs = Path(__file__).parents[2] / "docs"
    results = json.loads((docs / "results.json").read_text(encoding="utf-8"))
    assert tables.document(results) == (docs / "results.md").read_text(encoding="utf-8")
