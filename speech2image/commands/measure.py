"""evaluate, fid: measures of models and of folders of pictures; need the `train` extra."""

import sys
from pathlib import Path
from typing import Literal

import tyro

from speech2image.commands.drawing import dump
from speech2image.commands.flags import NO_PAIRS, import_training, parse
from speech2image.errors import SettingsError, printable, require

_SHOWN = 10


def run(command: str, arguments: list[str]) -> None:
    """Parse `arguments` for `command` and do it."""
    if command == "evaluate":
        evaluate(arguments)
    else:
        parse(fid, command, arguments, config=NO_PAIRS)


def evaluate(arguments: list[str]) -> None:
    """Measure a model on prepared data."""
    module = import_training("evaluation")
    settings = parse(module.EvaluationSettings, "evaluate", arguments)
    module.evaluate(settings)
    for line in (settings.out / "results.md").read_text(encoding="utf-8").splitlines():
        print(printable(line))
    if (settings.out / "report.html").is_file():
        path = printable(str((settings.out / "report.html").resolve()))
        print(f"\nreport with charts and pictures: {path}")


def fid(
    real: tyro.conf.Positional[Path],
    generated: tyro.conf.Positional[Path],
    network: Path,
    layer: Literal["mixed_6e", "pool3"] | None = None,
    size: int | None = None,
    cache: Path | None = None,
    resamples: int = 50,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Compare two folders of pictures: FID as pytorch-fid defines it, KID, precision and recall.

    Features are computed once and kept; run the command again to go on after an interruption.

    Example: speech2image fid photographs/ drawn/ --network pt_inception-2015-12-05-6726825d.pth

    Args:
        real: folder of real pictures, subfolders included; precision and recall are measured against these.
        generated: folder of generated pictures.
        network: Inception-v3 of 2015-12-05: pytorch-fid's pt_inception-2015-12-05-6726825d.pth, or this
            project's inception_v3_fid_mixed6e.fp16.safetensors (768 features).
        layer: of the network; by default the deepest its file holds (pool3 is the standard).
        size: first cut every picture to its central square, scaled to this side in pixels.
        cache: folder to keep features in; by default the user's cache folder (~/.cache/speech2image), or
            a temporary one where that cannot be written.
        resamples: bootstrap resamples of the intervals; 0 leaves them out, which is much faster.
        seed: of subsets and resamples.
        json: print everything needed to repeat the figures, as JSON.
    """
    if resamples < 0 or seed < 0 or (size is not None and size < 1):
        raise SettingsError("--resamples and --seed take whole numbers from 0, --size from 1")
    require("torch", "train")
    features = require("speech2image.metrics.folder_features", "train")
    comparison = require("speech2image.metrics.folder_comparison", "train")
    from speech2image.data.progress import track

    for folder in (real, generated):
        features.list_pictures(folder)  # refuse an empty folder before long work on the other
    measure = require("speech2image.metrics.feature_network", "train").load_inception(network, layer)
    sides = [
        features.folder_features(folder, measure, cache or features.user_cache(), size)
        for folder in (real, generated)
    ]
    figures = comparison.compare(*sides, measure, seed, resamples, track) | {"size": size}
    for side in sides:
        _name_broken(side.folder, side.broken)
    for text in figures["warnings"]:
        print(f"speech2image: warning: {text}", file=sys.stderr)
    print(dump(figures) if json else comparison.summary(figures))


def _name_broken(folder: Path, broken: list[tuple[str, str]]) -> None:
    if broken:
        where = printable(str(folder))
        print(f"speech2image: {len(broken)} broken files in {where} were left out:", file=sys.stderr)
    for name, reason in broken[:_SHOWN]:
        print(printable(f"  {name}: {reason}"), file=sys.stderr)
    if len(broken) > _SHOWN:
        print(f"  and {len(broken) - _SHOWN} more (--json names all)", file=sys.stderr)
