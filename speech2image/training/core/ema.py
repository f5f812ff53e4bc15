"""Averaged weights: a network's exponential moving average, and BatchNorm statistics measured for it."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Ema:
    """A slowly following copy of a network, used for samples and for the shipped model.

    The decay grows with the number of updates, `min(decay, (1 + n) / (10 + n))`, so that a short training is
    not blurred by its first steps. Floating-point buffers (BatchNorm's running statistics) are averaged like
    the weights; counters are copied. The live network is never overwritten.

    Args:
        module: the network to follow; it is copied, and the copy is in evaluation mode without gradients.
        decay: upper bound of the decay, in [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.updates = 0
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move one step towards `module`, which must have the structure of the copied one."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        source = module.state_dict()
        for name, target in self.module.state_dict().items():
            if target.is_floating_point():
                target.lerp_(source[name].to(target.dtype), 1 - decay)
            else:
                target.copy_(source[name])

    def state_dict(self) -> dict[str, object]:
        """The averaged weights and the number of updates."""
        return {"module": dict(self.module.state_dict()), "updates": self.updates}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restore what `state_dict` gave."""
        weights, updates = state["module"], state["updates"]
        assert isinstance(weights, dict) and isinstance(updates, int)
        self.module.load_state_dict(weights)
        self.updates = updates


BATCHES = 32
"""Batches that the statistics of an average are measured on."""


@torch.no_grad()
def measure_statistics(network: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> None:
    """Replace the running statistics of BatchNorm by those of the network's own maps.

    The activations of averaged weights vary less than the running statistics of training say, since averaged
    noise cancels; with the old statistics pictures come out pale. So the statistics are measured anew, as
    Izmailov et al. 2018 (section 3.2) do for averaged classifiers and Brock et al. 2019 ("standing
    statistics") for a GAN's average: every layer keeps the mean of its batches' statistics.

    `torch.optim.swa_utils.update_bn` is the same idea, but passes a network one input only, and resets the
    statistics of frozen parts, too (Stage I within Stage II), which are then never measured.

    Args:
        network: in evaluation mode, and so left; parts that training mode leaves frozen keep
            their statistics.
        batches: the network's inputs, of the size and kind of the training's.
    """
    network.train()
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of all batches
    for batch in batches:
        network(*batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
