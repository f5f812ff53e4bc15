"""Eight-bit weights as the processor at hand multiplies them fastest, with the same sums to the last bit.

What `export` writes holds such weights without sign, which every processor multiplies exactly. One with the
instructions VNNI multiplies numbers without sign by numbers with one at twice the speed, and ONNX Runtime
uses them for that pair alone. Weight and zero point less 128 each leave their difference as it is, so there
the weights get a sign before ONNX Runtime sees them. Other processors add such products in 16 bits, which
overflow, and keep what the file has.
"""

from collections import Counter
from collections.abc import Container, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.pipeline.onnx_check import Walk

_OPERATOR = b"MatMulInteger"
_WITH_VNNI = {"AVX512_CLX", "AVX512_ICL", "AVX512_SPR"}
"""Groups of instructions, as numpy names them, that hold VNNI."""
_WITHOUT_SIGN, _WITH_SIGN = b"\2", b"\3"  # ONNX's numbers of the types uint8 and int8
_HALF = 0x80

# Numbers of fields as in onnx.proto.
_GRAPH, _NODE, _INITIALIZER = 7, 1, 5
_INPUT, _OPERATOR_NAME = 1, 4
_TYPE, _AS_INTEGERS, _TENSOR_NAME, _AS_BYTES = 2, 5, 8, 9

Buffer = bytes | memoryview
Field = tuple[int, int, int, int]
"""Number of a field, where it begins, where its value begins, and where it ends."""


def has_vnni() -> bool:
    """Whether this processor is known to have VNNI (of 512 bits)."""
    about: Any = np.show_config(mode="dicts")
    return not _WITH_VNNI.isdisjoint(about["SIMD Extensions"].get("found", ()))


def with_sign(content: bytes) -> bytes:
    """The same network whose eight-bit weights have a sign, if a MatMulInteger alone reads them.

    Args:
        content: of an ONNX file that passed `onnx_check.check_network`.
    """
    graph = next((field for field in _fields(content, 0, len(content)) if field[0] == _GRAPH), None)
    if graph is None:
        return content
    parts = list(_fields(content, *graph[2:]))
    stored = dict(_without_sign(content, [part for part in parts if part[0] == _INITIALIZER]))
    if not stored:
        return content
    chosen = _weights(content, [part for part in parts if part[0] == _NODE], stored.keys())
    view, pieces, kept = memoryview(content), list[Buffer](), graph[2]
    for _, start, inside, end in sorted(stored[name] for name in chosen):
        pieces += [view[kept:start], *_field(_INITIALIZER, _signed(content, inside, end))]
        kept = end
    pieces.append(view[kept : graph[3]])
    return b"".join([view[: graph[1]], *_field(_GRAPH, pieces), view[graph[3] :]])


def _without_sign(content: bytes, initializers: list[Field]) -> Iterator[tuple[bytes, Field]]:
    """The stored tensors of eight-bit numbers without sign, by name."""
    for field in initializers:
        name, kind = b"", b""
        for number, _, inside, behind in _fields(content, *field[2:]):
            if number == _TENSOR_NAME:
                name = content[inside:behind]
            elif number == _TYPE:
                kind = content[inside:behind]
        if kind == _WITHOUT_SIGN:
            yield name, field


def _weights(content: bytes, nodes: list[Field], stored: Container[bytes]) -> list[bytes]:
    """Of the names stored, those of weights that one MatMulInteger reads, and of their zero points."""
    read, pairs = Counter[bytes](), list[list[bytes]]()
    for _, _, start, end in nodes:
        inputs, operator = list[bytes](), b""
        for number, _, inside, behind in _fields(content, start, end):
            if number == _INPUT:
                inputs.append(content[inside:behind])
            elif number == _OPERATOR_NAME:
                operator = content[inside:behind]
        read.update(inputs)
        if operator == _OPERATOR and len(inputs) == 4:
            pairs.append(inputs[1::2])
    return [name for pair in pairs if all(read[one] == 1 and one in stored for one in pair) for name in pair]


def _signed(content: bytes, start: int, end: int) -> list[Buffer]:
    """The pieces of a tensor whose numbers are less by 128 and have a sign."""
    view, fields = memoryview(content), list(_fields(content, start, end))
    found = {number: view[inside:behind] for number, _, inside, behind in fields}
    numbers = (
        np.frombuffer(found[_AS_BYTES], np.uint8)
        if _AS_BYTES in found
        else _unpacked(found.get(_AS_INTEGERS, b""))
    )
    replaced = (_TYPE, _AS_INTEGERS, _AS_BYTES)
    rest = [view[begin:behind] for number, begin, _, behind in fields if number not in replaced]
    kind = _number(_TYPE << 3) + _WITH_SIGN
    return [*rest, kind, *_field(_AS_BYTES, [(numbers ^ np.uint8(_HALF)).data])]


def _unpacked(packed: Buffer) -> NDArray[np.uint8]:
    """Numbers below 256 that are written in 7 bits a byte."""
    array = np.frombuffer(packed, np.uint8)
    goes_on = array >= _HALF
    second = np.concatenate([[False], goes_on[:-1]])
    numbers: NDArray[np.uint8] = array[~second] & 0x7F
    numbers[goes_on[~second]] |= array[second] << 7
    return numbers


def _fields(content: bytes, place: int, end: int) -> Iterator[Field]:
    walk = Walk(content)
    while place < end:
        start = place
        key, place = walk.number(place)
        inside, place = walk.skip(place, key & 7)
        yield key >> 3, start, inside, place


def _field(number: int, value: list[Buffer]) -> list[Buffer]:
    """A field of bytes, in pieces."""
    return [_number(number << 3 | 2), _number(sum(map(len, value))), *value]


def _number(value: int) -> bytes:
    """A whole number in 7 bits a byte."""
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])
