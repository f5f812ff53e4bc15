"""Export of the route through text: text encoder, generator and recognizer become a model folder.

    text_encoder.onnx     letters [batch, 201] -> text_embedding [batch, 1024]; or, of word vectors, counts of
                          the card's words [batch, words] -> text_embedding [batch, size], their mean
    generator.onnx        condition [batch, 1024], noise [batch, 100] -> picture [batch, 3, side, side]
    recognizer/           what `export.recognizer` writes; or a folder beside it, for several models
    model.json            as of the direct route, with "route": "cascade", the recognizer's folder and the
                          words the text encoder knows

All but text encoder and recognizer may stay in a direct model's folder beside this one, if the text encoder
gives what its speech encoder gives (`train text-alignment`). A folder without recognizer draws texts. It
appears only if ONNX Runtime then gives what torch gives.
"""

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from speech2image.asr.ctc import CtcDecoder
from speech2image.errors import CheckpointError, SettingsError
from speech2image.export.direct import convert, detector_to_onnx
from speech2image.export.folder import (
    MAX_BYTES,
    check_folder,
    check_size,
    shared_networks,
    write_folder,
)
from speech2image.export.onnx import to_onnx, with_float16_weights
from speech2image.export.parity import (
    SAME,
    SAME_FLOAT16,
    Inputs,
    check_same,
    compare_encoder,
    made_up_log_mels,
    of_captions,
    of_words,
)
from speech2image.files import is_plain_name
from speech2image.models.word_vectors import MeanWordVector
from speech2image.pipeline.card import Card
from speech2image.pipeline.registry import EMBEDDING_SPACE, VOCABULARY, Model, find
from speech2image.pipeline.routes import DETECTOR, PRIOR
from speech2image.training.core.checkpoint import read_facts
from speech2image.training.core.networks import (
    check_space,
    load_generator,
    load_speech_detector,
    load_text_encoder,
    space_of,
    training_facts,
)
from speech2image.training.recipes.text_embeddings import WordVectors

INSIDE = "recognizer"
"""The folder of a recognizer that lies in its model's."""
MOST_WORDS = 20_000
"""Word vectors kept in a model: 12 MB of 300 numbers each."""
CAPTIONS = (
    "a red flower with rounded petals",
    "This bird has a white belly, a grey back & a short, pointed beak!",
    "the petals of this flower are pink and the anther is yellow. " * 4,
    "x",
)
"""Compared on, where no captions are given; one is longer than the encoder reads."""


