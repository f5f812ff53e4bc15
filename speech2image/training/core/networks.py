"""Trained networks: the averaged network in the checkpoint of each kind, in evaluation mode.

Every loader raises CheckpointError for a file that is damaged or of another kind.
"""

import hashlib
import os
from dataclasses import replace

import numpy as np
from torch import nn

from speech2image.asr.text import Vocabulary
from speech2image.errors import CheckpointError, SettingsError
from speech2image.models.condition_prior import SpokenGenerator
from speech2image.models.flow_prior import prior_from_state
from speech2image.models.gan import stackgan_v1, stackgan_v2
from speech2image.models.gan.one_stage import GeneratorSettings, OneStageGenerator
from speech2image.models.language_model import LanguageModel, LanguageModelSettings
from speech2image.models.pretrained_speech_encoder import PretrainedEncoderSettings, PretrainedSpeechEncoder
from speech2image.models.speech_detector import SpeechDetector, SpeechDetectorSettings
from speech2image.models.speech_encoder import SpeechEncoder, SpeechEncoderSettings
from speech2image.models.speech_recognizer import SpeechRecognizer, SpeechRecognizerSettings
from speech2image.models.text_encoder import TextEncoder, TextEncoderSettings
from speech2image.pipeline.registry import DECODER_PIECES, DOMAIN_ERRORS, DOMAINS, OTHER_THRESHOLD, PIECES
from speech2image.training.core.checkpoint import (
    State,
    averaged_weights,
    building_from,
    load_checkpoint,
    read_facts,
    stored_settings,
)

SPEECH_ENCODER, CLASSIFIER, TEXT_ENCODER = "speech_encoder", "classifier", "text_encoder"
SPEECH_RECOGNIZER, SPEECH_DETECTOR = "speech_recognizer", "speech_detector"
LANGUAGE_MODEL = "language_model"
ONE_STAGE_GAN, STACKGAN_V1, STACKGAN_V2 = "one_stage_gan", "stackgan_v1", "stackgan_v2"
"""Kinds of checkpoints."""

FACTS = ("backbone", PIECES, DECODER_PIECES, DOMAINS, OTHER_THRESHOLD, DOMAIN_ERRORS)
"""What a speech encoder's checkpoint and its model's card state besides: the published weights its backbone
began with, the pieces of text of its words head and of its decoder, and of its domain head the names, the
threshold and the errors."""


def load_speech_encoder(path: str | os.PathLike[str]) -> SpeechEncoder | PretrainedSpeechEncoder:
    """The encoder of a speech-encoder, pretrained-speech-encoder or classifier training."""
    state = load_checkpoint(path, SPEECH_ENCODER, CLASSIFIER)
    encoder: SpeechEncoder | PretrainedSpeechEncoder
    with building_from(path):
        stored = stored_settings(state, "encoder")
        if "backbone" in stored:
            encoder = PretrainedSpeechEncoder(PretrainedEncoderSettings.from_stored(stored))
        else:
            encoder = SpeechEncoder(SpeechEncoderSettings(**stored))
        encoder.load_state_dict(averaged_weights(state))
    return encoder.eval()


_SPACES = {SPEECH_ENCODER: "speech", CLASSIFIER: "classifier", TEXT_ENCODER: "text"}


def space_of(path: str | os.PathLike[str], encoder: nn.Module) -> str:
    """The embedding space of a trained encoder: a kind and a digest, which travel with what is made from it.

    Heads that only tell words or domains do not change it. Weights count as float16, so a checkpoint made of
    an exported model has the space of the model.

    Args:
        path: its checkpoint. One of a text encoder that was moved to another encoder's space states that, and
            so does one with the weights of a model, which are rounded there.
        encoder: the network in it.
    """
    if stated := stated_space(path):
        return stated["space"]
    facts = read_facts(path)
    own = [encoder.backbone, encoder.head] if isinstance(encoder, PretrainedSpeechEncoder) else [encoder]
    digest = hashlib.sha256()
    for part in own:
        for name, tensor in sorted(part.state_dict().items()):
            values = tensor.detach().float().half().cpu().contiguous().numpy() + np.float16(0)
            digest.update(name.encode() + values.tobytes())
    return f"{_SPACES[facts['kind']]} {digest.hexdigest()[:16]}"


def stated_space(path: str | os.PathLike[str]) -> dict[str, str]:
    """The embedding space that an encoder's checkpoint states, if it does, as `Run` notes it.

    What is made of that encoder without changing its embeddings states it, too.
    """
    stated = _belongs(read_facts(path)).get("space")
    return {"space": stated} if isinstance(stated, str) else {}


def _belongs(facts: State) -> State:
    found = facts.get("belongs")
    return found if isinstance(found, dict) else {}


def training_facts(path: str | os.PathLike[str]) -> State:
    """What a model's card says of how a network was trained: steps, seed, hours, data, versions."""
    facts = read_facts(path)
    told = {
        "steps": facts.get("step"),
        "seed": facts["settings"].get("seed"),
        "hours": round(facts.get("seconds", 0.0) / 3600, 2),
        "data": _belongs(facts).get("data_name"),
        "versions": facts.get("versions"),
    }
    return {key: value for key, value in told.items() if value is not None}


