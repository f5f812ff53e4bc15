"""The published text embeddings (char-CNN-RNN, Reed et al. 2016; StackGAN), read and written as data.

    <split>/char-CNN-RNN-embeddings.pickle   float32 [pictures, captions, 1024]
    <split>/filenames.pickle                 names of the pictures, without suffix
    <split>/class_info.pickle                their classes

They are pickles of Python 2, and a pickle is a program. Here only lists, numbers, strings and numeric arrays
are built from one, by a reader of its own; whatever else it asks for is refused before anything happens.
"""

import ast
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import DataError
from speech2image.files import writing

EMBEDDINGS = "char-CNN-RNN-embeddings.pickle"
FILENAMES = "filenames.pickle"
CLASSES = "class_info.pickle"

_ALLOWED = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): "array" for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): "scalar" for core in ("core", "_core")},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
}


@dataclass(frozen=True)
class PublishedEmbeddings:
    """One split.

    Attributes:
        embeddings: of every picture's captions, float32 [pictures, captions, size].
        filenames: pictures, e.g. "002.Laysan_Albatross/Laysan_Albatross_0002_1027".
        classes: class of each picture, int64 [pictures].
    """

    embeddings: NDArray[np.float32]
    filenames: list[str]
    classes: NDArray[np.int64]


def read_published(folder: str | os.PathLike[str]) -> PublishedEmbeddings:
    """Read one split's folder.

    Raises:
        DataError: a file is missing, damaged, asks for more than data, or does not fit the others.
    """
    folder = Path(folder)
    embeddings = np.asarray(read_pickle(folder / EMBEDDINGS), dtype=np.float32)
    filenames = [_text(name) for name in read_pickle(folder / FILENAMES)]
    classes = np.asarray(read_pickle(folder / CLASSES), dtype=np.int64)
    if embeddings.ndim != 3 or not len(embeddings) == len(filenames) == len(classes):
        raise DataError(
            f"{folder}: embeddings of shape {list(embeddings.shape)}, {len(filenames)} names and "
            f"{len(classes)} classes do not fit; need [pictures, captions, size] and one each"
        )
    return PublishedEmbeddings(embeddings, filenames, classes)


def write_published(folder: str | os.PathLike[str], published: PublishedEmbeddings) -> None:
    """Write one split's folder so that StackGAN's code (Python 2 or, with encoding="latin1", 3) reads it.

    Raises:
        OutputError: the folder cannot be written.
    """
    contents = {
        EMBEDDINGS: _list([_array(rows) for rows in np.asarray(published.embeddings, dtype="<f4")]),
        FILENAMES: _list([_string(name.encode()) for name in published.filenames]),
        CLASSES: _list([_integer(int(label)) for label in published.classes]),
    }
    for name, content in contents.items():
        with writing(Path(folder) / name) as temporary:
            temporary.write_bytes(b"\x80\x02" + content + b".")


def read_pickle(path: str | os.PathLike[str]) -> Any:
    """What a pickle of plain data holds: lists, tuples, dicts, numbers, strings, bytes, numeric arrays.

    Raises:
        DataError: no such file, it is damaged, or it asks for anything else; nothing in it is executed.
    """
    path = Path(path)
    try:
        return _Reader(path.read_bytes()).read()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (OSError, IndexError, KeyError, ValueError, TypeError, SyntaxError, struct.error) as error:
        raise DataError(f"{path} is unreadable or no pickle of plain data ({error})") from error


def _text(name: Any) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)


class _Mark:
    """The start of a list, tuple or dict on the stack."""


@dataclass
class _Name:
    """A global the pickle names; only those of `_ALLOWED`."""

    kind: str


@dataclass
class _Dtype:
    code: str

    def real(self) -> np.dtype[Any]:
        made = np.dtype(self.code)
        if made.kind not in "biuf":
            raise DataError(f"it holds an array of {self.code!r}, only numbers are allowed")
        return made


@dataclass
class _Array:
    """An array whose content is still to come."""

    value: NDArray[Any] | None = None


