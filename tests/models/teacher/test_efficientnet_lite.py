"""Tests of EfficientNet-Lite0: its layers against a plain reading of the paper, both published namings."""

from pathlib import Path

import pytest
import torch
from efficientnet import Weights, numbered_file
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from speech2image.errors import CheckpointError
from speech2image.models.teacher.efficientnet_lite import (
    CHANNELS,
    STAGES,
    EfficientNetLite,
    SameConvolution,
    load_efficientnet_lite,
)


def timm_file(numbered: Weights) -> Weights:
    """The same weights under timm's names, written out here on its own terms."""
    renamed: Weights = {}

    def take(theirs: str, norm: str, ours: str, our_norm: str) -> None:
        renamed[f"{ours}.weight"] = numbered[f"{theirs}.weight"]
        for part in ("weight", "bias", "running_mean", "running_var"):
            renamed[f"{our_norm}.{part}"] = numbered[f"{norm}.{part}"]

    take("_conv_stem", "_bn0", "conv_stem", "bn1")
    take("_blocks.0._depthwise_conv", "_blocks.0._bn1", "blocks.0.0.conv_dw", "blocks.0.0.bn1")
    take("_blocks.0._project_conv", "_blocks.0._bn2", "blocks.0.0.conv_pw", "blocks.0.0.bn2")
    places = [(1, 0), (1, 1), (2, 0), (2, 1), *((3, i) for i in range(3)), *((4, i) for i in range(3))]
    places += [*((5, i) for i in range(4)), (6, 0)]
    for block, (stage, place) in enumerate(places, start=1):
        at, here = f"_blocks.{block}", f"blocks.{stage}.{place}"
        take(f"{at}._expand_conv", f"{at}._bn0", f"{here}.conv_pw", f"{here}.bn1")
        take(f"{at}._depthwise_conv", f"{at}._bn1", f"{here}.conv_dw", f"{here}.bn2")
        take(f"{at}._project_conv", f"{at}._bn2", f"{here}.conv_pwl", f"{here}.bn3")
    return renamed


def as_written(weights: Weights, x: Tensor) -> list[Tensor]:
    """The trunk layer by layer, unfolded, with TensorFlow's padding."""

    def layer(x: Tensor, name: str, norm: str, stride: int = 1) -> Tensor:
        weight = weights[f"{name}.weight"]
        kernel = weight.shape[-1]
        pads: list[int] = []
        for side in (x.shape[3], x.shape[2]):
            total = max(0, ((side + stride - 1) // stride - 1) * stride + kernel - side)
            pads += [total // 2, total - total // 2]
        groups = x.shape[1] if weight.shape[1] == 1 and len(weight) == x.shape[1] else 1
        x = F.conv2d(F.pad(x, pads), weight, None, stride, groups=groups)
        parts = (weights[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, eps=1e-3)

    x, block, outputs = F.relu6(layer(x, "_conv_stem", "_bn0", 2)), 0, []
    for count, _, stride, expansion, _ in STAGES:
        for place in range(count):
            at, inner = f"_blocks.{block}", x
            if expansion > 1:
                inner = F.relu6(layer(inner, f"{at}._expand_conv", f"{at}._bn0"))
            inner = layer(inner, f"{at}._depthwise_conv", f"{at}._bn1", stride if place == 0 else 1)
            inner = layer(F.relu6(inner), f"{at}._project_conv", f"{at}._bn2")
            x, block = x + inner if place else inner, block + 1
        outputs.append(x)
    return [outputs[i] for i in (1, 2, 4, 6)]


@pytest.fixture(scope="module")
def published() -> Weights:
    torch.manual_seed(0)
    return numbered_file()


@pytest.fixture(scope="module")
def network(published: Weights, tmp_path_factory: pytest.TempPathFactory) -> EfficientNetLite:
    path = tmp_path_factory.mktemp("weights") / "efficientnet-lite0.pth"
    torch.save(published, path)
    return load_efficientnet_lite(path)


def test_it_is_the_published_network(network: EfficientNetLite, published: Weights) -> None:
    pictures = torch.rand(2, 3, 64, 96) * 2 - 1
    for got, expected, channels in zip(
        network.stages(pictures), as_written(published, pictures), CHANNELS, strict=True
    ):
        assert got.shape[1] == channels
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    trunk = sum(p.numel() for p in network.parameters())
    assert trunk == 2_939_120, "3.0 M of the 4.65 M; head and classifier are left out"


def test_both_namings_give_the_same_network(
    network: EfficientNetLite, published: Weights, tmp_path: Path
) -> None:
    save_file(timm_file(published), tmp_path / "model.safetensors")
    other = load_efficientnet_lite(tmp_path / "model.safetensors")
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


@pytest.mark.parametrize(("side", "kernel"), [(7, 3), (8, 3), (8, 5), (9, 5)])
def test_outputs_are_half_the_size_rounded_up(side: int, kernel: int) -> None:
    layer = SameConvolution(2, 3, kernel, 2)
    assert layer(torch.zeros(1, 2, side, side)).shape == (1, 3, (side + 1) // 2, (side + 1) // 2)


def test_it_is_frozen_and_passes_gradients_on(network: EfficientNetLite) -> None:
    pictures = torch.zeros(1, 3, 64, 64, requires_grad=True)
    sum(maps.square().mean() for maps in network.train().stages(pictures)).backward()  # type: ignore[union-attr]
    assert pictures.grad is not None and float(pictures.grad.abs().sum()) > 0
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_other_files_are_refused(published: Weights, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="speech2image download efficientnet-lite0"):
        load_efficientnet_lite(tmp_path / "absent.pth")
    changed = {
        "lacks a layer": {k: v for k, v in published.items() if k != "_blocks.3._depthwise_conv.weight"},
        "other shape": {**published, "_conv_stem.weight": torch.zeros(32, 3, 5, 5)},
        "not finite": {**published, "_bn0.bias": torch.full((32,), torch.nan)},
        "another network": {"conv1.weight": torch.zeros(2)},
    }
    for name, weights in changed.items():
        torch.save(weights, tmp_path / f"{name}.pth")
        with pytest.raises(CheckpointError, match=r"allowed are"):
            load_efficientnet_lite(tmp_path / f"{name}.pth")
    (tmp_path / "torn.pth").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="damaged"):
        load_efficientnet_lite(tmp_path / "torn.pth")
