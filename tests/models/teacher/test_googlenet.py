"""The teacher: its behaviour on real flowers, its frozen state, its crops, and its response norm."""

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from speech2image.models.teacher.googlenet import (
    CAFFE,
    TORCHVISION,
    GoogLeNet,
    LocalResponseNorm,
    load_teacher,
    ten_crops,
)

WEIGHTS = "weights/bvlc_googlenet.fp16.safetensors"


@pytest.fixture(scope="module")
def teacher(shared):
    return load_teacher(shared / WEIGHTS)


def random_teacher(variant=CAFFE):
    """A teacher with weights that keep activations alive."""
    torch.manual_seed(0)
    teacher = GoogLeNet(variant)
    for module in teacher.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.uniform_(module.bias, 0, 0.1)
    return teacher


def flowers(folder, species, per_species, seed):
    """(centre crops [n, 3, 224, 224], thumbnails [n, 3072], labels [n]) of a few species."""
    by_class = {}
    for line in (folder / "captions.jsonl").read_text().splitlines():
        row = json.loads(line)
        by_class.setdefault(row["class"], []).append(row["image"])
    rng = np.random.default_rng(seed)
    crops, thumbnails, labels = [], [], []
    for label in rng.choice(sorted(by_class), species, replace=False):
        for name in rng.choice(by_class[label], per_species, replace=False):
            picture = Image.open(folder / name).convert("RGB")
            crops.append(ten_crops(np.asarray(picture))[0])
            thumbnails.append(np.asarray(picture.resize((32, 32))).reshape(-1) / 255)
            labels.append(label)
    return torch.stack(crops), torch.tensor(np.stack(thumbnails)), np.array(labels)


def nearest_neighbour_accuracy(features, labels):
    """How often the nearest other item is of the same class."""
    distance = torch.cdist(features, features).fill_diagonal_(torch.inf)
    return float(np.mean(labels[distance.argmin(1).numpy()] == labels))


def test_nearest_neighbour_on_real_flowers(teacher, shared):
    """weights/README.md: 0.887 on 240 flowers of 12 species, raw pixels 0.371; here on 120 of 12."""
    crops, thumbnails, labels = flowers(shared / "data/oxford102", species=12, per_species=10, seed=1)
    with torch.no_grad():
        features = torch.cat([teacher.features(part) for part in crops.split(8)])
    accuracy = nearest_neighbour_accuracy(F.normalize(features), labels)
    assert accuracy > 0.8
    assert accuracy > nearest_neighbour_accuracy(thumbnails, labels) + 0.3


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_response_norm_equals_torchs_and_so_does_its_gradient(memory_format):
    x = (torch.randn(2, 24, 5, 6) * 200).to(memory_format=memory_format).requires_grad_()
    gradient = torch.randn(2, 24, 5, 6)
    expected = F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)
    torch.testing.assert_close(LocalResponseNorm.apply(x), expected)
    wanted = torch.autograd.grad(expected, x, gradient)
    torch.testing.assert_close(torch.autograd.grad(LocalResponseNorm.apply(x), x, gradient), wanted)


def test_response_norm_in_bfloat16_is_as_exact_as_its_rounding():
    x = (torch.randn(2, 24, 5, 6) * 200).bfloat16()
    expected = F.local_response_norm(x.float(), 5, 1e-4, 0.75, 1.0)
    torch.testing.assert_close(LocalResponseNorm.apply(x), expected.bfloat16())


@pytest.mark.parametrize("variant", [CAFFE, TORCHVISION])
@pytest.mark.parametrize("size", [(64, 64), (96, 128)])
def test_stages_have_their_sizes_and_pass_the_gradient_to_the_picture_alone(variant, size):
    teacher = random_teacher(variant)
    pictures = (torch.rand(2, 3, *size) * 2 - 1).requires_grad_()
    stages = teacher.stages(pictures)
    for stage, channels, shrink in zip(stages, (192, 480, 832, 1024), (4, 8, 16, 32), strict=True):
        assert stage.shape == (2, channels, size[0] // shrink, size[1] // shrink)
        (gradient,) = torch.autograd.grad(stage.sum(), pictures, retain_graph=True)
        assert gradient.abs().sum() > 0
    assert all(not p.requires_grad and p.grad is None for p in teacher.parameters())


def test_teacher_never_leaves_evaluation():
    teacher = nn.Sequential(GoogLeNet())
    teacher.train()
    assert not teacher[0].training


@pytest.mark.parametrize("half", ["autocast", "bfloat16"])
def test_bfloat16_keeps_the_features(half):
    teacher = random_teacher()
    pictures = torch.rand(2, 3, 224, 224) * 2 - 1
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half == "autocast"):
        quick = copy.deepcopy(teacher) if half == "autocast" else copy.deepcopy(teacher).bfloat16()
        features = quick.features(pictures)
    assert features.dtype == torch.float32
    assert F.cosine_similarity(features, teacher.features(pictures)).min() > 0.999


def test_caffe_preprocessing_is_bgr_minus_its_means(teacher, shared):
    """The first convolution sees Caffe's picture: BGR, 0..255, minus (104, 117, 123)."""
    from safetensors.torch import load_file

    stored = load_file(shared / WEIGHTS)
    weight, bias = stored["conv1.weight"].float(), stored["conv1.bias"].float()
    pixels = torch.randint(0, 256, (1, 3, 32, 32)).float()
    caffe = pixels.flip(1) - torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1)
    expected = F.relu(F.conv2d(caffe, weight, bias, stride=2, padding=3))
    got = teacher.conv1(pixels / 127.5 - 1 - teacher.shift)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-2)


def test_ten_crops_are_centre_corners_and_their_horizontal_flips():
    column = np.linspace(0, 255, 512).astype(np.uint8)
    picture = np.broadcast_to(column[None, :, None], (256, 512, 3)).copy()
    picture[:100] = 0
    crops = ten_crops(picture)
    assert crops.shape == (10, 3, 224, 224)
    assert crops.min() >= -1 and crops.max() <= 1
    torch.testing.assert_close(crops[5:], crops[:5].flip(3))
    to_unit = torch.from_numpy(picture).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(crops[0], to_unit[:, 16:240, 144:368])
    torch.testing.assert_close(crops[4], to_unit[:, 32:, 288:])


@pytest.mark.parametrize("shape", [(100, 70, 3), (256, 256, 3), (60, 900, 3)])
def test_ten_crops_of_any_shape(shape):
    assert ten_crops(np.full(shape, 255, np.uint8)).eq(1).all()
