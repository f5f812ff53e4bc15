"""Provenance of figures: all that is needed to repeat an evaluation and to tell its figures from others."""

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from speech2image import __version__
from speech2image.asr.backends import BuiltinAsr
from speech2image.data.pairs import picture_shards, speech_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.header import read_header
from speech2image.evaluation.measuring import EvaluationPlan
from speech2image.evaluation.real_set import HALVES_SEED, crop, smaller_than
from speech2image.evaluation.results import Results
from speech2image.evaluation.settings import EvaluationSettings
from speech2image.evaluation.utterances import HEARD, VOICES, unchanged
from speech2image.metrics.feature_network import FeatureNetwork
from speech2image.pipeline.base import Route
from speech2image.pipeline.registry import RECOGNIZER_CARD

FORMAT = "speech2image evaluation 2"
PACKAGES = ("numpy", "scipy", "torch", "onnxruntime", "av", "Pillow")
_REPORTED = (
    "seed",
    "measures",
    "held_out_voices",
    "pictures_per_utterance",
    "least_pictures",
    "classifier",
    "limit",
    "variety_utterances",
    "robustness_utterances",
    "reference_size",
    "gallery",
    "queries_per_class",
    "resamples",
)


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of what computes."""
    found = {"speech2image": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def describe_model(route: Route) -> Results:
    """Name, size and checksums of a model."""
    return {
        "name": route.name,
        "route": route.model.route,
        "picture_size": route.picture_size,
        "bytes": route.model.size,
        "sha256": {name: hashlib.sha256(route.model.read(name)).hexdigest() for name in route.model.networks},
        **_describe_recognizer(route),
    }


def _describe_recognizer(route: Route) -> Results:
    """Name of what wrote down speech, and the checksum of its card if it is this project's."""
    asr = route.recognizer
    if asr is None:
        return {}
    described = {"name": asr.name}
    if isinstance(asr, BuiltinAsr):
        card = (asr.recognizer.folder / RECOGNIZER_CARD).read_bytes()
        described["sha256"] = hashlib.sha256(card).hexdigest()
    return {"recognizer": described}


def describe_data(arrays: PairArrays) -> Results:
    """Name, digest and counts of a data set."""
    splits = sorted(set(arrays.splits.tolist()))
    members = {split: arrays.samples_of(split) for split in splits}
    return {
        "name": arrays.folder.resolve().name,
        "digest": _digest(arrays),
        "pictures": {split: len(members[split]) for split in splits},
        "classes": {split: len(set(arrays.labels[members[split]].tolist())) for split in splits},
        "test_classes": arrays.classes_of("test"),
        "utterances": {split: len(arrays.utterances_of(split)) for split in splits},
    }


def _digest(arrays: PairArrays) -> str:
    """One checksum of all shards' names, digests and rows."""
    digest = hashlib.sha256()
    for path in (*picture_shards(arrays.folder), *speech_shards(arrays.folder)):
        header = read_header(path)
        digest.update(json.dumps([path.name, header.digest, header.rows], sort_keys=True).encode())
    return digest.hexdigest()


def describe_network(network: FeatureNetwork | None) -> Results | None:
    """Name with layer, dimensions and checksum of the evaluating network."""
    if network is None:
        return None
    return {"name": network.name, "dim": network.dim, "sha256": network.checksum}


def identity(settings: EvaluationSettings, model: Results, data: Results) -> Results:
    """All that decides what is heard and drawn: an interrupted evaluation goes on only with the same."""
    special: Results = {"recognizer": model["recognizer"]} if "recognizer" in model else {}
    if settings.captions:
        special = {"captions": True}
    if settings.only_drawn:
        special["only_drawn"] = True
    if settings.least_pictures:
        special["least_pictures"] = settings.least_pictures
    return special | {
        "model": model["name"],
        "networks": model["sha256"],
        "data": data["digest"],
        "seed": settings.seed,
        "pictures_per_utterance": settings.pictures_per_utterance,
        "limit": settings.limit,
        "variety_utterances": settings.variety_utterances,
        "robustness_utterances": settings.robustness_utterances,
        "held_out_voices": list(settings.held_out_voices),
    }


def describe_settings(settings: EvaluationSettings) -> Results:
    """The settings that change a figure."""
    found = {name: getattr(settings, name) for name in _REPORTED}
    found["classifier"] = Path(settings.classifier).name  # of a file; its checksum stands in the results
    found |= {name: True for name in ("captions", "only_drawn") if getattr(settings, name)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def protocol(
    settings: EvaluationSettings, arrays: PairArrays, plan: EvaluationPlan, network: FeatureNetwork | None
) -> list[str]:
    """How it was measured, a sentence each."""
    test = arrays.samples_of("test")
    classes = len(set(arrays.labels[test].tolist()))
    counts = {kind: len(plan.tested(kind)) for kind in VOICES}
    asked = {plan.main, *settings.drawn}
    drawn = [f"{counts[kind]} in voices {kind}" for kind in VOICES if kind in asked and counts[kind]]
    limit = "" if settings.limit is None else f" (limited to {settings.limit} of a kind)"
    lines = [
        f"Real set: {len(test)} photographs of the {classes} classes of split 'test' "
        f"({arrays.classes_of('test')}); "
        f"{crop(settings.reference_size)}, whatever the model's picture size; its two halves are stratified "
        f"by class, drawn with seed {HALVES_SEED}.",
        f"Drawn: {_counted(settings, counts[plan.main])} of each test caption, one utterance a caption: "
        f"{', '.join(drawn)}{limit}. The noise follows from the seed and the caption, so it is the same "
        "for all voices.",
        "Noise (floor): conditions of normal numbers with the speech embeddings' mean and spread.",
        _augmented(arrays, plan),
        "Intervals: 95 %, bootstrap over the photographs described, so that captions of one count together.",
    ]
    if settings.captions:
        lines.append(
            "Drawn from the captions as they are written, as a recognizer without errors would: nothing was "
            "heard, and rows of different voices hold the same captions."
        )
    if plan.main == HEARD:
        lines.append(
            "Every voice of the test utterances is heard in training: nothing here tells how the model does "
            "on voices it never met, and floors and the model's one row are of voices heard."
        )
    if network is not None:
        lines.append(
            f"Feature network: {network.name}, {network.dim} numbers, sha256 {network.checksum[:16]}; it is "
            f"not the network that taught the model. Figures of other layers, files or real sets differ."
        )
        small = smaller_than(arrays, settings.reference_size)
        if small:
            lines.append(
                f"{small} of the {len(test)} photographs are smaller than {settings.reference_size} "
                "pixels and are enlarged: they have less detail than their size says."
            )
    return lines


def _counted(settings: EvaluationSettings, utterances: int) -> str:
    each = settings.pictures_each(utterances)
    least = f" (so many that each set has {settings.least_pictures})" if settings.least_pictures else ""
    return f"{each} picture{'s' if each > 1 else ''}{least}"


def _augmented(arrays: PairArrays, plan: EvaluationPlan) -> str:
    """How many of the utterances measured were changed when prepared."""
    clean, shares = unchanged(arrays), []
    for kind in VOICES:
        own = plan.tested(kind)
        if len(own):
            shares.append(f"{(~clean[own]).sum()} of {len(own)} in voices {kind}")
    return (
        f"Test speech is augmented as it was prepared (rate, pitch, formants, level, noise, room): "
        f"{', '.join(shares)}; prepare --augment 0 leaves it clean."
    )
