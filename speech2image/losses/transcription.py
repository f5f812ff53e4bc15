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
    """CTC's negative log-likelihood per token, summed over the batch's clips.

    Args:
        log_probabilities: of the tokens at every step.
        n_steps: valid steps of each clip.
        tokens: transcripts, padded on the right.
        n_tokens: valid tokens of each.
    """
    steps_first = log_probabilities.transpose(0, 1)
    # a clip with fewer steps than its text needs has no path: its loss is infinite and counts as zero
    total = F.ctc_loss(
        steps_first, tokens, n_steps, n_tokens, blank=BLANK, reduction="sum", zero_infinity=True
    )
    return total / n_tokens.sum()
