"""Distillation losses: bring a speech embedding to the image teacher's feature of the described picture.

Two ways: the teacher-student loss of Li et al. 2020, eq. (6)-(9), as printed (`paper`) or as in the code that
its authors released (`code`), and InfoNCE (van den Oord et al. 2018; CLIP's symmetric form) with a small
regression term. No gradient ever reaches the teacher.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.errors import SettingsError

Form = Literal["paper", "code"]


@dataclass(frozen=True)
class TeacherStudentWeights:
    """Weights of the teacher-student loss; Table IV's ablations set some of the first three to zero.

    Attributes:
        joint_embedding: weight of L_JEL (1 in the paper).
        norm: lambda_norm (5).
        distribution: lambda_KDL (1000 in both; the released code's KL is a mean over 1024 elements).
        margin_different: m_diff, for pairs of different classes.
        margin_same: m_same, for pairs of one class; None takes that of the form, 0.1 in the paper, 0 in the
            released code.
        alpha: weight of the pairs of different classes.
        beta: weight of the pairs of one class; None takes that of the form, 1 in the paper, 0.1 in the
            released code.
        form: all items as the paper prints them, or as its authors' released code has them.
    """

    joint_embedding: float = 1.0
    norm: float = 5.0
    distribution: float = 1000.0
    margin_different: float = 1.0
    margin_same: float | None = None
    alpha: float = 1.0
    beta: float | None = None
    form: Form = "code"

    @property
    def same_class(self) -> tuple[float, float]:
        """Margin and weight of the pairs of one class."""
        margin, weight = (0.1, 1.0) if self.form == "paper" else (0.0, 0.1)
        return (
            margin if self.margin_same is None else self.margin_same,
            weight if self.beta is None else self.beta,
        )


@dataclass(frozen=True)
class ContrastiveWeights:
    """Settings of the InfoNCE alternative.

    Attributes:
        temperature: divides the cosines (where training starts, if learnable).
        learn_temperature: train it (its logarithm) along with the encoder, never below 0.01.
        same_class: how much another picture of the same class counts as a negative, 0 (not at all) to 1.
        regression: weight of the relative squared error, which keeps embeddings in the teacher's raw space.
        extra_pictures: further training pictures a step that serve as negatives (their features cost
            nothing).
        several_positives: rows of one's own picture (spoken of again in the batch) are positives, too; else
            they are left out.
    """

    temperature: float = 0.07
    learn_temperature: bool = True
    same_class: float = 1.0
    regression: float = 1.0
    extra_pictures: int = 2048
    several_positives: bool = False


def start_temperature(weights: object) -> nn.Parameter | None:
    """The logarithm of the temperature where it is trained along (`ContrastiveWeights`), else None."""
    if not isinstance(weights, ContrastiveWeights) or not weights.learn_temperature:
        return None
    return nn.Parameter(torch.tensor(math.log(weights.temperature)))


def joint_embedding_loss(
    speech: Float[Tensor, "batch size"],
    image: Float[Tensor, "batch size"],
    labels: Int[Tensor, " batch"],
    weights: TeacherStudentWeights = TeacherStudentWeights(),
) -> Float[Tensor, ""]:
    """Speech-anchored hinge on raw dot products, eq. (7): max(0, s_i.v_j - s_i.v_i + m) of pairs i != j.

    Pairs of different classes have margin m_diff and weight alpha, pairs of one class m_same and beta. Form
    `paper`: the expectation over either kind of pairs, 0 where a batch has none; `code`: the sum over both,
    divided by B^2. Pairs of one class are rare in a batch, so the expectation counts them far more.
    """
    scores = speech @ image.detach().T
    same = labels[:, None] == labels
    different = ~same
    own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    same = same & ~own
    margin_same, beta = weights.same_class
    margin = torch.where(same, margin_same, weights.margin_different)
    hinge = (scores - scores.diagonal()[:, None] + margin).clamp(min=0.0)
    of_different, of_same = hinge.masked_fill(~different, 0.0).sum(), hinge.masked_fill(~same, 0.0).sum()
    if weights.form == "paper":
        n_different, n_same = different.sum().clamp(min=1), same.sum().clamp(min=1)
        return weights.alpha * of_different / n_different + beta * of_same / n_same
    return (weights.alpha * of_different + beta * of_same) / len(labels) ** 2


def norm_loss(
    speech: Float[Tensor, "batch size"], image: Float[Tensor, "batch size"], form: Form = "code"
) -> Float[Tensor, ""]:
    """L_norm, eq. (8): `paper`, the mean 1-norm of f_s - f_v; `code`, the mean absolute difference of the two
    matrices after each is divided by its Frobenius norm."""
    image = image.detach()
    if form == "paper":
        return (speech - image).abs().sum(1).mean()
    return (speech / speech.norm().clamp(min=1e-8) - image / image.norm().clamp(min=1e-8)).abs().mean()


def kdl_loss(
    speech: Float[Tensor, "batch size"], image: Float[Tensor, "batch size"], form: Form = "code"
) -> Float[Tensor, ""]:
    """L_KDL, eq. (9): Kullback-Leibler divergence of the softmax distributions of f_s and f_v.

    `paper`: KL(student || teacher), the order of the printed arguments, without temperature, summed over the
    elements, mean over the batch. `code`: KL(teacher || student), temperature 2 on the teacher alone, mean
    over all elements.
    """
    student, image = speech.log_softmax(1), image.detach()
    if form == "paper":  # F.kl_div(q, p) is KL(p || q)
        return F.kl_div(image.log_softmax(1), student, reduction="batchmean", log_target=True)
    return F.kl_div(student, (image / 2.0).log_softmax(1), reduction="none", log_target=True).mean()


def _items(
    speech: Tensor, image: Tensor, labels: Tensor, weights: TeacherStudentWeights
) -> dict[str, Tensor]:
    """The items of eq. (6) before weighting, named as their weights are."""
    return {
        "joint_embedding": joint_embedding_loss(speech, image, labels, weights),
        "norm": norm_loss(speech, image, weights.form),
        "distribution": kdl_loss(speech, image, weights.form),
    }


def teacher_student_loss(
    speech: Float[Tensor, "batch size"],
    image: Float[Tensor, "batch size"],
    labels: Int[Tensor, " batch"],
    weights: TeacherStudentWeights = TeacherStudentWeights(),
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """Eq. (6): L = L_JEL + lambda_norm L_norm + lambda_KDL L_KDL.

    Returns:
        The loss, and its items before weighting, for the log.
    """
    items = _items(speech, image, labels, weights)
    loss = (
        weights.joint_embedding * items["joint_embedding"]
        + weights.norm * items["norm"]
        + weights.distribution * items["distribution"]
    )
    return loss, {name: item.detach() for name, item in items.items()}


def gradient_norms(
    speech: Float[Tensor, "batch size"],
    image: Float[Tensor, "batch size"],
    labels: Int[Tensor, " batch"],
    weights: TeacherStudentWeights = TeacherStudentWeights(),
) -> tuple[dict[str, float], dict[str, float]]:
    """How hard each item of eq. (6) pulls at the embeddings of a batch, before weighting.

    Returns:
        Item -> Frobenius norm of its gradient with respect to `speech`, and item -> its value.
    """
    norms, values = {}, {}
    leaf = speech.detach().float().requires_grad_()
    for name, item in _items(leaf, image, labels, weights).items():
        (gradient,) = torch.autograd.grad(item, leaf)
        norms[name], values[name] = float(gradient.norm()), float(item.detach())
    return norms, values


def balanced(weights: TeacherStudentWeights, norms: dict[str, float]) -> TeacherStudentWeights:
    """Weights under which the weighted gradients of all items are of one size (paper, section V-A).

    The first item that takes part keeps its weight; an item of weight 0 takes no part.

    Args:
        weights: as they were.
        norms: item -> norm of its gradient before weighting.

    Raises:
        SettingsError: an item that takes part has no gradient, so that no weight balances it.
    """
    part = [name for name in norms if getattr(weights, name)]
    for name in part:
        if not (math.isfinite(norms[name]) and norms[name] > 0):
            raise SettingsError(
                f"the gradient of the item {name} is {norms[name]} on these batches: no weight balances it; "
                "leave it out with weight 0, or set the weights by hand (--balance 0)"
            )
    if not part:
        raise SettingsError("all items of the teacher-student loss have weight 0; give one of them a weight")
    size = getattr(weights, part[0]) * norms[part[0]]
    return replace(weights, **{name: size / norms[name] for name in part})


def info_nce_loss(
    speech: Float[Tensor, "batch size"],
    image: Float[Tensor, "pictures size"],
    teacher_mean: Float[Tensor, " size"],
    labels: Int[Tensor, " pictures"],
    pictures: Int[Tensor, " pictures"],
    temperature: float | Float[Tensor, ""] = 0.07,
    same_class: float = 1.0,
    several_positives: bool = False,
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE on the cosine of features centred by the mean teacher feature.

    Args:
        speech: embeddings; row i belongs to row i of `image`.
        image: teacher features: the batch's own, then any number of further negatives.
        teacher_mean: mean teacher feature of the training pictures.
        labels: class of each row of `image`.
        pictures: which picture each row of `image` shows; another row of one's own picture never is a
            negative.
        temperature: divides the cosines.
        same_class: weight of negatives of one's own class, 0 to 1.
        several_positives: every row of one's own picture is a positive; the loss is the mean over them.
    """
    batch = len(speech)
    s = F.normalize(speech - teacher_mean, dim=1)
    v = F.normalize(image.detach() - teacher_mean, dim=1)
    logits = s @ v.T / temperature + _negative_log_weights(labels, pictures, batch, same_class)
    if several_positives:
        return _mean_over_positives(s @ v.T / temperature, logits, pictures)
    target = torch.arange(batch, device=speech.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits[:, :batch].T, target)) / 2