class _Reader:
    """The pickle machine without the parts that do anything: no imports, no calls, no classes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self) -> Any:
        while True:
            code = self._take(1)
            if code == b".":
                return _plain(self.stack.pop())
            if code not in _CODES:
                raise DataError(f"it holds the instruction {code!r}, which plain data do not need; refused")
            _CODES[code](self)

    def _take(self, n: int) -> bytes:
        part = self.data[self.place : self.place + n]
        if n < 0 or len(part) < n:
            raise DataError("it breaks off")
        self.place += n
        return part

    def number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def sized(self, form: str) -> bytes:
        return self._take(self.number(form))

    def line(self) -> bytes:
        end = self.data.index(b"\n", self.place)
        return self._take(end - self.place + 1)[:-1]

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        start = next(i for i in range(len(self.stack) - 1, -1, -1) if isinstance(self.stack[i], _Mark))
        items = self.stack[start + 1 :]
        del self.stack[start:]
        return items

    def last(self, n: int) -> list[Any]:
        items = self.stack[-n:]
        del self.stack[-n:]
        return items

    def append(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise DataError("it appends to something that is no list; refused")
        self.stack[-1].extend(items)

    def push_dict(self, items: list[Any]) -> None:
        self.push({})
        self.set_items(items)

    def set_items(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise DataError("it sets items of something that is no dict; refused")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def name(self, module: str, name: str) -> None:
        kind = _ALLOWED.get((module, name))
        if kind is None:
            raise DataError(f"it asks for {module}.{name}, which plain data do not need; refused")
        self.push(_Name(kind))

    def call(self) -> None:
        function, arguments = self.last(2)
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise DataError("it calls something; refused")
        self.push(_called(function.kind, arguments))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Dtype) and isinstance(state, tuple):
            target.code = _text(state[1]).replace("|", "") + target.code.lstrip("<>=|")
        elif isinstance(target, _Array) and isinstance(state, tuple):
            _, shape, kind, fortran, raw = state
            raw = raw.encode("latin-1") if isinstance(raw, str) else raw
            flat = np.frombuffer(raw, dtype=kind.real())
            target.value = flat.reshape(shape, order="F" if fortran else "C")
        else:
            raise DataError("it sets the state of something that is no array; refused")

    def memoize(self, key: int) -> None:
        self.memo[key] = self.stack[-1]


def _called(kind: str, arguments: tuple[Any, ...]) -> Any:
    if kind == "array":
        return _Array()
    if kind == "dtype":
        return _Dtype(_text(arguments[0]))
    if kind == "scalar":
        raw = arguments[1].encode("latin-1") if isinstance(arguments[1], str) else arguments[1]
        return np.frombuffer(raw, dtype=arguments[0].real())[0].item()
    if kind == "encode" and len(arguments) == 2 and arguments[1] == "latin1":
        return arguments[0].encode("latin-1")
    raise DataError(f"it calls {kind} with {len(arguments)} arguments; refused")


def _plain(value: Any) -> Any:
    """Containers with finished arrays in place of those to come."""
    if isinstance(value, _Array):
        if value.value is None:
            raise DataError("it holds an array without content")
        return value.value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, _Name | _Dtype | _Mark):
        raise DataError("it holds something that is no data")
    return value


def _long(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _string_line(line: bytes) -> str:
    """Python 2's repr of a string, protocol 0."""
    value = ast.literal_eval("b" + line.decode("ascii"))
    if not isinstance(value, bytes):
        raise DataError("it holds a damaged string")
    return value.decode("latin-1")


def _integer_line(line: bytes) -> int | bool:
    """Protocol 0 writes True and False as 01 and 00."""
    return line == b"01" if line in (b"00", b"01") else int(line)


_CODES: dict[bytes, Callable[[_Reader], Any]] = {
    b"\x80": lambda r: r.number("B"),
    b"\x95": lambda r: r.number("<Q"),
    b"(": lambda r: r.push(_Mark()),
    b"N": lambda r: r.push(None),
    b"\x88": lambda r: r.push(True),
    b"\x89": lambda r: r.push(False),
    b"I": lambda r: r.push(_integer_line(r.line())),
    b"L": lambda r: r.push(int(r.line().rstrip(b"L"))),
    b"J": lambda r: r.push(r.number("<i")),
    b"K": lambda r: r.push(r.number("B")),
    b"M": lambda r: r.push(r.number("<H")),
    b"\x8a": lambda r: r.push(_long(r.sized("B"))),
    b"F": lambda r: r.push(float(r.line())),
    b"G": lambda r: r.push(r.number(">d")),
    b"S": lambda r: r.push(_string_line(r.line())),
    b"T": lambda r: r.push(r.sized("<i").decode("latin-1")),
    b"U": lambda r: r.push(r.sized("B").decode("latin-1")),
    b"V": lambda r: r.push(r.line().decode("raw-unicode-escape")),
    b"X": lambda r: r.push(r.sized("<I").decode("utf-8")),
    b"\x8c": lambda r: r.push(r.sized("B").decode("utf-8")),
    b"B": lambda r: r.push(r.sized("<I")),
    b"C": lambda r: r.push(r.sized("B")),
    b"\x8e": lambda r: r.push(r.sized("<Q")),
    b"]": lambda r: r.push([]),
    b"l": lambda r: r.push(r.since_mark()),
    b"a": lambda r: r.append(r.last(1)),
    b"e": lambda r: r.append(r.since_mark()),
    b")": lambda r: r.push(()),
    b"t": lambda r: r.push(tuple(r.since_mark())),
    b"\x85": lambda r: r.push(tuple(r.last(1))),
    b"\x86": lambda r: r.push(tuple(r.last(2))),
    b"\x87": lambda r: r.push(tuple(r.last(3))),
    b"}": lambda r: r.push({}),
    b"d": lambda r: r.push_dict(r.since_mark()),
    b"s": lambda r: r.set_items(r.last(2)),
    b"u": lambda r: r.set_items(r.since_mark()),
    b"p": lambda r: r.memoize(int(r.line())),
    b"q": lambda r: r.memoize(r.number("B")),
    b"r": lambda r: r.memoize(r.number("<I")),
    b"\x94": lambda r: r.memoize(len(r.memo)),
    b"g": lambda r: r.push(r.memo[int(r.line())]),
    b"h": lambda r: r.push(r.memo[r.number("B")]),
    b"j": lambda r: r.push(r.memo[r.number("<I")]),
    b"c": lambda r: r.name(r.line().decode(), r.line().decode()),
    b"\x93": lambda r: r.name(*map(str, r.last(2))),
    b"R": lambda r: r.call(),
    b"b": lambda r: r.build(),
}
"""Instruction -> what it does; see Python's `pickletools` for their meaning."""


def _list(items: Sequence[bytes]) -> bytes:
    return b"](" + b"".join(items) + b"e"


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _string(value: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(value)) + value


def _array(rows: NDArray[np.float32]) -> bytes:
    """A float32 array as numpy of Python 2 pickles it, protocol 2."""
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(map(_integer, rows.shape)) + b"t"
    return empty + b"(K\x01" + shape + kind + b"\x89" + _string(rows.tobytes()) + b"tb"
