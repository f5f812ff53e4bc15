"""Mean of word vectors as a network: counts of known words -> a sentence's embedding.

It stands in the place of the text encoder where a generator was trained on word vectors (GloVe, word2vec).
"""

from jaxtyping import Float
from torch import Tensor, nn


class MeanWordVector(nn.Module):
    """Counts of words [batch, words] -> the mean of their vectors [batch, size]; zeros where no word counts.

    Args:
        vectors: of the words, in the order in which they are counted.
    """

    def __init__(self, vectors: Float[Tensor, "words size"]) -> None:
        super().__init__()
        self.vectors = nn.Parameter(vectors, requires_grad=False)

    def forward(self, counts: Float[Tensor, "batch words"]) -> Float[Tensor, "batch size"]:
        """Mean vector of each sentence."""
        return (counts @ self.vectors) / counts.sum(1, keepdim=True).clamp(min=1.0)
