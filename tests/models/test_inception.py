"""The evaluating network and the files that hold it, made here at random under the published names."""

import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from speech2image.errors import CheckpointError, SettingsError
from speech2image.metrics.feature_network import load_imagenet_classifier, load_inception
from speech2image.models import inception
from speech2image.models.inception import InceptionV3, build, read_weights

# Of pytorch-fid's published file: some layers of each kind of block, and their shapes.
PUBLISHED = {
    "Conv2d_1a_3x3": (32, 3, 3, 3),
    "Conv2d_4a_3x3": (192, 80, 3, 3),
    "Mixed_5c.branch5x5_2": (64, 48, 5, 5),
    "Mixed_5d.branch_pool": (64, 288, 1, 1),
    "Mixed_6a.branch3x3": (384, 288, 3, 3),
    "Mixed_6b.branch7x7_2": (128, 128, 1, 7),
    "Mixed_6e.branch7x7dbl_5": (192, 192, 1, 7),
    "Mixed_7a.branch3x3_2": (320, 192, 3, 3),
    "Mixed_7a.branch7x7x3_4": (192, 192, 3, 3),
    "Mixed_7b.branch3x3_2b": (384, 384, 3, 1),
    "Mixed_7b.branch1x1": (320, 1280, 1, 1),
    "Mixed_7c.branch3x3dbl_1": (448, 2048, 1, 1),
    "Mixed_7c.branch3x3dbl_3a": (384, 384, 1, 3),
    "Mixed_7c.branch_pool": (192, 2048, 1, 1),
}
PARAMETERS = 23_834_568 - 1000 * 2049  # of Inception-v3 without its classifier; batch norm has two a channel


def shapes(last="pool3"):
    with torch.device("meta"):
        network = InceptionV3(last)
    state = network.state_dict()
    return {name: tuple(state[f"{path}.weight"].shape) for name, path in network.layer_names().items()}


def published_state(seed=0):
    """A state dict as pytorch-fid's file has it, random but of sane size."""
    generator = torch.Generator().manual_seed(seed)
    state = {
        "fc.weight": torch.randn(1008, 2048, generator=generator) * 0.05,
        "fc.bias": torch.randn(1008, generator=generator),
    }
    for name, shape in shapes().items():
        weight = torch.randn(shape, generator=generator)
        state[f"{name}.conv.weight"] = weight * (2 / weight[0].numel()) ** 0.5
        state[f"{name}.bn.weight"] = torch.rand(shape[0], generator=generator) + 0.5
        state[f"{name}.bn.bias"] = torch.randn(shape[0], generator=generator) * 0.2
        state[f"{name}.bn.running_mean"] = torch.randn(shape[0], generator=generator) * 0.2
        state[f"{name}.bn.running_var"] = torch.rand(shape[0], generator=generator) + 0.5
        state[f"{name}.bn.num_batches_tracked"] = torch.tensor(0)
    return state


@pytest.fixture(scope="module")
def state():
    return published_state()


