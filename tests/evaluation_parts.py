"""What the evaluation's tests share: a toy set, a model that knows everything, a network that is quick."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tiny_model import EMBEDDING

from speech2image.data.corpora.toy import HELD_OUT_VOICE, toy_samples
from speech2image.data.pairs import (
    Sample,
    read_shards,
    speech_shards,
    stream_speech,
    write_shards,
    write_speech_shard,
)
from speech2image.data.shards.arrays import PairArrays
from speech2image.evaluation.measuring import Measuring, make_plan
from speech2image.evaluation.real_set import Photographs
from speech2image.evaluation.settings import MEASURES, EvaluationSettings
from speech2image.pipeline.base import Capabilities

N, PIXELS = 72, 32


def with_validation() -> Iterator[Sample]:
    """Toy samples; of the training ones every fifth is "val", one of its captions in the held-out voice."""
    for i, sample in enumerate(toy_samples(N)):
        if sample.split == "train" and i % 5 == 0:
            first, second = sample.utterances
            spoken = (first, replace(second, voice=HELD_OUT_VOICE))
            sample = replace(sample, split="val", utterances=spoken)
        yield sample


def teacher(n: int) -> NDArray[np.float16]:
    """Features of two crops that are much alike, [n, 2, EMBEDDING]."""
    rng = np.random.default_rng(0)
    own, between = rng.standard_normal((n, 1, EMBEDDING)), rng.standard_normal((n, 2, EMBEDDING))
    return (own + 0.1 * between).astype(np.float16)


def write_set(folder: Path) -> Path:
    """Shards with train, val, test, teacher features; two thirds of the utterances are noted as augmented."""
    write_shards(with_validation(), folder)
    for shard in speech_shards(folder):
        spoken = list(stream_speech([shard]))
        noisy = [replace(item, effects={"noise": 0.1}) if i % 3 else item for i, item in enumerate(spoken)]
        write_speech_shard(shard, noisy)
    PairArrays.open(folder).save_teacher(teacher(N))
    return folder


class TinyNetwork:
    """Features of a picture: its mean colour, and that of its middle. Counts what it sees."""

    name, dim, checksum = "tiny/means", 6, "0" * 64

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(pictures))
        quarter = pictures.shape[1] // 4
        middle = pictures[:, quarter:-quarter, quarter:-quarter]
        return np.concatenate([p.mean((1, 2)) / 255 for p in (pictures, middle)], 1).astype(np.float32)


class PerfectRoute:
    """Knows each recording: hears its photograph's feature, draws the photograph; noise from noise."""

    name, picture_size = "perfect", PIXELS

    def __init__(self, arrays: PairArrays) -> None:
        self.model = SimpleNamespace(card={"embedding_size": EMBEDDING})
        self.features = arrays.teacher.astype(np.float32).mean(1)
        index = {name: i for i, name in enumerate(arrays.ids)}
        spoken = [(u.audio, s.id) for s in read_shards(arrays.folder) for u in s.utterances]
        self.pictured = {audio: index[name] for audio, name in spoken}
        self.photographs = Photographs(arrays, PIXELS).squares
        self.asked: list[tuple[int, int]] = []

    recognizer = "none"
    samples_features = False

    @property
    def capabilities(self) -> Capabilities:
        """Text, if a test gave it something that transcribes."""
        return Capabilities(hasattr(self, "transcribe"), False, False, False)

    def embed_text(self, text: str) -> NDArray[np.float32]:
        return self.features[len(text) % len(self.features)]

    def embed(self, audio: bytes) -> NDArray[np.float32]:
        return self.features[self.pictured[audio]]

    def sample_features(self, embedding: NDArray[np.float32], n: int, seed: int) -> NDArray[np.float32]:
        return np.repeat(embedding[None], n, axis=0)

    def draw_features(self, feature: NDArray[np.float32], n: int, seed: int) -> list[Image.Image]:
        return self.generate(feature, n, seed)

    def generate(self, embedding: NDArray[np.float32], n: int, seed: int) -> list[Image.Image]:
        self.asked.append((n, seed))
        distances = np.abs(self.features - embedding).sum(1)
        if distances.min() > 0.1:
            noise = np.random.default_rng(seed).integers(0, 256, (PIXELS, PIXELS, 3), np.uint8)
            return [Image.fromarray(noise)] * n
        return [Image.fromarray(self.photographs[int(distances.argmin())])] * n


def run(
    shards: Path, work: Path, route: Any = None, network: TinyNetwork | None = None, **settings: Any
) -> dict[str, Any]:
    """Figures of `route`, by default the perfect one, without a report; by default all but robustness."""
    arrays = PairArrays.open(shards)
    measures = tuple(measure for measure in MEASURES if measure != "robustness")
    options = EvaluationSettings(
        data=shards,
        out=work,
        network=work if network else None,
        resamples=60,
        measures=measures,
        reference_size=PIXELS,
    )
    options = replace(options, **settings)
    work.mkdir(parents=True, exist_ok=True)
    route = route or PerfectRoute(arrays)
    plan = make_plan(options, arrays, route)
    return Measuring(options, arrays, route, network, plan, work).results()[0]


def by_name(rows: list[dict[str, Any]], key: str = "id") -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in rows}