def _negative_log_weights(labels: Tensor, pictures: Tensor, batch: int, same_class: float) -> Tensor:
    """Log-weights in each row's denominator: 0 for the pair itself, -inf for its picture's other rows.

    Added to the logits before the softmax, a weight w of a negative is log w.
    """
    own_class = math.log(same_class) if same_class > 0 else -math.inf
    weights = torch.where(labels[:batch, None] == labels, own_class, 0.0)
    weights = weights.masked_fill(pictures[:batch, None] == pictures, -math.inf)
    return weights.fill_diagonal_(0.0)


def _mean_over_positives(scores: Tensor, weighted: Tensor, pictures: Tensor) -> Tensor:
    """InfoNCE in both directions with all rows of one's own picture as positives (Khosla et al. 2020).

    Each positive competes with the negatives alone. With the other positives in its denominator, the loss
    would push utterances of one picture apart and could not reach zero.

    Args:
        scores: of every pair, [batch, pictures].
        weighted: the same with the log-weights of negatives; -inf at other rows of one's own picture.
        pictures: which picture each column shows.
    """
    batch = len(scores)
    own = pictures[:batch, None] == pictures
    negatives = weighted.masked_fill(own, -math.inf)
    total = weighted.new_zeros(())
    # speech -> pictures looks at all columns, the extra pictures among them; pictures -> speech only at those
    # of the batch, since nobody describes the extra ones
    for axis, count in ((1, own.shape[1]), (0, batch)):
        columns = slice(None, count) if axis == 1 else slice(None, batch)
        rest = negatives[:, columns].logsumexp(axis, keepdim=True)
        each = torch.logaddexp(scores[:, columns], rest) - scores[:, columns]
        positive = own[:, columns].to(each.dtype)
        total = total + ((each * positive).sum(axis) / positive.sum(axis)).mean()
    return total / 2


