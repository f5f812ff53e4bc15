"""Checkpoints: what goes in comes out; damage and foreign files are refused; nothing half-written stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from speech2image.errors import CheckpointError, OutputError
from speech2image.training.core.checkpoint import load_checkpoint, read_facts, save_checkpoint


def state() -> dict[str, object]:
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "kind": "test",
        "settings": {"steps": 3, "betas": [0.5, 0.9], "minutes": None},
        "step": 3,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "empty": {},
    }


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_round_trip_keeps_everything_including_integer_keys(tmp_path: Path) -> None:
    saved = state()
    save_checkpoint(tmp_path / "c.safetensors", saved)
    assert same(saved, load_checkpoint(tmp_path / "c.safetensors", "test"))


def test_facts_without_tensors(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.safetensors", state())
    facts = read_facts(tmp_path / "c.safetensors")
    assert (facts["kind"], facts["settings"]["steps"], facts["step"]) == ("test", 3, 3)
    assert facts["network"] == {"weight": None, "bias": None}


@pytest.mark.parametrize("name", ["c.safetensors", "c" * 300, "c\0c"])
def test_absent(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_checkpoint(tmp_path / name)


def test_cut_short_or_text(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, state())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)
    path.write_text("hello")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, state())
    data = path.read_bytes()
    start = data.index(b"optimizer/state/0/exp_avg")  # names, offsets and values of the tensors
    for place in [*range(start, start + 60), *range(len(data) - 40, len(data))]:
        flipped = bytearray(data)
        flipped[place] ^= 16
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(path)


def test_a_changed_state_is_noticed_without_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, {"kind": "test", "settings": {"steps": 3141}})
    path.write_bytes(path.read_bytes().replace(b"3141", b"3741"))
    with pytest.raises(CheckpointError, match="state_sha256 is not what it was when the file was written"):
        read_facts(path)


def test_checkpoints_from_before_checksums_open(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    saved = state()
    save_checkpoint(path, saved)
    with safe_open(path, framework="pt") as file:
        metadata = {key: file.metadata()[key] for key in ("format", "state")}
    save_file(load_file(path), path, metadata=metadata)
    assert same(saved, load_checkpoint(path))


LIMITED = """
import resource, sys, torch
from speech2image.errors import OutputError
from speech2image.training.core.checkpoint import save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    save_checkpoint(sys.argv[1], {"kind": "test", "settings": {}, "weight": torch.ones(1 << 16)})
except OutputError as error:
    print(error)
"""


def test_a_full_disk_is_one_error_and_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, state())
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True)
    assert done.returncode == 0 and "File too large" in done.stdout and "make room" in done.stdout, done
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_foreign(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="not a checkpoint of speech2image"):
        load_checkpoint(tmp_path / "foreign.safetensors")


def test_wrong_kind(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.safetensors", state())
    with pytest.raises(CheckpointError, match="holds a 'test', need a 'speech_encoder'"):
        load_checkpoint(tmp_path / "c.safetensors", "speech_encoder")


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, state())
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_checkpoint(path, {**state(), "bad": object()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_its_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    """safetensors gives its own file to its owner alone."""
    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path / "c.safetensors", state())
    finally:
        os.umask(before)
    assert (tmp_path / "c.safetensors").stat().st_mode & 0o777 == 0o640


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        save_checkpoint(tmp_path / "file" / "c.safetensors", state())
