"""Checkpoints from model folders: turns an exported network back into a checkpoint to go on training from.

Command: `speech2image train checkpoint --model flowers-and-birds --network speech_encoder --out FILE`.

ONNX files hold weights transposed, joined and renamed. To find where each one went, a network of the same
shape is exported whose every weight is its own index: the numbers in that file say which weight stands where
in the model's. Weights are as the model has them, rounded to float16 or eight bits; optimisers and
losses start anew.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from speech2image.asr.ctc import DECODER_FILE, ENCODER_FILE, CtcDecoder
from speech2image.asr.text import Vocabulary
from speech2image.errors import CheckpointError, SettingsError
from speech2image.export.direct import with_heads
from speech2image.export.onnx import in_eight_bits, to_onnx, weights_of
from speech2image.export.parity import (
    SAME,
    SAME_CHANCES,
    SAME_CHANCES_EIGHT_BIT,
    SAME_EIGHT_BIT,
    Inputs,
    compare_directions,
    compare_encoder,
    compare_further,
    made_up_log_mels,
    of_captions,
    of_clips,
)
from speech2image.export.recognizer import compare as compare_recognizers
from speech2image.export.recognizer import to_onnx as recognizer_to_onnx
from speech2image.models.gan.one_stage import CONDITION_SIZE, OneStageGenerator
from speech2image.models.pretrained_speech_encoder import (
    DomainSettings,
    PretrainedSpeechEncoder,
    WordsSettings,
)
from speech2image.models.speech_encoder import SpeechEncoder
from speech2image.models.speech_recognizer import SpeechRecognizer
from speech2image.models.text_encoder import TextEncoder
from speech2image.models.whisper import WhisperSettings
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.registry import (
    DECODER_PIECES,
    EMBEDDING_SPACE,
    RECOGNIZER_CARD,
    VOCABULARY,
    Model,
    find,
    here_or_shipped,
)
from speech2image.training.core import networks
from speech2image.training.core.checkpoint import save_checkpoint
from speech2image.training.recipes import (
    domain_head,
    one_stage_gan,
    pretrained_speech_encoder,
    speech_encoder,
    speech_recognizer,
    text_encoder,
    words_head,
)

Network = Literal["speech_encoder", "text_encoder", "recognizer", "generator"]
Retrace = Callable[[Any], Mapping[str, onnx.ModelProto]]
"""A network -> its ONNX forms with float32 weights, by name."""

GENERATOR = "generator"
_CAPTIONS = ("a red flower", "this bird has a white tail and a black head")


def checkpoint_of(
    model: str | os.PathLike[str], network: Network, out: str | os.PathLike[str], preset: str | None = None
) -> Path:
    """Write a checkpoint with the weights of a model's network.

    Args:
        model: name of a shipped model, or a model folder; of a recognizer also its own name or folder.
        network: which; `recognizer` may be the one that a cascade names, `generator` a one-stage generator.
        out: checkpoint to write.
        preset: of the network's training; says its shape (of an encoder on Whisper's, that of its heads). By
            default that of the shipped models.

    Returns:
        The file; kind and settings are those of the network's training.

    Raises:
        CheckpointError: no such model, one without this network, or a damaged one.
        SettingsError: no such preset, or the network is of another shape.
        OutputError: `out` cannot be written.
    """
    read = {
        "speech_encoder": _of_speech,
        "text_encoder": _of_text,
        "recognizer": _of_recognizer,
        "generator": _of_generator,
    }[network]
    state = read(model, preset)
    kept, steps = state.pop("network").state_dict(), state["settings"]["steps"]
    save_checkpoint(out, {**state, "step": steps, "seconds": 0.0, "ema": {"module": kept}})
    return Path(out)


def _of_speech(model: str | os.PathLike[str], preset: str | None) -> dict[str, Any]:
    found = find(model)
    if found.front_end == PretrainedSpeechEncoder.front_end:
        return _on_whisper(found, preset)
    settings = _preset(speech_encoder.PRESETS, preset or "cpu")
    network = SpeechEncoder(settings.encoder).eval()
    inputs = of_clips(made_up_log_mels(found.front_end))
    return _of_encoder(found, network, inputs, networks.SPEECH_ENCODER, settings)


def _on_whisper(found: Model, preset: str | None) -> dict[str, Any]:
    """An encoder on Whisper's with every head that the model's has, without its decoder, and the facts its
    checkpoint states."""
    settings = _preset(pretrained_speech_encoder.PRESETS, preset or "head")
    stored = _read(found, "speech_encoder")
    shape = dataclasses.replace(
        settings.encoder,
        backbone=_backbone(stored),
        head=dataclasses.replace(settings.encoder.head, output=found.card["embedding_size"]),
        words=_words(found, preset),
        domain=_domain(found, preset),
    )
    settings = dataclasses.replace(settings, encoder=shape)
    network, inputs = PretrainedSpeechEncoder(shape).eval(), of_clips(made_up_log_mels(found.front_end))
    state = _of_encoder(found, network, inputs, networks.SPEECH_ENCODER, settings)
    further = found.further_outputs
    if further:
        small = in_eight_bits(stored)
        most = SAME_CHANCES_EIGHT_BIT if small else SAME_CHANCES
        for off in compare_further(stored, with_heads(network, further), inputs, further, small).values():
            _check(off, most)
    # The decoder's weights are rounded to eight bits in a model; tune the published one along anew.
    facts = [key for key in networks.FACTS if key in found.card and key != DECODER_PIECES]
    return {**state, **{key: found.card[key] for key in facts}}


def _backbone(stored: onnx.ModelProto) -> WhisperSettings:
    """The backbone's shape; every size of Whisper has 64 numbers a head."""
    norms = [
        one
        for one in stored.graph.initializer
        if one.name.endswith(".attention_norm.weight") and "backbone.layers." in one.name
    ]
    if not norms:
        raise SettingsError("the model's speech encoder holds no layers of Whisper's encoder")
    width = norms[0].dims[0]
    return WhisperSettings(width, layers=len(norms), heads=width // 64)


def _words(found: Model, preset: str | None) -> WordsSettings | None:
    """The words head's shape, as `preset` of its own training has it, or else "cpu"; None without one."""
    words = words_head.PRESETS.get(preset or "cpu", words_head.PRESETS["cpu"]).encoder.words
    if not found.pieces or words is None:
        return None
    return dataclasses.replace(words, tokens=len(Vocabulary(found.pieces)))


def _domain(found: Model, preset: str | None) -> DomainSettings | None:
    """The domain head's shape, likewise."""
    domain = domain_head.PRESETS.get(preset or "cpu", domain_head.PRESETS["cpu"]).encoder.domain
    if found.domains is None or domain is None:
        return None
    return dataclasses.replace(domain, domains=len(found.domains.names))


def _of_text(model: str | os.PathLike[str], preset: str | None) -> dict[str, Any]:
    settings = _preset(text_encoder.PRESETS, preset or "cpu")
    network = TextEncoder(settings.encoder).eval()
    found = find(model)
    vocabulary = found.card.get(VOCABULARY, "").split()
    state = _of_encoder(found, network, of_captions(_CAPTIONS), networks.TEXT_ENCODER, settings)
    return {**state, VOCABULARY: vocabulary}


def _of_encoder(found: Model, network: nn.Module, inputs: Inputs, kind: str, settings: Any) -> dict[str, Any]:
    stored, example = _read(found, inputs.encoder), inputs.read(slice(2))

    further = found.signature(inputs.encoder)[1][1:]  # all outputs, for they number the weights' names

    def retrace(one: Any) -> dict[str, onnx.ModelProto]:
        return {"": to_onnx(with_heads(one, further), example, inputs.encoder, further)}

    take_weights(network, {"": stored}, retrace)
    with torch.no_grad():
        embeddings = network(*inputs.read(slice(0, inputs.count)))
    if in_eight_bits(stored):
        _check(compare_directions(stored, inputs, embeddings), SAME_EIGHT_BIT)
    else:
        _check(compare_encoder(stored, inputs, embeddings))
    state = {"kind": kind, "settings": dataclasses.asdict(settings), "network": network}
    space = found.card.get(EMBEDDING_SPACE)
    # rounded weights have a digest of their own, but embed as those that the model's generator learnt from
    return {**state, "belongs": {"space": space}} if space else state


def _read(found: Model, network: str) -> onnx.ModelProto:
    if network not in found.networks:
        raise CheckpointError(f"model '{found.name}' has no {network}, but {', '.join(found.networks)}")
    return onnx.load_from_string(found.read(network))


def _of_recognizer(model: str | os.PathLike[str], preset: str | None) -> dict[str, Any]:
    settings = _preset(speech_recognizer.PRESETS, preset or "cpu")
    folder: Path | None = here_or_shipped(model)
    if folder is None or not (folder / RECOGNIZER_CARD).is_file():
        folder = find(model).recognizer
    if folder is None or not (folder / RECOGNIZER_CARD).is_file():
        raise CheckpointError(
            f"'{model}' is no recognizer and names none that is; choose the shipped 'words', the folder of "
            "another, or a model's speech encoder, which writes down words, too (--network speech_encoder)"
        )
    recognizer = CtcDecoder(folder)
    shape = dataclasses.replace(settings.recognizer, tokens=len(recognizer.vocabulary))
    network = SpeechRecognizer(shape).eval()
    stored = {name: onnx.load_from_string(recognizer.content(name)) for name in (ENCODER_FILE, DECODER_FILE)}
    take_weights(network, stored, recognizer_to_onnx)
    _check(compare_recognizers(network, stored, made_up_log_mels()))
    return {
        "kind": networks.SPEECH_RECOGNIZER,
        "settings": dataclasses.asdict(settings),
        "pieces": list(recognizer.vocabulary.pieces),
        "network": network,
    }


def _of_generator(model: str | os.PathLike[str], preset: str | None) -> dict[str, Any]:
    settings = _preset(one_stage_gan.PRESETS, preset or "cpu-256")
    found = find(model)
    stored = _read(found, GENERATOR)
    network = OneStageGenerator(settings.generator).eval()
    rng = torch.Generator().manual_seed(0)
    inputs = [torch.rand(2, n, generator=rng) for n in (CONDITION_SIZE, settings.generator.noise_size)]
    example = (inputs[0], inputs[1])
    take_weights(network, {"": stored}, lambda one: {"": to_onnx(one, example, GENERATOR)})
    session = Session(stored.SerializeToString(), *found.signature(GENERATOR), str(found.path(GENERATOR)))
    drawn = session(*(one.numpy() for one in example))
    with torch.no_grad():
        _check(float(np.abs(network(*example).numpy() - drawn).max()))
    return {"kind": networks.ONE_STAGE_GAN, "settings": dataclasses.asdict(settings), "network": network}


def take_weights(network: nn.Module, stored: Mapping[str, onnx.ModelProto], retrace: Retrace) -> None:
    """Give a network the weights that its ONNX forms hold.

    Args:
        network: of the shape that was exported; numbers that no file holds stay as they are.
        stored: its ONNX forms by name; large weights may be rounded.
        retrace: exports a network as `stored` was.

    Raises:
        SettingsError: the network is of another shape, or has a parameter that no file holds.
    """
    own = {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    taken = np.concatenate([tensor.numpy().ravel() for tensor in own.values()]).astype(np.float32)
    places = np.split(np.arange(taken.size), np.cumsum([tensor.numel() for tensor in own.values()])[:-1])
    if taken.size >= 2**24:
        raise SettingsError(f"a network of {taken.size} numbers is too large; float32 counts to {2**24}")
    known = np.zeros(taken.size, bool)
    _fill(own, np.arange(taken.size, dtype=np.float32), places)
    marked = retrace(network)
    for name, model in stored.items():
        counted, weights = weights_of(marked[name]), weights_of(model)
        for part, values in weights.items():
            if part not in counted or counted[part].shape != values.shape:
                raise SettingsError(
                    f"the model's network has a weight {part} {list(values.shape)}, that of the preset does "
                    "not: it is of another shape; choose its preset"
                )
            at = counted[part].astype(np.int64)
            if np.array_equal(at, counted[part]) and at.min() >= 0 and at.max() < taken.size:
                taken[at], known[at] = values, True
    _fill(own, taken, places)
    parameters = dict(network.named_parameters())
    lost = [
        name for name, place in zip(own, places, strict=True) if name in parameters and not known[place].all()
    ]
    if lost:
        raise SettingsError(f"the model's files do not hold the weights {', '.join(lost)}")


@torch.no_grad()
def _fill(
    tensors: Mapping[str, torch.Tensor], numbers: NDArray[np.float32], places: list[NDArray[np.int64]]
) -> None:
    for tensor, place in zip(tensors.values(), places, strict=True):
        tensor.copy_(torch.from_numpy(numbers[place]).view_as(tensor))


def _preset(presets: Mapping[str, Any], name: str) -> Any:
    if name not in presets:
        raise SettingsError(f"unknown preset '{name}'; there are: {', '.join(presets)}")
    return presets[name]


def _check(off: float, most: float = SAME) -> None:
    if not off <= most:
        raise CheckpointError(
            f"torch gives something else than the model with the weights found: they differ by {off:.3g}, at "
            f"most {most:g} is allowed; nothing was written"
        )
