"""FID, KID, precision and recall between two folders' features, with intervals and all that repeats them."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from speech2image import __version__
from speech2image.errors import DataError
from speech2image.metrics.feature_network import FeatureNetwork
from speech2image.metrics.folder_features import FolderFeatures
from speech2image.metrics.frechet import FewPicturesWarning, frechet_distance, frechet_interval
from speech2image.metrics.kernel import kernel_distance, kernel_interval
from speech2image.metrics.precision_recall import precision_recall

NEIGHBOUR = 3
SUBSETS, SUBSET_SIZE = 100, 1000
KERNEL_ROWS = 4_000
"""With more pictures than this in a set, the interval of the KID is left out: it takes every pair."""


def compare(
    real: FolderFeatures,
    generated: FolderFeatures,
    network: FeatureNetwork,
    seed: int = 0,
    resamples: int = 50,
    track: Callable[[Iterable[int], str, int], Iterable[int]] = lambda items, *_: items,
) -> dict[str, Any]:
    """All figures as one dictionary that JSON takes, with what is needed to repeat them.

    Args:
        real: features of the real pictures; precision and recall are of the others against these.
        generated: features of the generated pictures.
        network: what made both.
        seed: of subsets and resamples.
        resamples: of FID's interval, twenty times as many of KID's; below 2, no intervals.
        track: shows how far the slow part is, as `data.progress.track`.

    Returns:
        `fid`, `kid`, `kid_spread` (over subsets), `fid_interval`, `kid_interval`, `precision`, `recall`
        (None with too few pictures), `n`, `network`, `seed`, `broken`, `warnings` and so on.

    Raises:
        DataError: a folder has fewer than two readable pictures.
    """
    for side in (real, generated):
        if side.n < 2:
            raise DataError(
                f"{side.folder} has {side.n} readable picture; sets are compared from 2 on, "
                f"and figures mean something from some thousands on"
            )
    x, y = real.all(), generated.all()
    fid, warned = _fid(real, generated, network.dim)
    kid, spread = kernel_distance(x, y, SUBSETS, SUBSET_SIZE, seed)
    enough = min(len(x), len(y)) > NEIGHBOUR
    precision, recall = precision_recall(x, y, NEIGHBOUR) if enough else (None, None)
    figures: dict[str, Any] = {
        "fid": fid,
        "fid_interval": None,
        "kid": kid,
        "kid_spread": spread,
        "kid_interval": None,
    }
    if resamples > 1:
        draws = track(range(resamples), "interval of the FID", resamples)
        figures["fid_interval"] = list(frechet_interval(x, y, fid, seed, draws))
        if max(len(x), len(y)) <= KERNEL_ROWS:
            figures["kid_interval"] = list(kernel_interval(x, y, seed, 20 * resamples))
    return {
        **figures,
        "precision": precision,
        "recall": recall,
        "n": [real.n, generated.n],
        "folders": [str(real.folder), str(generated.folder)],
        "content": [real.digest, generated.digest],
        "broken": [dict(side.broken) for side in (real, generated)],
        "warnings": warned,
        **_protocol(network, seed, resamples, min(SUBSET_SIZE, len(x), len(y))),
    }


def _fid(real: FolderFeatures, generated: FolderFeatures, dim: int) -> tuple[float, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FewPicturesWarning)
        fid = frechet_distance(real.moments(dim), generated.moments(dim))
    return fid, [str(warning.message) for warning in caught]


def _protocol(network: FeatureNetwork, seed: int, resamples: int, subset_size: int) -> dict[str, Any]:
    return {
        "network": network.name,
        "dim": network.dim,
        "checksum": network.checksum,
        "neighbour": NEIGHBOUR,
        "subsets": SUBSETS,
        "subset_size": subset_size,
        "seed": seed,
        "resamples": resamples,
        "versions": {"speech2image": __version__, "numpy": np.__version__},
    }


def summary(figures: dict[str, Any]) -> str:
    """The figures of `compare` in a few lines for a reader."""
    lines = [f"network    {figures['network']} ({figures['dim']} features), sha256 {figures['checksum'][:8]}"]
    lines.append(f"pictures   {figures['n'][0]} and {figures['n'][1]}")
    lines.append(f"FID        {figures['fid']:.3f}{_range(figures['fid_interval'], 3)}")
    lines.append(f"KID        {figures['kid']:.6f}{_range(figures['kid_interval'], 6)}")
    if figures["precision"] is not None:
        lines.append(f"precision  {figures['precision']:.3f}\nrecall     {figures['recall']:.3f}")
    return "\n".join(lines)


def _range(interval: list[float] | None, digits: int) -> str:
    return "" if interval is None else f"  (95 %: {interval[0]:.{digits}f} to {interval[1]:.{digits}f})"
