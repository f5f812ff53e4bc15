"""Training the stacked GAN: it learns, resumes exactly, keeps its average apart, leaves conditions alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_parts import TinyNetwork
from numpy.typing import NDArray
from repeated_batches import first_moments, repeat_the_first_batch
from torch import Tensor

from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError, SettingsError
from speech2image.models.gan.stackgan_v2 import Architecture, TreeGenerator
from speech2image.training.core import fid
from speech2image.training.core.checkpoint import load_checkpoint
from speech2image.training.core.ema import Ema
from speech2image.training.recipes import stackgan, stackgan_v2
from speech2image.training.recipes.stackgan import Progress
from speech2image.training.recipes.stackgan_v2 import PRESETS, StackGanV2Training, pyramid, train

TINY = StackGanV2Training(
    networks=Architecture(branches=2, generator_width=4, discriminator_width=2, noise=3, code=4),
    steps=4,
    batch_size=4,
    precision="32-true",
    log_every=1,
    grid_every=2,
    standardise_condition=True,
)


class Squares(PairArrays):
    """Plain pictures of three classes, red, green, blue; utterances' embeddings are fixed directions."""

    def pictures(self, size: int) -> NDArray[np.uint8]:
        side = round(size * 304 / 256)
        pictures = np.full((len(self.labels), side, side, 3), 40, dtype=np.uint8)
        pictures[np.arange(len(self.labels)), :, :, self.labels] = 220
        return pictures

    @property
    def embeddings(self) -> NDArray[np.float16]:
        directions = np.random.default_rng(0).standard_normal((3, 1024))
        return directions[self.labels[self.utterance_sample]].astype(np.float16)


@pytest.fixture
def arrays() -> Squares:
    n = 12
    return Squares(
        folder=Path("nowhere"),
        ids=[str(i) for i in range(n)],
        labels=np.arange(n, dtype=np.int64) % 3,
        class_names={0: "red", 1: "green", 2: "blue"},
        splits=np.array(["train"] * 9 + ["test"] * 3),
        captions=[("a",)] * n,
        utterance_sample=np.arange(n, dtype=np.int64),
        utterance_caption=np.zeros(n, dtype=np.int64),
        utterance_voice=np.full(n, "voice"),
    )


def flatten(node: object, name: str = "") -> dict[str, object]:
    """Leaves of nested dicts and lists by path."""
    if isinstance(node, dict | list):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        return {k: v for key, child in pairs for k, v in flatten(child, f"{name}/{key}").items()}
    return {name: node}


def test_resumed_equals_uninterrupted(arrays: Squares, tmp_path: Path) -> None:
    whole = load_checkpoint(train(TINY, arrays, tmp_path / "whole"))
    train(replace(TINY, steps=1), arrays, tmp_path / "parts")
    torch.manual_seed(99)  # whatever the process did in between must not matter
    train(replace(TINY, steps=3), arrays, tmp_path / "parts")
    parts = load_checkpoint(train(TINY, arrays, tmp_path / "parts"))
    assert whole["step"] == parts["step"] == 4
    one, other = flatten(whole), flatten(parts)
    assert one.keys() == other.keys()
    differing = [
        name
        for name, value in one.items()
        if isinstance(value, Tensor) and not torch.equal(value, other[name])  # type: ignore[arg-type]
    ]
    assert differing == []