def export_cascade(
    text_encoder: nn.Module,
    generator: nn.Module | Model,
    folder: str | os.PathLike[str],
    *,
    name: str,
    licence: str,
    noise_size: int = 100,
    recognizer: str | os.PathLike[str] | None = None,
    shared_recognizer: str | None = None,
    captions: Sequence[str] = (),
    vocabulary: Sequence[str] = (),
    max_bytes: int = MAX_BYTES,
    speech_detector: nn.Module | None = None,
    **card: Any,
) -> dict[str, float]:
    """Write the model folder of a route through text.

    Args:
        text_encoder: letters [batch, 201] -> [batch, size]; or a `MeanWordVector` of the `vocabulary`.
        generator: (condition [batch, size], noise [batch, noise_size]) -> pictures [batch, 3, side, side];
            or a model beside `folder`, or a shipped one, whose generator and speech detector are used.
        folder: to write; an older model folder there is replaced.
        name: the model's name.
        licence: of the weights.
        noise_size: length of the noise vector of a generator that is no model's.
        recognizer: an exported recognizer's folder, copied into the model's.
        shared_recognizer: the name of an exported recognizer's folder that will lie beside the model's, or
            came with the installation.
        captions: to compare on, at least two; made-up ones by default.
        vocabulary: words the text encoder knows: a text with none of them is refused. Empty takes any text.
        max_bytes: the most each network in the folder may take.
        speech_detector: refuses recordings without speech; None for that of the model whose generator is
            used, or for a model that takes any sound.
        **card: more JSON values for `model.json`.

    Returns:
        The differences found, which `model.json` states too.

    Raises:
        CheckpointError: ONNX Runtime gives something else than torch; the networks do not fit each other; the
            recognizer's folder is damaged. Nothing is written.
        SettingsError: a network larger than `max_bytes`; two recognizers, or no plain name of one; the model
            whose generator is used lies elsewhere. Nothing is written.
        OutputError: the folder cannot be written, or holds something that is no model.
    """
    folder = Path(folder)
    of_vectors = isinstance(text_encoder, MeanWordVector)
    inputs = of_words(captions or CAPTIONS, vocabulary) if of_vectors else of_captions(captions or CAPTIONS)
    check_folder(folder)
    named = _named(recognizer, shared_recognizer)
    shared: dict[str, Card] = {}
    if isinstance(generator, Model):
        shared = shared_networks(generator, folder, ("generator", PRIOR, DETECTOR))
        contents, facts = _convert_for(generator, text_encoder, inputs)
    else:
        contents, sizes, parity = convert(text_encoder, generator, inputs, noise_size)
        facts = {**sizes, "parity": parity.stated()}
    if speech_detector is not None:
        shared.pop(DETECTOR, None)
        contents[DETECTOR], detected = detector_to_onnx(speech_detector, made_up_log_mels())
        facts["parity"] |= detected
    check_size(contents | _networks(recognizer), max_bytes)
    known = {VOCABULARY: " ".join(vocabulary)} if vocabulary else {}
    facts = {"route": "cascade", "name": name, "licence": licence, **named, **card, **facts, **known}
    write_folder(folder, contents, facts, None if recognizer is None else Path(recognizer), shared)
    found: dict[str, float] = facts["parity"]
    return found


def export_checkpoints(
    text_encoder: str | os.PathLike[str],
    generator: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    recognizer: str | os.PathLike[str] | None = None,
    speech_detector: str | os.PathLike[str] | None = None,
    most_words: int = MOST_WORDS,
    **options: Any,
) -> dict[str, float]:
    """`export_cascade` for training checkpoints; their averaged weights are taken.

    Args:
        text_encoder: a checkpoint, or a file of word vectors (GloVe, word2vec), of which the first
            `most_words` are kept: such files begin with the most frequent words.
        generator: a checkpoint, or the name or folder of a model whose generator is used.
        recognizer: a checkpoint, or the folder of an exported recognizer; None for a model that draws texts.

    Raises:
        CheckpointError: a checkpoint is damaged or of another kind; else as `export_cascade`.
    """
    check_folder(Path(folder))
    encoder, vocabulary = _reader(text_encoder, most_words)
    is_checkpoint = Path(text_encoder).suffix == ".safetensors"
    space = space_of(text_encoder, encoder) if is_checkpoint else ""
    if space:
        options[EMBEDDING_SPACE] = space
    trained = {"text_encoder": text_encoder, "generator": generator, "recognizer": recognizer}
    options["training"] = {
        name: training_facts(path)
        for name, path in trained.items()
        if path is not None and Path(path).suffix == ".safetensors"
    }
    drawing: nn.Module | Model
    if Path(generator).suffix == ".safetensors":
        if space:
            check_space(text_encoder, space, generator, any_kind=True)
        drawing, options["noise_size"] = load_generator(generator)
    else:
        drawing = find(generator)
        _check_aligned(text_encoder, space, drawing)
    detector = None if speech_detector is None else load_speech_detector(speech_detector)
    with _exported(recognizer) as exported:
        return export_cascade(
            encoder,
            drawing,
            folder,
            recognizer=exported,
            vocabulary=vocabulary,
            speech_detector=detector,
            **options,
        )


