"""Speech detector (VAD): log-mel frames -> the probability that someone speaks, for every 40 ms.

Masked convolutions over time, so that a clip's answer does not depend on its padding; each answer sees 3.7 s,
since music shows in its rhythm. Small on purpose: it runs before every translation, and rejects silence,
noise and music.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from speech2image.audio import N_MELS
from speech2image.models.speech_encoder import MaskedBatchNorm, MaskedConvolution, valid_mask


@dataclass(frozen=True)
class SpeechDetectorSettings:
    """The shape of a SpeechDetector; `kernels`, `strides`, `dilations`: one entry a convolution.

    Attributes:
        channels: of every convolution.
        kernels: widths in steps, odd.
        strides: steps in time; their product is 4, which makes steps of 40 ms.
        dilations: steps between the weights of a kernel.
    """

    channels: int = 48
    kernels: tuple[int, ...] = (5, 5, 7, 7, 7, 7)
    strides: tuple[int, ...] = (2, 2, 1, 1, 1, 1)
    dilations: tuple[int, ...] = (1, 1, 1, 2, 4, 8)


PRESETS = {
    "small": SpeechDetectorSettings(),
    "toy": SpeechDetectorSettings(channels=12, kernels=(5, 5, 5), strides=(2, 2, 1), dilations=(1, 1, 2)),
}


def _layer(outputs: int, inputs: int, kernel: int, stride: int, dilation: int) -> MaskedConvolution:
    """A masked convolution whose kernel is spread out."""
    layer = MaskedConvolution(inputs, outputs, kernel, stride, residual=True)
    spread = dilation * (kernel // 2)
    layer.convolution = nn.Conv1d(inputs, outputs, kernel, stride, spread, dilation, bias=False)
    nn.init.kaiming_normal_(layer.convolution.weight)
    return layer


class SpeechDetector(nn.Module):
    """Log-mel frames -> probability of speech in every step of 40 ms.

    Attributes:
        threshold: logit that counts as even; training sets it on validation sounds, so that 0.5 is the
            probability to decide at.
    """

    threshold: Tensor

    def __init__(self, settings: SpeechDetectorSettings) -> None:
        super().__init__()
        self.settings = settings
        self.input_normalisation = MaskedBatchNorm(N_MELS)
        inputs = (N_MELS, *(settings.channels for _ in settings.kernels))
        shapes = zip(inputs, settings.kernels, settings.strides, settings.dilations, strict=False)
        self.convolutions = nn.ModuleList(_layer(settings.channels, *shape) for shape in shapes)
        self.output = nn.Conv1d(settings.channels, 1, 1)
        self.register_buffer("threshold", torch.zeros(()))

    def logits(
        self, log_mel: Float[Tensor, "batch 40 frames"], n_frames: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch steps"], Int[Tensor, " batch"]]:
        """Logits of every step before the threshold, and the valid steps of each clip."""
        valid = valid_mask(n_frames, log_mel.shape[-1])[:, None]
        x = log_mel.masked_fill(~valid, 0.0)
        x = self.input_normalisation(x, valid[:, 0]).masked_fill(~valid, 0.0)
        n_steps = n_frames
        for layer in self.convolutions:
            x, n_steps = layer(x, n_steps)
        return self.output(x)[:, 0], n_steps

    def forward(
        self, log_mel: Float[Tensor, "batch 40 frames"], n_frames: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch steps"]:
        """Probability of speech, 0 in the padding.

        Args:
            log_mel: from `audio.log_mel`, padded on the right with anything.
            n_frames: valid frames of each clip.

        Returns:
            One number for every 4 frames begun, 0.5 at the threshold.
        """
        logits, n_steps = self.logits(log_mel, n_frames)
        probability = torch.sigmoid(logits.float() - self.threshold)
        return probability * valid_mask(n_steps, logits.shape[-1]).to(probability.dtype)
