"""An encoder and a generator of one matrix each, in torch, for tests of what is exported."""

import torch
from torch import nn


class MeanEncoder(nn.Module):
    """The mean over the valid frames, and a matrix: log-mel [batch, 40, frames] -> [batch, size]."""

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        self.linear = nn.Linear(40, size)

    def forward(self, log_mel: torch.Tensor, n_frames: torch.Tensor) -> torch.Tensor:
        valid = torch.arange(log_mel.shape[2])[None] < n_frames[:, None]
        return self.linear((log_mel * valid[:, None]).sum(2) / n_frames[:, None])


class MatrixGenerator(nn.Module):
    """A matrix: condition [batch, condition] and noise [batch, noise] -> pictures [batch, 3, 8, 8]."""

    def __init__(self, condition: int = 16, noise: int = 7) -> None:
        super().__init__()
        self.linear = nn.Linear(condition + noise, 3 * 64)

    def forward(self, condition: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(torch.cat([condition, noise], 1))).view(-1, 3, 8, 8)