def check_space(
    encoder: str | os.PathLike[str], space: str, generator: str | os.PathLike[str], *, any_kind: bool = False
) -> None:
    """Refuse a generator that learnt to draw from other embeddings than an encoder gives.

    Checkpoints from before spaces were noted are taken.

    Args:
        encoder: its checkpoint, for the message.
        space: of the encoder.
        generator: checkpoint of a GAN's training, or of a refitted prior.
        any_kind: take one that learnt from another kind of embeddings, which lie in the teacher's space, too.

    Raises:
        CheckpointError: they do not belong together.
    """
    learnt = _belongs(read_facts(generator)).get("space")
    if not isinstance(learnt, str) or learnt == space:
        return
    if any_kind and learnt.split()[0] != space.split()[0]:
        return
    raise CheckpointError(
        f"{generator} draws from the embeddings of another encoder ({learnt}) than {encoder} ({space}): they "
        "do not belong together, and pictures would not show what is said. Take the encoder it was trained "
        "with, or embed the speech anew (train embeddings) and then fit its prior anew (train "
        "condition-prior) or train it on"
    )


def load_pretrained(path: str | os.PathLike[str]) -> PretrainedSpeechEncoder:
    """`load_speech_encoder` for an encoder on a pretrained backbone.

    Raises:
        SettingsError: it has none.
    """
    encoder = load_speech_encoder(path)
    if not isinstance(encoder, PretrainedSpeechEncoder):
        raise SettingsError(f"the encoder in {path} has no pretrained backbone; name another checkpoint")
    return encoder


def stated_facts(path: str | os.PathLike[str]) -> State:
    """Those of `FACTS` that the checkpoint of a speech encoder states."""
    facts = read_facts(path)
    return {key: facts[key] for key in FACTS if key in facts}


def load_text_encoder(path: str | os.PathLike[str]) -> TextEncoder:
    """The encoder of a text-encoder training."""
    state = load_checkpoint(path, TEXT_ENCODER)
    with building_from(path):
        encoder = TextEncoder(TextEncoderSettings(**stored_settings(state, "encoder")))
        encoder.load_state_dict(averaged_weights(state))
    return encoder.eval()


def load_recognizer(path: str | os.PathLike[str]) -> tuple[SpeechRecognizer, Vocabulary]:
    """The network of a speech-recognizer training, and its vocabulary."""
    state = load_checkpoint(path, SPEECH_RECOGNIZER)
    with building_from(path):
        vocabulary = Vocabulary(tuple(map(_piece, state["pieces"])))
        shape = {**stored_settings(state, "recognizer"), "tokens": len(vocabulary)}
        recognizer = SpeechRecognizer(SpeechRecognizerSettings(**shape))
        recognizer.load_state_dict(averaged_weights(state))
    return recognizer.eval(), vocabulary


def _piece(piece: object) -> str:
    if not isinstance(piece, str):
        raise TypeError(f"a piece of text is {piece!r:.60}")
    return piece


def load_speech_detector(path: str | os.PathLike[str]) -> SpeechDetector:
    """The network of a speech-detector training."""
    state = load_checkpoint(path, SPEECH_DETECTOR)
    with building_from(path):
        detector = SpeechDetector(SpeechDetectorSettings(**stored_settings(state, "detector")))
        detector.load_state_dict(averaged_weights(state))
    return detector.eval()


def load_language_model(path: str | os.PathLike[str]) -> tuple[LanguageModel, Vocabulary]:
    """The network of a language-model training, and the pieces of text that it foretells."""
    state = load_checkpoint(path, LANGUAGE_MODEL)
    with building_from(path):
        vocabulary = Vocabulary(tuple(map(_piece, state[DECODER_PIECES])))
        network = LanguageModel(LanguageModelSettings(**stored_settings(state, "language_model")))
        network.load_state_dict(averaged_weights(state))
    return network.eval(), vocabulary


def load_stage(path: str | os.PathLike[str]) -> stackgan_v1.StageOne | stackgan_v1.StageTwo:
    """The stage of a stackgan-v1 training; Stage II holds its Stage I."""
    state = load_checkpoint(path, STACKGAN_V1)
    with building_from(path):
        architecture = stackgan_v1.Architecture(**stored_settings(state, "networks"))
        weights = averaged_weights(state)
        generator: stackgan_v1.StageOne | stackgan_v1.StageTwo
        if architecture.stage == 1:
            generator = stackgan_v1.StageOne(architecture)
        else:  # a Stage II does not state the width of its Stage I
            width = weights["stage_one.linear.weight"].shape[0] // (8 * 4 * 4)
            first = replace(architecture, stage=1, generator_width=width)
            generator = stackgan_v1.StageTwo(architecture, stackgan_v1.StageOne(first))
        generator.load_state_dict(weights)
    return generator.eval()


def load_generator(path: str | os.PathLike[str]) -> tuple[nn.Module, int]:
    """The generator of a GAN's training for inference, (condition, noise) -> picture, and its noise's length.

    One that was trained with a condition prior has it in front: its condition is a speech embedding.

    Raises:
        CheckpointError: it is no generator's.
    """
    state = load_checkpoint(path)
    with building_from(path):
        if state["kind"] == ONE_STAGE_GAN:
            return _one_stage(state)
        if state["kind"] == STACKGAN_V2:
            architecture = stackgan_v2.Architecture(**stored_settings(state, "networks"))
            tree = stackgan_v2.TreeGenerator(architecture)
            tree.load_state_dict(averaged_weights(state))
            return stackgan_v2.PictureGenerator(tree), architecture.noise
    if state["kind"] == STACKGAN_V1:
        stage = load_stage(path)
        return stackgan_v1.LastPicture(stage), stage.architecture.noise
    raise CheckpointError(f"{path} is a checkpoint of '{state['kind']}', not of a generator")


def _one_stage(state: State) -> tuple[nn.Module, int]:
    sizes = GeneratorSettings(**stored_settings(state, "generator"))
    generator = OneStageGenerator(sizes)
    generator.load_state_dict(averaged_weights(state))
    if "prior" not in state:
        return generator, sizes.noise_size
    spoken = SpokenGenerator(prior_from_state(state["prior"]), generator, sizes.noise_size)
    return spoken, spoken.noise_size
