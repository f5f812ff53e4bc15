"""The presets named after the papers are what the papers say: every value in tests/reference/paper.toml."""

import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from speech2image.models.speech_encoder import PRESETS as ENCODERS
from speech2image.models.speech_recognizer import PRESETS as RECOGNIZERS
from speech2image.training.recipes import direct

GOLDEN = tomllib.loads((Path(__file__).parents[2] / "reference" / "paper.toml").read_text(encoding="utf-8"))
STATED = {(recipe, name): told for recipe, own in GOLDEN["presets"].items() for name, told in own.items()}


def recipe_of(name: str) -> ModuleType:
    return import_module(f"speech2image.training.recipes.{name}")


def found(settings: Any, name: str) -> Any:
    """A setting as the golden file writes it."""
    for part in name.split("."):
        settings = getattr(settings, part)
    if name == "encoder":
        return next(preset for preset, shape in ENCODERS.items() if shape == settings)
    if settings is None:
        return "none"
    return list(settings) if isinstance(settings, tuple) else settings


@pytest.mark.parametrize(("recipe", "preset"), STATED)
def test_preset(recipe: str, preset: str) -> None:
    stated = STATED[recipe, preset]
    settings = recipe_of(recipe).PRESETS[preset]
    assert {name: found(settings, name) for name in stated} == stated


@pytest.mark.parametrize("recipe", GOLDEN["presets"])
def test_every_preset_of_a_paper_is_stated(recipe: str) -> None:
    named = {name for name in recipe_of(recipe).PRESETS if name.startswith(("paper", "released-code"))}
    assert named - {"paper-cpu"} == set(GOLDEN["presets"][recipe])


def test_the_direct_route_takes_the_presets_of_its_parts() -> None:
    for name in ("paper", "paper-oxford102", "paper-places", "released-code"):
        for part, recipe in (("encoder", "speech_encoder"), ("generator", "stackgan_v2")):
            assert getattr(direct.PRESETS[name], part) == recipe_of(recipe).PRESETS[name]
        assert direct.PRESETS[name].crops == 10
    assert RECOGNIZERS["paper"] == recipe_of("speech_recognizer").PRESETS["paper"].recognizer
