"""Published pickles: read as data, whatever protocol; a malicious one is refused and nothing is executed."""

import os
import pickle
import random
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from speech2image.data.corpora.embedding_pickles import (
    CLASSES,
    EMBEDDINGS,
    FILENAMES,
    PublishedEmbeddings,
    read_pickle,
    read_published,
    write_published,
)
from speech2image.errors import DataError

ROWS = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
NAMES = ["002.Laysan/Laysan_1", "002.Laysan/Laysan_2", "003.Sooty/Sooty_1"]

# As cPickle of Python 2 wrote them: a list of strings and a list of numbers, protocol 0
NAMES_OF_PYTHON_2 = b"(lp1\nS'002.Laysan/Laysan_1'\np2\naS'002.Laysan/Laysan_2'\np3\naS\"it's\"\np4\na."
CLASSES_OF_PYTHON_2 = b"(lp1\nI2\naI2\naI300\na."
# numpy.array([1, 2], 'f4') of Python 2, protocol 0
ARRAY_OF_PYTHON_2 = (
    b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntS'b'\ntRp3\n(I1\n(I2\ntcnumpy\n"
    b"dtype\np4\n(S'f4'\nI0\nI1\ntRp5\n(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x00\\x00\\x80?\\x00\\x00\\x00@'\ntb."
)


def dump(path: Path, value: object, protocol: int) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize(
    "value",
    [list(ROWS), ROWS, np.asfortranarray(ROWS[0]), NAMES, [2, 300, 70000, -1, 2**40], [np.int64(7)]],
    ids=["list of arrays", "array", "fortran", "names", "numbers", "numpy numbers"],
)
def test_plain_data_read_back(tmp_path, value, protocol):
    found = read_pickle(dump(tmp_path / "p", value, protocol))
    assert np.array_equal(np.asarray(found), np.asarray(value))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_other_plain_values(tmp_path, protocol):
    value = [(1.5, None, True, False), "é\n", [[], (), (1, 2, 3, 4), b"\xff\x00"], "it's", -(2**70)]
    assert read_pickle(dump(tmp_path / "p", value, protocol)) == value


def test_pickles_of_python_2(tmp_path):
    (tmp_path / "n").write_bytes(NAMES_OF_PYTHON_2)
    assert read_pickle(tmp_path / "n") == ["002.Laysan/Laysan_1", "002.Laysan/Laysan_2", "it's"]
    (tmp_path / "c").write_bytes(CLASSES_OF_PYTHON_2)
    assert read_pickle(tmp_path / "c") == [2, 2, 300]
    (tmp_path / "a").write_bytes(ARRAY_OF_PYTHON_2)
    found = read_pickle(tmp_path / "a")
    assert found.dtype == np.float32 and found.tolist() == [1.0, 2.0]


def test_published_folder_reads_back_and_others_read_it(tmp_path):
    published = PublishedEmbeddings(ROWS, NAMES, np.array([2, 2, 3]))
    write_published(tmp_path, published)
    found = read_published(tmp_path)
    assert np.array_equal(found.embeddings, ROWS) and found.filenames == NAMES
    assert found.classes.tolist() == [2, 2, 3]
    for name in (EMBEDDINGS, FILENAMES, CLASSES):  # as StackGAN's code opens them
        with open(tmp_path / name, "rb") as file:
            loaded = pickle.load(file, encoding="latin1")
        assert len(loaded) == 3
    assert np.array_equal(pickle.loads((tmp_path / EMBEDDINGS).read_bytes(), encoding="latin1"), ROWS)


class Malicious:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_a_malicious_pickle_is_refused_and_nothing_is_executed(tmp_path, protocol):
    mark = tmp_path / "executed"
    for call in [(os.system, f"touch {mark}"), (eval, f"open({str(mark)!r}, 'w')"), (Path.touch, mark)]:
        path = dump(tmp_path / "p", [1, Malicious(*call)], protocol)
        with pytest.raises(DataError, match="refused"):
            read_pickle(path)
        assert not mark.exists()
    pickle.loads(dump(tmp_path / "p", Malicious(Path.touch, mark), protocol).read_bytes())
    assert mark.exists(), "it would have been executed"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no pickle",
        b"\x80\x02]",
        b"\x80\x02K\x01(.",
        pickle.dumps(list(ROWS), 2)[:-30],
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"(cos\nsystem\nS'true'\no.",
        pickle.dumps(np.array([object()]), 2),
        b"cnumpy\nndarray\n.",
        b"cnumpy\ndtype\n(S'f4'\ntR}b.",
        b"h\x05.",
    ],
)
def test_whatever_else_is_refused(tmp_path, data):
    (tmp_path / "p").write_bytes(data)
    with pytest.raises(DataError, match="p"):
        read_pickle(tmp_path / "p")