def test_gradients_of_two_batches_are_averaged(
    arrays: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeat_the_first_batch(monkeypatch, stackgan)
    once = train(replace(TINY, steps=1), arrays, tmp_path / "once")
    graphs: list[bool] = []
    make = TreeGenerator.forward

    def spy(self: TreeGenerator, *inputs: Tensor) -> object:
        if self.training and inputs[0].shape[0] == TINY.batch_size:
            graphs.append(torch.is_grad_enabled())
        return make(self, *inputs)

    monkeypatch.setattr(TreeGenerator, "forward", spy)
    twice = train(replace(TINY, steps=1, accumulate=2), arrays, tmp_path / "twice")
    torch.testing.assert_close(first_moments(twice), first_moments(once), rtol=1e-3, atol=1e-6)
    # the first batch's pictures are made without a graph, and with one once the discriminator has learnt
    assert graphs[:3] == [False, True, True]


def test_accumulated_batches_are_numbered_on_and_resume(
    arrays: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    call = stackgan.PictureBatches.__call__
    monkeypatch.setattr(
        stackgan.PictureBatches, "__call__", lambda self, step: asked.append(step) or call(self, step)
    )
    settings = replace(TINY, accumulate=3, steps=2)
    whole = load_checkpoint(train(settings, arrays, tmp_path / "whole"))
    assert asked == [0, 1, 2, 3, 4, 5]
    train(replace(settings, steps=1), arrays, tmp_path / "parts")
    parts = flatten(load_checkpoint(train(settings, arrays, tmp_path / "parts")))
    assert all(torch.equal(v, parts[n]) for n, v in flatten(whole).items() if isinstance(v, Tensor))
    with pytest.raises(SettingsError, match="accumulate 3, now 1"):
        train(TINY, arrays, tmp_path / "parts")
    with pytest.raises(SettingsError, match="accumulate is 0"):
        train(replace(TINY, accumulate=0), arrays, tmp_path / "none")


def test_the_best_generator_by_fid_is_kept(
    arrays: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fid, "load_inception", lambda path: TinyNetwork())
    distances = iter([5.0, 2.0, 3.0])
    monkeypatch.setattr(fid, "frechet_distance", lambda *moments: next(distances))
    settings = replace(TINY, steps=3, fid_network="inception.pth", fid_every=1, fid_pictures=6)
    train(settings, arrays, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    name = "FID of 6 pictures (train)"
    assert [(row["step"], row[name]) for row in rows if name in row] == [(1, 5.0), (2, 2.0), (3, 3.0)]
    best = load_checkpoint(tmp_path / "best.safetensors")
    assert best["step"] == 2 and load_checkpoint(tmp_path / "checkpoint.safetensors")["step"] == 3
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 2, "name": name, "value": 2.0}
    train(
        replace(settings, fid_network="", fid_every=7), arrays, tmp_path
    )  # says how often, not what is learnt


def test_folder_holds_log_sheets_and_a_usable_generator(arrays: Squares, tmp_path: Path) -> None:
    state = load_checkpoint(train(TINY, arrays, tmp_path), "stackgan_v2")
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert {"discriminator", "generator", "kl"} <= rows[0].keys()
    assert {p.name for p in (tmp_path / "samples").iterdir()} == {"0000002.png", "0000004.png"}
    assert averaged(state).augmentation.scale.item() != 1.0, "the conditions' spread travels with the weights"


def test_each_network_learns_at_its_own_rate(arrays: Squares, tmp_path: Path) -> None:
    settings = replace(TINY, steps=1, learning_rate=3e-4, discriminator_rate=5e-4, betas=(0.4, 0.9))
    state = load_checkpoint(train(settings, arrays, tmp_path))
    for name, rate in (("g_optimizer", 3e-4), ("d_optimizer", 5e-4)):
        (group,) = state[name]["param_groups"]
        assert (group["lr"], list(group["betas"])) == (rate, [0.4, 0.9]), name
    assert state["ema"]["module"].keys() == state["generator"].keys()


def test_average_follows_and_the_live_generator_is_never_overwritten(
    arrays: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live: list[dict[str, Tensor]] = []
    update = Ema.update

    def spy(self: Ema, module: torch.nn.Module) -> None:
        live.append({name: value.clone() for name, value in module.state_dict().items()})
        update(self, module)
        for name, value in module.state_dict().items():
            assert torch.equal(value, live[-1][name])

    monkeypatch.setattr(Ema, "update", spy)
    start = {name: value.clone() for name, value in initial(TINY, arrays).items()}
    state = load_checkpoint(train(TINY, arrays, tmp_path))
    for name, value in live[-1].items():
        assert torch.equal(state["generator"][name], value)
        if not value.is_floating_point() or "running_" in name:
            continue
        average = start[name]
        for n, weights in enumerate(live):
            decay = min(TINY.ema_decay, (1 + n) / (10 + n))
            average = decay * average + (1 - decay) * weights[name]
        torch.testing.assert_close(state["ema"]["module"][name], average, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("ended", [True, False])
def test_statistics_are_the_averages_own(
    arrays: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """Those of its first norm, measured here once more on other conditions and noise."""
    if not ended:  # the checkpoint is one on the way
        monkeypatch.setattr(Progress, "end", lambda self, step: self.run.checkpoint)
    path = train(replace(TINY, checkpoint_minutes=0.0, grid_every=10_000), arrays, tmp_path)
    generator = averaged(load_checkpoint(path))
    norm = generator.trunk.norm
    seen: list[Tensor] = []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    rng = torch.Generator().manual_seed(7)
    conditions = torch.from_numpy(np.asarray(arrays.embeddings, np.float32))
    chosen = torch.randint(len(conditions), (1024,), generator=rng)
    with torch.no_grad():
        generator(conditions[chosen], torch.randn(1024, TINY.networks.noise, generator=rng))
    spread = seen[0].std(0)
    assert ((seen[0].mean(0) - norm.running_mean).abs() < spread / 3).all()
    assert abs((norm.running_var.sqrt() / spread).mean().item() - 1) < 0.05


def averaged(state: dict[str, Any]) -> TreeGenerator:
    """The averaged generator of a checkpoint, in evaluation mode."""
    generator = TreeGenerator(Architecture(**state["settings"]["networks"]))
    generator.load_state_dict(state["ema"]["module"])
    return generator.eval()


def initial(settings: StackGanV2Training, arrays: Squares) -> dict[str, Tensor]:
    """The generator's state before the first step of `train`."""
    fabric = stackgan_v2.make_fabric(settings.precision, settings.seed)
    batches = stackgan_v2.picture_batches(settings, arrays, None, fabric)
    generator = TreeGenerator(settings.networks)
    generator.augmentation.standardise(*stackgan_v2.spread_of_conditions(batches, settings.seed))
    return generator.state_dict()


def test_no_gradient_reaches_discriminators_in_the_generator_step(
    arrays: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Discriminator weights change once a step, by their own loss; conditions are constants."""
    required: list[set[bool]] = []
    judge = stackgan_v2.Discriminators.forward

    def spy(self: torch.nn.Module, batches: list[list[Tensor]], code: Tensor) -> object:
        required.append({p.requires_grad for p in self.parameters()})
        return judge(self, batches, code)  # type: ignore[arg-type]

    make = stackgan_v2.TreeGenerator.forward

    def spy_generator(self: TreeGenerator, condition: Tensor, *rest: Tensor) -> object:
        assert not condition.requires_grad, "no gradient may reach the speech encoder"
        return make(self, condition, *rest)

    monkeypatch.setattr(stackgan_v2.Discriminators, "forward", spy)
    monkeypatch.setattr(stackgan_v2.TreeGenerator, "forward", spy_generator)
    train(replace(TINY, steps=2), arrays, tmp_path)
    assert required == [{True}, {False}, {True}, {False}]


def test_other_settings_are_refused_on_resume(arrays: Squares, tmp_path: Path) -> None:
    train(replace(TINY, steps=1), arrays, tmp_path)
    with pytest.raises(SettingsError, match="kl_weight"):
        train(replace(TINY, kl_weight=1.0), arrays, tmp_path)


def test_one_class_is_refused_before_anything_is_trained(arrays: Squares, tmp_path: Path) -> None:
    arrays.labels[:] = 0
    with pytest.raises(DataError, match="another class"):
        train(TINY, arrays, tmp_path)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_a_grey_generator_raises_a_warning_once(
    arrays: Squares, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(TINY, steps=5, grid_every=1, learning_rate=1e-9)
    train(settings, arrays, tmp_path)
    assert capsys.readouterr().err.count("warning: the training seems to collapse") == 1
    assert '"warning": "collapse"' in (tmp_path / "log.jsonl").read_text()


def test_pyramid_halves_by_averaging() -> None:
    pictures = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    small, large = pyramid(pictures, 2)
    assert torch.equal(large, pictures)
    assert small[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_presets_say_what_the_paper_says() -> None:
    paper = PRESETS["paper"]
    assert (paper.batch_size, paper.learning_rate, paper.betas) == (24, 2e-4, (0.5, 0.999))
    assert (paper.steps, paper.kl_weight, paper.networks) == (220_000, 2.0, Architecture())
    assert not paper.standardise_condition
    assert PRESETS["cpu"].networks.sizes == (64, 128)
    assert PRESETS["toy"].networks.sizes == (64,)


@pytest.mark.slow
def test_pictures_learn_to_follow_the_condition(arrays: Squares, tmp_path: Path) -> None:
    settings = replace(
        PRESETS["toy"],
        networks=Architecture(branches=1, generator_width=4, discriminator_width=8, noise=4, code=16),
        steps=200,
        batch_size=8,
        learning_rate=1e-3,
        discriminator_rate=5e-4,
        kl_weight=0.1,
        betas=(0.5, 0.999),
        precision="32-true",
    )
    state = load_checkpoint(train(settings, arrays, tmp_path))
    generator = TreeGenerator(settings.networks)
    generator.load_state_dict(state["ema"]["module"])
    generator.eval()
    condition = torch.from_numpy(arrays.embeddings[9:].astype(np.float32))
    with torch.no_grad():
        picture = generator(condition, torch.zeros(3, 4)).pictures[-1]
    colours = picture.mean(dim=(2, 3))
    assert colours.argmax(dim=1).tolist() == arrays.labels[9:].tolist(), colours
