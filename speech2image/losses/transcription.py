"""CTC loss: teaches a network to transcribe speech without an alignment (Graves et al. 2006)."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from speech2image.asr.text import BLANK


def ctc_loss(
    log_probabilities: Float[Tensor, "batch steps tokens"],
    n_steps: Int[Tensor, " batch"],
    tokens: Int[Tensor, "batch length"],
    n_tokens: Int[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """CTC's negative log-likelihood per token; clips too short for their text count as zero."""
    steps_first = log_probabilities.transpose(0, 1)
    total = F.ctc_loss(
        steps_first, tokens, n_steps, n_tokens, blank=BLANK, reduction="sum", zero_infinity=True
    )
    return total / n_tokens.sum()
