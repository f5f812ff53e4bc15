"""Hand-made checkpoints: each ends in one `CheckpointError`, whoever reads it."""

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from speech2image.errors import CheckpointError
from speech2image.models import speech_encoder
from speech2image.models.gan import one_stage
from speech2image.training.core.checkpoint import (
    FORMAT,
    load_checkpoint,
    load_optimizer,
    read_facts,
    save_checkpoint,
)
from speech2image.training.core.learner import Learner
from speech2image.training.core.networks import load_generator, load_speech_encoder

ENCODER = speech_encoder.PRESETS["toy"]
GENERATOR = one_stage.GeneratorSettings(16, noise_size=7, code_size=8, channels=(8, 8, 4))
State = dict[str, Any]


@pytest.fixture(scope="module")
def encoder_state() -> State:
    weights = speech_encoder.SpeechEncoder(ENCODER).state_dict()
    return _state("speech_encoder", {"encoder": json.loads(json.dumps(vars(ENCODER)))}, weights)


@pytest.fixture(scope="module")
def generator_state() -> State:
    weights = one_stage.OneStageGenerator(GENERATOR).state_dict()
    return _state("one_stage_gan", {"generator": json.loads(json.dumps(vars(GENERATOR)))}, weights)


def _state(kind: str, settings: State, weights: State) -> State:
    ema = {"module": dict(weights), "updates": 1}
    return {"kind": kind, "settings": settings, "step": 1, "seconds": 0.5, "ema": ema}


def changed(state: State, *keys: str, to: Any) -> State:
    """The state with another value at a place."""
    if not keys:
        return to(state) if callable(to) else to
    return {**state, keys[0]: changed(state[keys[0]], *keys[1:], to=to)}


def without(key: str) -> Callable[[State], State]:
    return lambda state: {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize("step", [-1, 2**70, 1.5, math.nan, "3", True, None, [1], {"a": 1}])
def test_steps(tmp_path: Path, encoder_state: State, step: object) -> None:
    save_checkpoint(tmp_path / "c", {**encoder_state, "step": step})
    for read in (load_checkpoint, read_facts, load_speech_encoder):
        with pytest.raises(CheckpointError, match="'step' is"):
            read(tmp_path / "c")


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "3", None, [1]])
def test_seconds(tmp_path: Path, encoder_state: State, seconds: object) -> None:
    save_checkpoint(tmp_path / "c", {**encoder_state, "seconds": seconds})
    with pytest.raises(CheckpointError, match="'seconds' is"):
        load_checkpoint(tmp_path / "c")


def test_settings_by_the_names_of_version_0_1_are_read_by_their_present_ones(
    tmp_path: Path, encoder_state: State
) -> None:
    settings = {"batch_size": 4, "prior": {"told": 8, "noise_size": 4, "borrowed": 0.5}}
    save_checkpoint(tmp_path / "c", {**encoder_state, "settings": settings})
    for read in (load_checkpoint, read_facts):
        found = read(tmp_path / "c")["settings"]
        assert found == {
            "batch_size": 4,
            "prior": {"n_predicted": 8, "noise_size": 4, "residual_blend": 0.5},
        }


ENCODERS: dict[str, Callable[[State], State]] = {
    "without averages": without("ema"),
    "averages that are no table": lambda s: changed(s, "ema", to=[1]),
    "without a network": lambda s: changed(s, "ema", to=without("module")),
    "a network that is text": lambda s: changed(s, "ema", "module", to="weights"),
    "a network that is a tensor": lambda s: changed(s, "ema", "module", to=torch.ones(3)),
    "without a weight": lambda s: changed(s, "ema", "module", to=without(next(iter(s["ema"]["module"])))),
    "a weight too many": lambda s: changed(s, "ema", "module", to=lambda w: {**w, "more": torch.ones(1)}),
    "a weight of another shape": lambda s: changed(
        s, "ema", "module", to=lambda w: {**w, next(iter(w)): torch.ones(1, 2)}
    ),
    "a weight that is a number": lambda s: changed(s, "ema", "module", to=lambda w: {**w, next(iter(w)): 5}),
    "without settings of the network": lambda s: changed(s, "settings", to={}),
    "settings that are a list": lambda s: changed(s, "settings", "encoder", to=[1, 2]),
    "an unknown setting": lambda s: changed(s, "settings", "encoder", to=lambda e: {**e, "depth": 5}),
    "a setting of another type": lambda s: changed(
        s, "settings", "encoder", to=lambda e: dict.fromkeys(e, "wide")
    ),
    "sizes below zero": lambda s: changed(
        s, "settings", "encoder", to=lambda e: {k: -1 if type(v) is int else v for k, v in e.items()}
    ),
    "a kind that is a list": lambda s: {**s, "kind": ["speech_encoder"]},
    "no settings": lambda s: {**s, "settings": None},
}


