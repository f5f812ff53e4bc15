"""The stacked GAN: the paper's sizes, exact shortcuts, determinism."""

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from speech2image.errors import SettingsError
from speech2image.export.onnx import trace
from speech2image.models.gan.layers import JointConv, UpBlock, initialise_orthogonal, up_conv_as_transposed
from speech2image.models.gan.stackgan_v2 import (
    Architecture,
    ConditioningAugmentation,
    Discriminator,
    Discriminators,
    PictureGenerator,
    TreeGenerator,
)

SMALL = Architecture(branches=3, generator_width=8, discriminator_width=2, noise=5, code=6, condition=12)


def parameters(module: nn.Module) -> float:
    """Millions of parameters."""
    return sum(p.numel() for p in module.parameters()) / 1e6


def lived_in(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every BatchNorm statistics and weights that are not the initial ones."""
    rng = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.normal_(0, 0.3, generator=rng)
            layer.running_var.uniform_(0.5, 2, generator=rng)
            layer.weight.data.uniform_(0.5, 1.5, generator=rng)
            layer.bias.data.normal_(0, 0.3, generator=rng)
    return module


@pytest.fixture
def small() -> TreeGenerator:
    torch.manual_seed(0)
    generator = lived_in(TreeGenerator(SMALL)).eval()
    assert isinstance(generator, TreeGenerator)
    return generator


def inputs(batch: int = 3) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(7)
    condition = torch.randn(batch, SMALL.condition, generator=rng)
    return condition, torch.randn(batch, SMALL.noise, generator=rng)


def test_paper_sizes() -> None:
    with torch.device("meta"):
        assert parameters(TreeGenerator(Architecture())) == pytest.approx(21.2, abs=0.1)
        for size, millions in ((64, 5.7), (128, 18.8), (256, 71.3)):
            assert parameters(Discriminator(size)) == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize(("branches", "sizes"), [(1, [64]), (2, [64, 128]), (3, [64, 128, 256])])
def test_pictures_of_each_branch(branches: int, sizes: list[int]) -> None:
    architecture = dataclasses.replace(SMALL, branches=branches)
    condition, noise = inputs(2)
    made = TreeGenerator(architecture)(condition, noise)
    assert [tuple(p.shape) for p in made.pictures] == [(2, 3, size, size) for size in sizes]
    assert all(p.abs().max() <= 1 for p in made.pictures)
    judged = Discriminators(architecture)([made.pictures, made.pictures], made.mean)
    assert [[(j.conditional.shape, j.unconditional.shape) for j in batch] for batch in judged] == [
        [((2,), (2,))] * branches
    ] * 2


@pytest.mark.parametrize("side", [2, 3, 4, 9])
def test_joint_convolution_equals_the_tiled_one(side: int) -> None:
    torch.manual_seed(1)
    joint = JointConv(code=5, channels_in=4, channels_out=6, side=side).double()
    x = torch.randn(2, 4, side, side, dtype=torch.float64, requires_grad=True)
    code = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    tiled = torch.cat([code[:, :, None, None].expand(-1, -1, side, side), x], dim=1)
    naive = functional.conv2d(tiled, joint.conv.weight, padding=1)
    torch.testing.assert_close(joint(x, code), naive, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(naive)
    wanted = torch.autograd.grad((naive * weights).sum(), [x, code, joint.conv.weight], retain_graph=True)
    got = torch.autograd.grad((joint(x, code) * weights).sum(), [x, code, joint.conv.weight])
    for g, w in zip(got, wanted, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-12, atol=1e-12)


def test_doubling_then_3x3_equals_one_transposed_convolution() -> None:
    torch.manual_seed(2)
    weight = torch.randn(5, 3, 3, 3, dtype=torch.float64)
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    naive = functional.conv2d(functional.interpolate(x, scale_factor=2.0), weight, padding=1)
    fast = functional.conv_transpose2d(x, up_conv_as_transposed(weight), stride=2, padding=1)
    torch.testing.assert_close(fast, naive, rtol=1e-12, atol=1e-12)


def test_up_block_and_its_folded_form_equal_the_naive_one() -> None:
    torch.manual_seed(3)
    block = lived_in(UpBlock(4, 3)).eval()
    x = torch.randn(2, 4, 5, 5)
    doubled = functional.interpolate(x, scale_factor=2.0, mode="nearest")
    naive = functional.glu(block.norm(block.conv(doubled)), dim=1)  # type: ignore[operator]
    torch.testing.assert_close(block(x), naive, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(block.folded()(x), naive, rtol=1e-5, atol=1e-5)  # type: ignore[operator]


def test_inference_form_equals_the_last_picture(small: TreeGenerator) -> None:
    condition, noise = inputs()
    small.augmentation.standardise(condition.mean(0), 2.0)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    with torch.no_grad():
        picture = PictureGenerator(small)(condition, noise)
        torch.testing.assert_close(picture, small(condition, noise).pictures[-1], rtol=1e-4, atol=2e-5)
    assert picture.std() > 0.01
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in PictureGenerator(small).modules())
    for name, value in small.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_inference_form_exports_to_onnx(small: TreeGenerator) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    condition, noise = inputs()
    model = PictureGenerator(small)
    batches = {name: {0: "batch"} for name in ("condition", "noise", "picture")}
    network = trace(model, (condition, noise), ["condition", "noise"], ["picture"], batches)
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    for n in (1, 3):
        (picture,) = session.run(None, {"condition": condition[:n].numpy(), "noise": noise[:n].numpy()})
        torch.testing.assert_close(
            torch.from_numpy(picture), model(condition[:n], noise[:n]), rtol=1e-4, atol=1e-4
        )


def test_same_noise_same_picture_whatever_the_batch(small: TreeGenerator) -> None:
    condition, noise = inputs()
    model = PictureGenerator(small)
    torch.testing.assert_close(model(condition, noise), model(condition, noise), rtol=0, atol=0)
    torch.testing.assert_close(
        model(condition, noise)[1:2], model(condition[1:2], noise[1:2]), rtol=1e-4, atol=1e-5
    )
    assert (model(condition, noise)[0] - model(condition, noise.flip(0))[0]).abs().max() > 1e-4


def test_conditioning_augmentation_draws_around_its_mean() -> None:
    torch.manual_seed(4)
    augmentation = ConditioningAugmentation(condition=12, code=6)
    condition = torch.randn(2, 12)
    code, mean, log_variance = augmentation(condition)
    torch.testing.assert_close(code, mean, rtol=0, atol=0)
    epsilon = torch.randn(2, 6)
    drawn = augmentation(condition, epsilon)
    torch.testing.assert_close(drawn.code, mean + (0.5 * log_variance).exp() * epsilon)
    assert mean.shape == log_variance.shape == (2, 6)
    augmentation.standardise(condition[0], 3.0)
    torch.testing.assert_close(
        augmentation(condition).mean[0],
        functional.glu(augmentation.linear.bias[None], dim=1)[0, :6],
        msg="the centre itself must reach the linear layer as zero",
    )


def test_first_discriminator_layer_has_no_norm_and_the_code_matters() -> None:
    torch.manual_seed(5)
    judge = Discriminator(64, width=2, code=6).eval()
    assert isinstance(judge.trunk[0], nn.Conv2d) and isinstance(judge.trunk[1], nn.LeakyReLU)
    picture = torch.randn(2, 3, 64, 64)
    (one,), (other,) = judge([picture], torch.zeros(2, 6)), judge([picture], torch.ones(2, 6))
    torch.testing.assert_close(one.unconditional, other.unconditional)
    assert (one.conditional - other.conditional).abs().min() > 1e-4


@pytest.mark.parametrize("size", [64, 128, 256])
def test_batches_judged_in_one_call_are_judged_as_if_each_came_alone(size: int) -> None:
    torch.manual_seed(7)
    together = Discriminator(size, width=2, code=6).double()
    alone = copy.deepcopy(together)
    batches = [torch.randn(3, 3, size, size).double() * scale for scale in (0.2, 1, 4)]
    code = torch.randn(3, 6).double()
    judged = together(batches, code)
    one_by_one = [alone([batch], code)[0] for batch in batches]
    torch.testing.assert_close(judged, one_by_one, rtol=1e-9, atol=1e-9)
    for answers in (judged, one_by_one):
        sum((a.conditional.square() + a.unconditional).sum() for a in answers).backward()
    for ours, theirs in zip(together.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(dict(together.named_buffers()), dict(alone.named_buffers()))
    merged, _ = together([torch.cat(batches)], code.repeat(3, 1))[0]
    assert not torch.allclose(merged[:3], judged[0].conditional), "norms of one batch would pass unseen"


def test_initialisation_is_orthogonal() -> None:
    torch.manual_seed(6)
    conv, norm, linear = nn.Conv2d(4, 8, 3), nn.BatchNorm2d(400), nn.Linear(5, 5)
    initialise_orthogonal(nn.Sequential(conv, norm, linear))
    flat = conv.weight.detach().flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(8), rtol=1e-5, atol=1e-5)
    assert norm.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert norm.weight.mean().item() == pytest.approx(1.0, abs=0.01)
    assert (linear.bias == 0).all()


@pytest.mark.parametrize("wrong", [{"branches": 4}, {"generator_width": 6}, {"noise": 0}])
def test_impossible_sizes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong)).split("_")[0]):
        Architecture(**wrong)
    with pytest.raises(SettingsError, match="not 100"):
        Discriminator(100)
