"""Engine Piper: a voice is an ONNX file with its settings beside it, NAME.onnx and NAME.onnx.json.

A voice is named by its path, or without the ending if it lies in the folder of voice files. It runs in this
process where the Python package piper-tts is installed, and then a seed decides its draws; else the program
`piper` speaks, anew each time. Of a voice of several speakers the first is heard.
"""

import importlib.util
import json
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import CheckpointError, MissingExtraError, SettingsError, require
from speech2image.files import read_file
from speech2image.pipeline.card import MAX_NETWORK_BYTES
from speech2image.pipeline.noise import noise
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.onnx_check import VOICE, check_network
from speech2image.tts import voice_files
from speech2image.tts.engine import Delivery
from speech2image.tts.programs import spoken_by

PUBLISHED = "https://huggingface.co/rhasspy/piper-voices"

# Inputs that stand for the draws inside the network, in their order there.
_DRAW_INPUTS = ("duration_noise", "sound_noise")
# Normal draws of one kind in a sentence; one of more than about fifteen seconds uses them again.
_DRAWS = 2**18
# Piper's own programs scale every sentence to full scale; this leaves room for resampling.
_PEAK = 0.9
_opening = Lock()


def names() -> list[str]:
    """Voices in the folder of voice files, if anything here can run them."""
    if not (_package() or shutil.which("piper")):
        return []
    files = sorted(voice_files.folder("piper").glob("*.onnx"))
    return [file.stem for file in files if Path(f"{file}.json").is_file()]


def find(name: str) -> bool:
    """Check a voice's files.

    Raises:
        SettingsError: one of the two files is not there; the message says where they are published.
    """
    file = _file(name)
    if not file.is_file():
        raise SettingsError(
            f"no Piper voice file {str(file)!r}; give piper/path/to/voice.onnx, or piper/NAME of a voice in "
            f"{voice_files.folder('piper')} (${voice_files.VARIABLE}/piper); voices: {PUBLISHED}"
        )
    if not Path(f"{file}.json").is_file():
        raise SettingsError(f"the Piper voice {file} lacks its settings {file.name}.json beside it")
    return True


def sets_pitch(name: str) -> bool:
    """No voice."""
    return False


def speak(text: str, name: str, delivery: Delivery) -> tuple[NDArray[Any], int]:
    """Speak plain text; see `Engine.speak`.

    Raises:
        MissingExtraError: neither the package nor the program is installed.
        CheckpointError: a file of the voice is damaged.
    """
    if _package():
        with _opening:
            voice = _open(str(_file(name)), delivery.threads)
        return voice.speak(text, delivery), voice.config.sample_rate
    if not shutil.which("piper"):
        raise MissingExtraError("Piper is not installed; install it with: pip install 'speech2image[tts]'")
    scale = f"{1 / delivery.rate:.4f}"
    return spoken_by(["piper", "-m", str(_file(name)), "--length-scale", scale, "-f", "{wav}"], text)


def _package() -> bool:
    return bool(importlib.util.find_spec("piper"))


def _file(name: str) -> Path:
    return Path(name) if name.endswith(".onnx") else voice_files.folder("piper") / f"{name}.onnx"


@dataclass(frozen=True)
class _Voice:
    """An open voice: `reader` turns text into phonemes and these into tokens."""

    reader: Any
    session: Session

    @property
    def config(self) -> Any:
        return self.reader.config

    def speak(self, text: str, delivery: Delivery) -> NDArray[np.float32]:
        sentences = [
            self._sentence(self.reader.phonemes_to_ids(phonemes), delivery)
            for phonemes in self.reader.phonemize(text)
            if phonemes
        ]
        samples = np.concatenate(sentences or [np.zeros(1, np.float32)])
        return samples * (_PEAK / max(float(np.abs(samples).max()), 1e-3))

    def _sentence(self, tokens: list[int], delivery: Delivery) -> NDArray[np.float32]:
        config, vary = self.config, delivery.variation
        scales = [
            config.noise_scale * vary,
            config.length_scale / delivery.rate,
            config.noise_w_scale * vary,
        ]
        draws = noise(len(_DRAW_INPUTS), _DRAWS, delivery.seed)
        arrays: dict[str, NDArray[Any]] = {
            "input": np.array([tokens], dtype=np.int64),
            "input_lengths": np.array([len(tokens)], dtype=np.int64),
            "scales": np.array(scales, dtype=np.float32),
            **dict(zip(_DRAW_INPUTS, draws, strict=True)),
        }
        if config.num_speakers > 1:
            arrays["sid"] = np.array([config.default_speaker_id], dtype=np.int64)
        return self.session(*(arrays[name] for name in self.session.inputs)).reshape(-1)


@lru_cache(maxsize=4)
def _open(file: str, threads: int | None) -> _Voice:
    piper = require("piper", "tts")
    try:
        config = piper.PiperConfig.from_dict(json.loads(Path(f"{file}.json").read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file}.json is not the settings of a Piper voice: {error!r}") from error
    speaker = ("sid",) if config.num_speakers > 1 else ()
    inputs = ("input", "input_lengths", "scales", *speaker, *_DRAW_INPUTS)
    session = Session(_with_noise_inputs(Path(file)), inputs, ("output",), file, threads, VOICE)
    return _Voice(piper.PiperVoice(session=None, config=config), session)


def _with_noise_inputs(file: Path) -> bytes:
    """The network of a voice with its two draws made inputs.

    ONNX Runtime seeds the draws inside a network once, when it opens it, so that a sentence would depend on
    those spoken before.
    """
    onnx = require("onnx", "tts")
    try:
        content = read_file(file, MAX_NETWORK_BYTES)
        check_network(content, str(file), VOICE)  # onnx.load would read other files into it
        graph = (network := onnx.load_from_string(content)).graph
    except CheckpointError:
        raise
    except Exception as error:  # of protobuf's or onnx's own kinds
        raise CheckpointError(f"{file} is not an ONNX network: {error}") from error
    draws = [node for node in graph.node if node.op_type == "RandomNormalLike"]
    if len(draws) != len(_DRAW_INPUTS):
        raise CheckpointError(f"{file} is not a Piper voice: it has {len(draws)} draws of noise, not 2")
    nodes = list(graph.node)
    for name, draw in zip(_DRAW_INPUTS, draws, strict=True):
        place = nodes.index(draw)
        nodes[place : place + 1] = _lookup(onnx.helper, name, draw.input[0], draw.output[0])
        graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [_DRAWS]))
    del graph.node[:]
    graph.node.extend(nodes)
    changed: bytes = network.SerializeToString()
    return changed


def _lookup(helper: Any, name: str, like: str, output: str) -> list[Any]:
    """Nodes that fill an array of the shape of `like` from input `name`, over and over."""

    def constant(value: int, key: str) -> Any:
        return helper.make_node("Constant", [], [f"{name}_{key}"], value_int=value)

    def node(kind: str, inputs: list[str], key: str) -> Any:
        return helper.make_node(
            kind,
            [part if part in (name, like) else f"{name}_{part}" for part in inputs],
            [f"{name}_{key}" if key else output],
        )

    return [
        constant(0, "zero"),
        constant(1, "one"),
        constant(_DRAWS, "draws"),
        node("Shape", [like], "shape"),
        node("Size", [like], "size"),
        node("Range", ["zero", "size", "one"], "range"),
        node("Mod", ["range", "draws"], "index"),
        node("Gather", [name, "index"], "flat"),
        node("Reshape", ["flat", "shape"], ""),
    ]
