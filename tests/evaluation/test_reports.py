"""Reports are whole, self-contained and the same twice; the paper's tables and figures; bad input is told."""

import json
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_parts import TinyNetwork, teacher
from PIL import Image
from tiny_model import EMBEDDING, SIZE, make_model

from speech2image import cli
from speech2image.commands import flags
from speech2image.data.corpora.toy import toy_samples
from speech2image.data.pairs import Sample, write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import (
    CheckpointError,
    DataError,
    OutputError,
    SettingsError,
    Speech2ImageError,
)
from speech2image.evaluation import EvaluationSettings, evaluate, run
from speech2image.evaluation.paper import tables
from speech2image.evaluation.report.markdown import markdown
from speech2image.evaluation.results import read_row, write_row
from speech2image.evaluation.settings import OF_FEATURES
from speech2image.metrics.frechet import FewPicturesWarning
from speech2image.metrics.registry import TABLES

FILES = ["grid.png", "report.html", "results.json", "results.md", "work"]


@pytest.fixture
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> TinyNetwork:
    """Stands for the Inception file, which tests do without."""
    network = TinyNetwork()
    monkeypatch.setattr(run, "load_inception", lambda path, layer: network)
    return network


def settings(shards: Path, model: Path, out: Path, **more: Any) -> EvaluationSettings:
    return replace(
        EvaluationSettings(
            data=shards, out=out, model=str(model), threads=1, limit=8, resamples=40, least_pictures=0
        ),
        **more,
    )


def test_report(shards: Path, model: Path, tmp_path: Path, tiny_network: TinyNetwork) -> None:
    out = tmp_path / "deep" / "report"
    results = evaluate(settings(shards, model, out, network=tmp_path / "inception"))
    assert sorted(path.name for path in out.iterdir()) == ["classifier.npz", *FILES]
    text = (out / "results.json").read_text()
    assert json.loads(text) == results
    card = json.loads((model / "model.json").read_text())
    sums = {name: entry["sha256"] for name, entry in card["files"].items()}
    assert results["model"]["sha256"] == sums
    assert results["data"]["pictures"] == {"test": 12, "train": 47, "val": 13}
    assert results["network"] == {"name": "tiny/means", "dim": 6, "sha256": "0" * 64}
    assert {"numpy", "torch", "python"} <= set(results["versions"])
    markdown = (out / "results.md").read_text()
    assert "| unseen | kept out | 8 | 12 | " in markdown
    assert "## Variety" in markdown and "| drawn from speech | " in markdown
    assert "real against real" in markdown and "drawn from noise" in markdown
    assert "of it the middle 256 x 256, whatever the model" in markdown
    assert re.search(r"augmented as it was prepared .*: [1-7] of 8 in voices kept out", markdown)
    html = (out / "report.html").read_text()
    for written in (text, markdown, html):
        assert str(tmp_path) not in written and str(shards.parent) not in written
    assert not re.search(r'(src|href)="(?!data:|#)', html) and "@import" not in html and "<script" not in html
    assert html.count("<svg") >= 4 and "data:image/png;base64," in html
    with Image.open(out / "grid.png") as picture:
        assert picture.width == 230 + 5 * SIZE + 4 * 2
    evaluate(settings(shards, model, tmp_path / "again", network=tmp_path / "inception"))
    for name in FILES[:-1]:
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.parametrize("name", ["birds", "flowers"])
def test_results_give_the_report_of_the_docs(name: str) -> None:
    """The documents are what the report writes; files whose rows have no ids are read by their labels."""
    docs = Path(__file__).parents[2] / "docs"
    results = json.loads((docs / f"results-{name}.json").read_text(encoding="utf-8"))
    assert "id" in results["pictures"][0]
    for rows in results.values():
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict):
                row.pop("id", None)
    told = (docs / f"results-{name}.md").read_text(encoding="utf-8")
    assert markdown(results) == told.replace(f"`grid-{name}.jpg` (half size)", "`grid.png`")
    for table in (*TABLES, "voice_by_voice"):
        for written in results.get(table, []):
            again = write_row(table, read_row(table, written))
            assert written.items() >= {k: v for k, v in again.items() if k != "id" and k in written}.items()
            assert read_row(table, again).estimates == read_row(table, written).estimates


