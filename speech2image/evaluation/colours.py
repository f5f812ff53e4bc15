"""Colour table: does the colour read in the picture agree with the colour spoken?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from speech2image.data.shards.arrays import PairArrays
from speech2image.evaluation.drawing import DrawnSet, Pictures
from speech2image.evaluation.real_set import Photographs
from speech2image.evaluation.results import CEILING, SHUFFLED, Row
from speech2image.evaluation.utterances import caption_of, shuffled
from speech2image.metrics import registry
from speech2image.metrics.colour_agreement import ColourHits, ColourReader
from speech2image.metrics.colour_words import COLOURS, main_colours
from speech2image.metrics.estimate import Sample


def fit_reader(photographs: Photographs) -> ColourReader | None:
    """A reader fitted on the training photographs; None if training or test captions name no main colour."""
    if not all(_names_colours(photographs.arrays, split) for split in ("train", "test")):
        return None
    _, pictures, captions = photographs.of("train")
    return ColourReader.fit(pictures, captions)


def numbers(reader: ColourReader, pictures: Pictures) -> NDArray[np.int8]:
    """The place in `COLOURS` of each picture's colour, [b, 1]."""
    return np.array([[COLOURS.index(colour)] for colour in reader.read(pictures)], dtype=np.int8)


class ColourRows:
    """Makes the rows of one data set.

    Args:
        arrays: the prepared data.
        seed: of the shuffling and the intervals.
        resamples: of the intervals.
    """

    def __init__(self, arrays: PairArrays, seed: int, resamples: int) -> None:
        self.arrays, self.seed, self.resamples = arrays, seed, resamples

    def real(self, photographs: Photographs, reader: ColourReader) -> Row:
        """The ceiling: each caption of each test photograph against its colour."""
        indices, pictures, captions = photographs.of("test")
        colours = reader.read(pictures)
        pairs = [(colours[place], text, i) for place, i in enumerate(indices) for text in captions[place]]
        read, texts, owners = zip(*pairs, strict=True)
        return self.row(CEILING, read, texts, np.array(owners))

    def drawn(self, pictures: DrawnSet, read: NDArray[np.int8], floor: bool) -> list[Row]:
        """A drawn set against what was said; with `floor` against what others said, too."""
        colours = [COLOURS[i] for i in read[:, 0]]
        captions = [caption_of(self.arrays, int(u)) for u in pictures.owners]
        owners = self.arrays.utterance_sample[pictures.owners]
        rows = [self.row(pictures.name, colours, captions, owners)]
        if floor:
            said = np.flatnonzero([bool(main_colours(caption)) for caption in captions])
            others = said[shuffled(owners[said], self.seed)]
            texts = [captions[i] for i in others]
            rows.append(self.row(SHUFFLED, [colours[i] for i in said], texts, owners[said]))
        return rows

    def row(self, id: str, colours: Sequence[str], captions: Sequence[str], owners: NDArray[np.int64]) -> Row:
        """Agreement of colours [n] with captions [n]; captions without a main colour do not count."""
        pairs = zip(colours, map(main_colours, captions), owners.tolist(), strict=True)
        kept = [(colour in spoken, owner) for colour, spoken, owner in pairs if spoken]
        if not kept:
            return Row(id, counts={"n": 0})
        hits, described = (np.array(column) for column in zip(*kept, strict=True))
        found = ColourHits(hits, Sample(described, self.seed, self.resamples))
        estimates = {measure.key: measure.compute(found) for measure in registry.COLOURS}
        return Row(id, estimates, {"n": len(hits), "described_pictures": len(set(described.tolist()))})


def _names_colours(arrays: PairArrays, split: str) -> bool:
    return any(main_colours(text) for i in arrays.samples_of(split) for text in arrays.captions[i])
