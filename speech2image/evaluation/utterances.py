"""Utterances that are measured: groups of voices, one utterance a caption, some to show, shuffled pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speech2image.data.pairs import speech_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.header import read_header
from speech2image.data.speech.voices import KINDS, kind_of
from speech2image.errors import DataError, SettingsError
from speech2image.metrics.colour_words import main_colours

SPLITS = ("val", "test")
"""Splits whose pictures no training saw."""

HEARD, KEPT_OUT = "heard", "kept out"
GROUPS = tuple(f"{base}, {kind}" for base in (KEPT_OUT, HEARD) for kind in KINDS)
"""Groups of voices: kept out of training or heard in it, of each kind."""
VOICES = tuple(group.removesuffix(", synthesizers") for group in GROUPS)
"""What most tables call them: "kept out" and "heard" are synthesizers or, where there are none of them, the
next kind that is there."""


@dataclass(frozen=True)
class UtteranceGroup:
    """Utterances of one kind: split "val" or "test", voices one of `VOICES`, their indices."""

    split: str
    voices: str
    utterances: NDArray[np.int64]


def caption_of(arrays: PairArrays, u: int) -> str:
    """The words of utterance `u`, "" if they are not known."""
    number = int(arrays.utterance_caption[u])
    return arrays.captions[arrays.utterance_sample[u]][number] if number >= 0 else ""


def describe_utterance(arrays: PairArrays, u: int) -> dict[str, str]:
    """What a report says of an utterance."""
    sample = int(arrays.utterance_sample[u])
    return {
        "caption": caption_of(arrays, u),
        "voice": str(arrays.utterance_voice[u]),
        "class": arrays.class_names[int(arrays.labels[sample])],
        "id": arrays.ids[sample],
    }


def split_evaluation_voices(arrays: PairArrays, held_out: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Voices heard in training, and those kept out of it: `held_out`, and all without a training utterance.

    Raises:
        SettingsError: a voice of `held_out` is not there.
        DataError: there is no speech, or none about test pictures.
    """
    if not arrays.voices:
        raise DataError(f"no speech in {arrays.folder}; speak the captions with: speech2image prepare")
    unknown = sorted(set(held_out) - set(arrays.voices))
    if unknown:
        there = ", ".join(arrays.voices)
        raise SettingsError(f"no utterance by {', '.join(unknown)} (--held-out-voices); voices: {there}")
    trained = arrays.utterances_of("train", exclude_voices=held_out)
    heard = sorted(set(arrays.utterance_voice[trained].tolist()))
    kept_out = sorted(set(arrays.voices) - set(heard))
    if not len(arrays.utterances_of("test")):
        raise DataError(
            f"no utterance in {arrays.folder} is about a test picture; speak their captions with: "
            "speech2image prepare ... --speak-splits test --part NAME"
        )
    return heard, kept_out


def main_voices(
    arrays: PairArrays, heard: Sequence[str], kept_out: Sequence[str]
) -> tuple[str, Sequence[str]]:
    """The group that floors, sheets and a model's one row are of, and its voices.

    `KEPT_OUT`; `HEARD` where every voice of the test utterances is heard in training, as in data with one
    synthesized voice (the paper's), or with the same speakers in training and test (Places-subset).
    """
    there = len(arrays.utterances_of("test", kept_out))
    return (KEPT_OUT, kept_out) if there else (HEARD, heard)


def utterance_groups(
    arrays: PairArrays, heard: list[str], kept_out: list[str], limit: int | None
) -> list[UtteranceGroup]:
    """Utterances of every kind there is, one a caption."""
    groups = _named(arrays, HEARD, heard) | _named(arrays, KEPT_OUT, kept_out)
    cells = [
        UtteranceGroup(split, name, evenly(one_a_caption(arrays, arrays.utterances_of(split, voices)), limit))
        for split in SPLITS
        for name, voices in groups.items()
    ]
    return [cell for cell in cells if len(cell.utterances)]


def _named(arrays: PairArrays, base: str, voices: Sequence[str]) -> dict[str, list[str]]:
    """Groups of `VOICES` -> their voices; the first kind with test utterances is `base` itself."""
    kinds = {kind: own for kind, own in by_kind(voices).items() if own}
    in_test = [kind for kind, own in kinds.items() if len(arrays.utterances_of("test", own))]
    first = [*in_test, *kinds][:1]
    return {base if kind in first else f"{base}, {kind}": own for kind, own in kinds.items()}


def by_kind(voices: Sequence[str]) -> dict[str, list[str]]:
    """Voices of each of `KINDS`: of synthesizers, natural voices, people ("reader/251")."""
    return {kind: [voice for voice in voices if kind_of(voice) == kind] for kind in KINDS}


def file_name(group: str) -> str:
    """A group of voices as part of a file's name."""
    return group.replace(", ", "-").replace(" ", "_")


def one_a_caption(arrays: PairArrays, utterances: NDArray[np.int64]) -> NDArray[np.int64]:
    """One of `utterances` (sorted) for each caption, so that no caption counts more than another.

    Where several voices speak a caption, they take turns from caption to caption. An utterance whose words
    are not known stands for itself.
    """
    spoken: dict[tuple[int, int], list[int]] = {}
    for u in utterances.tolist():
        caption = int(arrays.utterance_caption[u])
        key = (int(arrays.utterance_sample[u]), caption if caption >= 0 else -1 - u)
        spoken.setdefault(key, []).append(u)
    chosen = [own[turn % len(own)] for turn, own in enumerate(spoken.values())]
    return np.sort(np.array(chosen, dtype=np.int64))


def unchanged(arrays: PairArrays) -> NDArray[np.bool_]:
    """Which utterances were prepared without noise, room or other change, by the shards' notes, bool [n]."""
    rows = [row for path in speech_shards(arrays.folder) for row in read_header(path).rows]
    return np.array(["effects" not in row for row in rows], dtype=bool)


def evenly(indices: NDArray[np.int64], limit: int | None) -> NDArray[np.int64]:
    """At most `limit` of `indices`, evenly spread, first and last among them."""
    if limit is None or len(indices) <= limit:
        return indices
    return indices[np.linspace(0, len(indices) - 1, limit).round().astype(np.int64)]


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
