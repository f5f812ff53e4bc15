"""Published text embeddings (char-CNN-RNN, Reed et al. 2016; StackGAN), read and written as data.

    <split>/char-CNN-RNN-embeddings.pickle   float32 [pictures, captions, 1024]
    <split>/filenames.pickle                 names of the pictures, without suffix
    <split>/class_info.pickle                their classes

They are pickles of Python 2, and a pickle is a program. Of Python's own reader only what builds lists,
tuples, numbers, strings and numeric arrays is let through: `_check` looks at the instructions before any of
them is carried out, and `_Reader` gives numpy's names to the few classes below, which make arrays and nothing
else.
"""

import io
import math
import os
import pickle
import pickletools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import DataError, printable
from speech2image.files import read_file, writing

EMBEDDINGS = "char-CNN-RNN-embeddings.pickle"
FILENAMES = "filenames.pickle"
CLASSES = "class_info.pickle"
MAX_BYTES = 4_000_000_000
"""Bytes of a file; the largest published split, of 82,783 photographs, has 1.7 GB."""
MAX_DEPTH = 20
"""Lists in lists."""
_SMALL = 100_000
"""What a file may hold in any case, in items and bytes; beyond it no more than twice its own size."""

_ALLOWED = frozenset(
    [
        *("PROTO", "FRAME", "STOP", "MARK", "POP_MARK"),
        *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2"),
        *("LONG", "LONG1", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
        *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
    ]
)
"""Instructions (as `pickletools` names them) of plain data.

No dict among them: BUILD would set attributes from one, and keys that collide make it slow."""
_BY_CODE = {instruction.code: instruction for instruction in pickletools.opcodes}


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
    stored = [read_pickle(folder / name) for name in (EMBEDDINGS, FILENAMES, CLASSES)]
    try:
        embeddings, classes = np.asarray(stored[0], dtype=np.float32), np.asarray(stored[2], dtype=np.int64)
        filenames = [_text(name) for name in stored[1]]
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{folder} holds something else than numbers and names ({error})") from error
    if embeddings.ndim != 3 or classes.ndim != 1 or not len(embeddings) == len(filenames) == len(classes):
        raise DataError(
            f"{folder}: embeddings of shape {list(embeddings.shape)}, {len(filenames)} names and classes of "
            f"shape {list(classes.shape)} do not fit; need [pictures, captions, size] and one each"
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
    """What a pickle of plain data holds: lists, tuples, numbers, strings, bytes, numeric arrays.

    Raises:
        DataError: no such file, it is damaged, or it asks for anything else; nothing in it is executed.
    """
    path = Path(path)
    try:
        data = read_file(path, MAX_BYTES)
        _check(data)
        value = _Reader(io.BytesIO(data), encoding="latin1").load()
        _measure(value, 2 * len(data) + _SMALL)
        return value
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # Python's reader raises whatever a damaged file makes it stumble upon
        raise DataError(f"{path} is damaged or no pickle of plain data ({printable(str(error))})") from error


def _text(name: Any) -> str:
    if not isinstance(name, str | bytes):
        raise TypeError(f"{type(name).__name__} in place of a name")
    return name.decode("utf-8") if isinstance(name, bytes) else name


def _check(data: bytes) -> None:
    """Refuse instructions that plain data do not need, and places for values far beyond the file's size.

    Python's reader makes room for as many values as the largest place's number, 64 GB for one instruction.
    """
    file, name = io.BytesIO(data), ""
    while name != "STOP":
        code = file.read(1).decode("latin-1")
        instruction = _BY_CODE.get(code)
        name = repr(code) if instruction is None else instruction.name
        if instruction is None or name not in _ALLOWED:
            raise DataError(f"it holds the instruction {name}, which plain data do not need; refused")
        argument: Any = None
        if name == "STRING":  # pickletools takes one of Python 2 for ASCII, and an array's content is none
            file.readline()
        elif instruction.arg is not None:
            argument = instruction.arg.reader(file)
        if "PUT" in name and not 0 <= argument <= len(data):
            raise DataError(f"it keeps a value at place {argument}, more than it can hold; refused")


class _Reader(pickle.Unpickler):
    """Python's reader, with nothing to call but what `_KNOWN` names."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name."""
        if (module, name) not in _KNOWN:
            asked = printable(f"{module}.{name}"[:100])
            raise DataError(f"it asks for {asked}, which plain data do not need; refused")
        return _KNOWN[module, name]


class _Dtype:
    """Stands for `numpy.dtype`, whose own state could describe arrays of addresses."""

    def __init__(self, code: str | bytes, *_: Any) -> None:
        self.code = _text(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.code = _text(state[1]).replace("|", "") + self.code.lstrip("<>=|")

    def real(self) -> np.dtype[Any]:
        """The type of numbers it means."""
        if len(self.code) > 4 or np.dtype(self.code).kind not in "biuf":
            raise DataError(f"it holds an array of {printable(self.code[:20])!r}, only numbers are allowed")
        return np.dtype(self.code)


class _Array(np.ndarray):  # type: ignore[type-arg]
    """An array whose content, numbers alone, comes after it."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:  # type: ignore[override]
        _, shape, kind, fortran, raw = state
        content, type_ = _raw(raw), kind.real()
        if len(shape) > 5 or not all(0 <= n <= len(content) for n in shape):
            raise DataError(f"it holds an array of shape {shape!r:.80}; refused")
        if len(content) != type_.itemsize * math.prod(shape):
            raise DataError("it holds an array whose content does not fill it")
        super().__setstate__((1, shape, type_, bool(fortran), content))  # type: ignore[arg-type]


def _raw(content: str | bytes) -> bytes:
    return content.encode("latin-1") if isinstance(content, str) else content


def _empty_array(*_: Any) -> _Array:
    return np.empty(0, np.uint8).view(_Array)


def _scalar(kind: _Dtype, raw: Any) -> Any:
    return np.frombuffer(_raw(raw), dtype=kind.real())[0].item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise DataError(f"it encodes as {encoding!r}; refused")
    return text.encode("latin-1")


_KNOWN = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    ("numpy", "ndarray"): object(),  # an argument, never called
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}
"""What a pickle may name -> what is made of it."""


def _measure(value: Any, most: int) -> None:
    """Refuse a value that holds something else than data, or much more than its file: one list named a
    thousand times in a list, and so on ten lists deep."""
    waiting = [(value, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, list | tuple):
            waiting += ((item, depth + 1) for item in value)
            most -= len(value)
        elif isinstance(value, np.ndarray):
            most -= value.nbytes
        elif isinstance(value, str | bytes):
            most -= len(value)
        elif not (value is None or isinstance(value, bool | int | float)):
            raise DataError(f"it holds a {type(value).__name__.lstrip('_')}, which is no data")
        if most < 0 or depth > MAX_DEPTH:
            raise DataError("it names the same values again and again, or lists too deep in lists; refused")


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
