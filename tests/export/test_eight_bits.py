"""Weights in eight bits: what is stored, that it is read back, and that the arithmetic is close."""

import numpy as np
import torch
from onnx import TensorProto
from torch import nn

from speech2image.export.onnx import in_eight_bits, to_onnx, trace, weights_of, with_eight_bit_weights
from speech2image.pipeline.onnx import Session


class _Layers(nn.Module):
    """A layer that is traced as Gemm, one as MatMul, a convolution and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 64)
        self.convolution = nn.Conv1d(64, 96, 3, padding=1)
        self.matmul, self.gemm = nn.Linear(96, 64), nn.Linear(64, 48)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.convolution(self.embedding(tokens).transpose(1, 2)).transpose(1, 2)
        return self.gemm(self.matmul(x).mean(dim=1))


def _traced(network: nn.Module) -> tuple:
    tokens = torch.arange(40).view(2, 20)
    return trace(network.eval(), (tokens,), ("tokens",), ("given",), {"tokens": {1: "length"}}), tokens


def test_matrices_are_eight_bit_numbers_and_read_back_within_half_a_step() -> None:
    torch.manual_seed(0)
    network = _Layers()
    whole, tokens = _traced(network)
    small = with_eight_bit_weights(whole)
    assert in_eight_bits(small) and not in_eight_bits(whole)
    kinds = {one.name: one.data_type for one in small.graph.initializer}
    eight = [
        name for name, kind in kinds.items() if kind == TensorProto.UINT8 and name.endswith("_quantized")
    ]
    assert len(eight) == 3 and TensorProto.INT8 not in kinds.values()
    assert [name for name, kind in kinds.items() if kind == TensorProto.FLOAT16], "the convolution's weights"
    exact, found = weights_of(whole), weights_of(small)
    assert set(found) >= {name for name, array in exact.items() if array.ndim > 1}
    for name, array in found.items():
        step = np.ptp(exact[name]) / 255
        np.testing.assert_allclose(array, exact[name], atol=0.51 * step + 1e-4, err_msg=name)
    session = Session(small.SerializeToString(), ("tokens",), ("given",), "small.onnx", 1)
    with torch.no_grad():
        wanted = network(tokens).numpy()
    given = session(tokens.numpy())
    assert np.abs(given - wanted).max() < 0.03 * np.abs(wanted).max()
    assert len(small.SerializeToString()) < 0.45 * len(whole.SerializeToString())


def test_names_of_scales_alone_are_weights() -> None:
    """A layer may be called so; only beside a weight in eight bits does it belong to it."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x_scale = nn.Parameter(torch.randn(1024, 2))

        def forward(self, embedding: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            return embedding @ self.x_scale + noise

    model = to_onnx(Scaled().eval(), (torch.zeros(1, 1024), torch.zeros(1, 2)), "condition_prior")
    assert "x_scale" in weights_of(model)
