"""Export of the direct route: trained networks become a model folder that runs without torch.

    speech_encoder.onnx   log_mel [batch, 40, frames], n_frames [batch] -> speech_embedding [batch, 1024];
                          40 of the paper's front end, as many as another one gives; of an encoder with
                          a words head also ctc [batch, steps, tokens], with a domain head also
                          domain [batch, domains], both log-probabilities
    condition_prior.onnx  embedding [batch, 1024], noise [batch, 100] -> feature [batch, 1024], which is then
                          the generator's condition; if the generator was trained with one
    generator.onnx        condition [batch, 1024], noise [batch, 100] -> picture [batch, 3, size, size]
    speech_detector.onnx  log_mel, n_frames -> speech_probability [batch, steps of 40 ms]; if one is given
    model.json            name, licence, sizes, checksums, measured parity

Generator and speech detector may stay in another model's folder beside this one.
The route through text is `export/cascade.py`, with the same steps.
Weights are stored as float16 and cast back to float32 when a session opens: half the size, same arithmetic.
Where that would change pictures too much, as it may after a few steps of training, they stay float32.
A pretrained encoder is stored in eight bits where that hardly turns its embeddings, and computes in them.
The folder appears only if ONNX Runtime then gives what torch gives.
"""

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from speech2image.audio.front_ends import PAPER, FrontEnd
from speech2image.errors import CheckpointError
from speech2image.export.decoder import decoder_to_onnx, taken_over
from speech2image.export.folder import (
    MAX_BYTES,
    add_network,
    check_folder,
    check_size,
    shared_networks,
    write_folder,
)
from speech2image.export.onnx import ARRAYS, to_onnx, with_eight_bit_weights, with_float16_weights
from speech2image.export.parity import (
    SAME,
    SAME_CHANCES,
    SAME_CHANCES_EIGHT_BIT,
    SAME_EIGHT_BIT,
    SAME_FLOAT16,
    Inputs,
    Parity,
    check_parity,
    check_same,
    compare,
    compare_detector,
    compare_directions,
    compare_further,
    expect,
    fits_float16,
    made_up_clips,
    made_up_log_mels,
    of_clips,
)
from speech2image.models.condition_prior import SpokenGenerator
from speech2image.models.pretrained_speech_encoder import PretrainedSpeechEncoder, WithHeads
from speech2image.pipeline.card import Card
from speech2image.pipeline.domains import Domains, check_domains
from speech2image.pipeline.registry import (
    DECODER_PIECES,
    DOMAIN,
    DOMAIN_ERRORS,
    DOMAINS,
    EMBEDDING_SPACE,
    FRONT_END,
    OTHER_THRESHOLD,
    PIECES,
    STATES,
    WORDS,
    Model,
    find,
    read_card,
)
from speech2image.pipeline.routes import DETECTOR, PRIOR
from speech2image.training.core.networks import (
    check_space,
    load_generator,
    load_speech_detector,
    load_speech_encoder,
    space_of,
    stated_facts,
    training_facts,
)

_Module = TypeVar("_Module", bound=nn.Module)
HEADS: dict[str, Literal["words", "domain", "states"]] = {WORDS: "words", DOMAIN: "domain", STATES: "states"}
"""Further output of a speech encoder -> the head that gives it."""


