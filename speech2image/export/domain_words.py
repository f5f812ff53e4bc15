"""Export of domain words into a model that is there: what the words heard say of a recording's domain.

Nothing is trained: words are counted (`pipeline/domain_words.py`) in the training captions of the data sets
and in sentences about other things, and stand in `model.json`.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from speech2image.asr.text import transcript
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.recordings import Recordings
from speech2image.data.speech.other_sentences import other_sentences
from speech2image.errors import CheckpointError, SettingsError
from speech2image.export.folder import own_contents, write_again
from speech2image.pipeline.domain_words import DomainWords, count_words
from speech2image.pipeline.domains import OTHER
from speech2image.pipeline.registry import DOMAIN_WORDS, read_card

SENTENCES = 6000
"""Sentences about other things that are made up, besides those of recordings."""


def add_domain_words(
    folder: str | os.PathLike[str],
    data: Sequence[PairArrays],
    domains: Sequence[str],
    other: Sequence[Recordings],
    weight: float,
    threshold: float,
) -> DomainWords:
    """Give a model whose decoder writes down words, and whose speech encoder tells domains, domain words.

    Args:
        folder: of the model; its networks stay as they are.
        data: sets whose training captions, as written, are of the domains.
        domains: what each of them shows, a domain of the model.
        other: recordings about other things, whose texts are counted; those of the split "test" are not.
        weight: of what the words say, 0 to 1; 0 takes domain words away.
        threshold: from which probability of something else on a recording is about it, where words have a
            say; the model's own stays for answers without a decoder's words.

    Raises:
        CheckpointError: the model has no decoder or tells no domains.
        SettingsError: a domain that the model does not have, or that no set shows; or a number out of range.
        OutputError: the folder cannot be written.
    """
    model = read_card(Path(folder))
    names = model.domains.names if model.domains else ()
    if not names or not model.decoder_pieces:
        lacking = "tells no domains (train domain-head)" if not names else "has no decoder that writes words"
        raise CheckpointError(f"model '{model.name}' {lacking}: there is nothing for words to add to")
    if set(domains) != set(names) - {OTHER} or len(domains) != len(data):
        raise SettingsError(
            f"--domains is {' '.join(domains) or 'missing'}; name what each of the {len(data)} data sets "
            f"shows, all of: {' '.join(name for name in names if name != OTHER)}"
        )
    if not 0 <= weight <= 1:
        raise SettingsError(f"the weight is {weight}; give a number from 0 to 1, such as 0.2")
    if not 0 < threshold <= 1:
        raise SettingsError(f"the threshold is {threshold}; give a number above 0 and at most 1")
    sentences: dict[str, list[str]] = {name: [] for name in names}
    for arrays, shown in zip(data, domains, strict=True):
        for i in arrays.samples_of("train"):
            sentences[shown] += arrays.captions[i]
    spoken = (recordings.texts for recordings in other if recordings.split != "test")
    made_up = (one.text for one in other_sentences(SENTENCES, "train") if one.language == "en")
    sentences[OTHER] += chain(made_up, *spoken)
    spoken_forms = {name: map(transcript, texts) for name, texts in sentences.items()}
    found = count_words(spoken_forms, weight, threshold)
    card = {key: value for key, value in model.card.items() if key != DOMAIN_WORDS}
    told = {DOMAIN_WORDS: found.stated()} if weight else {}
    write_again(replace(model, card=card), own_contents(model), model.shared, told)
    return found
