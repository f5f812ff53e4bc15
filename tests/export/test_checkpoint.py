"""Shipped networks become checkpoints that do in torch what the model does, and trainings start from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_whisper
import torch
from fake_speech import FakeSpeech
from onnx import numpy_helper
from small_sets import sample
from tiny_networks import MatrixGenerator
from torch import nn

from speech2image import audio
from speech2image.asr.ctc import CtcDecoder, transcribe
from speech2image.asr.text import LETTERS, characters
from speech2image.audio.front_ends import WHISPER
from speech2image.data.pairs import write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import CheckpointError, SettingsError
from speech2image.export.checkpoint import checkpoint_of, take_weights
from speech2image.export.direct import export_checkpoints, export_direct
from speech2image.export.onnx import trace, with_float16_weights
from speech2image.models.pretrained_speech_encoder import PretrainedEncoderSettings, PretrainedSpeechEncoder
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.registry import MODELS_FOLDER, find
from speech2image.training.core.checkpoint import load_checkpoint, save_checkpoint
from speech2image.training.core.networks import (
    load_generator,
    load_pretrained,
    load_recognizer,
    load_speech_encoder,
    load_text_encoder,
    space_of,
    stated_facts,
)
from speech2image.training.recipes import pretrained_speech_encoder, speech_recognizer, words_head
from speech2image.training.recipes.transcripts import TorchScorer

CASCADE, TEXTFREE = "flowers-and-birds-cascade", "flowers-and-birds-textfree"
CLIP = next((Path(__file__).parents[2] / "examples" / "recordings").glob("*kal16*.opus"))


@pytest.fixture(scope="module")
def log_mel() -> np.ndarray:
    return audio.log_mel(audio.load(CLIP))


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint_of("words", "recognizer", tmp_path_factory.mktemp("shipped") / "r.safetensors")


@torch.no_grad()
def test_speech_encoder(tmp_path: Path, log_mel: np.ndarray) -> None:
    encoder = load_speech_encoder(checkpoint_of(TEXTFREE, "speech_encoder", tmp_path / "a"))
    model = find(TEXTFREE)
    session = Session(model.read("speech_encoder"), ("log_mel", "n_frames"), ("speech_embedding",), "encoder")
    n_frames = np.array([log_mel.shape[1]])
    expected = session(log_mel[None], n_frames)
    found = encoder(torch.from_numpy(log_mel[None]), torch.from_numpy(n_frames)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert expected.std() > 0.1


@torch.no_grad()
def test_text_encoder(tmp_path: Path) -> None:
    written = checkpoint_of(CASCADE, "text_encoder", tmp_path / "a")
    encoder = load_text_encoder(written)
    session = Session(find(CASCADE).read("text_encoder"), ("letters",), ("text_embedding",), "encoder")
    letters = np.stack([characters("a blue bird on a branch")])
    expected = session(letters)
    np.testing.assert_allclose(encoder(torch.from_numpy(letters)).numpy(), expected, atol=1e-3)
    assert not torch.equal(encoder.teacher_mean, torch.zeros(1024)), "it travels with the model"
    assert {"bird", "petals"} < set(load_checkpoint(written)["vocabulary"])


def test_recognizer(recognizer: Path, log_mel: np.ndarray) -> None:
    network, vocabulary = load_recognizer(recognizer)
    expected = CtcDecoder(MODELS_FOLDER / "words")(log_mel).text
    assert transcribe(TorchScorer(network), vocabulary, log_mel).text == expected
    assert len(expected.split()) > 3


@torch.no_grad()
def test_generator(tmp_path: Path) -> None:
    generator, noise_size = load_generator(checkpoint_of("flowers-and-birds", "generator", tmp_path / "a"))
    session = Session(find("flowers-and-birds").read("generator"), ("condition", "noise"), ("picture",), "g")
    rng = np.random.default_rng(0)
    condition, noise = (rng.random((2, n), np.float32) for n in (1024, noise_size))
    expected = session(condition, noise)
    found = generator.eval()(torch.from_numpy(condition), torch.from_numpy(noise)).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert expected.std() > 0.1


def test_a_training_starts_from_it(recognizer: Path, tmp_path: Path) -> None:
    settings = replace(speech_recognizer.PRESETS["cpu"], steps=0, evaluation_utterances=0)
    speech = {"fake": FakeSpeech(4)}
    begun = speech_recognizer.train(settings, None, speech, tmp_path / "own", start_from=recognizer)
    started, shipped = load_checkpoint(begun), load_checkpoint(recognizer)
    assert started["pieces"] == shipped["pieces"]
    for name, tensor in shipped["ema"]["module"].items():
        assert torch.equal(started["ema"]["module"][name], tensor), name
    other = replace(settings, recognizer=speech_recognizer.PRESETS["toy"].recognizer)
    with pytest.raises(SettingsError, match="another shape"):
        speech_recognizer.train(other, None, speech, tmp_path / "other", start_from=recognizer)


def test_errors(tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    with pytest.raises(CheckpointError, match="has no text_encoder, but speech_encoder"):
        checkpoint_of("flowers-and-birds", "text_encoder", out)
    with pytest.raises(CheckpointError, match=r"is no recognizer and names none.*'words'"):
        checkpoint_of(CASCADE, "recognizer", out)
    with pytest.raises(SettingsError, match="another shape"):
        checkpoint_of(TEXTFREE, "speech_encoder", out, "toy")
    with pytest.raises(SettingsError, match="unknown preset 'small'; there are: paper"):
        checkpoint_of(TEXTFREE, "speech_encoder", out, "small")
    assert not list(tmp_path.iterdir())


class Small(nn.Module):
    """What exporters rearrange: a recurrent layer's gates, a matrix, and a weight that takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(5, 6, batch_first=True)
        self.linear = nn.Linear(6, 300, bias=False)
        self.norm = nn.BatchNorm1d(300)
        for tensor in [*self.parameters(), self.norm.running_mean, self.norm.running_var]:
            nn.init.uniform_(tensor)  # exporters store equal tensors once
        self.unused = nn.Buffer(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear(self.recurrent(x)[0]).transpose(1, 2))


