import os
import threading
from pathlib import Path

import pytest

from speech2image.files import is_one_line, is_plain_name, parse_json, read_file


def test_a_file_of_allowed_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert read_file(tmp_path / "a", 5) == read_file(tmp_path / "link", 5) == b"12345"


def test_a_larger_file_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(20 * 10**9)  # sparse: it takes no room
    with pytest.raises(OSError, match=r"holds 20,000,000,000 bytes, at most 4 are allowed"):
        read_file(tmp_path / "huge", 4)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom", "/dev/null"])
def test_a_device_is_not_read(device: str) -> None:
    if not os.path.exists(device):
        pytest.skip("this system has no such device")
    with pytest.raises(OSError, match="no regular file"):
        read_file(Path(device), 100)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found: list[BaseException] = []

    def read() -> None:
        try:
            read_file(tmp_path / "pipe", 100)
        except OSError as error:
            found.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(30)
    assert found and "no regular file" in str(found[0])


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "\ud800"])
def test_a_name_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError):
        read_file(tmp_path / name, 100)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 10**6, "nested too deeply"),
        (b'{"a":' * 10**5 + b"1" + b"}" * 10**5, "nested too deeply"),
        (b"1" * 30, "30 digits"),
        (b"-" + b"9" * 5000, "5001 digits"),
        (b"NaN", "no finite number"),
        (b"[-Infinity]", "no finite number"),
        (b"1e999", "no finite number"),
        (rb'{"name": "\ud800"}', "surrogates"),
        (rb'{"\udfff": 1}', "surrogates"),
        (b'"\xff"', "utf-8"),
        ('{"a": 1}'.encode("utf-16"), "utf-8"),
        (b"{", "Expecting"),
    ],
)
def test_json_that_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(content)


def test_json_of_any_script() -> None:
    assert parse_json('{"名": ["é", "\\ud83c\\udf38", 1.5, -7, null]}'.encode()) == {
        "名": ["é", "🌸", 1.5, -7, None]
    }


@pytest.mark.parametrize("text", ["桜 🌸", "نیم\u200cروز", "👩\u200d🌾", "naïve\u00a0x", ""])
def test_one_line_of_any_script(text: str) -> None:
    assert is_one_line(text)


@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\tb", "a\r", "\x1b[2J", "\x9b31m", "\0", "\x7f", "a\u202eb", "a\u2028b", "\u2066", "\ud800"],
)
def test_characters_that_steer_a_terminal_or_turn_writing_round(text: str) -> None:
    assert not is_one_line(text)


@pytest.mark.parametrize("name", ["generator.onnx", "桜", "a b", "x" * 255, "...", "-c"])
def test_plain_names(name: str) -> None:
    assert is_plain_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "/etc",
        "a\\b",
        "C:x",
        "a\0",
        "a\n",
        "\x1b",
        "x" * 256,
        "桜" * 86,
        "\ud800",
        5,
        None,
    ],
)
def test_names_that_leave_a_folder_or_are_none(name: object) -> None:
    assert not is_plain_name(name)