@pytest.mark.parametrize("change", ENCODERS)
def test_encoders(tmp_path: Path, encoder_state: State, change: str) -> None:
    _save(tmp_path / "c", ENCODERS[change](encoder_state))
    with pytest.raises(CheckpointError, match=str(tmp_path / "c")):
        load_speech_encoder(tmp_path / "c")


@pytest.mark.parametrize(
    "change",
    [
        without("ema"),
        lambda s: changed(s, "settings", to={}),
        lambda s: {**s, "prior": 5},
        lambda s: {**s, "prior": {"neighbour_keys": torch.ones(3)}},
        lambda s: {**s, "prior": {"neighbour_keys": 1, "predicted_basis": torch.ones(3)}},
        lambda s: changed(s, "settings", "generator", to=lambda g: {**g, "channels": 5}),
        lambda s: {**s, "kind": "stackgan_v2"},
        lambda s: {**s, "kind": "stackgan_v1"},
    ],
)
def test_generators(tmp_path: Path, generator_state: State, change: Callable[[State], State]) -> None:
    save_checkpoint(tmp_path / "g", change(generator_state))
    with pytest.raises(CheckpointError):
        load_generator(tmp_path / "g")


def test_the_checkpoints_they_are_made_of_are_read(
    tmp_path: Path, encoder_state: State, generator_state: State
) -> None:
    save_checkpoint(tmp_path / "c", encoder_state)
    save_checkpoint(tmp_path / "g", generator_state)
    assert load_speech_encoder(tmp_path / "c").settings == ENCODER
    assert load_generator(tmp_path / "g")[1] == 7


@pytest.mark.parametrize(
    "state",
    [
        "{",
        "[]",
        "5",
        '"text"',
        "null",
        '{"keys": [["s", "kind"]], "values": []}',
        '{"keys": 5, "values": 5}',
        '{"keys": [5], "values": [5]}',
        '{"keys": [["s", ["kind"]]], "values": [1]}',
        '{"values": []}',
        '{"__tensor__": "absent"}',
        '{"__tensor__": ["w"]}',
        '{"__tensor__": "w"}',
        "[" * 100_000,
        '{"keys": [["s", "step"]], "values": [' + "9" * 5000 + "]}",
    ],
)
def test_headers(tmp_path: Path, state: str) -> None:
    metadata = {"format": FORMAT, "state": state}
    save_file({"w": torch.ones(2)}, tmp_path / "c", metadata=metadata)
    for read in (load_checkpoint, read_facts):
        with pytest.raises(CheckpointError, match=str(tmp_path / "c")):
            read(tmp_path / "c")


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10**12) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 50) + b'{"__metadata__":{"format":"x","state":{"a":"b"}}}',
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        b"\0" * 7,
        b"",
    ],
)
def test_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path / "c")


def test_going_on_from_weights_or_moments_of_another_network() -> None:
    from lightning_fabric import Fabric

    def learner(width: int) -> Learner:
        network = nn.Linear(3, width)
        return Learner(network, network, torch.optim.Adam(network.parameters()), 0.9)

    fabric, one = Fabric(accelerator="cpu"), learner(2)
    assert one.begin(fabric, None) == 0
    one.model(torch.ones(1, 3)).sum().backward()
    one.optimizer.step()
    state = {"step": 4, **one.state_dict()}
    assert learner(2).begin(fabric, state) == 4
    with pytest.raises(CheckpointError, match="does not hold what"):
        learner(5).begin(fabric, state)
    for broken in (
        {**state, "optimizer": {}},
        without("model")(state),
        without("optimizer")(state),
        changed(state, "optimizer", "state", to=lambda s: {0: {**s[0], "exp_avg": torch.ones(7)}, 1: s[1]}),
        changed(state, "ema", "updates", to="many"),
    ):
        with pytest.raises(CheckpointError, match="the checkpoint to go on from does not hold"):
            learner(2).begin(fabric, broken)


def test_moments_of_another_shape_are_refused() -> None:
    weight = nn.Parameter(torch.ones(2))
    adam = torch.optim.Adam([weight])
    moments = {"step": torch.tensor(1.0), "exp_avg": torch.ones(3), "exp_avg_sq": torch.ones(2)}
    with pytest.raises(ValueError, match="exp_avg does not fit"):
        load_optimizer(adam, {"state": {0: moments}, "param_groups": adam.state_dict()["param_groups"]})


def _save(path: Path, state: State) -> None:
    """Like `save_checkpoint`, of states that no training has."""
    whole = {"kind": "x", "settings": {}}
    save_checkpoint(path, {**whole, "state": state})
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, body = json.loads(file.read(length)), file.read()
    tree = json.loads(header["__metadata__"]["state"])
    header["__metadata__"] = {"format": FORMAT, "state": json.dumps(tree["values"][-1])}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
