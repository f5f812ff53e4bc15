"""The one-stage recipe on tiny made-up data: it learns, resumes exactly, and leaves the teacher alone."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from efficientnet import numbered_file
from evaluation_parts import TinyNetwork
from repeated_batches import first_moments, repeat_the_first_batch
from torch._dynamo.utils import counters

from speech2image.errors import SettingsError
from speech2image.losses.adversarial import contrast_with_condition
from speech2image.models.condition_prior import OLD_BUFFERS, ConditionPrior
from speech2image.models.gan.one_stage import DiscriminatorSettings, GeneratorSettings, OneStageGenerator
from speech2image.models.teacher.googlenet import GoogLeNet
from speech2image.training.core import fid
from speech2image.training.core.checkpoint import OLD_SETTINGS, load_checkpoint, save_checkpoint
from speech2image.training.core.gan import augment_pictures
from speech2image.training.core.speech_batches import mean_teacher_feature
from speech2image.training.recipes import one_stage_gan
from speech2image.training.recipes.condition_prior import PriorSettings, draw_features, fit_prior, refit_prior
from speech2image.training.recipes.one_stage_gan import PRESETS, OneStageGanTraining, cut_out, train

TINY = OneStageGanTraining(
    generator=GeneratorSettings(16, noise_size=8, code_size=16, channels=(8, 8, 8)),
    heads=DiscriminatorSettings(width=8),
    prior=PriorSettings(n_predicted=4, noise_size=4),
    steps=4,
    batch_size=4,
    feature_size=64,
    precision="32-true",
    log_every=1,
    grid_every=2,
    translation=0.1,
    cutout=0.25,
)


class TinyArrays:
    """Twelve pictures of three classes, each with one utterance; as much of PairArrays as a GAN training
    reads."""

    ids = ("a", "b")
    embedding_space = ""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.labels = np.arange(12) % 3
        self.utterance_sample = np.arange(12)
        self.utterance_voice = np.full(12, "voice")
        self.teacher = rng.random((12, 2, 1024), np.float32)
        self.embeddings = rng.random((12, 1024), np.float32)

    def pictures(self, size: int) -> np.ndarray:
        side = round(size * 304 / 256)
        return np.random.default_rng(1).integers(0, 255, (12, side, side, 3), np.uint8)

    def samples_of(self, split: str) -> np.ndarray:
        return {"train": np.arange(9), "test": np.arange(9, 12)}.get(split, np.arange(0))

    def utterances_of(self, split: str) -> np.ndarray:
        return self.samples_of(split)


@pytest.fixture(scope="module")
def teacher() -> GoogLeNet:
    torch.manual_seed(0)
    return GoogLeNet().eval().requires_grad_(False)


def run(folder: Path, teacher: GoogLeNet, **changes: Any) -> dict[str, Any]:
    arrays: Any = TinyArrays()
    return load_checkpoint(train(dataclasses.replace(TINY, **changes), arrays, teacher, folder))


def assert_same(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, dict):
        for key in a:
            if key != "seconds" and key != "settings":
                assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where


def assert_close(a: Any, b: Any) -> None:
    """Equal averages but for rounding, which Adam's steps of 2e-4 may enlarge."""
    assert a["updates"] == b["updates"] and a["module"].keys() == b["module"].keys()
    for name, value in a["module"].items():
        torch.testing.assert_close(b["module"][name], value, rtol=0, atol=1e-3, msg=name)


def test_resume_equals_an_uninterrupted_run(tmp_path: Path, teacher: GoogLeNet) -> None:
    whole = run(tmp_path / "whole", teacher)
    run(tmp_path / "parts", teacher, steps=2)
    parts = run(tmp_path / "parts", teacher, steps=4)
    assert parts["step"] == 4
    assert_same(whole, parts)


