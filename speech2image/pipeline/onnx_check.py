"""Check of an ONNX file before ONNX Runtime opens it: one file alone, with operators that end.

An ONNX file is a program: it can take other files of the machine for its weights, call operators that read
files, loop without end, or draw random numbers. What `export` writes does none of this, so nothing else is
let through: the file's messages are walked, and every field and operator not listed here is refused. The
base install has no package `onnx`, so this reads the encoding (protobuf) itself.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

from speech2image.errors import CheckpointError, printable

_ARITHMETIC = """
Abs Add And Ceil Clip Cos CumSum Div Equal Erf Exp Floor Greater GreaterOrEqual IsNaN Less LessOrEqual Log Max
Mean Min Mod Mul Neg Not Or Pow Reciprocal Round Sign Sin Sqrt Sub Sum Where Xor
"""
_LAYERS = """
AveragePool BatchNormalization Conv ConvTranspose DequantizeLinear DynamicQuantizeLinear Einsum Elu GRU Gelu
Gemm GlobalAveragePool GroupNormalization HardSigmoid InstanceNormalization LSTM LayerNormalization LeakyRelu
LogSoftmax MatMul MatMulInteger MaxPool PRelu RNN Relu Resize Selu Sigmoid Softmax Softplus Tanh
"""
_REDUCTIONS = "ArgMax ArgMin ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum TopK "
_SHAPES = """
Cast Concat Constant ConstantOfShape DepthToSpace Expand Flatten Gather GatherElements GatherND Identity
NonZero OneHot Pad Range Reshape ScatterElements ScatterND Shape Size Slice SpaceToDepth Split Squeeze Tile
Transpose Trilu Unsqueeze
"""
OPERATORS = frozenset((_ARITHMETIC + _LAYERS + _REDUCTIONS + _SHAPES).split())
"""Operators that any network may use: what `export` writes, and their near relatives.

Left out are those that may never end or hold networks of their own (Loop, Scan, If), random numbers (a seed
gives the same picture for good), strings and sequences."""
_FOR_VOICES = """
Atan BiasGelu ConvInteger DFT DynamicQuantizeLSTM DynamicQuantizeMatMul EmbedLayerNormalization FastGelu
FusedConv FusedMatMul MatMulNBits QLinearConv QLinearMatMul
QuantizeLinear QuickGelu RandomNormalLike RandomUniformLike STFT SkipLayerNormalization
"""


class Allowed(NamedTuple):
    """What a network may use.

    Attributes:
        operators: their names, in any of the domains.
        domains: whose operators; "" is ONNX's own.
    """

    operators: frozenset[str]
    domains: frozenset[str]


EXPORTED = Allowed(OPERATORS, frozenset({"", "ai.onnx"}))
"""For model folders."""
VOICE = Allowed(OPERATORS | frozenset(_FOR_VOICES.split()), EXPORTED.domains | {"com.microsoft"})
"""For voices that others publish: eight-bit numbers, spectra, and ONNX Runtime's own fused operators, too."""
MAX_FIELDS = 100_000
"""Fields in one file; a network of a thousand operators has about 15,000."""

Check = Callable[[bytes], None]
"""Raises `CheckpointError` for a value that is not allowed."""
Message = Mapping[int, "Message | Check | None"]
"""Number of a field that is allowed -> the message in it, or a check of its value, or None: not looked at."""


def check_network(content: bytes, name: str, allowed: Allowed = EXPORTED) -> None:
    """Refuse a network that is more than weights and allowed operators.

    Args:
        content: of an ONNX file.
        name: what to call it in errors.
        allowed: the operators.

    Raises:
        CheckpointError: it is no ONNX file, its weights lie in other files, or it uses anything not listed.
    """
    try:
        Walk(content).message(0, len(content), _model(allowed))
    except CheckpointError as error:
        raise CheckpointError(f"{name} is refused: {error}") from None
    except IndexError as error:
        raise CheckpointError(
            f"{name} cannot be opened as an ONNX network; it is damaged or something else"
        ) from error


class Walk:
    """Goes once through a file in protobuf's encoding; `IndexError` where it breaks off."""

    def __init__(self, content: bytes) -> None:
        self.content, self.fields = content, 0

    def message(self, place: int, end: int, allowed: Message) -> None:
        """Check the fields between two places."""
        while place < end:
            self.fields += 1
            if self.fields > MAX_FIELDS:
                _refuse(f"it has more than {MAX_FIELDS:,} fields, more than any network of this project")
            key, place = self.number(place)
            number, kind = key >> 3, key & 7
            start, place = self.skip(place, kind)
            if place > end:
                raise IndexError("a field reaches beyond its message")
            if number not in allowed:
                _refuse("it is no ONNX file, or holds more than operators and weights (a network in another)")
            inside = allowed[number]
            if isinstance(inside, Mapping):
                self.message(start, place, inside)
            elif inside is not None:
                inside(self.content[start:place])

    def number(self, place: int) -> tuple[int, int]:
        """A whole number in 7 bits a byte, and the place behind it."""
        byte = self.content[place]
        if byte < 128:
            return byte, place + 1
        value = 0
        for i in range(10):
            byte = self.content[place + i]
            value |= (byte & 127) << (7 * i)
            if byte < 128:
                return value, place + i + 1
        raise IndexError("a number without end")

    def skip(self, place: int, kind: int) -> tuple[int, int]:
        """Where a field's value begins and ends."""
        if kind == 0:
            return place, self.number(place)[1]
        if kind == 2:
            length, start = self.number(place)
            return start, start + length
        if kind not in (1, 5):  # 3 and 4 are groups, which ONNX does not have
            raise IndexError("an unknown kind of field")
        return place, place + (8 if kind == 1 else 4)


def _refuse(reason: str) -> NoReturn:
    raise CheckpointError(f"{reason}; take one that speech2image export wrote, from whom you trust")


def _check_location(value: bytes) -> None:
    """Where a tensor's numbers lie: 0 is in the tensor. The name of another file is never 0."""
    if value != b"\0":
        _refuse("it takes weights from another file, and a network must hold them itself")


# Numbers of fields as in onnx.proto; those left out are refused.
_TENSOR: Message = dict.fromkeys((1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16)) | dict.fromkeys(
    (13, 14), _check_location
)
_ATTRIBUTE: Message = dict.fromkeys((1, 2, 3, 4, 7, 8, 9, 13, 20)) | {5: _TENSOR}


def _model(allowed: Allowed) -> Message:
    """The fields of a whole file that uses allowed operators alone."""

    def check_operator(value: bytes) -> None:
        operator = value.decode("utf-8", "replace")
        if operator not in allowed.operators:
            _refuse(f"it uses the operator '{printable(operator[:60])}', which is not among those allowed")

    def check_domain(value: bytes) -> None:
        domain = value.decode("utf-8", "replace")
        if domain not in allowed.domains:
            _refuse(f"it uses an operator of '{printable(domain[:60])}', which is none of those allowed")

    node: Message = dict.fromkeys((1, 2, 3, 6, 9)) | {4: check_operator, 5: _ATTRIBUTE, 7: check_domain}
    graph: Message = dict.fromkeys((2, 10, 11, 12, 13, 16)) | {1: node, 5: _TENSOR}
    return dict.fromkeys((1, 2, 3, 4, 5, 6, 8)) | {7: graph}
