"""The sentences that the page suggests are ones that the model gets right: spoken and drawn here as there."""

import numpy as np
import pytest
from PIL import Image

import speech2image
from speech2image import tts
from speech2image.pipeline import registry
from speech2image.pipeline.base import Route
from speech2image.web.page.examples import domains_of, suggestions
from speech2image.web.page.views import PICTURES

MODEL = registry.DEFAULT_MODEL
pytestmark = [
    pytest.mark.skipif(MODEL not in registry.available_models(), reason=f"needs {MODEL}"),
    pytest.mark.skipif(not tts.available_voices(), reason="needs a speaking engine"),
]
HUES = {"yellow": (35, 70), "red": (340, 20), "purple": (255, 330), "blue": (190, 255)}
"""Degrees on the colour circle, from - to."""


@pytest.fixture(scope="module")
def route() -> Route:
    return speech2image.load(MODEL, threads=1)


def has_colour(picture: Image.Image, colour: str) -> bool:
    """Whether a tenth of the middle of a picture is strongly of this colour."""
    side = picture.width
    middle = picture.crop((side // 5, side // 5, side - side // 5, side - side // 5)).convert("HSV")
    hue, saturation, value = np.moveaxis(np.asarray(middle, dtype=float), -1, 0)
    low, high = HUES[colour]
    degrees = hue * 360 / 255
    within = (degrees >= low) & (degrees <= high) if low < high else (degrees >= low) | (degrees <= high)
    return bool((within & (saturation > 90) & (value > 60)).mean() > 0.1)


def test_suggested_sentences_are_heard_and_drawn(route: Route) -> None:
    domains = domains_of(route.model)
    sentences = suggestions(domains)
    assert len(sentences) >= len(domains) >= 2
    for text in sentences:
        result = route.translate((tts.speak(text), 16_000), PICTURES, 0, diverse=True)
        assert result.domain in domains and result.domain in text, text
        heard = (result.transcript or "").split()
        colours = [word for word in text.split() if word in HUES]
        assert colours and colours[0] in heard, (text, heard)
        drawn = sum(has_colour(picture, colours[0]) for picture in result.images)
        assert drawn == PICTURES, (text, drawn)
