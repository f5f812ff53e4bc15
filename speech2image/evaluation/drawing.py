"""Sets of drawn pictures: drawn in batches; features and colours read off them are kept, pictures are not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from speech2image.data.progress import progress
from speech2image.data.shards.array_files import ResumableArray
from speech2image.data.shards.arrays import PairArrays
from speech2image.evaluation.embeddings import Embeddings
from speech2image.pipeline.base import Route

LABEL_WIDTH, LABEL_LETTERS, HEAD_HEIGHT = 230, 34, 20
"""Of a sheet, in pixels and letters."""
BLOCK = 16
"""Pictures held at once."""
Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class DrawnSet:
    """Pictures to draw: `per_utterance` of each of n utterances.

    Attributes:
        name: group of voices, "noise", or of an experiment.
        utterances: [n]; each names the caption, and with it the noise.
        condition: rows of utterances -> their conditions [rows, size].
        per_utterance: pictures of each.
        seed: of the noise.
        features: conditions are the teacher's features, which the generator draws from without the condition
            prior; else they are embeddings.
    """

    name: str
    utterances: NDArray[np.int64]
    condition: Callable[[slice], NDArray[np.float32]]
    per_utterance: int
    seed: int
    features: bool = False

    def __len__(self) -> int:
        return len(self.utterances) * self.per_utterance

    @property
    def owners(self) -> NDArray[np.int64]:
        """The utterance of each picture, [n * per_utterance]."""
        return np.repeat(self.utterances, self.per_utterance)


@dataclass(frozen=True)
class Reading:
    """Something read off pictures [b, h, w, 3], and where its rows [b, width] are kept."""

    rows: ResumableArray
    read: Callable[[Pictures], NDArray]


def spoken_set(name: str, speech: Embeddings, utterances: NDArray[np.int64], per: int, seed: int) -> DrawnSet:
    """Pictures of what was said."""
    return DrawnSet(name, utterances, lambda rows: speech.of(utterances[rows]), per, seed)


def noise_set(speech: Embeddings, utterances: NDArray[np.int64], per: int, seed: int) -> DrawnSet:
    """Pictures of nothing that was said: conditions are normal numbers with the embeddings' mean and spread.

    The mean and the spread are taken over all numbers of all embeddings, so that no direction that means
    something is left.
    """
    vectors = speech.of(utterances)
    mean, spread, size = float(vectors.mean()), float(vectors.std()), vectors.shape[1]

    def condition(rows: slice) -> NDArray[np.float32]:
        drawn = [np.random.default_rng([seed, 11, row]).normal(mean, spread, size) for row in _rows(rows)]
        return np.array(drawn, dtype=np.float32)

    return DrawnSet("noise", utterances, condition, per, seed)


def _rows(rows: slice) -> range:
    return range(rows.start, rows.stop)


def draw(route: Route, arrays: PairArrays, pictures: DrawnSet, readings: Sequence[Reading]) -> None:
    """Draw what is not yet read, and read it; goes on where an earlier call was interrupted."""
    per = pictures.per_utterance
    first = min((reading.rows.done for reading in readings), default=len(pictures)) // per
    step, total = max(1, BLOCK // per), len(pictures.utterances)
    with progress(f"drawing: {pictures.name}", (total - first) * per) as shown:
        for start in range(first, total, step):
            rows = slice(start, min(start + step, total))
            _read(draw_block(route, arrays, pictures, rows), start * per, readings)
            shown.advance((rows.stop - rows.start) * per)


def draw_block(route: Route, arrays: PairArrays, pictures: DrawnSet, rows: slice) -> Pictures:
    """The pictures of some utterances, uint8 [rows * per_utterance, size, size, 3]."""
    drawn, generate = [], route.draw_features if pictures.features else route.generate
    for u, condition in zip(pictures.utterances[rows].tolist(), pictures.condition(rows), strict=True):
        images = generate(condition, pictures.per_utterance, noise_seed(arrays, u, pictures.seed))
        drawn += [np.asarray(image) for image in images]
    return np.stack(drawn)


def _read(block: Pictures, start: int, readings: Sequence[Reading]) -> None:
    for reading in readings:
        if reading.rows.done < start + len(block):
            reading.rows.write(start, reading.read(block))


def noise_seed(arrays: PairArrays, u: int, seed: int) -> int:
    """Where the noise of an utterance comes from: the same in every voice that speaks its caption."""
    key = [seed, int(arrays.utterance_sample[u]), int(arrays.utterance_caption[u]) + 1]
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def sheet(
    rows: Sequence[Sequence[Image.Image]], captions: Sequence[str], heads: Sequence[str] = (), gap: int = 2
) -> Image.Image:
    """Pictures in rows, each row's caption to its left in Pillow's own letters.

    Args:
        rows: pictures of one size, as many in each row.
        captions: one a row; wrapped to the column.
        heads: over the columns, one a picture of a row.
        gap: white pixels between neighbours.
    """
    font = ImageFont.load_default(13)
    labels = [fill(caption, LABEL_LETTERS) for caption in captions]
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    tallest = max(int(pen.multiline_textbbox((0, 0), label, font)[3]) + 6 for label in labels)
    width, height = rows[0][0].size[0] + gap, max(tallest, rows[0][0].size[1]) + gap
    top = HEAD_HEIGHT if heads else 0
    size = (LABEL_WIDTH + len(rows[0]) * width - gap, top + len(rows) * height - gap)
    out = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(out)
    for place, head in enumerate(heads):
        pen.text((LABEL_WIDTH + place * width, 2), head, fill="black", font=font)
    for number, (pictures, label) in enumerate(zip(rows, labels, strict=True)):
        pen.multiline_text((4, top + number * height + 2), label, fill="black", font=font)
        for place, picture in enumerate(pictures):
            out.paste(picture, (LABEL_WIDTH + place * width, top + number * height))
    return out
