"""FID at 768-d by this package and by the published pytorch-fid on the same pictures: agreement and speed.

python benchmarks/fid_speed.py PICTURES inception_v3_fid_mixed6e.fp16.safetensors --count 200

Three sets of `count` pictures each: A and B at random from PICTURES, C = B blurred. Both programs take turns
over chunks of 50 files of their own reading, in one process with one thread; wall and processor time are
summed apart. pytorch-fid needs torchvision, of which only the classes it takes are written out below, with
live batch norm as in the published network; its code runs unchanged, on the same weights with batch norms
that do nothing. The 2048-d features are compared on random weights, since the published file is not assumed.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from safetensors.torch import load_file
from torch import Tensor, nn

from speech2image.data.pictures import list_pictures, read_picture, stream_pictures
from speech2image.metrics.feature_network import load_inception
from speech2image.metrics.frechet import FewPicturesWarning, Moments, frechet_distance

CHUNK = 50
Sides = int | tuple[int, int]


class BasicConv2d(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Sides, stride: int = 1, padding: Sides = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class _Block(nn.Module):
    """Adds layers by name: inputs, outputs, kernel; padded to keep the size unless stride is 2."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> nn.Module: ...

    def _add(
        self, name: str, inputs: int, outputs: int, height: int = 1, width: int = 1, stride: int = 1
    ) -> None:
        padding = (height // 2, width // 2) if stride == 1 else 0
        self.add_module(name, BasicConv2d(inputs, outputs, (height, width), stride, padding))


class InceptionA(_Block):
    """35 x 35; pytorch-fid brings its own forward."""

    def __init__(self, inputs: int, pool_features: int) -> None:
        super().__init__()
        self._add("branch1x1", inputs, 64)
        self._add("branch5x5_1", inputs, 48)
        self._add("branch5x5_2", 48, 64, 5, 5)
        self._add("branch3x3dbl_1", inputs, 64)
        self._add("branch3x3dbl_2", 64, 96, 3, 3)
        self._add("branch3x3dbl_3", 96, 96, 3, 3)
        self._add("branch_pool", inputs, pool_features)


class InceptionB(_Block):
    """35 x 35 -> 17 x 17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self._add("branch3x3", inputs, 384, 3, 3, 2)
        self._add("branch3x3dbl_1", inputs, 64)
        self._add("branch3x3dbl_2", 64, 96, 3, 3)
        self._add("branch3x3dbl_3", 96, 96, 3, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class InceptionC(_Block):
    """17 x 17; pytorch-fid brings its own forward."""

    def __init__(self, inputs: int, channels_7x7: int) -> None:
        super().__init__()
        width = channels_7x7
        self._add("branch1x1", inputs, 192)
        self._add("branch7x7_1", inputs, width)
        self._add("branch7x7_2", width, width, 1, 7)
        self._add("branch7x7_3", width, 192, 7, 1)
        self._add("branch7x7dbl_1", inputs, width)
        self._add("branch7x7dbl_2", width, width, 7, 1)
        self._add("branch7x7dbl_3", width, width, 1, 7)
        self._add("branch7x7dbl_4", width, width, 7, 1)
        self._add("branch7x7dbl_5", width, 192, 1, 7)
        self._add("branch_pool", inputs, 192)


class InceptionD(_Block):
    """17 x 17 -> 8 x 8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self._add("branch3x3_1", inputs, 192)
        self._add("branch3x3_2", 192, 320, 3, 3, 2)
        self._add("branch7x7x3_1", inputs, 192)
        self._add("branch7x7x3_2", 192, 192, 1, 7)
        self._add("branch7x7x3_3", 192, 192, 7, 1)
        self._add("branch7x7x3_4", 192, 192, 3, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, stride=2)], 1)


