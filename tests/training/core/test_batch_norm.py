"""BatchNorm statistics of averaged weights are those of the network that has them."""

import torch
from torch import Tensor, nn

from speech2image.models.gan.stackgan_v1 import Architecture, StageOne, StageTwo
from speech2image.training.core.ema import measure_statistics


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
