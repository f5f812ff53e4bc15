"""Joint embedding loss of captions and pictures.

Reed et al., "Learning Deep Representations of Fine-grained Visual Descriptions" (CVPR 2016).
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class JointEmbeddingWeights:
    """Settings of the symmetric joint embedding loss.

    Attributes:
        margin: by how much a caption's own picture is to be ahead of one of another class, in dot products.
    """

    margin: float = 1.0


def symmetric_joint_embedding_loss(
    text: Float[Tensor, "batch size"],
    image: Float[Tensor, "batch size"],
    labels: Int[Tensor, " batch"],
    margin: float = 1.0,
) -> Float[Tensor, ""]:
    """Structured hinge on dot products F(v, t) = v.t in both directions, eq. (4)-(6), over B^2.

    The sum over all pairs (i, j) of different classes of max(0, m + v_i.t_j - v_i.t_i) (the caption for a
    picture) and max(0, m + v_j.t_i - v_i.t_i) (the picture for a caption).

    Args:
        text: caption embeddings; row i describes picture i.
        image: picture features; no gradient reaches them.
        labels: class of each row; rows of one class never are each other's negatives.
        margin: m.
    """
    scores = image.detach() @ text.T
    own = scores.diagonal()
    different = (labels[:, None] != labels).to(scores.dtype)
    captions = (margin + scores - own[:, None]).clamp(min=0.0)
    pictures = (margin + scores.T - own[:, None]).clamp(min=0.0)
    return (different * (captions + pictures)).sum() / len(labels) ** 2
