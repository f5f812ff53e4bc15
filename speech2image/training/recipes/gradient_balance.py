"""Gradient balance of the teacher-student loss: how hard each item pulls at the speech embeddings.

Command: `speech2image train gradient-balance --preset paper --data SHARDS`. Li et al. 2020, section V-A: the
weights of eq. (6) are there to balance the gradients of its items. `train speech-encoder --balance N` chooses
them so, from N batches before the first step.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from speech2image.errors import SettingsError
from speech2image.losses.distillation import (
    ContrastiveWeights,
    TeacherStudentWeights,
    balanced,
    gradient_norms,
)
from speech2image.training.core.run import seed_step
from speech2image.training.core.speech_batches import SpeechBatch


@dataclass(frozen=True)
class GradientBalance:
    """What was measured.

    Attributes:
        weights: of the loss, as they were set.
        norms: item -> Frobenius norm of its gradient with respect to a batch's embeddings [batch, 1024],
            before weighting; mean over batches.
        values: item -> its value before weighting, mean over batches.
    """

    weights: TeacherStudentWeights
    norms: dict[str, float]
    values: dict[str, float]

    @property
    def balanced(self) -> TeacherStudentWeights:
        """Weights under which the gradients of all items that take part are of one size."""
        return balanced(self.weights, self.norms)

    def table(self) -> str:
        """The figures, a line an item."""
        lines = [
            f"form {self.weights.form}; gradients of the items with respect to the embeddings",
            f"{'item':16}{'value':>12}{'gradient':>12}{'weight':>12}{'weighted':>12}{'balancing':>12}",
        ]
        chosen = self.balanced
        for item, norm in self.norms.items():
            weight = getattr(self.weights, item)
            figures = (self.values[item], norm, weight, weight * norm, getattr(chosen, item))
            lines.append(f"{item:16}" + "".join(f"{figure:>12.4g}" for figure in figures))
        return "\n".join(lines)


def check(loss: ContrastiveWeights | TeacherStudentWeights) -> TeacherStudentWeights:
    """The weights of a loss that has items to balance.

    Raises:
        SettingsError: it is InfoNCE.
    """
    if not isinstance(loss, TeacherStudentWeights):
        raise SettingsError(
            "only the teacher-student loss has items to balance, and this preset trains by InfoNCE; choose "
            "--preset paper, released-code, paper-cpu or ablation"
        )
    return loss


def measure(
    encoder: nn.Module,
    batch_of: Callable[[int], SpeechBatch],
    weights: TeacherStudentWeights,
    batches: int,
    seed: int,
) -> GradientBalance:
    """Gradients of the items on the first batches, in training mode; the encoder stays as it is.

    Args:
        encoder: of speech, on its device.
        batch_of: step -> its batch.
        weights: of the loss.
        batches: how many, at least 1.
        seed: of dropout.

    Raises:
        SettingsError: `batches` is below 1.
    """
    if batches < 1:
        raise SettingsError(f"batches is {batches}; the balance is measured on at least 1")
    # a copy: in training mode, normalisation would take the batches into its running statistics
    network = copy.deepcopy(encoder).train()
    device = next(network.parameters()).device
    norms: dict[str, float] = {}
    values: dict[str, float] = {}
    for step in range(batches):
        seed_step(seed, step)
        batch = batch_of(step).to(device)
        with torch.no_grad():
            speech = network(batch.log_mel, batch.n_frames)
        n = len(speech)
        found, items = gradient_norms(speech, batch.image[:n].float(), batch.labels[:n], weights)
        for name in found:
            norms[name] = norms.get(name, 0.0) + found[name] / batches
            values[name] = values.get(name, 0.0) + items[name] / batches
    return GradientBalance(weights, norms, values)
