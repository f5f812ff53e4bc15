"""Published weight files, Caffe's and torchvision's, made here at random; and files that are neither."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from speech2image.errors import CheckpointError
from speech2image.models.teacher.caffemodel import net_parameter
from speech2image.models.teacher.googlenet import LAYERS, TORCHVISION, GoogLeNet, caffe_name, load_teacher


def random_weights(seed=0):
    """Random weights under this project's names, as Caffe means them (BGR, 0..255)."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, value in GoogLeNet().state_dict().items():
        if name != "shift":
            spread = math.sqrt(2 / value[0].numel()) if value.ndim == 4 else 0.1
            weights[name] = torch.randn(value.shape, generator=generator) * spread
    return weights


def write_caffemodel(path, weights, old):
    """A model file as Caffe wrote it before (`layers`, four sizes) or since 2015 (`layer`, a shape)."""
    net = net_parameter()(name="GoogleNet")
    layers = net.layers if old else net.layer
    layers.add(name="data")
    for name in LAYERS:
        layer = layers.add(name=caffe_name(name))
        for kind in ("weight", "bias"):
            value = weights[f"{name}.{kind}"]
            blob = layer.blobs.add(data=value.flatten().tolist())
            if old:
                sizes = (1,) * (4 - value.ndim) + tuple(value.shape)
                blob.num, blob.channels, blob.height, blob.width = sizes
            else:
                blob.shape.dim.extend(value.shape)
    path.write_bytes(net.SerializeToString())


def torchvision_state():
    """A state dict with the names of torchvision's `googlenet` (auxiliary heads and classifier aside)."""
    state = {"fc.weight": torch.zeros(1000, 1024), "fc.bias": torch.zeros(1000)}
    for name in LAYERS:
        shape = GoogLeNet(TORCHVISION).get_submodule(name).weight.shape
        state[f"{name}.conv.weight"] = torch.randn(shape) * math.sqrt(2 / math.prod(shape[1:]))
        state[f"{name}.bn.weight"] = torch.rand(shape[0]) + 0.5
        state[f"{name}.bn.bias"] = torch.randn(shape[0]) * 0.2
        state[f"{name}.bn.running_mean"] = torch.randn(shape[0]) * 0.2
        state[f"{name}.bn.running_var"] = torch.rand(shape[0]) + 0.5
        state[f"{name}.bn.num_batches_tracked"] = torch.tensor(1)
    return state


@pytest.mark.parametrize("old", [True, False], ids=["layers", "layer"])
def test_caffemodel_gives_the_same_network_as_our_file(tmp_path, old):
    weights = random_weights()
    save_file(weights, tmp_path / "ours.safetensors")
    write_caffemodel(tmp_path / "bvlc_googlenet.caffemodel", weights, old)
    ours = load_teacher(tmp_path / "ours.safetensors").state_dict()
    theirs = load_teacher(tmp_path / "bvlc_googlenet.caffemodel").state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value)


def test_caffe_names_are_the_published_ones():
    names = [caffe_name(name) for name in LAYERS]
    assert names[:3] == ["conv1/7x7_s2", "conv2/3x3_reduce", "conv2/3x3"]
    assert names[3:9] == [
        f"inception_3a/{part}" for part in ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")
    ]
    assert len(names) == len(set(names)) == 57


def test_torchvision_file_computes_what_torchvision_computes(tmp_path):
    """Its normalisation, `transform_input`, and the first layers with live batch norm, written out."""
    state = torchvision_state()
    torch.save(state, tmp_path / "googlenet-1378be20.pth")
    teacher = load_teacher(tmp_path / "googlenet-1378be20.pth")
    picture = torch.rand(2, 3, 96, 96)
    got = teacher.stages(picture * 2 - 1)

    def layer(name, x, **options):
        x = F.conv2d(x, state[f"{name}.conv.weight"], **options)
        norms = [state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(x, *norms, eps=0.001))

    means, deviations = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    channels = []
    for c, (mean, deviation) in enumerate(zip(means, deviations, strict=True)):
        normalised = (picture[:, c] - mean) / deviation
        channels.append(normalised * (deviation / 0.5) + (mean - 0.5) / 0.5)
    x = F.max_pool2d(layer("conv1", torch.stack(channels, 1), stride=2, padding=3), 3, 2, ceil_mode=True)
    x = layer("conv3", layer("conv2", x), padding=1)
    torch.testing.assert_close(got[0], x, rtol=1e-4, atol=1e-4)
    x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    block = "inception3a.branch"
    branches = [
        layer(f"{block}1", x),
        layer(f"{block}2.1", layer(f"{block}2.0", x), padding=1),
        layer(f"{block}3.1", layer(f"{block}3.0", x), padding=1),
        layer(f"{block}4.1", F.max_pool2d(x, 3, 1, 1, ceil_mode=True)),
    ]
    torch.testing.assert_close(teacher.inception3a(x), torch.cat(branches, 1), rtol=1e-4, atol=1e-4)


def test_classifiers_are_not_loaded(tmp_path):
    save_file(
        {**random_weights(), "fc.weight": torch.zeros(1000, 1024), "fc.bias": torch.zeros(1000)},
        tmp_path / "a.safetensors",
    )
    assert not any(name.startswith("fc") for name in load_teacher(tmp_path / "a.safetensors").state_dict())


@pytest.mark.parametrize("suffix", [".safetensors", ".caffemodel", ".pth", ".onnx", ""])
@pytest.mark.parametrize("content", [b"", b"these are no weights", bytes(range(256)) * 40], ids=len)
def test_foreign_files_are_refused(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights.*allowed are"):
        load_teacher(path)


def test_absent_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no teacher weights at .*allowed are"):
        load_teacher(tmp_path / "bvlc_googlenet.caffemodel")


@pytest.mark.parametrize("name", ["a.safetensors", "a.caffemodel", "a.pth"])
def test_truncated_files_are_refused(tmp_path, name):
    path = tmp_path / name
    if name.endswith("safetensors"):
        save_file(random_weights(), path)
    elif name.endswith("caffemodel"):
        write_caffemodel(path, random_weights(), old=False)
    else:
        torch.save(torchvision_state(), path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(CheckpointError, match="allowed are"):
        load_teacher(path)


def test_another_network_is_refused(tmp_path):
    weights = random_weights()
    del weights["inception4c.branch3.1.bias"]
    save_file(weights, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks 'inception4c\.branch3\.1\.bias'"):
        load_teacher(tmp_path / "a.safetensors")
    weights = {**random_weights(), "conv3.weight": torch.zeros(192, 64, 5, 5)}
    save_file(weights, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"\(192, 64, 5, 5\), not \(192, 64, 3, 3\)"):
        load_teacher(tmp_path / "a.safetensors")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    weights = random_weights()
    weights["conv2.bias"][3] = np.nan
    save_file(weights, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"damaged: 'conv2\.bias'"):
        load_teacher(tmp_path / "a.safetensors")


def test_pickled_objects_are_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"conv1.conv.weight": Trap()}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="damaged or no PyTorch"):
        load_teacher(tmp_path / "a.pth")
    assert not (tmp_path / "sprung").exists()