def export_direct(
    speech_encoder: nn.Module,
    generator: nn.Module,
    folder: str | os.PathLike[str],
    *,
    name: str,
    licence: str,
    noise_size: int = 100,
    clips: Sequence[NDArray[np.float32]] = (),
    max_bytes: int = MAX_BYTES,
    speech_detector: nn.Module | None = None,
    front_end: FrontEnd = PAPER,
    pieces: Sequence[str] = (),
    decoder_pieces: Sequence[str] = (),
    generator_of: Model | None = None,
    decoder_of: Model | None = None,
    domains: Domains | None = None,
    **card: Any,
) -> Parity:
    """Write the model folder of a direct route.

    Args:
        speech_encoder: (frames [batch, features, frames], n_frames [batch]) -> [batch, size].
        generator: (condition [batch, size], noise [batch, noise_size]) -> pictures [batch, 3, side, side]; of
            a `SpokenGenerator` prior and generator become networks of their own.
        folder: to write; an older model folder there is replaced.
        name: the model's name.
        licence: of the weights.
        noise_size: length of the noise vector.
        clips: real recordings to compare on, samples at 16 kHz, at least two; made-up ones by default.
        max_bytes: the most each network may take.
        speech_detector: (log_mel, n_frames) -> probability of speech in every 40 ms; None for a model that
            takes any sound.
        front_end: what makes the encoder's frames.
        pieces: of text that the encoder's words head writes in; it then gives words, too.
        decoder_pieces: of text that the encoder's decoder writes in; recognizers then write with it.
        generator_of: a model beside `folder`, or a shipped one, that has the same generator: its file is used
            in place of another copy, and its speech detector if none is given. A condition prior is not
            shared.
        decoder_of: a model whose decoder and language model the new one gets, in place of a decoder of the
            encoder's own: for an encoder that learnt to embed anew on the states of that model's.
        domains: that the encoder's domain head tells apart; it then gives them, too.
        **card: more JSON values for `model.json`: description, training data, voices, measures ...

    Returns:
        The differences found, which `model.json` states too.

    Raises:
        CheckpointError: ONNX Runtime gives something else than torch, or the encoder lacks a part that is
            stated; nothing is written.
        SettingsError: a network is larger than `max_bytes`, or `generator_of` lies elsewhere; nothing is
            written.
        OutputError: the folder cannot be written, or holds something that is no model.
    """
    folder = Path(folder)
    check_folder(folder)
    shared = {} if generator_of is None else shared_networks(generator_of, folder, ("generator", DETECTOR))
    clips = clips or made_up_clips()
    frames = [front_end.extract(clip) for clip in clips]
    outputs = ((WORDS, pieces), (DOMAIN, domains), (STATES, decoder_pieces or decoder_of))
    further = [name for name, given in outputs if given]
    contents, sizes, parity = convert(
        speech_encoder, generator, of_clips(frames), noise_size, further, generator_of
    )
    contents = {network: content for network, content in contents.items() if network not in shared}
    if pieces:
        card[PIECES] = list(pieces)
    written: dict[str, float] = {}
    if decoder_pieces:
        card[DECODER_PIECES] = list(decoder_pieces)
        listening = _on_cpu(speech_encoder)
        if not isinstance(listening, PretrainedSpeechEncoder):
            raise CheckpointError("the speech encoder has no decoder; leave decoder_pieces out")
        decoder, written = decoder_to_onnx(listening, [clip[:, :1000] for clip in frames])
        contents |= decoder
    elif decoder_of is not None:
        _, heard = ARRAYS["speech_encoder"]
        decoder, told = taken_over(decoder_of, contents["speech_encoder"], [*heard, *further], frames)
        contents, written, card = contents | decoder, told.pop("parity"), card | told
    if domains:
        card |= {DOMAINS: list(domains.names), OTHER_THRESHOLD: domains.threshold}
    detected: dict[str, float] = {}
    if generator_of is not None and DETECTOR in shared:
        stated = generator_of.card.get("parity", {})
        detected = {key: stated[key] for key in ("speech", "speech_float16") if key in stated}
    if speech_detector is not None:
        shared.pop(DETECTOR, None)
        log_mels = [PAPER.extract(clip) for clip in clips]
        contents[DETECTOR], detected = detector_to_onnx(speech_detector, log_mels)
    check_size(contents, max_bytes)
    stated = {"name": name, "licence": licence, FRONT_END: front_end.describe(), **card, **sizes}
    whole = stated | {"parity": parity.stated() | detected | written}
    write_folder(folder, contents, whole, shared=shared)
    return parity


