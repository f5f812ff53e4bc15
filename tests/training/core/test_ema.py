"""Averages follow weights and BatchNorm statistics; measured statistics are those of the averaged network."""

import torch
from torch import Tensor, nn

from speech2image.models.gan.stackgan_v1 import Architecture, StageOne, StageTwo
from speech2image.training.core.ema import Ema, measure_statistics


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


def batches_of(size: int, number: int = 20) -> list[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(3 * torch.randn(64, size, generator=generator) + 5,) for _ in range(number)]


def test_statistics_are_the_mean_of_the_batches_and_momenta_stay() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3)).eval()
    batches = batches_of(3)
    measure_statistics(network, batches)
    with torch.no_grad():
        maps = torch.stack([network[0](batch) for (batch,) in batches])
    norm = network[1]
    torch.testing.assert_close(norm.running_mean, maps.mean((0, 1)))
    torch.testing.assert_close(norm.running_var, maps.var(1).mean(0))
    assert norm.momentum == 0.3 and not network.training


def test_what_was_there_before_does_not_matter() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    batches = batches_of(3)
    measure_statistics(network, batches)
    once = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()(torch.randn(8, 3) - 7)
    measure_statistics(network, batches)
    for name, value in network.state_dict().items():
        assert torch.equal(value, once[name]), name


def test_averaged_weights_make_maps_that_vary_as_their_statistics_say() -> None:
    """Two networks of opposite noise: their average varies less, and their averaged statistics are wrong."""
    torch.manual_seed(0)
    pair = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False)) for _ in range(2)]
    average = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False)).eval()
    batches = batches_of(3)
    for network in pair:
        measure_statistics(network, batches)
    states = [network.state_dict() for network in pair]
    average.load_state_dict(
        {n: (v + states[1][n]) / 2 for n, v in states[0].items() if v.is_floating_point()}
        | {"1.num_batches_tracked": torch.tensor(0)}
    )
    x = torch.cat([batch for (batch,) in batches])
    pale = average(x).var(0)
    measure_statistics(average, batches)
    assert (pale < 0.7).any()
    torch.testing.assert_close(average(x).var(0), torch.ones(4), rtol=0.05, atol=0)


def test_frozen_stage_one_keeps_its_statistics() -> None:
    sizes = {"generator_width": 8, "discriminator_width": 8, "noise": 4, "code": 8, "condition": 16}
    network = StageTwo(
        Architecture(stage=2, size=64, residual_blocks=1, **sizes), StageOne(Architecture(**sizes))
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    measure_statistics(network.eval(), [(torch.randn(4, 16), torch.randn(4, 4)) for _ in range(2)])
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert not network.training
    assert "joint_norm.running_mean" in changed
    assert not any(name.startswith("stage_one.") for name in changed)
    assert all("running" in name or "num_batches" in name for name in changed)
