"""Learning-rate schedules: the share, 0 to 1, of a training's learning rate that step 0, 1, ... takes.

Pure functions of the step, so a resumed training goes on as if it had never stopped. torch's own schedulers
count their calls instead: their state would have to be stored beside the optimiser's, checkpoints from before
have none, and `LambdaLR` would still call these functions.
"""

import math
from typing import Protocol


class CosineSettings(Protocol):
    """The settings of a training whose rate falls along a cosine."""

    @property
    def steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warm_up(self) -> int: ...
    @property
    def final_rate(self) -> float: ...


def cosine_rate(settings: CosineSettings, step: int) -> float:
    """The learning rate of step 0, 1, ... along `cosine`."""
    return settings.learning_rate * cosine(step, settings.steps, settings.warm_up, settings.final_rate)


def cosine(step: int, steps: int, warm_up: int = 0, final: float = 0.0) -> float:
    """A linear rise, then half a cosine (Loshchilov and Hutter, "SGDR", 2017).

    Args:
        step: steps done.
        steps: of the training; from then on the share stays at `final`.
        warm_up: steps of the rise, the last of which takes the whole rate.
        final: share at the end; 1 keeps the rate constant after its rise.
    """
    if step < warm_up:
        return (step + 1) / warm_up
    done = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2


def inverse_sqrt(step: int, warm_up: int) -> float:
    """A linear rise over `warm_up` steps, then one over the root of the step (Vaswani et al. 2017)."""
    return (step + 1) / warm_up if step < warm_up else math.sqrt(max(1, warm_up) / (step + 1))


def linear(step: int, steps: int, final: float = 0.01) -> float:
    """A straight line from 1 down to `final`."""
    return 1 - (1 - final) * min(1.0, step / steps)


def halving(step: int, every: int) -> float:
    """Half as much after `every` steps, again and again; 0 for never."""
    return 0.5 ** (step // every) if every else 1.0
