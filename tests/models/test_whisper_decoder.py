"""Whisper's decoder: cache, padding and vocabulary; both published layouts give the same network."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tiny_whisper
import torch
from safetensors.torch import load_file, save_file

from speech2image import audio
from speech2image.asr.text import BLANK, END, Vocabulary, transcript
from speech2image.audio.front_ends import WHISPER
from speech2image.errors import CheckpointError
from speech2image.models.pretrained_speech_encoder import levelled
from speech2image.models.whisper import load_backbone
from speech2image.models.whisper_decoder import WhisperDecoder, load_decoder, longest_pieces

FOLDER = os.environ.get("SPEECH2IMAGE_WHISPER")
CLIP = Path(__file__).parents[2] / "examples" / "recordings" / "blue-bird-kal16.opus"


def states(n: int, steps: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, steps, tiny_whisper.SETTINGS.width, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_token_by_token_is_the_whole_sentence_at_once() -> None:
    decoder = tiny_whisper.decoder()
    tokens, n_steps = torch.tensor([[BLANK, END, 4, 5, 3], [BLANK, END, 2, 2, 6]]), torch.tensor([7, 4])
    memory = states(2, 7)
    whole, _ = decoder(tokens, decoder.start(memory), n_steps)
    cache, parts = decoder.start(memory), []
    for piece in (tokens[:, :2], tokens[:, 2:3], tokens[:, 3:]):
        part, cache = decoder(piece, cache, n_steps)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole.exp().sum(dim=2), torch.ones(2, 5))


@torch.inference_mode()
def test_what_lies_in_the_padding_changes_nothing() -> None:
    decoder, tokens = tiny_whisper.decoder(), torch.tensor([[BLANK, END, 4]])
    memory, padded = states(1, 5), states(1, 9, seed=2)
    padded[:, :5] = memory
    alone, _ = decoder(tokens, decoder.start(memory), torch.tensor([5]))
    beside, _ = decoder(tokens, decoder.start(padded), torch.tensor([5]))
    torch.testing.assert_close(alone, beside, atol=1e-5, rtol=0)
    longer, _ = decoder(tokens, decoder.start(padded), torch.tensor([9]))
    assert not torch.allclose(alone, longer, atol=1e-3)


@torch.inference_mode()
def test_blank_is_never_written() -> None:
    decoder = tiny_whisper.decoder()
    written, _ = decoder(torch.tensor([[BLANK, END]]), decoder.start(states(1, 5)), torch.tensor([5]))
    assert written[..., BLANK].max() < -1e8 and written[..., END].min() > -100


def folder(path: Path, layout: str) -> Path:
    """A folder with the decoder of `tiny_whisper.decoder_tensors` and its tokeniser."""
    path.mkdir()
    (path / "tokenizer.json").write_text(json.dumps(tiny_whisper.TOKENIZER))
    if layout == "safetensors":
        save_file(tiny_whisper.decoder_tensors(), path / "model.safetensors")
    else:
        values = tiny_whisper.decoder_variables()
        (path / "model.bin").write_bytes(tiny_whisper.ctranslate2_bytes(values, kind=0))
    return path


def test_both_layouts_give_the_decoder_with_the_pieces_needed(tmp_path: Path) -> None:
    networks = []
    for layout in ("safetensors", "bin"):
        decoder, pieces = load_decoder(folder(tmp_path / layout, layout), {"red", "bird"}, most_frequent=4)
        # the most frequent, single letters, and what "red" and "bird" are written with; not " The", " zebra"
        assert pieces == (*tiny_whisper.LETTERS, " a", " red", " bi", "rd")
        assert decoder.settings.tokens == 2 + len(pieces) and not decoder.training
        networks.append(decoder)
    table = tiny_whisper.decoder_tensors()["model.decoder.embed_tokens.weight"]
    numbers = tiny_whisper.TOKENIZER["model"]["vocab"]  # type: ignore[index]
    assert torch.equal(networks[0].embedding.weight[2 + pieces.index(" red")], table[numbers["\u0120red"]])
    for name, value in networks[0].state_dict().items():
        torch.testing.assert_close(networks[1].state_dict()[name], value, atol=1e-6, rtol=0)


def test_all_that_is_not_whispers_decoder_is_refused(tmp_path: Path) -> None:
    place = folder(tmp_path / "model", "safetensors")
    tensors = load_file(place / "model.safetensors")
    for change in ("model.decoder.layers.0.fc1.weight", "model.decoder.embed_positions.weight"):
        others = {name: value for name, value in tensors.items() if name != change}
        save_file(others, place / "model.safetensors")
        with pytest.raises(CheckpointError, match="Whisper's decoder"):
            load_decoder(place, ())
    broken = {**tensors, "model.decoder.layer_norm.weight": torch.full((64,), torch.nan)}
    save_file(broken, place / "model.safetensors")
    with pytest.raises(CheckpointError, match="not finite"):
        load_decoder(place, ())
    for content in ("", "[]", '{"model": {"vocab": {"a": "b"}}, "added_tokens": []}'):
        (place / "tokenizer.json").write_text(content)
        with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
            load_decoder(place, ())


@pytest.mark.skipif(FOLDER is None, reason="SPEECH2IMAGE_WHISPER names no faster-whisper folder")
@torch.inference_mode()
def test_the_published_decoder_writes_what_faster_whisper_writes() -> None:
    library = pytest.importorskip("faster_whisper")
    waveform = audio.load(CLIP)
    model = library.WhisperModel(FOLDER, device="cpu", compute_type="float32", cpu_threads=1)
    segments, _ = model.transcribe(waveform, language="en", beam_size=1, without_timestamps=True)
    theirs = transcript(" ".join(segment.text for segment in segments))
    decoder, pieces = load_decoder(FOLDER or "", theirs.split())
    frames = torch.from_numpy(WHISPER.extract(waveform))[None]
    n_frames = torch.tensor([frames.shape[2]])
    memory, n_steps = load_backbone(FOLDER or "").encoder(levelled(frames, n_frames), n_frames)
    cache, last, written = decoder.start(memory), torch.tensor([[BLANK, END]]), []
    for _ in longest_pieces(f" {theirs}", pieces):  # next Whisper would write a full stop, which is no piece
        following, cache = decoder(last, cache, n_steps)
        last = following[:, -1:].argmax(dim=2)
        written.append(int(last))
    assert Vocabulary(pieces).text(written) == theirs


def test_decoders_vocabulary_spells_anything() -> None:
    assert isinstance(tiny_whisper.decoder(), WhisperDecoder)
    assert Vocabulary((" a", "a", "b", " ")).encode(" ab a") == [2, 4, 2]
    assert np.array_equal(Vocabulary((" a", "b")).encode(" ab"), [2, 3])