class InceptionE(_Block):
    """8 x 8; pytorch-fid brings its own forward."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self._add("branch1x1", inputs, 320)
        self._add("branch3x3_1", inputs, 384)
        self._add("branch3x3_2a", 384, 384, 1, 3)
        self._add("branch3x3_2b", 384, 384, 3, 1)
        self._add("branch3x3dbl_1", inputs, 448)
        self._add("branch3x3dbl_2", 448, 384, 3, 3)
        self._add("branch3x3dbl_3a", 384, 384, 1, 3)
        self._add("branch3x3dbl_3b", 384, 384, 3, 1)
        self._add("branch_pool", inputs, 192)


class Inception3(nn.Module):
    """The layers by name; pytorch-fid puts them in order."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3)
        widths = {"5b": (192, 32), "5c": (256, 64), "5d": (288, 64)}
        for name, (inputs, pooled) in widths.items():
            self.add_module(f"Mixed_{name}", InceptionA(inputs, pooled))
        self.Mixed_6a = InceptionB(288)
        for name, width in {"6b": 128, "6c": 160, "6d": 160, "6e": 192}.items():
            self.add_module(f"Mixed_{name}", InceptionC(768, width))
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b, self.Mixed_7c = InceptionE(1280), InceptionE(2048)
        self.fc = nn.Linear(2048, 1008)


def to_tensor(picture: Image.Image) -> Tensor:
    """torchvision's ToTensor for 8-bit RGB."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div(255)


def stub_torchvision() -> None:
    """Put the little of torchvision that pytorch-fid imports where it looks for it."""
    names = ("torchvision", "torchvision.models", "torchvision.models.inception", "torchvision.transforms")
    modules: list[Any] = [types.ModuleType(name) for name in names]
    vision, models, inception, transforms = modules
    for kind in (InceptionA, InceptionC, InceptionE):
        setattr(inception, kind.__name__, kind)
    vision.__version__, vision.models, vision.transforms = "0.20.0", models, transforms
    models.inception, models.inception_v3 = inception, lambda **_: Inception3()
    transforms.ToTensor = lambda: to_tensor
    sys.modules |= dict(zip(names, modules, strict=True))


def published(package: Path) -> types.ModuleType:
    """pytorch-fid's `fid_score`, from `package`, where pip puts it if it is not there."""
    if not (package / "pytorch_fid").is_dir():
        words = ["install", "--quiet", "--no-deps", "--target", str(package), "pytorch-fid"]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    stub_torchvision()
    sys.path.append(str(package))
    return importlib.import_module("pytorch_fid.fid_score")


def network_of(score: types.ModuleType, block: int, state: dict[str, Tensor]) -> nn.Module:
    """The published network, given weights in place of the download."""
    module: Any = importlib.import_module("pytorch_fid.inception")
    module.load_state_dict_from_url = lambda *_, **__: state
    return score.InceptionV3([block]).eval()


