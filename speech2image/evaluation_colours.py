"""Colour agreement of a model's pictures, between ceiling and floor; utterances of many colours to show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.data.arrays import PairArrays
from speech2image.data.progress import track
from speech2image.errors import DataError
from speech2image.metrics.colour_agreement import ColourReader
from speech2image.metrics.colour_words import main_colours
from speech2image.pipeline import DirectRoute

RESAMPLES = 2000
"""Bootstrap samples of an interval."""

PHOTOGRAPHS, SHUFFLED = "real photographs (ceiling)", "drawn from speech, captions shuffled (floor)"
DRAWN = {"kept out": "drawn from voices kept out", "heard": "drawn from voices heard in training"}


@dataclass(frozen=True)
class Heard:
    """Utterances [n] of one kind of voice, and their speech embeddings [n, size]."""

    utterances: NDArray[np.int64]
    embeddings: NDArray[np.float32]


def caption_of(arrays: PairArrays, u: int) -> str:
    """The words of utterance `u`, "" if they are not known."""
    number = int(arrays.utterance_caption[u])
    return arrays.captions[arrays.utterance_sample[u]][number] if number >= 0 else ""


def colour_rows(
    arrays: PairArrays, route: DirectRoute, speech: Mapping[str, Heard], per_utterance: int, seed: int
) -> list[dict[str, Any]]:
    """How often the spoken main colour is read, on unseen classes, with bootstrap 95 % intervals.

    Rows: real photographs (the ceiling), pictures from each kind of voice, and those from voices kept out
    paired with the captions of others (the floor). Captions without a main colour do not count.

    Args:
        arrays: prepared data; its training photographs and their captions teach the colour reader.
        route: the model.
        speech: "kept out" (needed) and "heard" -> test utterances.
        per_utterance: pictures drawn of each utterance.
        seed: of the noise, the shuffling and the intervals.

    Returns:
        No rows if the captions of training or test pictures name no main colour.
    """
    speech = {kind: with_colour(arrays, heard) for kind, heard in speech.items()}
    if not _names_colours(arrays, "train") or not len(speech["kept out"].utterances):
        return []
    photographs = Photographs(arrays, route.picture_size)
    reader = photographs.fit()
    rows = [photographs.row(reader, seed)]
    for kind, name in DRAWN.items():
        if kind in speech and len(speech[kind].utterances):
            heard = speech[kind]
            own, captions = _samples(arrays, heard), _captions(arrays, heard)
            colours = _read_drawn(arrays, route, reader, heard, per_utterance, seed, name)
            rows.append(_row(name, colours, captions, own, seed))
            if kind == "kept out":
                others = shuffled(own, seed)
                floor = _row(SHUFFLED, colours, [captions[i] for i in others], own, seed)
    return [*rows, floor]


class Photographs:
    """Real photographs at the model's size: the central `size` x `size` of the array trainings crop from."""

    def __init__(self, arrays: PairArrays, size: int) -> None:
        self.arrays = arrays
        pictures = arrays.pictures(size)
        edge = (pictures.shape[1] - size) // 2
        self._squares = pictures[:, edge : edge + size, edge : edge + size]

    def of(self, split: str) -> tuple[NDArray[np.int64], list[NDArray[np.uint8]], list[tuple[str, ...]]]:
        """Indices, views of the pictures on disk, and captions of a split."""
        indices = self.arrays.samples_of(split)
        return indices, [self._squares[i] for i in indices], [self.arrays.captions[i] for i in indices]

    def fit(self) -> ColourReader:
        """A reader fitted on the training photographs."""
        _, pictures, captions = self.of("train")
        return ColourReader.fit(pictures, captions)

    def row(self, reader: ColourReader, seed: int) -> dict[str, Any]:
        """The ceiling: each caption of each test photograph against its colour."""
        indices, pictures, captions = self.of("test")
        colours = reader.read(pictures)
        told = [(i, place, text) for place, i in enumerate(indices) for text in captions[place]]
        return _row(
            PHOTOGRAPHS,
            [[colours[place]] for _, place, _ in told],
            [text for _, _, text in told],
            np.array([i for i, _, _ in told]),
            seed,
        )


def with_colour(arrays: PairArrays, heard: Heard) -> Heard:
    """Only utterances whose caption has a main colour: no other picture needs drawing."""
    keep = np.array([bool(main_colours(text)) for text in _captions(arrays, heard)], dtype=bool)
    return Heard(heard.utterances[keep], heard.embeddings[keep])