def convert(
    encoder: nn.Module,
    generator: nn.Module,
    inputs: Inputs,
    noise_size: int,
    further: Sequence[str] = (),
    generator_of: Model | None = None,
) -> tuple[dict[str, bytes], dict[str, int], Parity]:
    """All networks in ONNX, with float16 or eight-bit weights if they allow it; what `model.json` says of
    their sizes; their parity. The encoder is left out where `inputs` names none.

    `further` names what a PretrainedSpeechEncoder with more heads gives beside the embedding:
    `registry.WORDS`, `DOMAIN`. With `generator_of`, the generator is that of this model, if it draws what
    `generator` draws.

    Raises:
        CheckpointError: ONNX Runtime gives something else than torch, or the generator does not draw from
            what the encoder gives, or is another one than that of `generator_of`.
    """
    encoder, drawing = _on_cpu(encoder), _on_cpu(generator)
    if isinstance(encoder, PretrainedSpeechEncoder):
        encoder.decoder = None  # a file of its own; and its weights would change the names of those traced
    prior_noise = drawing.prior.noise_size if isinstance(drawing, SpokenGenerator) else 0
    try:
        expected = expect(encoder, drawing, inputs, noise_size, prior_noise)
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:200]
        raise CheckpointError(
            f"the generator does not draw from this encoder's embeddings: {reason}"
        ) from error
    traced = with_heads(encoder, further) if isinstance(encoder, PretrainedSpeechEncoder) else encoder
    whole = {}
    if inputs.encoder:
        arrays = inputs.arrays or inputs.encoder
        whole[inputs.encoder] = to_onnx(traced, inputs.read(slice(2)), arrays, further)
    conditions, z = expected.embeddings[:2], expected.noise[:2]
    if isinstance(drawing, SpokenGenerator):
        whole[PRIOR] = to_onnx(drawing.prior, (conditions, z[:, :prior_noise]), PRIOR)
        conditions, drawing = drawing.prior(conditions, z[:, :prior_noise]), drawing.generator
    whole["generator"] = to_onnx(drawing, (conditions, z[:, prior_noise:]), "generator")
    sizes = {
        "picture_size": expected.pictures.shape[-1],
        "embedding_size": expected.embeddings.shape[-1],
        "noise_size": noise_size,
    } | ({"prior_noise_size": prior_noise} if prior_noise else {})
    shared = {} if generator_of is None else {"generator": _generator_of(generator_of, sizes)}
    halved = {network: with_float16_weights(model) for network, model in whole.items()} | shared
    exact = compare(whole, expected)
    parity = Parity(*exact, *compare(halved, expected), expected.last_digit)
    if generator_of is not None:
        check_same(f"the generator of '{generator_of.name}'", parity.picture_float16_mean, SAME_FLOAT16)
    if not fits_float16(parity):
        halved = whole | shared
        parity = Parity(*exact, *compare(halved, expected), expected.last_digit)
    check_parity(parity)
    if isinstance(encoder, PretrainedSpeechEncoder):
        # The decoder compares what comes of the states.
        chances = [name for name in further if name != STATES]
        heads = with_heads(encoder, chances)
        for name, off in compare_further(halved[inputs.encoder], heads, inputs, chances).items():
            check_same(name, off, SAME_CHANCES)
        small = with_eight_bit_weights(whole[inputs.encoder])
        turned = compare_directions(small, inputs, expected.embeddings)
        changes = compare_further(small, heads, inputs, chances, mean=True).values()
        if turned <= SAME_EIGHT_BIT and all(off <= SAME_CHANCES_EIGHT_BIT for off in changes):
            halved[inputs.encoder] = small
            parity = replace(parity, embedding_eight_bit=turned)
    return {network: model.SerializeToString() for network, model in halved.items()}, sizes, parity


def _on_cpu(module: _Module) -> _Module:
    """A copy to export: in float32 and evaluation mode."""
    return copy.deepcopy(module).cpu().float().eval()


def _generator_of(lender: Model, sizes: dict[str, int]) -> onnx.ModelProto:
    """The generator of another model, which must have the sizes stated."""

    def sizes_of(card: Card) -> str:
        noise = card["noise_size"] - card.get("prior_noise_size", 0)
        return f"{card['picture_size']} pixels from {card['embedding_size']} numbers and {noise} of noise"

    own, given = sizes_of(lender.card), sizes_of(sizes)
    if own != given:
        raise CheckpointError(
            f"the generator of '{lender.name}' draws {own}, the one given {given}: they are not the same; "
            "nothing was written"
        )
    return onnx.load_from_string(lender.read("generator"))