def relative_error(
    speech: Float[Tensor, "batch size"],
    image: Float[Tensor, "batch size"],
    teacher_mean: Float[Tensor, " size"],
) -> Float[Tensor, ""]:
    """Squared error relative to that of always predicting the teacher's mean; 1 means nothing learnt."""
    image = image.detach()
    return (speech - image).square().sum() / (image - teacher_mean).square().sum().clamp(min=1e-8)


def of_all_processes(
    speech: Float[Tensor, "batch size"],
    image: Float[Tensor, "pictures size"],
    labels: Int[Tensor, " pictures"],
    pictures: Int[Tensor, " pictures"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The batches of all processes as one: first every process's own rows, then all further negatives.

    Every process computes the same loss of the same large batch, and passes its gradient on to its own
    embeddings. That gradient is multiplied by the number of processes, by which averaging the processes'
    gradients of the weights divides it: together they step as one process would on the large batch.

    Args:
        speech: this process's embeddings; all processes have as many.
        image: teacher features, those of `speech` first, see `info_nce_loss`.
        labels: class of each row of `image`.
        pictures: which picture each row of `image` shows, numbered alike in all processes.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return speech, image, labels, pictures
    count, rank, batch = distributed.get_world_size(), distributed.get_rank(), len(speech)

    def gathered(own: Tensor) -> list[Tensor]:
        every = [torch.empty_like(own) for _ in range(count)]
        distributed.all_gather(every, own.detach().contiguous())
        return every

    def own_first(every: list[Tensor]) -> Tensor:
        return torch.cat([rows[:batch] for rows in every] + [rows[batch:] for rows in every])

    spoken = gathered(speech)
    spoken[rank] = speech.clone()
    if speech.requires_grad:
        spoken[rank].register_hook(lambda gradient: gradient * count)
    images, classes, shown = (own_first(gathered(rows)) for rows in (image, labels, pictures))
    return torch.cat(spoken), images, classes, shown


def contrastive_loss(
    speech: Float[Tensor, "batch size"],
    image: Float[Tensor, "pictures size"],
    teacher_mean: Float[Tensor, " size"],
    labels: Int[Tensor, " pictures"],
    pictures: Int[Tensor, " pictures"],
    weights: ContrastiveWeights = ContrastiveWeights(),
    log_temperature: Float[Tensor, ""] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """InfoNCE plus the small regression term; arguments as in `info_nce_loss`.

    In a training of several processes, the batch is that of all of them: each has the others' rows among its
    negatives (`of_all_processes`).

    Returns:
        The loss, and its items before weighting, for the log.
    """
    speech, image, labels, pictures = of_all_processes(speech, image, labels, pictures)
    temperature = weights.temperature if log_temperature is None else log_temperature.exp().clamp(min=0.01)
    nce = info_nce_loss(
        speech,
        image,
        teacher_mean,
        labels,
        pictures,
        temperature,
        weights.same_class,
        weights.several_positives,
    )
    error = relative_error(speech, image[: len(speech)], teacher_mean)
    return nce + weights.regression * error, {"info_nce": nce.detach(), "relative_error": error.detach()}
