"""The character CNN-RNN: the published shape, and what it makes of letters."""

import pytest
import torch

from speech2image.asr.text import ALPHABET, CAPTION_LENGTH, NOTHING, PLACES
from speech2image.errors import SettingsError
from speech2image.models.text_encoder import PRESETS, TextEncoder, characters


def test_the_published_shape():
    assert len(ALPHABET) == 70 and CAPTION_LENGTH == 201
    encoder = TextEncoder(PRESETS["paper"]).eval()
    steps = {}
    encoder.recurrent.register_forward_hook(lambda _, inputs, __: steps.update(shape=inputs[0].shape))
    assert encoder(characters(["a red bird", "a blue one"])).shape == (2, 1024)
    assert steps["shape"] == (2, 8, 256)
    assert [tuple(c.weight.shape) for c in encoder.convolutions] == [
        (384, 70, 4),
        (512, 384, 4),
        (256, 512, 4),
    ]


def test_characters():
    rows = characters(["A-b é", "x" * 300])
    assert rows.shape == (2, 201)
    assert rows[0, :5].tolist() == [0, PLACES["-"], 1, PLACES[" "], NOTHING]
    assert rows[0, 5:].eq(NOTHING).all() and rows[1].eq(PLACES["x"]).all()


@pytest.mark.parametrize("caption", ["", "   ", "Цветок", "\U0001f33c"])
def test_a_caption_without_a_known_character_is_refused(caption):
    with pytest.raises(SettingsError, match="no known character"):
        characters([caption])


@torch.no_grad()
def test_a_batch_of_one_and_unknown_characters():
    torch.manual_seed(0)
    encoder = TextEncoder(PRESETS["toy"]).eval()
    both = encoder(characters(["a red bird", "a blue flower with long petals"]))
    torch.testing.assert_close(encoder(characters(["a red bird"]))[0], both[0])
    torch.testing.assert_close(encoder(characters(["A RED BIRD\n"]))[0], both[0])
    assert not torch.allclose(both[0], both[1])