def test_gradients_of_two_batches_are_averaged(
    tmp_path: Path, teacher: GoogLeNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeat_the_first_batch(monkeypatch, one_stage_gan)
    run(tmp_path / "once", teacher, steps=1)
    run(tmp_path / "twice", teacher, steps=1, accumulate=2)
    once, twice = (first_moments(tmp_path / name / "checkpoint.safetensors") for name in ("once", "twice"))
    for name, gradient in once.items():  # the heads' spectral norms take another step with every batch
        assert (twice[name] - gradient).norm() < 0.1 * gradient.norm() + 1e-6, name


def test_fid_is_of_pictures_drawn_from_speech_and_chooses_the_best(
    tmp_path: Path, teacher: GoogLeNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fid, "load_inception", lambda path: TinyNetwork())
    run(tmp_path, teacher, steps=3, fid_network="inception.pth", fid_every=2, fid_pictures=4)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    found = {
        row["step"]: row["FID of 4 pictures (train)"] for row in rows if "FID of 4 pictures (train)" in row
    }
    assert found.keys() == {2, 3} and min(found.values()) > 0
    assert load_checkpoint(tmp_path / "best.safetensors")["step"] == min(found, key=found.__getitem__)


def test_channels_last_changes_rounding_alone(tmp_path: Path, teacher: GoogLeNet) -> None:
    plain = run(tmp_path / "plain", teacher)
    quick = run(tmp_path / "quick", teacher, channels_last=True)
    assert_close(plain["ema"], quick["ema"])
    run(tmp_path / "parts", teacher, steps=2, channels_last=True)
    assert_same(quick, run(tmp_path / "parts", teacher, steps=4, channels_last=True))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiled_networks_learn_the_same_and_are_stored_alike(
    tmp_path: Path, teacher: GoogLeNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced and differentiated as for the GPU; that backend makes no machine code, which takes minutes."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # its checks cannot be compiled
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    plain = run(tmp_path / "plain", teacher, steps=1)
    counters.clear()
    quick = run(tmp_path / "compiled", teacher, steps=1, compile=True)
    assert counters["stats"]["unique_graphs"] >= 3, "generator, discriminator and teacher"
    assert_close(plain["ema"], quick["ema"])
    assert plain["discriminator"].keys() == quick["discriminator"].keys()


def test_teacher_gets_no_gradient_and_does_not_change(tmp_path: Path, teacher: GoogLeNet) -> None:
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    run(tmp_path, teacher, steps=1)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_both_sides_learn_and_samples_are_written(tmp_path: Path, teacher: GoogLeNet) -> None:
    state = run(tmp_path, teacher, steps=2)
    torch.manual_seed(0)
    assert state["ema"]["updates"] == 2
    assert not torch.equal(
        state["ema"]["module"]["blocks.0.up.weight"],
        state["generator"]["blocks.0.up.weight"],
    )
    assert (tmp_path / "samples" / "0000002.png").is_file()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) >= 2


def test_growing_takes_over_the_blocks_that_fit(tmp_path: Path, teacher: GoogLeNet) -> None:
    arrays: Any = TinyArrays()
    small = train(dataclasses.replace(TINY, steps=1), arrays, teacher, tmp_path / "16")
    larger = GeneratorSettings(32, noise_size=8, code_size=16, channels=(8, 8, 8, 8))
    settings = dataclasses.replace(TINY, generator=larger, steps=0)
    grown = load_checkpoint(train(settings, arrays, teacher, tmp_path / "32", start_from=small))
    kept, taken = load_checkpoint(small)["generator"], grown["generator"]
    assert torch.equal(kept["blocks.1.up.weight"], taken["blocks.1.up.weight"])
    assert "blocks.2.up.weight" in taken and "blocks.2.up.weight" not in kept
    assert int(taken["to_picture.weight"].count_nonzero()) == 3, "grown: each colour is read from one channel"


def test_a_generator_of_other_inner_sizes_is_not_grown(tmp_path: Path, teacher: GoogLeNet) -> None:
    arrays: Any = TinyArrays()
    small = train(dataclasses.replace(TINY, steps=1), arrays, teacher, tmp_path / "16")
    other = GeneratorSettings(32, noise_size=8, code_size=12, channels=(8, 8, 8, 8))
    settings = dataclasses.replace(TINY, generator=other, steps=0)
    begun = load_checkpoint(train(settings, arrays, teacher, tmp_path / "32", start_from=small))["generator"]
    assert int(begun["to_picture.weight"].count_nonzero()) == begun["to_picture.weight"].numel()


def test_it_starts_from_a_checkpoint_with_the_average_alone(tmp_path: Path, teacher: GoogLeNet) -> None:
    arrays: Any = TinyArrays()
    state = load_checkpoint(train(dataclasses.replace(TINY, steps=2), arrays, teacher, tmp_path / "whole"))
    kept = {name: state[name] for name in ("kind", "settings", "step", "ema")}
    save_checkpoint(tmp_path / "average", kept)
    settings = dataclasses.replace(TINY, steps=0)
    begun = load_checkpoint(train(settings, arrays, teacher, tmp_path / "a", start_from=tmp_path / "average"))
    name, own = "blocks.1.up.weight", load_checkpoint(train(settings, arrays, teacher, tmp_path / "b"))
    assert torch.equal(begun["generator"][name], state["ema"]["module"][name])
    assert not torch.equal(begun["generator"][name], own["generator"][name])
    assert_same(begun["discriminator"], own["discriminator"])


def test_a_second_network_judges_besides_and_keeps_what_heads_have_learnt(
    tmp_path: Path, teacher: GoogLeNet
) -> None:
    arrays: Any = TinyArrays()
    first = train(dataclasses.replace(TINY, steps=1), arrays, teacher, tmp_path / "first")
    torch.manual_seed(1)
    torch.save(numbered_file(), tmp_path / "second.pth")
    settings = dataclasses.replace(TINY, steps=0, second_network=str(tmp_path / "second.pth"))
    begun = load_checkpoint(train(settings, arrays, teacher, tmp_path / "run", start_from=first))
    then, heads = load_checkpoint(first)["discriminator"], begun["discriminator"]
    assert_same({name: heads[name] for name in then}, then)
    scales = heads["heads.4.deviation"]
    assert len(scales) == 24 and float(scales.std()) > 0, "calibrated by what the second network sees"

    (tmp_path / "second.pth").rename(tmp_path / "moved.pth")
    further = dataclasses.replace(settings, steps=2, second_network=str(tmp_path / "moved.pth"))
    trained = load_checkpoint(train(further, arrays, teacher, tmp_path / "run"))["discriminator"]
    for number in range(8):
        name = f"heads.{number}.mix.parametrizations.weight.original"
        assert not torch.equal(trained[name], heads[name]), name


def test_conditions_are_centred_by_the_data_at_hand(tmp_path: Path, teacher: GoogLeNet) -> None:
    arrays: Any = TinyArrays()
    first = train(dataclasses.replace(TINY, steps=1), arrays, teacher, tmp_path / "first")
    other: Any = TinyArrays()
    other.teacher = arrays.teacher + 3
    second = train(dataclasses.replace(TINY, steps=0), other, teacher, tmp_path / "second", start_from=first)
    then, now = load_checkpoint(first), load_checkpoint(second)
    mean = torch.from_numpy(mean_teacher_feature(other))
    for weights in (now["generator"], now["ema"]["module"]):
        torch.testing.assert_close(weights["condition_mean"], mean)
    assert torch.equal(now["generator"]["reduce.weight"], then["generator"]["reduce.weight"])


def test_conditions_stay_centred_where_an_older_prior_shall_fit(tmp_path: Path, teacher: GoogLeNet) -> None:
    arrays: Any = TinyArrays()
    first = train(dataclasses.replace(TINY, steps=1), arrays, teacher, tmp_path / "first")
    other: Any = TinyArrays()
    other.teacher = arrays.teacher + 3
    kept = dataclasses.replace(TINY, steps=1, keep_mean=True)
    second = train(kept, other, teacher, tmp_path / "second", start_from=first)
    third = train(dataclasses.replace(kept, steps=2), other, teacher, tmp_path / "second")
    mean = load_checkpoint(first)["generator"]["condition_mean"]
    for state in (load_checkpoint(second), load_checkpoint(third)):
        for weights in (state["generator"], state["ema"]["module"]):
            assert torch.equal(weights["condition_mean"], mean)
        assert torch.equal(state["prior"]["mean"], mean)
    with pytest.raises(SettingsError, match="start_from"):
        train(kept, other, teacher, tmp_path / "third")


def test_only_spoken_conditions_are_drawn(teacher: GoogLeNet) -> None:
    arrays: Any = TinyArrays()
    prior = fit_prior(PriorSettings(n_predicted=4, noise_size=4), arrays, mean_teacher_feature(arrays))
    conditions, spoken = arrays.embeddings[:4], np.array([True, False, True, False])

    def draw(seed: int, prior: ConditionPrior | None = prior) -> torch.Tensor:
        return draw_features(prior, conditions, spoken, torch.Generator().manual_seed(seed))

    torch.testing.assert_close(draw(0)[1::2], torch.from_numpy(conditions[1::2]))
    assert (draw(0)[::2] - draw(1)[::2]).abs().mean() > 1e-4
    assert torch.equal(draw(0, None), torch.from_numpy(conditions))


def test_training_without_speech_has_no_prior(tmp_path: Path, teacher: GoogLeNet) -> None:
    assert "prior" not in run(tmp_path / "deaf", teacher, steps=1, speech_fraction=0.0)
    assert "prior" in run(tmp_path / "hearing", teacher, steps=1)


def test_contrast_is_low_where_the_pictures_show_their_conditions() -> None:
    centre = torch.zeros(1024)
    condition = torch.randn(8, 1024)
    maps = condition[:, :, None, None].expand(8, 1024, 2, 2)
    right = contrast_with_condition(maps, condition, centre, 0.1)
    wrong = contrast_with_condition(maps.roll(1, 0), condition, centre, 0.1)
    assert right < 0.1 < 5 < wrong


def test_augmentation_moves_blanks_and_lets_gradients_through() -> None:
    pictures = torch.ones(8, 3, 20, 20, requires_grad=True)
    rng = np.random.default_rng(0)
    same = augment_pictures(pictures, 0.0, 0.0, rng)
    assert same is pictures
    changed = augment_pictures(pictures, 0.25, 0.25, rng)
    assert changed.shape == pictures.shape
    blank = (changed == 0).float().mean((1, 2, 3))
    assert (blank > 0).all() and (blank < 0.6).all()
    changed.sum().backward()
    assert pictures.grad is not None and 0 < pictures.grad.mean() < 1


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least 2"):
        dataclasses.replace(TINY, batch_size=1)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_its_generator(name: str) -> None:
    settings = PRESETS[name]
    generator = OneStageGenerator(settings.generator).eval()
    size = settings.generator.picture_size
    noise = torch.zeros(1, settings.generator.noise_size)
    assert generator(torch.rand(1, 1024), noise).shape == (1, 3, size, size)


def test_cutouts_are_squares_of_the_pictures_themselves() -> None:
    pictures = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).view(2, 3, 8, 8)
    squares = cut_out(pictures, 5, np.random.default_rng(0))
    assert squares.shape == (2, 3, 5, 5)
    assert torch.equal(squares[:, :, 0, 1:] - squares[:, :, 0, :-1], torch.ones(2, 3, 4))
    assert torch.equal(squares[:, :, 1:, 0] - squares[:, :, :-1, 0], torch.full((2, 3, 4), 8.0))
    assert all((p[0] == s[0, 0, 0]).any() for p, s in zip(pictures, squares, strict=True))


