"""Evaluation of one model, from its settings to the files it writes."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import OutputError, require
from speech2image.evaluation import provenance
from speech2image.evaluation.measuring import Measuring, make_plan
from speech2image.evaluation.report.html import page
from speech2image.evaluation.report.markdown import facts, markdown
from speech2image.evaluation.report.sections import sections
from speech2image.evaluation.results import Results
from speech2image.evaluation.settings import EvaluationSettings
from speech2image.files import check_writable, writing
from speech2image.metrics.feature_network import FeatureNetwork, load_inception
from speech2image.pipeline import images
from speech2image.pipeline.base import Route
from speech2image.pipeline.loading import load, open_vad

NOTE = "run.json"
"""Of a work folder: which evaluation it belongs to, and whether that was finished."""
ANY_SIZE = 10**10
"""Checkpoints are measured whatever they take; only models to ship are held to a size."""


def report(settings: EvaluationSettings) -> Results:
    """Measure one model and write `out`; see `evaluate` for what may be wrong."""
    check_out(settings.out)
    arrays = PairArrays.open(settings.data)
    with opened_route(settings) as route:
        plan = make_plan(settings, arrays, route)
        network = open_network(settings)
        model, data = provenance.describe_model(route), provenance.describe_data(arrays)
        work = open_work(settings.out, provenance.identity(settings, model, data))
        measuring = Measuring(settings, arrays, route, network, plan, work, open_vad(route.model))
        described = {
            "format": provenance.FORMAT,
            "versions": provenance.versions(),
            "settings": provenance.describe_settings(settings),
            "model": model,
            "data": data,
            "network": provenance.describe_network(network),
            "protocol": provenance.protocol(settings, arrays, plan, network),
        }
        with _noting() as noted:
            found, picture = measuring.results()
    results = described | {"warnings": noted} | found
    write(results, picture, settings.out)
    finish_work(work)
    return results


def open_network(settings: EvaluationSettings) -> FeatureNetwork | None:
    """The evaluating network, if one is given.

    Raises:
        CheckpointError: the file is absent, damaged, unknown, or lacks the layer.
    """
    if settings.network is None:
        return None
    if settings.threads is not None:
        require("torch", "train").set_num_threads(settings.threads)
    return load_inception(settings.network, settings.layer)


@contextmanager
def _noting() -> Iterator[list[str]]:
    """Warnings given meanwhile, once each, for the report; they are shown as well."""
    noted: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield noted
    for warning in caught:
        text = str(warning.message)
        if issubclass(warning.category, UserWarning) and text not in noted:
            noted.append(text)
            warnings.warn(text, warning.category, stacklevel=3)


def write(results: Results, picture: Image.Image, out: Path) -> None:
    """Write grid.png, report.html, results.md and results.json, each whole or not at all, in this order."""
    title = f"Evaluation of {results['model']['name']} on {results['data']['name']}"
    html = page(title, facts(results), sections(results), {"grid.png": picture}, results["warnings"])
    write_files(out, results, markdown(results), html, {"grid": picture})


def write_files(out: Path, results: Results, text: str, html: str, pictures: dict[str, Image.Image]) -> None:
    """Write the files every report has."""
    for name, picture in pictures.items():
        images.save(picture, out / f"{name}.png")
    for file, content in (
        ("report.html", html),
        ("results.md", text),
        ("results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n"),
    ):
        with writing(out / file) as temporary:
            temporary.write_text(content, encoding="utf-8")


@contextmanager
def opened_route(settings: EvaluationSettings) -> Iterator[Route]:
    """The route that `settings` name, as users run it: through ONNX Runtime; but it refuses no recording.

    Raises:
        CheckpointError: the model or a checkpoint is unknown or damaged.
    """
    if settings.speech_encoder is None or settings.generator is None:
        yield load(
            settings.model, recognizer=settings.recognizer, threads=settings.threads, vad=False, words=False
        )
        return
    with TemporaryDirectory(prefix="speech2image-") as folder:
        model = Path(folder) / "model"
        require("speech2image.export.direct", "train").export_checkpoints(
            settings.speech_encoder,
            settings.generator,
            model,
            name=_name(settings.generator),
            licence="unstated",
            max_bytes=ANY_SIZE,
        )
        yield load(model, threads=settings.threads, vad=False, words=False)


def _name(checkpoint: Path) -> str:
    """`runs/gan128/checkpoint.safetensors` -> `gan128`."""
    own = checkpoint.resolve()
    return own.parent.name if own.stem == "checkpoint" else own.stem


def check_out(out: Path) -> None:
    """Check, before any work is done, that a report can be written to `out`.

    Raises:
        OutputError: `out` is a file, or cannot be written.
    """
    if out.is_file():
        raise OutputError(f"{out} is a file; name a folder for the report")
    check_writable(out / "results.json")


def open_work(out: Path, identity: Results) -> Path:
    """Give `out/work` for the evaluation that `identity` describes; emptied if a finished one lay there.

    Args:
        out: folder of the report.
        identity: all that decides what is drawn, as JSON values.

    Raises:
        OutputError: an unfinished evaluation of something else lies there, or it cannot be written.
    """
    work = out / "work"
    check_writable(work / NOTE)
    note = _read(work / NOTE)
    if note is not None and note["identity"] != identity:
        if not note["finished"]:
            raise OutputError(_unfinished(out, note["identity"], identity))
        for path in (*work.glob("*.npy"), *work.glob("*.jsonl")):
            path.unlink()
    _write(work / NOTE, {"identity": identity, "finished": False})
    return work


def finish_work(work: Path) -> None:
    """Note that the report is written, so that another evaluation may take the folder."""
    note = _read(work / NOTE) or {"identity": {}}
    _write(work / NOTE, note | {"finished": True})


def _unfinished(out: Path, there: Results, wanted: Results) -> str:
    differing = [key for key in {**wanted, **there} if there.get(key) != wanted.get(key)]
    return (
        f"{out} holds an unfinished evaluation of model '{there.get('model')}', which differs from this one "
        f"in {', '.join(differing)}; finish it with its own settings, choose another --out, or delete "
        f"{out / 'work'}"
    )


def _read(path: Path) -> Results | None:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return {"identity": dict(note["identity"]), "finished": bool(note["finished"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, note: Results) -> None:
    with writing(path) as temporary:
        temporary.write_text(json.dumps(note, indent=1), encoding="utf-8")