def exported(module: nn.Module) -> dict[str, onnx.ModelProto]:
    free = {"x": {0: "batch", 1: "steps"}}
    return {"": trace(module.eval(), (torch.zeros(2, 7, 5),), ("x",), ("y",), free)}


def test_take_weights() -> None:
    torch.manual_seed(0)
    source, target = Small().eval(), Small().eval()
    with torch.no_grad():
        source.norm.running_mean += torch.randn(300)
    target.unused += 5
    halved = {name: with_float16_weights(model) for name, model in exported(source).items()}
    assert any("float16" in one.name for one in halved[""].graph.initializer)
    take_weights(target, halved, exported)
    x = torch.randn(3, 4, 5)
    torch.testing.assert_close(target(x), source(x), atol=1e-3, rtol=1e-3)
    assert target.unused.tolist() == [5, 5, 5]


def test_a_weight_that_no_file_holds() -> None:
    module = Small()
    module.unused = nn.Parameter(torch.zeros(3))
    with pytest.raises(SettingsError, match="do not hold the weights unused"):
        take_weights(module, exported(Small()), exported)


def test_another_model_of_the_same_shape_gives_its_own_weights() -> None:
    one, other = Small(), Small()
    stored = exported(other)
    for weight in stored[""].graph.initializer:
        if weight.name == "norm.weight":
            weight.CopyFrom(numpy_helper.from_array(np.full(300, 7, np.float32), weight.name))
    take_weights(one, stored, exported)
    assert one.norm.weight.tolist() == [7] * 300
    assert torch.equal(one.norm.bias, other.norm.bias)


FACTS = {"name": "openai/whisper-tiny.en", "sha256": "0" * 64}
SPACE = "speech 0123456789abcdef"


@pytest.fixture(scope="module", params=[False, True], ids=["embeds", "embeds and writes"])
def on_whisper(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PretrainedSpeechEncoder, Path]:
    """An encoder of the toy presets, with or without a words head, and a model folder made of it."""
    heads = pretrained_speech_encoder.PRESETS["toy"].encoder.head
    words = replace(words_head.PRESETS["toy"].encoder.words, tokens=2 + len(LETTERS))
    shape = PretrainedEncoderSettings(tiny_whisper.SETTINGS, heads, words if request.param else None)
    torch.manual_seed(1)
    encoder = PretrainedSpeechEncoder(shape).eval()
    for parameter in encoder.parameters():  # untrained norms are equal, and the exporter keeps one for all
        nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("models") / "mine"
    options = {"pieces": tuple(LETTERS) if request.param else (), "backbone": FACTS, "embedding_space": SPACE}
    generator = MatrixGenerator(condition=heads.output)
    export_direct(
        encoder, generator, folder, name="mine", licence="CC0", noise_size=7, front_end=WHISPER, **options
    )
    return encoder, folder


def test_an_encoder_on_whispers(on_whisper: tuple[PretrainedSpeechEncoder, Path], tmp_path: Path) -> None:
    encoder, folder = on_whisper
    path = checkpoint_of(folder, "speech_encoder", tmp_path / "a.safetensors", "toy")
    found, frames = load_pretrained(path), torch.from_numpy(WHISPER.extract(audio.load(CLIP)))[None]
    n_frames = torch.tensor([frames.shape[2]])
    assert found.settings.backbone == tiny_whisper.SETTINGS
    with torch.no_grad():
        torch.testing.assert_close(found(frames, n_frames), encoder(frames, n_frames), atol=5e-3, rtol=1e-2)
        states, expected = (one.states(frames, n_frames) for one in (found, encoder))
        if encoder.words is not None:
            assert found.words is not None
            torch.testing.assert_close(found.words(*states), encoder.words(*expected), atol=0.05, rtol=1e-2)
    pieces = {} if encoder.words is None else {"pieces": list(LETTERS)}
    assert stated_facts(path) == {"backbone": FACTS, **pieces}