def test_detail_heads_learn_and_a_generator_without_them_can_go_on_with_them(
    teacher: GoogLeNet, tmp_path: Path
) -> None:
    wide = dataclasses.replace(TINY, generator=GeneratorSettings(64, 8, 16, (8, 8, 8, 8, 8)))
    plain = train(dataclasses.replace(wide, steps=1), TinyArrays(), teacher, tmp_path / "plain")  # type: ignore[arg-type]
    detailed = dataclasses.replace(
        wide, heads=DiscriminatorSettings(width=8, details=True), detail_share=0.5, feature_size=48, steps=2
    )
    first = train(detailed, TinyArrays(), teacher, tmp_path / "details", plain)  # type: ignore[arg-type]
    before = load_checkpoint(first)["discriminator"]
    assert not torch.equal(before["detail_heads.0.mean"], torch.zeros(192)), "never calibrated"
    longer = dataclasses.replace(detailed, steps=3)
    after = load_checkpoint(train(longer, TinyArrays(), teacher, tmp_path / "details"))["discriminator"]  # type: ignore[arg-type]
    moved = [name for name in before if name.startswith("detail_heads") and "original" in name]
    assert moved and all(not torch.equal(before[name], after[name]) for name in moved if "bias" not in name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"detail_share": 1.0}, "detail_share"), ({"detail_share": 0.5, "feature_size": 64}, "feature_size 64")],
)
def test_cutouts_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        dataclasses.replace(TINY, batch_size=8, **changes)


