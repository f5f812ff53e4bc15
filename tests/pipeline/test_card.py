"""Hostile model folders: whatever a card states or is, one `CheckpointError`, soon, and nothing else."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny_cascade import make_cascade, make_recognizer
from tiny_model import generator_network, make_model, speech

from speech2image.asr.ctc import CtcDecoder
from speech2image.errors import CheckpointError
from speech2image.export.folder import write_folder
from speech2image.pipeline import loading, registry
from speech2image.pipeline.card import MAX_NAME, MAX_SIZE

SUM = "0" * 64


def stated(folder: Path, **card: Any) -> Path:
    """The folder with other values in its card."""
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | card))
    return folder


def with_network(folder: Path, network: str, model: onnx.ModelProto) -> Path:
    """The folder with another network and its right checksum."""
    content = model.SerializeToString()
    (folder / f"{network}.onnx").write_bytes(content)
    files = json.loads((folder / "model.json").read_text())["files"]
    files[network]["sha256"] = hashlib.sha256(content).hexdigest()
    return stated(folder, files=files)


def refused(folder: Path, message: str) -> str:
    with pytest.raises(CheckpointError, match=message) as caught:
        loading.load(folder)
    return str(caught.value)


def test_a_card_of_twenty_gigabytes(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    os.truncate(folder / "model.json", 20 * 10**9)
    refused(folder, r"model\.json: it holds 20,000,000,000 bytes, at most 4,000,000")


@pytest.mark.parametrize("name", ["model.json", "generator.onnx"])
def test_a_device_or_a_pipe_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    folder = make_model(tmp_path / "m")
    for make in (lambda path: path.symlink_to("/dev/zero"), os.mkfifo):
        (folder / name).unlink()
        make(folder / name)
        refused(folder, "no regular file|has no model.json")


def test_a_network_of_two_gigabytes(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    os.truncate(folder / "generator.onnx", 2 * 10**9)
    refused(folder, r"generator\.onnx: it holds 2,000,000,000 bytes")


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"format":' * 100_000,
        b'{"noise_size": ' + b"1" * 5000 + b"}",
        b'{"noise_size": ' + b"1" * 30 + b"}",
        b'{"noise_size": 1e999}',
        b'{"name": NaN}',
        rb'{"name": "\ud800"}',
        b"\xff\xfe{\x00}\x00",
        b"",
        b"null",
        b"\x00" * 100,
    ],
)
def test_a_card_that_is_no_plain_json(tmp_path: Path, content: bytes) -> None:
    folder = make_model(tmp_path / "m")
    (folder / "model.json").write_bytes(content)
    refused(folder, "is damaged: it is not JSON|is of the format None")


@pytest.mark.parametrize("key", ["noise_size", "picture_size", "embedding_size"])
@pytest.mark.parametrize("value", [10**15, MAX_SIZE + 1, 0, -1, True, 1.5, "8", None, [8]])
def test_sizes_out_of_range(tmp_path: Path, key: str, value: object) -> None:
    refused(stated(make_model(tmp_path / "m"), **{key: value}), f"'{key}' is .*, not a whole number from 1")


@pytest.mark.parametrize(
    "file", ["../generator.onnx", "/etc/passwd", "a\\b", "..", "", "g\0.onnx", "x" * 300, "g\n.onnx", 5, None]
)
def test_files_that_leave_the_folder(tmp_path: Path, file: object) -> None:
    files = {"speech_encoder": {"file": file, "sha256": SUM}, "generator": {"file": file, "sha256": SUM}}
    refused(stated(make_model(tmp_path / "m"), files=files), "does not name the file of 'speech_encoder'")


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "a\0b", "x" * 300, "\x1b[2J", 5, ["a"]])
def test_folders_beside_it_are_plain_names(tmp_path: Path, name: object) -> None:
    folder = make_model(tmp_path / "m")
    files = json.loads((folder / "model.json").read_text())["files"]
    files["generator"]["of"] = name
    refused(stated(folder, files=files), "is of .*, not the name of a folder")
    folder = stated(make_cascade(tmp_path / "c"), recognizer=name)
    refused(folder, "'recognizer' is .*, not the name of a folder")


@pytest.mark.parametrize(
    "name",
    [
        "two\nlines",
        "a\r\nSet-Cookie: x",
        "a\tb",
        "\x1b[2Jgone",
        "\x9b31m",
        "nul\0",
        "abc\u202egnp",
        "a\u2028b",
        " ",
        "x" * (MAX_NAME + 1),
        5,
        ["m"],
        {"a": 1},
    ],
)
def test_names_of_several_lines_or_that_steer_a_terminal(tmp_path: Path, name: object) -> None:
    message = refused(stated(make_model(tmp_path / "m"), name=name), "its name is")
    assert not set(message) & set("\n\r\x1b\x9b\0")


@pytest.mark.parametrize("name", ["桜と菊", "цветы", "ורדים", "نرگس", "a 🌸", "l'été", "x" * MAX_NAME])
def test_names_of_any_script(tmp_path: Path, name: str) -> None:
    assert loading.load(stated(make_model(tmp_path / "m"), name=name)).name == name


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_without_a_name_the_folder_s_is_taken_and_escaped(tmp_path: Path) -> None:
    assert loading.load(stated(make_model(tmp_path / "a\x1b[2J\nb"), name="")).name == r"a\x1b[2J\nb"


def test_a_name_that_cannot_be_read_is_not_written(tmp_path: Path) -> None:
    contents = {
        name: (make_model(tmp_path / name) / f"{name}.onnx").read_bytes()
        for name in ("speech_encoder", "generator")
    }
    card = {"name": "two\nlines", "picture_size": 8, "embedding_size": 16, "noise_size": 6}
    with pytest.raises(CheckpointError, match="its name is"):
        write_folder(tmp_path / "new", contents, card)
    assert not (tmp_path / "new").exists()
    write_folder(tmp_path / "new", contents, card | {"name": "one line"})
    assert loading.load(tmp_path / "new").name == "one line"


@pytest.mark.parametrize("wanted", ["x" * 5000, "a\0b", "\ud800", "a/" * 3000])
def test_names_that_no_folder_can_have(wanted: str) -> None:
    with pytest.raises(CheckpointError, match="unknown model"):
        registry.find(wanted)


def test_a_generator_that_gives_nan_draws_no_picture(tmp_path: Path) -> None:
    model = generator_network()
    weight = model.graph.initializer[0]
    broken = numpy_helper.to_array(weight).copy()
    broken[:] = np.nan
    weight.CopyFrom(numpy_helper.from_array(broken, weight.name))
    route = loading.load(with_network(make_model(tmp_path / "m"), "generator", model))
    with pytest.raises(CheckpointError, match=r"generator\.onnx gave nan"):
        route.translate((speech(), 16000))
    with pytest.raises(CheckpointError, match=r"generator\.onnx gave nan"):
        route.generate(np.zeros(16), 1)


def test_a_parity_that_is_no_table(tmp_path: Path) -> None:
    refused(stated(make_model(tmp_path / "m"), parity=[1]), "'parity' is")


@pytest.mark.parametrize(
    "card",
    [
        {"pieces": None},
        {"pieces": []},
        {"pieces": "abc"},
        {"pieces": ["a", 5]},
        {"pieces": ["a", ""]},
        {"pieces": ["a\x1b[2J"]},
        {"pieces": ["a" * 1000]},
        {"pieces": ["a"] * 100_000},
        {"files": None},
        {"files": {"recognizer_encoder.onnx": {"sha256": SUM}}},
        {"files": {"recognizer_encoder.onnx": SUM, "recognizer_decoder.onnx": SUM}},
        {"format": ["x"]},
    ],
    ids=lambda card: str(card)[:40],
)
def test_a_recognizer_s_card(tmp_path: Path, card: dict[str, Any]) -> None:
    path = make_recognizer(tmp_path / "r") / "recognizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | card))
    with pytest.raises(CheckpointError, match=r"is damaged|holds"):
        CtcDecoder(tmp_path / "r")


@pytest.mark.parametrize("content", [b"[" * 100_000, b"", b"[]", b'{"pieces": ' + b"1" * 5000 + b"}"])
def test_a_recognizer_s_card_that_is_no_plain_json(tmp_path: Path, content: bytes) -> None:
    path = make_recognizer(tmp_path / "r") / "recognizer.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        CtcDecoder(tmp_path / "r")
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(CheckpointError):
        CtcDecoder(tmp_path / "r")


def test_a_recognizer_with_other_tokens_than_its_card_states(tmp_path: Path) -> None:
    path = make_recognizer(tmp_path / "r") / "recognizer.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {"pieces": card["pieces"][:1]}))
    with pytest.raises(CheckpointError, match="knows 5 tokens, its card states 3"):
        CtcDecoder(tmp_path / "r")(np.zeros((40, 100), np.float32))
