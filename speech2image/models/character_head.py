"""What characters a speech encoder hears: a second task beside the image teacher's, for CTC.

People who speak captions are few, people recorded with a transcript are many. Writing down what they say
makes the encoder's trunk learn their voices; the head is thrown away after training.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class CharacterHead(nn.Module):
    """Characters at every step of the encoder, several guesses a step.

    A step of the encoder lasts 80 ms (`small`), in which people say more than one character; so every step
    is read as `guesses` parts.

    Args:
        size: of the encoder's states.
        tokens: characters, with CTC's blank.
        guesses: a step.
    """

    def __init__(self, size: int, tokens: int, guesses: int = 3) -> None:
        super().__init__()
        self.tokens, self.guesses = tokens, guesses
        self.read = nn.Linear(size, guesses * tokens)

    def forward(
        self, states: Float[Tensor, "batch steps size"], n_steps: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch guesses tokens"], Int[Tensor, " batch"]]:
        """Log-probabilities of the tokens, and the valid guesses of each clip."""
        logits = self.read(states).float()
        split = logits.unflatten(2, (self.guesses, self.tokens)).flatten(1, 2)
        return torch.log_softmax(split, dim=2), n_steps * self.guesses
