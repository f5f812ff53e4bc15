"""Language model of a decoder's pieces of text: the last few tokens -> log-probabilities of the next one.

Feed-forward (Bengio et al. 2003, "A neural probabilistic language model"), with the same vectors for the
tokens read and written (Press and Wolf 2017). It has no state, so that a beam search asks it about any
hypothesis at the cost of one small matrix product.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class LanguageModelSettings:
    """The shape of a LanguageModel.

    Attributes:
        tokens: of its vocabulary, BLANK and END among them; set by the training.
        context: so many of the last tokens are read.
        width: of a token's vector.
        hidden: units between.
        dropout: of the vectors read and of the hidden units, while training.
    """

    tokens: int = 2
    context: int = 4
    width: int = 64
    hidden: int = 512
    dropout: float = 0.3


class LanguageModel(nn.Module):
    """The last tokens of a sentence -> log-probabilities of the next one."""

    def __init__(self, settings: LanguageModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.vectors = nn.Embedding(settings.tokens, settings.width)
        nn.init.normal_(self.vectors.weight, std=settings.width**-0.5)
        self.between = nn.Sequential(
            nn.Dropout(settings.dropout),
            nn.Linear(settings.context * settings.width, settings.hidden),
            nn.GELU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.hidden, settings.width),
        )
        self.bias = nn.Parameter(torch.zeros(settings.tokens))

    def forward(self, context: Int[Tensor, "batch context"]) -> Float[Tensor, "batch tokens"]:
        """Log-probabilities of the token behind each context; before a sentence stands END."""
        read = self.between(self.vectors(context).flatten(1))
        return (read @ self.vectors.weight.T + self.bias).log_softmax(dim=-1)
