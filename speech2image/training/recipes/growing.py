"""Growing a one-stage GAN: takes over the weights that fit, and adds a block that doubles the picture's side.

A random new block would turn every picture into a pattern, and the discriminator would undo what the blocks
below have learnt. So the new block carries the old picture, bilinearly enlarged, in three of its channels;
the others start without effect (the idea of Net2Net, Chen et al. 2016).
"""

import math
import os
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.data.training_sets import TrainingArrays
from speech2image.errors import SettingsError
from speech2image.metrics.retrieval import picture_features
from speech2image.models.gan.one_stage import (
    SMOOTHED_FROM,
    ConditionalBlock,
    GeneratorSettings,
    OneStageGenerator,
    ProjectedDiscriminator,
    smooth,
)
from speech2image.training.core.checkpoint import (
    averaged_weights,
    building_from,
    load_checkpoint,
    stored_settings,
)
from speech2image.training.core.ema import Ema

PICTURES = 48
"""Pictures that the new block is fitted to."""
PLACES = 40_000
"""Places of these pictures, chosen at random, that enter the fit."""
GATE = 2.0
"""Input of the new channels' gates: open at sigmoid(2) = 0.88, and not yet flat."""


def begin_from(
    path: str | os.PathLike[str],
    kind: str,
    generator: OneStageGenerator,
    discriminator: ProjectedDiscriminator,
    ema: Ema,
    arrays: TrainingArrays,
) -> None:
    """Take over another training's weights wherever name and shape agree; grow a generator of half the side.

    Args:
        path: checkpoint of the other training, or one made of a model (`export/checkpoint.py`), which
            brings no discriminator.
        kind: of that checkpoint.
        generator, discriminator, ema: what takes the weights.
        arrays: their teacher features are the conditions of the pictures that growing looks at.

    Raises:
        CheckpointError: the file is damaged or of another kind.
        SettingsError: nothing agrees.
    """
    state = load_checkpoint(path, kind)
    with building_from(path):
        averaged = averaged_weights(state)
        live = state.get("generator", averaged)  # a model's checkpoint has the average alone
        modules: list[tuple[nn.Module, dict[str, Tensor]]] = [(generator, live), (ema.module, averaged)]
        if "discriminator" in state:
            modules.append((discriminator, state["discriminator"]))
        for module, weights in modules:
            # the mean feature is that of the data at hand, around which the condition prior draws
            own = {name: w for name, w in module.state_dict().items() if name != "condition_mean"}
            fitting = {name: w for name, w in weights.items() if name in own and own[name].shape == w.shape}
            if not fitting:
                raise SettingsError(
                    f"no weight in {path} fits these settings; start_from needs a related training"
                )
            module.load_state_dict(fitting, strict=False)
        settings = GeneratorSettings(**stored_settings(state, "generator"))
        one_more = (*settings.channels, generator.settings.channels[-1])
        if replace(settings, picture_size=2 * settings.picture_size, channels=one_more) != generator.settings:
            return
        conditions = _conditions(arrays)
        noise = torch.randn(PICTURES, settings.noise_size, generator=torch.Generator().manual_seed(0))
        for large, weights in ((generator, live), (ema.module, averaged)):
            assert isinstance(large, OneStageGenerator)
            small = OneStageGenerator(settings)
            small.load_state_dict(weights)
            grow(small, large, conditions, noise)


def mean_of(path: str | os.PathLike[str], kind: str) -> NDArray[np.float32]:
    """The mean feature [1024] by which another training's generator centres its conditions.

    Raises:
        CheckpointError: the file is damaged or of another kind.
    """
    state = load_checkpoint(path, kind)
    with building_from(path):
        return averaged_weights(state)["condition_mean"].float().numpy()