def put(number: int) -> bytes:
    return b"r" + struct.pack("<I", number)


def again(data: bytes, times: int, depth: int) -> bytes:
    """A value named `times` times in a list, that list likewise, and so on."""
    made = data + b"q\x00"
    for level in range(depth):
        made += b"](" + (b"h" + bytes([level])) * times + b"eq" + bytes([level + 1])
    return made + b"."


def array_of(dtype_state: bytes, content: bytes, shape: bytes = b"K\x01\x85", code: bytes = b"O8") -> bytes:
    """A pickle of an array as numpy writes it, of any type and state."""
    start = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
    kind = b"cnumpy\ndtype\nU" + bytes([len(code)]) + code + b"K\x00K\x01\x87R" + dtype_state + b"b"
    return start + shape + kind + b"\x89U" + bytes([len(content)]) + content + b"tb."


PLAIN = b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
ATTACKS = {
    "a list shared ten deep": again(b"\x80\x02](K\x01K\x02e", 100, 10),
    "an array shared": again(pickle.dumps(ROWS.repeat(1000, 0), 2)[:-1], 100, 2),
    "bytes shared": again(b"\x80\x03B" + struct.pack("<I", 10**5) + bytes(10**5), 200, 1),
    "a tuple shared": again(b"\x80\x02K\x01\x85", 100, 10),
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "deep lists": b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 10**5 + b".",
    "a place of 64 GB": b"\x80\x02K\x01" + put(2**31 - 1) + b".",
    "a place of 64 GB as text": b"I1\np2147483646\n.",
    "a place below zero": b"I1\np-5\n.",
    "a byte array of 100 GB": b"\x80\x05\x96" + struct.pack("<Q", 10**11) + b".",
    "bytes of 100 GB": b"\x80\x04\x8e" + struct.pack("<Q", 10**11) + b".",
    "a string of -1": b"T\xff\xff\xff\xff.",
    "a number of 10,000 digits": b"L" + b"9" * 10**4 + b"L\n.",
    "an array without content": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I1000\nt"
    b"S'd'\ntR(I1\n(I1000\ntcnumpy\ndtype\n(S'f8'\nI0\nI1\ntRI00\nS''\ntb.",
    "an array too large": array_of(PLAIN, bytes(4), b"J\xff\xff\xff\x7f\x85", b"f4"),
    "an array of negative size": array_of(PLAIN, bytes(4), b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", b"f4"),
    "an array of 33 dimensions": array_of(PLAIN, bytes(4), b"(" + b"K\x01" * 33 + b"t", b"f4"),
    "addresses as numbers": array_of(b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t", b"A" * 8),
    "an array of fields": array_of(PLAIN, bytes(8), code=b"f4,f4"),
    "an array of arrays": array_of(PLAIN, bytes(8), code=b"(9999999,)f4"),
    "an array of text": array_of(PLAIN, b"abcdefgh", code=b"S8"),
    "an array of dates": array_of(PLAIN, bytes(8), code=b"M8"),
    "attributes of a function": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}U\x0c__defaults__K\x01\x85s"
    b"\x86b.",
    "attributes of numpy.dtype": b"\x80\x02cnumpy\ndtype\n}U\x04codeU\x02O8sb.",
    "a dict": pickle.dumps({1: 2}, 2),
    "a set": pickle.dumps({1, 2}, 4),
    "a frozen set": pickle.dumps(frozenset({1, 2}), 4),
    "a complex number": pickle.dumps(1j, 2),
    "an outer object": b"Pid\n.",
    "an outer object's id": b"K\x01Q.",
    "an extension": b"\x82\x01.",
    "an instance": b"(ios\nsystem\n.",
    "a new object": b"cnumpy\ndtype\n(S'f4'\nt\x81.",
    "a name with dots": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93.",
    "numpy.load": b"cnumpy\nload\n(S'x'\ntR.",
    "another encoding": b"c_codecs\nencode\n(Vabc\nVrot13\ntR.",
    "an unfinished array of the type itself": b"cnumpy\nndarray\n(I1000\ntR.",
    "the function itself": b"cnumpy.core.multiarray\n_reconstruct\n.",
    "a name that steers the terminal": b"c\x1b[2J\nx\n.",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused(tmp_path, attack: str) -> None:
    (tmp_path / "p").write_bytes(ATTACKS[attack])
    with pytest.raises(DataError, match=str(tmp_path / "p")) as caught:
        read_pickle(tmp_path / "p")
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("attack", ["a list shared ten deep", "a place of 64 GB", "a byte array of 100 GB"])
def test_an_attack_takes_no_memory(tmp_path, attack: str) -> None:
    (tmp_path / "p").write_bytes(ATTACKS[attack])
    tracemalloc.start()
    with pytest.raises(DataError):
        read_pickle(tmp_path / "p")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_values_named_twice_are_read(tmp_path) -> None:
    """As Python 2 writes a list of equal names."""
    rows = [ROWS[0]] * 3
    found = read_pickle(dump(tmp_path / "p", [rows, ["name"] * 50], 2))
    assert np.array_equal(found[0], rows) and found[1] == ["name"] * 50


def test_a_file_of_twenty_gigabytes_a_device_and_a_pipe(tmp_path) -> None:
    path = tmp_path / "p"
    path.touch()
    os.truncate(path, 20 * 10**9)
    with pytest.raises(DataError, match="20,000,000,000 bytes"):
        read_pickle(path)
    for make in (lambda: path.symlink_to("/dev/zero"), lambda: os.mkfifo(path)):
        path.unlink()
        make()
        with pytest.raises(DataError, match="no regular file"):
            read_pickle(path)


def test_any_damage_is_refused_or_harmless(tmp_path) -> None:
    """Changed and cut files: a `DataError` or plain data, never anything else."""
    rng = random.Random(0)
    whole = [pickle.dumps(value, p) for value in (list(ROWS), NAMES, [1, 2.5, 2**40]) for p in (0, 2, 4)]
    refused = 0
    for _ in range(400):
        content = bytearray(rng.choice([*whole, ARRAY_OF_PYTHON_2]))
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        (tmp_path / "p").write_bytes(
            content[: rng.randrange(len(content))] if rng.random() < 0.1 else content
        )
        try:
            read_pickle(tmp_path / "p")
        except DataError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("file", "value"),
    [
        (EMBEDDINGS, ["a", "b", "c"]),
        (EMBEDDINGS, [[1.0], [1.0, 2.0], [3.0]]),
        (EMBEDDINGS, 5),
        (EMBEDDINGS, None),
        (FILENAMES, 5),
        (FILENAMES, [1, 2, 3]),
        (FILENAMES, [b"\xff", "b", "c"]),
        (CLASSES, [2**70, 1, 2]),
        (CLASSES, [[1], [2], [3]]),
        (CLASSES, ["x", "y", "z"]),
        (CLASSES, None),
    ],
)
def test_other_data_than_embeddings_names_and_classes(tmp_path, file: str, value: object) -> None:
    write_published(tmp_path, PublishedEmbeddings(ROWS, NAMES, np.array([2, 2, 3])))
    dump(tmp_path / file, value, 3)
    with pytest.raises(DataError):
        read_published(tmp_path)


def test_files_that_do_not_fit_are_told(tmp_path):
    write_published(tmp_path, PublishedEmbeddings(ROWS, NAMES, np.array([2, 2, 3])))
    dump(tmp_path / FILENAMES, NAMES[:2], 2)
    with pytest.raises(DataError, match="2 names"):
        read_published(tmp_path)
    with pytest.raises(DataError, match=EMBEDDINGS):
        read_published(tmp_path / "absent")