@pytest.fixture(scope="module")
def pth(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "pt_inception.pth"
    torch.save(state, path)
    yield path
    path.unlink()


def part_file(path, **changes):
    """A small file in this project's form: folded, half precision, up to Mixed_6e, random."""
    weights = {}
    for name, shape in shapes("mixed_6e").items():
        weights[f"{name}.weight"] = (torch.randn(shape) * (2 / np.prod(shape[1:])) ** 0.5).half()
        weights[f"{name}.bias"] = torch.zeros(shape[0]).half()
    weights |= changes
    save_file({name: value for name, value in weights.items() if value is not None}, path)
    return path


def test_layers_are_the_published_ones():
    found = shapes()
    assert PUBLISHED.items() <= found.items()
    assert len(found) == 94
    with torch.device("meta"):
        network = InceptionV3()
    parameters = list(network.parameters())
    channels = sum(p.numel() for p in parameters if p.ndim == 1)
    assert sum(p.numel() for p in parameters) + channels == PARAMETERS
    assert not any(p.requires_grad for p in parameters)
    assert not network.training


def test_names_of_the_real_part(shared):
    weights = read_weights(shared / "weights" / "inception_v3_fid_mixed6e.fp16.safetensors")
    assert weights.known
    assert weights.head is None
    names = {f"{name}.{part}" for name in shapes("mixed_6e") for part in ("weight", "bias")}
    assert set(weights.layers) == names


def norm(x, state, name, **options):
    x = F.conv2d(x, state[f"{name}.conv.weight"], **options)
    parts = [state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return F.relu(F.batch_norm(x, *parts, eps=0.001))


def test_folding_is_batch_norm(state, pth):
    """The stem, a padded average and a maximum with live batch norm, written out."""
    network = build(read_weights(pth, verify=False))
    x = torch.rand(1, 3, 83, 83) * 2 - 1
    y = norm(
        norm(norm(x, state, "Conv2d_1a_3x3", stride=2), state, "Conv2d_2a_3x3"),
        state,
        "Conv2d_2b_3x3",
        padding=1,
    )
    y = F.max_pool2d(y, 3, 2)
    y = F.max_pool2d(norm(norm(y, state, "Conv2d_3b_1x1"), state, "Conv2d_4a_3x3"), 3, 2)
    torch.testing.assert_close(network.stem(x), y, rtol=1e-4, atol=1e-4)
    # TensorFlow's average leaves padding out of the count: a constant stays a constant at the edge.
    block = network.blocks["Mixed_5b"].branches[3]
    pooled = block(torch.ones(1, 192, 5, 5))
    torch.testing.assert_close(pooled, pooled[..., 2:3, 2:3].expand_as(pooled))
    z = torch.randn(1, 2048, 4, 4)
    expected = norm(F.max_pool2d(z, 3, 1, 1), state, "Mixed_7c.branch_pool")
    torch.testing.assert_close(network.blocks["Mixed_7c"].branches[3](z), expected, rtol=1e-4, atol=1e-4)


def test_all_of_the_network_runs(pth):
    network = load_inception(pth, verify=False)
    assert (network.name, network.dim) == ("unverified-inception-v3/pool3", 2048)
    assert network.checksum == hashlib.sha256(pth.read_bytes()).hexdigest()
    picture = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    features = network([picture])
    assert features.shape == (1, 2048)
    assert features.dtype == np.float32
    assert (features >= 0).all()
    assert features.std() > 0
    classifier = load_imagenet_classifier(pth, verify=False)
    assert classifier.classes == 1008
    assert classifier.name.startswith("unverified")
    assert classifier.probabilities(features).sum() == pytest.approx(1, abs=1e-5)


def test_head_leaves_its_bias_out(state, pth):
    classifier = load_imagenet_classifier(pth, verify=False)
    features = np.random.default_rng(0).random((3, 2048)).astype(np.float32)
    expected = torch.softmax(torch.tensor(features) @ state["fc.weight"].T, 1).numpy()
    np.testing.assert_allclose(classifier.probabilities(features), expected, rtol=1e-3, atol=1e-7)


def test_only_known_files_are_taken(pth, monkeypatch):
    digest = hashlib.sha256(pth.read_bytes()).hexdigest()
    with pytest.raises(CheckpointError, match=f"{digest[:8]}, not 6726825d or fff0a5c3; allowed are"):
        load_inception(pth)
    monkeypatch.setitem(inception.KNOWN, digest[:8], "made here")
    assert load_inception(pth, "mixed_6e").name == "inception-v3-2015-12-05/mixed_6e"


def test_part_of_the_network(tmp_path):
    path = part_file(tmp_path / "part.safetensors")
    network = load_inception(path, verify=False)
    assert (network.name, network.dim) == ("unverified-inception-v3/mixed_6e", 768)
    with pytest.raises(CheckpointError, match=r"ends at mixed_6e.*'pool3' \(2048-d\)"):
        load_inception(path, "pool3", verify=False)
    with pytest.raises(CheckpointError, match="no classifier of 1,008 classes"):
        load_imagenet_classifier(path, verify=False)
    with pytest.raises(SettingsError, match="there are: mixed_6e, pool3"):
        load_inception(path, "pool2", verify=False)


def test_another_network_is_refused(tmp_path):
    name = "Mixed_6c.branch7x7_2"
    path = part_file(tmp_path / "a.safetensors", **{f"{name}.bias": None})
    with pytest.raises(CheckpointError, match=rf"lacks '{name}\.bias'"):
        load_inception(path, verify=False)
    path = part_file(tmp_path / "b.safetensors", **{f"{name}.weight": torch.zeros(160, 160, 3, 3)})
    with pytest.raises(CheckpointError, match=r"is \(160, 160, 3, 3\), not \(160, 160, 1, 7\)"):
        load_inception(path, verify=False)
    path = part_file(tmp_path / "c.safetensors", **{f"{name}.bias": torch.full((160,), torch.nan)})
    with pytest.raises(CheckpointError, match=r"damaged: .* not finite"):
        load_inception(path, verify=False)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
@pytest.mark.parametrize("content", [b"", b"these are no weights"], ids=len)
@pytest.mark.parametrize("verify", [True, False])
def test_foreign_files_are_refused(tmp_path, suffix, content, verify):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights.*allowed are"):
        load_inception(path, verify=verify)


def test_absent_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot read the evaluating network at .*allowed are"):
        load_inception(tmp_path / "pt_inception-2015-12-05-6726825d.pth")


def test_pickled_objects_are_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"Conv2d_1a_3x3.conv.weight": Trap()}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="damaged or no PyTorch"):
        load_inception(tmp_path / "a.pth", verify=False)
    assert not (tmp_path / "sprung").exists()
