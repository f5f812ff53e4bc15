"""BatchNorm statistics of an averaged network, measured on it."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BATCHES = 32
"""How many tell the statistics of an average."""


@torch.no_grad()
def measure_statistics(network: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> None:
    """Replace the running statistics of BatchNorm by those of the network's own maps.

    Averaged weights make other maps than any of the networks they are averaged from: averaged noise cancels,
    so the maps vary less than the running statistics of training say, and pictures come out pale. So what
    Izmailov et al. 2018 (section 3.2) do for averaged classifiers and Brock et al. 2019 ("standing
    statistics") for a GAN's average is done here: every layer keeps the mean of its batches' statistics.

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