def test_few_pictures_are_warned_of(
    shards: Path, model: Path, tmp_path: Path, tiny_network: TinyNetwork
) -> None:
    few = settings(shards, model, tmp_path, network=tmp_path, limit=5, measures=("fid",))
    with pytest.warns(FewPicturesWarning, match="singular"):
        results = evaluate(few)
    assert any("singular" in text for text in results["warnings"])
    assert "singular covariance" in (tmp_path / "results.md").read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(settings(shards, model, tmp_path / "b", measures=("colours",)))


def test_without_a_network_the_report_says_which(shards: Path, model: Path, tmp_path: Path) -> None:
    words = ["evaluate", "--data", str(shards), "--out", str(tmp_path), "--model", str(model), "--limit", "4"]
    assert cli.main([*words, "--resamples", "20"]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["pictures"] == [] and results["network"] is None
    assert set(results["not_measured"]) == {*OF_FEATURES, "variety", "words"}
    text = (tmp_path / "results.md").read_text()
    assert "pt_inception-2015-12-05-6726825d.pth" in text and "pytorch-fid" in text


def test_sets_without_val_or_without_colours_say_so(model: Path, tmp_path: Path) -> None:
    plain = [replace(s, captions=tuple("a thing" for _ in s.captions)) for s in toy_samples(24)]
    shards = _shards_of(tmp_path / "toy", plain)
    results = evaluate(settings(shards, model, tmp_path / "out"))
    text = (tmp_path / "out" / "results.md").read_text()
    assert results["colours"] == [] and "name no main colour" in text
    assert {row["classes"] for row in results["retrieval"]} == {"unseen"} and "--validation" in text


def test_one_voice_for_training_and_test_is_measured_and_marked(model: Path, tmp_path: Path) -> None:
    """The paper's own data: one synthesizer speaks every caption, so no voice is kept out."""
    alone = [
        replace(s, utterances=tuple(replace(u, voice="published") for u in s.utterances))
        for s in toy_samples(24)
    ]
    shards = _shards_of(tmp_path / "toy", alone)
    own = settings(shards, model, tmp_path / "out", drawn=("kept out",), only_drawn=True)
    results = evaluate(own)
    assert results["main_group"] == "heard" and results["voices"] == {"heard": ["published"], "kept out": []}
    assert [row["id"] for row in results["colours"]] == ["ceiling", "heard", "shuffled", "noise"]
    floor = next(row for row in results["colours"] if row["id"] == "shuffled")
    assert floor["pictures"] == "heard, captions shuffled (floor)"
    text = (tmp_path / "out" / "results.md").read_text()
    assert "Its row (voices heard):" in text and "Every voice of the test utterances is heard" in text
    assert "in voices heard in training, one a row" in text and "kept out of training" not in text
    drawn = next(row for row in results["colours"] if row["id"] == "heard")
    assert f"{100 * drawn['agreement']:.1f}" in next(x for x in text.splitlines() if x.startswith("| tiny"))
    for number in (3, 5):
        figure = evaluate(replace(own, figure=number, out=tmp_path / f"figure{number}"))
        assert {row["voice"] for row in figure["rows"]} == {"published"}


def test_classes_that_training_saw_are_not_called_unseen(
    model: Path, tmp_path: Path, tiny_network: TinyNetwork
) -> None:
    """As in Places-subset: pictures of the same classes in training and test."""
    same = [replace(s, label=1 + i % 2) for i, s in enumerate(toy_samples(24))]
    measures = ("retrieval", "colours", "inception-score", "class-accuracy")
    own = settings(_shards_of(tmp_path / "toy", same), model, tmp_path / "out", network=tmp_path)
    own = replace(own, measures=measures)
    results = evaluate(own)
    assert {row["classes"] for row in results["retrieval"]} == {"seen (test pictures)"}
    assert results["data"]["test_classes"] == "seen classes (test pictures)"
    text = (tmp_path / "out" / "results.md").read_text()
    assert "of split 'test' (seen classes (test pictures))" in text and "unseen" not in text.lower()
    row = next(line for line in text.splitlines() if line.startswith("| tiny"))
    kept_out = next(row for row in results["retrieval"] if row["id"] == "kept out")
    assert f"{100 * kept_out['R@10']:.1f}" in row, "the model's one row has the test pictures' retrieval"
    drawn = next(row for row in results["pictures"] if row["id"] == "kept out")
    assert "| class accuracy, % |" in text and f"| {100 * drawn['class_accuracy']:.1f} (" in text
    assert "splits and class accuracy, the share of pictures" in text
    assert "Shuffling changes it and class accuracy alone" in text


def test_table_measures_what_is_there_and_says_how_to_train_the_rest(
    shards: Path, tmp_path: Path, tiny_network: TinyNetwork
) -> None:
    make_model(tmp_path / "models" / "direct" / "model")
    make_model(tmp_path / "models" / "classifier")
    chosen = settings(shards, Path(), tmp_path / "out", network=tmp_path, measures=("fid", "colours"))
    results = evaluate(replace(chosen, table=2, models=tmp_path / "models"))
    measured = [row["row"] for row in results["rows"] if row["results"]]
    assert measured == ["direct", "classifier"]
    text = (tmp_path / "out" / "results.md").read_text()
    assert text.count("| missing |") == 4
    assert "real against real" in text and "drawn from noise" in text and "3.23 / 54.76" in text
    assert (tmp_path / "out" / "classifier" / "report.html").is_file()
    empty = evaluate(replace(chosen, table=5, models=tmp_path / "none", out=tmp_path / "five"))
    told = [row["missing"] for row in empty["rows"]]
    assert all("with: speech2image tables train --budget paper --tables 5 " in text for text in told)
    assert "none/scale-64 is missing" in told[0]


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_a_missing_row_names_a_command(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its flags are taken; the work itself ends for want of the data it names."""
    monkeypatch.chdir(tmp_path)
    table = tables.TABLES[number]
    for models in ("M", "M/seed-0"):
        said = table.missing(table.rows[0], Path("D"), Path(models))
        row = table.rows[0].same_as or table.rows[0].row
        assert said.startswith(f"{models}/{row} is missing; train all rows, into M/seed-0, with: ")
        program, *words = said.partition("with: ")[2].split()
        assert program == "speech2image" and "{" not in said
        assert cli.main(words) == 1
        assert "D is no shards folder" in capsys.readouterr().err


def test_rows_are_found_as_models_runs_and_checkpoints(tmp_path: Path) -> None:
    assert tables.find_row(tmp_path) is None
    for name in ("speech_encoder", "generator"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "checkpoint.safetensors").touch()
    found = tables.find_row(tmp_path)
    assert found is not None and found["generator"] == tmp_path / "generator" / "checkpoint.safetensors"
    make_model(tmp_path / "model")
    found = tables.find_row(tmp_path)
    assert found is not None and found["model"] == str(tmp_path / "model")


def test_checkpoints_are_exported_for_the_occasion(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def export_checkpoints(encoder: Path, generator: Path, folder: Path, **options: Any) -> None:
        seen.extend([encoder, generator, folder])
        make_model(folder, name=options["name"])

    monkeypatch.setattr("speech2image.export.direct.export_checkpoints", export_checkpoints)
    pair = [tmp_path / "runs" / name / "checkpoint.safetensors" for name in ("hearing", "gan64")]
    chosen = settings(shards, Path(), tmp_path / "out", measures=("retrieval",))
    results = evaluate(replace(chosen, speech_encoder=pair[0], generator=pair[1]))
    assert seen[:2] == pair and not seen[2].exists()
    assert results["model"]["name"] == "gan64"


def _shards_of(folder: Path, samples: list[Sample], size: int = EMBEDDING) -> Path:
    write_shards(samples, folder)
    if size:
        features = teacher(len(samples)) if size == EMBEDDING else np.zeros((len(samples), 1, size))
        PairArrays.open(folder).save_teacher(features.astype(np.float16))
    return folder


def _bad_sets(folder: Path) -> dict[str, tuple[Path, type[Exception], str]]:
    samples = list(toy_samples(24))
    unspoken = [replace(s, utterances=()) if s.split == "test" else s for s in samples]
    silent = [replace(s, utterances=()) for s in samples]
    train = [s for s in samples if s.split == "train"]
    test = [s for s in samples if s.split == "test"]
    foreign = folder / "foreign"
    foreign.mkdir()
    (foreign / "pictures-000000.tar").write_bytes(b"no shard")
    return {
        "no test speech": (_shards_of(folder / "a", unspoken), DataError, "about a test picture"),
        "no speech": (_shards_of(folder / "b", silent), DataError, "no speech"),
        "no test": (_shards_of(folder / "c", train), DataError, "split 'test'"),
        "no train": (_shards_of(folder / "d", test), DataError, "split 'train'"),
        "no teacher": (_shards_of(folder / "e", samples, 0), DataError, "prepare teacher"),
        "another teacher": (_shards_of(folder / "f", samples, 7), CheckpointError, "another teacher"),
        "no shards": (folder / "g", DataError, "no picture shards"),
        "foreign": (foreign, DataError, "unreadable shard"),
    }


def test_unfit_data_is_told_and_leaves_nothing(model: Path, tmp_path: Path) -> None:
    for name, (data, kind, words) in _bad_sets(tmp_path).items():
        with pytest.raises(kind) as caught:
            evaluate(settings(data, model, tmp_path / "out"))
        assert words in str(caught.value), name
        assert not list((tmp_path / "out").iterdir()), name


def test_unfit_settings(shards: Path, model: Path, tmp_path: Path) -> None:
    good = settings(shards, model, tmp_path / "out")
    (tmp_path / "file").write_text("no network")
    for change, kind, words in (
        ({"model": "flwers"}, CheckpointError, "unknown model 'flwers'"),
        ({"held_out_voices": ("nobody",)}, SettingsError, "no utterance by nobody"),
        ({"limit": 1}, SettingsError, "limit"),
        ({"gallery": 99}, SettingsError, "12 test pictures"),
        ({"pictures_per_utterance": 0}, SettingsError, "pictures_per_utterance"),
        ({"seed": -1}, SettingsError, "seed"),
        ({"measures": ("fid", "beauty")}, SettingsError, "unknown measure: beauty.*precision-recall"),
        ({"drawn": ("heard",)}, SettingsError, "--drawn takes some of .*'kept out' among them; not .*heard"),
        (
            {"robustness_groups": ("people",)},
            SettingsError,
            "--robustness-groups takes some of .*; not .*people",
        ),
        ({"generator": tmp_path / "file"}, SettingsError, "go together"),
        ({"speech_encoder": tmp_path / "file", "generator": tmp_path / "file"}, CheckpointError, "file"),
        ({"table": 2}, SettingsError, "--models"),
        ({"network": tmp_path / "file"}, CheckpointError, "file"),
        ({"network": tmp_path / "absent"}, CheckpointError, "absent"),
        ({"out": tmp_path / "file"}, OutputError, "is a file"),
        ({"out": tmp_path / "file" / "deeper"}, OutputError, "cannot write"),
    ):
        with pytest.raises(kind, match=words):
            evaluate(replace(good, **change))
    assert not (tmp_path / "out" / "results.json").exists()


def test_interrupted_evaluation_of_another_model_is_not_overwritten(
    shards: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    only = settings(shards, model, tmp_path / "out", measures=("retrieval",))
    with monkeypatch.context() as patched:
        patched.setattr("speech2image.evaluation.measuring.Measuring._retrieval", stop)
        with pytest.raises(KeyboardInterrupt):
            evaluate(only)
    other = make_model(tmp_path / "other", name="other")
    with pytest.raises(OutputError, match="unfinished evaluation of model 'tiny'"):
        evaluate(replace(only, model=str(other)))
    evaluate(only)
    assert evaluate(replace(only, model=str(other)))["model"]["name"] == "other"


def test_missing_module_is_not_called_a_missing_extra() -> None:
    with pytest.raises(Speech2ImageError, match=r"incomplete.*speech2image\.no_such_module"):
        flags.import_training("no_such_module")
