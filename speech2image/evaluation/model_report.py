"""Evaluation of one model, from its settings to the files it writes."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import require
from speech2image.evaluation import provenance
from speech2image.evaluation.measuring import Measuring, make_plan
from speech2image.evaluation.report_html import page
from speech2image.evaluation.report_markdown import facts, markdown
from speech2image.evaluation.route import opened_route
from speech2image.evaluation.sections import sections
from speech2image.evaluation.settings import EvaluationSettings
from speech2image.evaluation.work_dir import check_out, finish_work, open_work
from speech2image.files import writing
from speech2image.metrics.feature_network import FeatureNetwork, load_inception
from speech2image.pipeline import images
from speech2image.pipeline.loading import open_vad


def report(settings: EvaluationSettings) -> dict[str, Any]:
    """Measure one model and write `out`; see `evaluate` for what may be wrong."""
    check_out(settings.out)
    arrays = PairArrays.open(settings.data)
    with opened_route(settings) as route:
        plan = make_plan(settings, arrays, route)
        network = open_network(settings)
        model, data = provenance.describe_model(route), provenance.describe_data(arrays)
        work = open_work(settings.out, provenance.identity(settings, model, data))
        measuring = Measuring(settings, arrays, route, network, plan, work, open_vad(route.model))
        told = {
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
    results = told | {"warnings": noted} | found
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


def write(results: dict[str, Any], picture: Image.Image, out: Path) -> None:
    """Write grid.png, report.html, results.md and results.json, each whole or not at all, in this order."""
    title = f"Evaluation of {results['model']['name']} on {results['data']['name']}"
    told = [*facts(results), *(f"Warning: {text}" for text in results["warnings"])]
    html = page(title, told, sections(results), {"grid.png": picture})
    write_files(out, results, markdown(results), html, {"grid": picture})


def write_files(
    out: Path, results: dict[str, Any], text: str, html: str, pictures: dict[str, Image.Image]
) -> None:
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