def test_an_encoder_of_eight_bits_keeps_the_space_that_its_generator_learnt_from(
    on_whisper: tuple[PretrainedSpeechEncoder, Path], tmp_path: Path
) -> None:
    _, folder = on_whisper
    path = checkpoint_of(folder, "speech_encoder", tmp_path / "a.safetensors", "toy")
    assert "embedding_eight_bit" in find(folder).card["parity"]
    assert space_of(path, load_pretrained(path)) == SPACE
    made = checkpoint_of("flowers-and-birds", "generator", tmp_path / "g.safetensors")
    generator = tmp_path / "fitted.safetensors"
    save_checkpoint(generator, load_checkpoint(made) | {"belongs": {"space": SPACE}})
    export_checkpoints(path, generator, tmp_path / "again", name="m", licence="CC0")
    assert find(tmp_path / "again").card["embedding_space"] == SPACE
    # a head that tells words leaves the embeddings as they are, tuning does not
    write_shards([sample(i, split="test" if i == 3 else "train") for i in range(4)], tmp_path / "shards")
    arrays = PairArrays.open(tmp_path / "shards", front_end=WHISPER)
    arrays.save_teacher(np.random.default_rng(0).random((4, 2, 1024)).astype(np.float16))
    one = {"steps": 1, "precision": "32-true", "evaluation_utterances": 0}
    heard = replace(words_head.PRESETS["toy"], frames=200, **one)
    written = words_head.train(heard, path, arrays, {}, tmp_path / "words")
    assert space_of(written, load_pretrained(written)) == SPACE
    settings = replace(pretrained_speech_encoder.PRESETS["toy"], batch_size=4, tuned_layers=1, **one)
    tuned = pretrained_speech_encoder.train(settings, arrays, tmp_path / "tuned", start_from=path)
    assert space_of(tuned, load_pretrained(tuned)) != SPACE


def test_an_encoder_comes_back_without_its_decoder(tmp_path: Path) -> None:
    toy = words_head.PRESETS["toy"].encoder.words
    assert toy is not None
    words, decoder = (replace(one, tokens=2 + len(LETTERS)) for one in (toy, tiny_whisper.DECODER))
    heads = pretrained_speech_encoder.PRESETS["toy"].encoder.head
    encoder = PretrainedSpeechEncoder(
        PretrainedEncoderSettings(tiny_whisper.SETTINGS, heads, words, decoder=decoder)
    ).eval()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.1)
    letters = tuple(LETTERS)
    facts = {"noise_size": 7, "front_end": WHISPER, "pieces": letters, "decoder_pieces": letters}
    generator = MatrixGenerator(condition=heads.output)
    export_direct(encoder, generator, tmp_path / "mine", name="mine", licence="CC0", **facts)
    path = checkpoint_of(tmp_path / "mine", "speech_encoder", tmp_path / "a.safetensors", "toy")
    found, facts = load_pretrained(path), stated_facts(path)
    assert found.decoder is None and "decoder_pieces" not in facts and facts["pieces"] == list(letters)
    for name, value in found.backbone.state_dict().items():
        # half of an eight-bit step of weights up to 0.5
        torch.testing.assert_close(value, encoder.backbone.state_dict()[name], atol=2e-3, rtol=1e-3)


def test_what_ships_on_whispers_is_learnt_on_from_and_exported(
    on_whisper: tuple[PretrainedSpeechEncoder, Path], tmp_path: Path
) -> None:
    encoder, folder = on_whisper
    shipped = checkpoint_of(folder, "speech_encoder", tmp_path / "a.safetensors", "toy")
    write_shards([sample(i, split="test" if i == 3 else "train") for i in range(4)], tmp_path / "shards")
    arrays = PairArrays.open(tmp_path / "shards", front_end=WHISPER)
    arrays.save_teacher(np.random.default_rng(0).random((4, 2, 1024)).astype(np.float16))
    one = {"steps": 1, "precision": "32-true", "evaluation_utterances": 0}
    settings = replace(pretrained_speech_encoder.PRESETS["toy"], batch_size=4, tuned_layers=1, **one)
    tuned = pretrained_speech_encoder.train(settings, arrays, tmp_path / "tuned", start_from=shipped)
    before, after = (load_pretrained(path) for path in (shipped, tuned))
    assert torch.equal(before.backbone.conv1.weight, after.backbone.conv1.weight)
    assert (before.words is None) == (after.words is None) == (encoder.words is None)
    heard = replace(words_head.PRESETS["toy"], frames=200, **one)
    written = words_head.train(heard, tuned, arrays, {}, tmp_path / "words")
    assert stated_facts(written)["backbone"] == FACTS and stated_facts(written)["pieces"]
    generator = checkpoint_of("flowers-and-birds", "generator", tmp_path / "g.safetensors")
    export_checkpoints(written, generator, tmp_path / "model", name="m", licence="CC0")
    again = find(tmp_path / "model")
    assert again.card["backbone"] == FACTS and list(again.pieces) == stated_facts(written)["pieces"]


def test_heads_of_another_preset_are_refused(
    on_whisper: tuple[PretrainedSpeechEncoder, Path], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="another shape"):
        checkpoint_of(on_whisper[1], "speech_encoder", tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
