"""Every network that can be trained is inside the operators that a model folder may use."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import tiny_whisper
import torch
from torch import nn

from speech2image.asr.text import LETTERS
from speech2image.audio.front_ends import PAPER, WHISPER
from speech2image.export.onnx import to_onnx, with_float16_weights
from speech2image.export.parity import made_up_log_mels, of_captions, of_clips
from speech2image.models import speech_detector, speech_encoder, text_encoder
from speech2image.models.condition_prior import ConditionPrior
from speech2image.models.flow_prior import FlowPrior, FlowPriorSettings
from speech2image.models.gan import one_stage, stackgan_v1, stackgan_v2
from speech2image.models.pretrained_speech_encoder import (
    DomainSettings,
    PoolingHeadSettings,
    PretrainedEncoderSettings,
    PretrainedSpeechEncoder,
    WithHeads,
    WordsSettings,
)
from speech2image.pipeline.onnx_check import check_network
from speech2image.pipeline.registry import DOMAIN, WORDS
from speech2image.pipeline.routes import DETECTOR, PRIOR

V1 = stackgan_v1.Architecture(
    size=64, generator_width=8, discriminator_width=8, noise=7, code=6, residual_blocks=1, condition=16
)
V2 = stackgan_v2.Architecture(branches=2, generator_width=4, discriminator_width=4, noise=7, code=6)
ON_WHISPER = PretrainedEncoderSettings(
    tiny_whisper.SETTINGS,
    PoolingHeadSettings(width=16, heads=2),
    WordsSettings(30, width=16, heads=2),
    DomainSettings(3, width=16),
)
ONE_STAGE = one_stage.GeneratorSettings(16, noise_size=7, code_size=8, channels=(8, 8, 4))


def stage_two() -> nn.Module:
    return stackgan_v1.LastPicture(stackgan_v1.StageTwo(replace(V1, stage=2), stackgan_v1.StageOne(V1)))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, int]] = {
    **{
        f"speech encoder {name}": (lambda s=s: speech_encoder.SpeechEncoder(s), "speech_encoder", 0)
        for name, s in speech_encoder.PRESETS.items()
    },
    "speech encoder on Whisper's": (lambda: PretrainedSpeechEncoder(ON_WHISPER), "speech_encoder", 0),
    "the same with words and domain": (
        lambda: WithHeads(PretrainedSpeechEncoder(ON_WHISPER), ("words", "domain")),
        "speech_encoder",
        0,
    ),
    "speech detector": (
        lambda: speech_detector.SpeechDetector(speech_detector.PRESETS["toy"]),
        DETECTOR,
        0,
    ),
    "text encoder": (lambda: text_encoder.TextEncoder(text_encoder.PRESETS["toy"]), "text_encoder", 0),
    "StackGAN v1, stage I": (lambda: stackgan_v1.LastPicture(stackgan_v1.StageOne(V1)), "generator", 16),
    "StackGAN v1, stage II": (stage_two, "generator", 16),
    "StackGAN v2": (lambda: stackgan_v2.PictureGenerator(stackgan_v2.TreeGenerator(V2)), "generator", 1024),
    "one stage": (lambda: one_stage.OneStageGenerator(ONE_STAGE), "generator", 1024),
    "condition prior": (lambda: ConditionPrior(16, 4, 7, 30), PRIOR, 16),
    "flow prior": (lambda: FlowPrior(FlowPriorSettings(4, 7, 8, 1, 2), 16), PRIOR, 16),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_allowed(name: str) -> None:
    make, network, condition = NETWORKS[name]
    if network == "text_encoder":
        example = of_captions(["a red flower", LETTERS]).read(slice(2))
    elif condition:
        example = (torch.randn(2, condition), torch.randn(2, 7))
    else:
        front_end = WHISPER if "Whisper" in name or "words" in name else PAPER
        example = of_clips(made_up_log_mels(front_end)).read(slice(2))
    model = to_onnx(make().eval(), example, network, (WORDS, DOMAIN) if "words" in name else ())
    content = with_float16_weights(model).SerializeToString()
    check_network(content, name)