def shuffled(owners: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A random order of n items in which none takes the place of one with the same owner, int64 [n].

    Raises:
        DataError: one owner has more than half of the items.
    """
    if np.unique(owners, return_counts=True)[1].max() * 2 > len(owners):
        raise DataError("too few pictures to shuffle captions among: measure more utterances")
    rng = np.random.default_rng([seed, len(owners)])
    order = rng.permutation(len(owners))
    while len(clashes := np.flatnonzero(owners[order] == owners)):
        for i in clashes:
            j = rng.integers(len(order))
            if owners[order[i]] != owners[j] and owners[order[j]] != owners[i]:
                order[i], order[j] = order[j], order[i]
    return order


def bootstrap_interval(
    hits: NDArray[np.float64], counts: NDArray[np.float64], seed: int
) -> tuple[float, float]:
    """95 % interval of sum(hits) / sum(counts) when whole groups are drawn again with replacement.

    Args:
        hits: of each group [n].
        counts: items of each group [n]; items of one picture depend on one another, so groups are drawn.
        seed: of the drawing.
    """
    rng = np.random.default_rng(seed)
    shares = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = rng.integers(len(hits), size=len(hits))
        shares[i] = hits[drawn].sum() / counts[drawn].sum()
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def choose_utterances(
    arrays: PairArrays, utterances: NDArray[np.int64], n: int, seed: int
) -> NDArray[np.int64]:
    """At most `n` of `utterances` at random: of distinct pictures, and of distinct main colours at first.

    Captions with one main colour come first, then shades of two, then the rest.
    """
    order = np.random.default_rng([seed, 7]).permutation(utterances)
    colours = {int(u): main_colours(caption_of(arrays, int(u))) for u in order}
    chosen: list[int] = []
    for colours_named in (1, 2, None):
        for u in map(int, order):
            taken = {colours[v] for v in chosen if colours_named is not None}
            samples = {int(arrays.utterance_sample[v]) for v in chosen}
            fits = colours_named is None or (len(colours[u]) == colours_named and colours[u] not in taken)
            if len(chosen) < n and fits and int(arrays.utterance_sample[u]) not in samples:
                chosen.append(u)
    return np.array(chosen, dtype=np.int64)


def _read_drawn(
    arrays: PairArrays,
    route: DirectRoute,
    reader: ColourReader,
    heard: Heard,
    per_utterance: int,
    seed: int,
    name: str,
) -> list[list[str]]:
    """Colours of `per_utterance` pictures of each utterance; a caption has the same noise in every voice."""
    colours = []
    pairs = zip(heard.utterances.tolist(), heard.embeddings, strict=True)
    for u, embedding in track(pairs, name, len(heard.utterances)):
        key = [seed, int(arrays.utterance_sample[u]), int(arrays.utterance_caption[u])]
        noise_seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        pictures = route.generate(embedding, per_utterance, noise_seed)
        colours.append(reader.read([np.asarray(picture) for picture in pictures]))
    return colours


def _row(
    name: str, colours: Sequence[Sequence[str]], captions: Sequence[str], owners: NDArray[np.int64], seed: int
) -> dict[str, Any]:
    """Agreement of the colours read off each utterance's pictures [n][k] with captions [n]."""
    spoken = [main_colours(caption) for caption in captions]
    counts = np.array([len(own) if told else 0 for own, told in zip(colours, spoken, strict=True)])
    hits = np.array(
        [sum(colour in told for colour in own) for own, told in zip(colours, spoken, strict=True)]
    )
    groups = np.unique(owners[counts > 0], return_inverse=True)[1]
    grouped = [np.bincount(groups, weights=values[counts > 0]).astype(float) for values in (hits, counts)]
    low, high = bootstrap_interval(grouped[0], grouped[1], seed)
    return {
        "pictures": name,
        "n": int(counts.sum()),
        "captions": int((counts > 0).sum()),
        "described_pictures": len(grouped[0]),
        "agreement": float(hits.sum() / counts.sum()),
        "interval": [low, high],
    }


def _names_colours(arrays: PairArrays, split: str) -> bool:
    return any(main_colours(text) for i in arrays.samples_of(split) for text in arrays.captions[i])


def _captions(arrays: PairArrays, heard: Heard) -> list[str]:
    return [caption_of(arrays, int(u)) for u in heard.utterances]


def _samples(arrays: PairArrays, heard: Heard) -> NDArray[np.int64]:
    return arrays.utterance_sample[heard.utterances]