def test_a_prior_is_fitted_anew_and_the_generator_stays(teacher: GoogLeNet, tmp_path: Path) -> None:
    arrays: Any = TinyArrays()
    first = load_checkpoint(train(dataclasses.replace(TINY, steps=1), arrays, teacher, tmp_path / "run"))
    arrays.embeddings = np.random.default_rng(7).random((12, 1024), np.float32)
    settings = PriorSettings(n_predicted=3, noise_size=4, pictures=9, residual_blend=0.5)
    path = refit_prior(
        tmp_path / "run/checkpoint.safetensors", arrays, tmp_path / "other.safetensors", settings
    )
    other = load_checkpoint(path)
    assert other["prior"]["predicted_basis"].shape == (1024, 3)
    assert float(other["prior"]["residual_blend"]) == 0.5
    assert other["prior"]["neighbour_residuals"].shape == (9, 4)
    assert not torch.equal(first["prior"]["regression"][:, :3], other["prior"]["regression"])
    assert torch.equal(first["ema"]["module"]["stem.weight"], other["ema"]["module"]["stem.weight"])
    run = dataclasses.replace(TINY, prior=settings, steps=2)
    shutil.copy(path, tmp_path / "run/checkpoint.safetensors")
    assert load_checkpoint(train(run, arrays, teacher, tmp_path / "run"))["step"] == 2, (
        "a training goes on with it"
    )


def test_a_training_of_version_0_1_goes_on_as_if_it_had_never_stopped(
    teacher: GoogLeNet, tmp_path: Path
) -> None:
    arrays: Any = TinyArrays()
    whole = load_checkpoint(train(dataclasses.replace(TINY, steps=2), arrays, teacher, tmp_path / "whole"))
    path = train(dataclasses.replace(TINY, steps=1), arrays, teacher, tmp_path / "run")
    state = load_checkpoint(path)
    settings = {name: old for old, name in OLD_SETTINGS.items()}
    buffers = {name: old for old, name in OLD_BUFFERS.items()}
    state["settings"]["prior"] = {settings.get(k, k): v for k, v in state["settings"]["prior"].items()}
    state["prior"] = {buffers.get(k, k): v for k, v in state["prior"].items()}
    assert "told" in state["settings"]["prior"] and "described" in state["prior"]
    save_checkpoint(path, state)
    parts = load_checkpoint(train(dataclasses.replace(TINY, steps=2), arrays, teacher, tmp_path / "run"))
    assert parts["step"] == 2 and parts["settings"] == whole["settings"]
    for name in ("generator", "discriminator", "prior"):
        for key, value in whole[name].items():
            assert torch.equal(parts[name][key], value), (name, key)