def unfolded(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Folded convolutions as published names, with batch norms that only add the bias."""
    state = Inception3().state_dict()
    for name, value in weights.items():
        stem, part = name.rsplit(".", 1)
        state[f"{stem}.conv.weight" if part == "weight" else f"{stem}.bn.bias"] = value.float()
        if part == "bias":
            state[f"{stem}.bn.running_var"] = torch.full_like(value, 1 - 0.001, dtype=torch.float32)
    return state


def random_state(seed: int = 0) -> dict[str, Tensor]:
    """Random weights and batch norms under the published names."""
    generator = torch.Generator().manual_seed(seed)
    state = Inception3().state_dict()
    for name, value in state.items():
        if value.ndim == 4:
            state[name] = torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5
        elif ".bn." in name and value.ndim:
            noise = torch.rand(value.shape, generator=generator)
            state[name] = noise + 0.5 if name.endswith(("weight", "var")) else noise * 0.4 - 0.2
    return state


class Clock:
    """Sums wall and processor seconds."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    def run(self, work: Callable[[], np.ndarray]) -> np.ndarray:
        """Do `work`, add its time."""
        wall, processor = time.perf_counter(), time.process_time()
        result = work()
        self.wall += time.perf_counter() - wall
        self.processor += time.process_time() - processor
        return result


def write_sets(pictures: Path, folder: Path, count: int) -> None:
    """A and B: pictures at random as PNG; C: B blurred."""
    names = list_pictures(pictures)
    chosen = np.random.default_rng(0).choice(names, 2 * count, replace=False)
    for place, name in enumerate(chosen):
        image = Image.fromarray(read_picture(pictures / name))
        sets = (
            [("A", image)]
            if place < count
            else [("B", image), ("C", image.filter(ImageFilter.GaussianBlur(2)))]
        )
        for kind, version in sets:
            (folder / kind).mkdir(exist_ok=True)
            version.save(folder / kind / f"{place:05}.png", compress_level=1)


def compare_pool3(score: types.ModuleType, folder: Path) -> float:
    """Largest difference of 2048-d features on random weights, over their largest value."""
    state = random_state()
    torch.save(state, folder / "random.pth")
    ours = load_inception(folder / "random.pth", "pool3", verify=False, device="cpu")
    files = sorted((folder / "A").iterdir())[:4]
    with torch.no_grad():
        theirs = score.get_activations(files, network_of(score, 3, state), 4, 2048, "cpu", 0)
    return float(np.abs(ours([read_picture(file) for file in files]) - theirs).max() / np.abs(theirs).max())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--count", type=int, default=200, help="pictures a set")
    parser.add_argument("--package", type=Path, help="folder that has pytorch-fid, or gets it from pip")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        measure(options, Path(name))


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Features of A, B and C by both in turns, then FID(A, B) and FID(A, C)."""
    score: Any = published(options.package or folder / "package")
    score.tqdm = lambda batches: batches
    write_sets(options.pictures, folder, options.count)
    print(f"2048-d features on random weights differ by {compare_pool3(score, folder):.1e} of the largest")
    theirs = network_of(score, 2, unfolded(load_file(options.weights)))
    ours = load_inception(options.weights, "mixed_6e", device="cpu")
    clocks = (Clock(), Clock())
    features: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})

    def features_of(folder: Path, names: list[str]) -> np.ndarray:
        return np.concatenate([ours(batch.pictures) for batch in stream_pictures(folder, names=names)])

    for kind in "ABC":
        files = sorted((folder / kind).iterdir())
        parts: tuple[list, list] = ([], [])
        for start in range(0, len(files), CHUNK):
            chunk = files[start : start + CHUNK]
            names = [file.name for file in chunk]
            published_ones = partial(score.get_activations, chunk, theirs, CHUNK, 768, "cpu", 0)
            parts[0].append(clocks[0].run(published_ones))
            parts[1].append(clocks[1].run(partial(features_of, folder / kind, names)))
        for side in (0, 1):
            features[side][kind] = np.concatenate(parts[side])
    report(score, features, clocks, 3 * options.count)


def report(score: types.ModuleType, features: tuple, clocks: tuple[Clock, Clock], pictures: int) -> None:
    """Print agreement and speed."""
    warnings.simplefilter("ignore", FewPicturesWarning)  # agreement is asked for, not a judgement
    for other in "BC":
        moments = [(np.mean(f[k], 0), np.cov(f[k], rowvar=False)) for f in features[:1] for k in ("A", other)]
        start = time.process_time()
        published_fid = score.calculate_frechet_distance(*moments[0], *moments[1])
        between = time.process_time()
        own_fid = frechet_distance(*(Moments.of(features[1][k]) for k in ("A", other)))
        end = time.process_time()
        print(
            f"FID(A, {other}): pytorch-fid {published_fid:.6f}, ours {own_fid:.6f}, "
            f"{100 * abs(own_fid / published_fid - 1):.5f} % apart; "
            f"{between - start:.1f} and {end - between:.1f} s of processor time"
        )
    for name, clock in zip(("pytorch-fid", "ours"), clocks, strict=True):
        each = (1000 * clock.processor / pictures, 1000 * clock.wall / pictures)
        print(f"{name}: {each[0]:.0f} ms of processor time a picture, {each[1]:.0f} ms of wall time")
    ratios = (clocks[0].processor / clocks[1].processor, clocks[0].wall / clocks[1].wall)
    print(f"ours is {ratios[0]:.2f} times as fast by processor time, {ratios[1]:.2f} by wall time")
    print(f"{pictures} pictures, torch {torch.__version__}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