def with_heads(encoder: PretrainedSpeechEncoder, further: Sequence[str]) -> nn.Module:
    """The encoder as it is traced: with the heads that give the further outputs.

    Raises:
        CheckpointError: it has not got one of them.
    """
    heads = [HEADS[name] for name in further]
    for head in heads:
        if getattr(encoder, head) is None:
            raise CheckpointError(f"the speech encoder has no {head} head; train one, or take its facts away")
    return WithHeads(encoder, heads).eval() if heads else encoder


def add_speech_detector(
    folder: str | os.PathLike[str],
    speech_detector: nn.Module,
    log_mels: Sequence[NDArray[np.float32]] = (),
    max_bytes: int = MAX_BYTES,
) -> dict[str, float]:
    """Give a model folder a speech detector, or another one; its other networks stay as they are.

    Returns:
        The differences of the probability from torch, which `model.json` states too.

    Raises:
        CheckpointError: the folder is no whole model, or ONNX Runtime gives something else than torch.
        SettingsError, OutputError: as `export_direct`.
    """
    model = read_card(Path(folder))
    content, detected = detector_to_onnx(speech_detector, log_mels or made_up_log_mels())
    add_network(model, DETECTOR, content, detected, max_bytes)
    return detected


def export_checkpoints(
    speech_encoder: str | os.PathLike[str],
    generator: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    speech_detector: str | os.PathLike[str] | None = None,
    generator_of: str | os.PathLike[str] | None = None,
    decoder_of: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Parity:
    """`export_direct` for two or three training checkpoints; their averaged weights are taken.

    `generator_of` and `decoder_of` are names or folders of models.

    Raises:
        CheckpointError: a checkpoint is damaged or of another kind; else as `export_direct`.
    """
    check_folder(Path(folder))
    encoder, (drawing, noise_size) = load_speech_encoder(speech_encoder), load_generator(generator)
    space = space_of(speech_encoder, encoder)
    check_space(speech_encoder, space, generator)
    facts = stated_facts(speech_encoder)
    trained = {"speech_encoder": speech_encoder, "generator": generator}
    stated: dict[str, Any] = {
        EMBEDDING_SPACE: space,
        "training": {name: training_facts(path) for name, path in trained.items()},
    }
    stated |= {key: facts[key] for key in ("backbone", DOMAIN_ERRORS) if key in facts}
    domains = None
    if DOMAINS in facts:
        check_domains(facts[DOMAINS], facts.get(OTHER_THRESHOLD), str(speech_encoder))
        domains = Domains(tuple(facts[DOMAINS]), facts[OTHER_THRESHOLD])
    detector = None if speech_detector is None else load_speech_detector(speech_detector)
    return export_direct(
        encoder,
        drawing,
        folder,
        noise_size=noise_size,
        speech_detector=detector,
        front_end=encoder.front_end,
        pieces=facts.get(PIECES, ()),
        decoder_pieces=facts.get(DECODER_PIECES, ()),
        generator_of=None if generator_of is None else find(generator_of),
        decoder_of=None if decoder_of is None else find(decoder_of),
        domains=domains,
        **stated,
        **options,
    )


def detector_to_onnx(
    detector: nn.Module, log_mels: Sequence[NDArray[np.float32]]
) -> tuple[bytes, dict[str, float]]:
    """The network with float16 weights, and how far it and the one with float32 weights are from torch.

    Raises:
        CheckpointError: ONNX Runtime gives something else than torch.
    """
    detector = copy.deepcopy(detector).cpu().float().eval()
    longest = max(clip.shape[1] for clip in log_mels[:2])
    example = torch.zeros(2, log_mels[0].shape[0], longest), torch.full((2,), longest)
    whole = to_onnx(detector, example, DETECTOR)
    halved = with_float16_weights(whole)
    found = {
        name: compare_detector(model, detector, log_mels)
        for name, model in (("speech", whole), ("speech_float16", halved))
    }
    for (name, difference), bound in zip(found.items(), (SAME, SAME_FLOAT16), strict=True):
        check_same(name, difference, bound)
    return halved.SerializeToString(), found