@torch.no_grad()
def grow(
    small: OneStageGenerator,
    large: OneStageGenerator,
    conditions: Float[Tensor, "n 1024"],
    noise: Float[Tensor, "n noise"],
) -> None:
    """Make `large` draw what `small` draws, bilinearly enlarged.

    Args:
        small: a trained generator.
        large: one with one block more, whose other weights are those of `small`; its last block and its
            convolution to pictures are changed.
        conditions, noise: of the pictures that the new block is fitted to.
    """
    maps, _ = small.eval().maps(conditions, noise)
    colours = F.interpolate(small.to_picture(maps), scale_factor=2.0, mode="bilinear", align_corners=False)
    entering = smooth(maps) if maps.shape[-1] >= SMOOTHED_FROM else maps
    block = large.blocks[-1]
    assert isinstance(block, ConditionalBlock)
    width, rgb = large.settings.channels[-1], slice(0, 3)
    weight = _enlarging(entering, colours)
    # BatchNorm undoes any factor, so the new weights can be given the size of the others, and learn as fast
    factor = block.up.weight.norm() / weight.norm() * math.sqrt(3 / (2 * width))
    block.up.weight[:, rgb] = factor * weight
    raised = block.up(entering)
    variance, mean = torch.var_mean(raised, (0, 2, 3))
    block.norm.load_state_dict({"running_mean": mean, "running_var": variance}, strict=False)

    gates = slice(width, width + 3)
    scale, shift = block.affine.bias.view(2, 2 * width)
    for part in block.affine.weight.view(2, 2 * width, -1):
        part[rgb], part[gates] = 0.0, 0.0
    scale[rgb], shift[rgb] = variance[rgb].sqrt() / factor - 1, colours.mean((0, 2, 3))
    scale[gates], shift[gates] = -1.0, GATE
    for parameter in large.to_picture.parameters():
        nn.init.zeros_(parameter)
    for channel in range(3):
        large.to_picture.weight[channel, channel, 1, 1] = 1 + math.exp(-GATE)


def _enlarging(
    entering: Float[Tensor, "n channels side side"], colours: Float[Tensor, "n 3 double double"]
) -> Float[Tensor, "channels 3 4 4"]:
    """Weights of a transposed convolution (4 x 4, stride 2, padding 1) by least squares, place by place.

    An output of even place 2m is made of the inputs m and m - 1 (kernel rows 1 and 3), one of odd place
    2m + 1 of the inputs m and m + 1 (rows 2 and 0); the same goes for columns.
    """
    channels, side = entering.shape[1], entering.shape[2]
    padded = F.pad(entering, (1, 1, 1, 1))
    taps = (((0, 1), (-1, 3)), ((0, 2), (1, 0)))
    weight = entering.new_zeros(channels, 3, 4, 4)
    chosen = torch.randperm(len(entering) * side * side, generator=torch.Generator().manual_seed(0))[:PLACES]
    for row in range(2):
        for column in range(2):
            places = [(r, c) for r in taps[row] for c in taps[column]]
            inputs = [
                padded[:, :, 1 + dy : 1 + dy + side, 1 + dx : 1 + dx + side] for (dy, _), (dx, _) in places
            ]
            x = torch.cat(inputs, 1).movedim(1, -1).reshape(-1, 4 * channels)[chosen].double()
            y = colours[:, :, row::2, column::2].movedim(1, -1).reshape(-1, 3)[chosen].double()
            x, y = x - x.mean(0), y - y.mean(0)
            gram = x.T @ x
            gram += 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
            solved = torch.linalg.solve(gram, x.T @ y).float().view(4, channels, 3)
            for taken, ((_, ky), (_, kx)) in zip(solved, places, strict=True):
                weight[:, :, ky, kx] = taken
    return weight


def _conditions(arrays: TrainingArrays) -> Float[Tensor, "n 1024"]:
    """The teacher's features of training pictures spread over the whole set."""
    train = arrays.samples_of("train")
    chosen = train[np.linspace(0, len(train) - 1, PICTURES).astype(int)]
    return torch.from_numpy(picture_features(arrays.teacher[chosen]))
