"""The moving average follows weights and BatchNorm statistics and leaves the live network alone."""

import torch

from speech2image.training.core.ema import Ema


def test_equals_a_hand_rolled_average_with_batchnorm_statistics() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    ema = Ema(network, decay=0.5)
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    for step in range(6):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += torch.randn_like(parameter)
        network(torch.randn(8, 3) + 5)
        live = {name: value.clone() for name, value in network.state_dict().items()}
        ema.update(network)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in live.items():
            moves = value.is_floating_point()
            expected[name] = decay * expected[name] + (1 - decay) * value if moves else value
            assert torch.equal(network.state_dict()[name], value)
    for name, value in ema.module.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert ema.module[1].running_mean.abs().sum() > 0


def test_early_average_follows_quickly_and_late_one_slowly() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    ema = Ema(network, decay=0.999)
    torch.nn.init.ones_(network.weight)
    ema.update(network)
    assert ema.module.weight.item() > 0.8
    ema.updates = 1_000_000
    torch.nn.init.constant_(network.weight, 100)
    before = ema.module.weight.item()
    ema.update(network)
    assert ema.module.weight.item() - before < 0.2


def test_state_survives() -> None:
    network = torch.nn.Linear(2, 2)
    ema = Ema(network)
    ema.update(network)
    other = Ema(torch.nn.Linear(2, 2))
    other.load_state_dict(ema.state_dict())
    assert other.updates == 1
    assert torch.equal(other.module.weight, ema.module.weight)
    assert not any(p.requires_grad for p in ema.module.parameters())
