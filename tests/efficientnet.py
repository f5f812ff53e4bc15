"""A weight file of EfficientNet-Lite0 as published, with random weights."""

import torch
from torch import Tensor

from speech2image.models.teacher.efficientnet_lite import STAGES

Weights = dict[str, Tensor]


def convolution(weights: Weights, name: str, shape: tuple[int, ...], norm: str) -> None:
    """Random convolution and batch norm under these names."""
    fan_in = shape[1] * shape[2] * shape[3]
    weights[f"{name}.weight"] = torch.randn(shape) * (2 / fan_in) ** 0.5
    outputs = shape[0]
    weights[f"{norm}.weight"] = 0.5 + torch.rand(outputs)
    weights[f"{norm}.bias"] = 0.2 * torch.randn(outputs)
    weights[f"{norm}.running_mean"] = 0.2 * torch.randn(outputs)
    weights[f"{norm}.running_var"] = 0.5 + torch.rand(outputs)


def numbered_file() -> Weights:
    """All weights of the trunk as the package's file names them: blocks numbered through."""
    weights: Weights = {}
    convolution(weights, "_conv_stem", (32, 3, 3, 3), "_bn0")
    inputs, block = 32, 0
    for count, kernel, _, expansion, outputs in STAGES:
        for _ in range(count):
            inner, at = inputs * expansion, f"_blocks.{block}"
            if expansion > 1:
                convolution(weights, f"{at}._expand_conv", (inner, inputs, 1, 1), f"{at}._bn0")
            convolution(weights, f"{at}._depthwise_conv", (inner, 1, kernel, kernel), f"{at}._bn1")
            convolution(weights, f"{at}._project_conv", (outputs, inner, 1, 1), f"{at}._bn2")
            inputs, block = outputs, block + 1
    return weights
