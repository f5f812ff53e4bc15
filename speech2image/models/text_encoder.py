"""Text encoder: a caption, character by character -> a point in the image teacher's feature space.

The character CNN-RNN of Reed et al., "Learning Deep Representations of Fine-grained Visual Descriptions"
(CVPR 2016), which StackGAN's text embeddings come from: three convolutions with max-pools over 201
characters, a recurrent layer over the 8 steps left, their mean, a linear map. Every caption fills 201 places,
so nothing depends on a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.asr import text
from speech2image.asr.text import ALPHABET


@dataclass(frozen=True)
class TextEncoderSettings:
    """The shape of a TextEncoder; the defaults are published.

    Attributes:
        channels: of the three convolutions; the last is the recurrent layer's width too.
        output: length of the embedding.
        dropout: on the mean over steps, in training.
    """

    channels: tuple[int, int, int] = (384, 512, 256)
    output: int = 1024
    dropout: float = 0.0


PRESETS = {
    "paper": TextEncoderSettings(),
    "toy": TextEncoderSettings(channels=(32, 32, 32)),
}


def characters(captions: Sequence[str]) -> Int[Tensor, "batch 201"]:
    """`text.characters` of several captions.

    Raises:
        SettingsError: a caption holds no character of the alphabet but blanks.
    """
    rows = [torch.from_numpy(text.characters(caption)) for caption in captions]
    return torch.stack(rows) if rows else torch.empty(0, text.CAPTION_LENGTH, dtype=torch.int64)


class TextEncoder(nn.Module):
    """Characters of captions -> embeddings.

    Attributes:
        teacher_mean: mean feature of the image teacher, around which embeddings lie; zeros until set.
    """

    teacher_mean: Tensor

    def __init__(self, settings: TextEncoderSettings) -> None:
        super().__init__()
        self.settings = settings
        first, second, third = settings.channels
        self.convolutions = nn.ModuleList(
            [nn.Conv1d(len(ALPHABET), first, 4), nn.Conv1d(first, second, 4), nn.Conv1d(second, third, 4)]
        )
        self.recurrent = nn.RNN(third, third, nonlinearity="relu", batch_first=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.projection = nn.Linear(third, settings.output)
        self.register_buffer("teacher_mean", torch.zeros(settings.output))

    def forward(self, letters: Int[Tensor, "batch 201"]) -> Float[Tensor, "batch size"]:
        """Embeds captions given by `characters`."""
        return self.projection(self.dropout(self.read(letters))) + self.teacher_mean

    def read(self, letters: Int[Tensor, "batch 201"]) -> Float[Tensor, "batch width"]:
        """Features of captions before the projection: the mean over the recurrent layer's steps."""
        x = F.one_hot(letters, len(ALPHABET) + 1)[..., : len(ALPHABET)].transpose(1, 2)
        x = x.to(self.projection.weight.dtype)
        for convolution, stride in zip(self.convolutions, (3, 3, 2), strict=True):
            x = F.max_pool1d(F.relu(convolution(x)), 3, stride)
        steps, _ = self.recurrent(x.transpose(1, 2))
        return steps.mean(dim=1)