def _reader(path: str | os.PathLike[str], most_words: int) -> tuple[nn.Module, Sequence[str]]:
    """What embeds texts, and the words it knows."""
    if Path(path).suffix == ".safetensors":
        return load_text_encoder(path), _words(read_facts(path).get(VOCABULARY, []), path)
    vectors = WordVectors.read(path, most=most_words).words
    return MeanWordVector(torch.from_numpy(np.stack(list(vectors.values())))), list(vectors)


def _check_aligned(text_encoder: str | os.PathLike[str], space: str, lender: Model) -> None:
    """Refuse a text encoder that was moved to another speech encoder's space than the model's."""
    theirs = lender.card.get(EMBEDDING_SPACE)
    if isinstance(theirs, str) and space.startswith("speech ") and theirs != space:
        raise CheckpointError(
            f"{text_encoder} was moved to the embeddings of another speech encoder ({space}) than that of "
            f"model '{lender.name}' ({theirs}): run train text-alignment on this model's embeddings"
        )


def _words(vocabulary: Any, checkpoint: str | os.PathLike[str]) -> Sequence[str]:
    if not isinstance(vocabulary, list) or not all(isinstance(word, str) for word in vocabulary):
        raise CheckpointError(f"{checkpoint} is damaged: its '{VOCABULARY}' is no list of words")
    return vocabulary


@contextmanager
def _exported(recognizer: str | os.PathLike[str] | None) -> Iterator[Path | None]:
    """A recognizer's folder: the one given, or one made of a checkpoint for the occasion."""
    if recognizer is None or Path(recognizer).is_dir():
        yield None if recognizer is None else Path(recognizer)
        return
    from speech2image.export.recognizer import export_checkpoint

    with TemporaryDirectory(prefix="speech2image-") as folder:
        export_checkpoint(recognizer, Path(folder) / INSIDE)
        yield Path(folder) / INSIDE


def _convert_for(lender: Model, text_encoder: nn.Module, inputs: Inputs) -> tuple[dict[str, bytes], Card]:
    """The text encoder in ONNX with float16 weights; what `model.json` says of sizes and parity."""
    encoder = copy.deepcopy(text_encoder).cpu().float().eval()
    with torch.no_grad():
        embeddings = encoder(*inputs.read(slice(0, inputs.count)))
    if embeddings.shape[1] != lender.card["embedding_size"]:
        raise CheckpointError(
            f"the generator of '{lender.name}' draws from {lender.card['embedding_size']} numbers, this text "
            f"encoder gives {embeddings.shape[1]}"
        )
    whole = to_onnx(encoder, inputs.read(slice(2)), inputs.arrays or inputs.encoder)
    halved = with_float16_weights(whole)
    parity = dict(lender.card.get("parity", {}))
    for key, model, bound in (("embedding", whole, SAME), ("embedding_float16", halved, SAME_FLOAT16)):
        parity[key] = compare_encoder(model, inputs, embeddings)
        check_same(key, parity[key], bound)
    keys = ("picture_size", "embedding_size", "noise_size", "prior_noise_size")
    sizes = {key: lender.card[key] for key in keys if key in lender.card}
    return {inputs.encoder: halved.SerializeToString()}, {**sizes, "parity": parity}


def _named(recognizer: Any, shared: str | None) -> dict[str, str]:
    """What `model.json` says of the recognizer."""
    if recognizer is not None and shared is not None:
        raise SettingsError("give a recognizer to put into the model's folder, or the name of a shared one")
    if shared is not None and not is_plain_name(shared):
        raise SettingsError(f"a shared recognizer is named by its folder, without a path; not {shared!r}")
    if recognizer is None and shared is None:
        return {}
    return {"recognizer": INSIDE if shared is None else shared}


def _networks(recognizer: str | os.PathLike[str] | None) -> dict[str, bytes]:
    """The networks in a recognizer's folder, once it is found whole."""
    if recognizer is None:
        return {}
    files = CtcDecoder(recognizer, threads=1).card["files"]
    return {name.removesuffix(".onnx"): (Path(recognizer) / name).read_bytes() for name in files}
