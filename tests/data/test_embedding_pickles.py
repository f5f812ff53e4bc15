"""Published pickles: read as data, whatever protocol; a malicious one is refused and nothing is executed."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from speech2image.data.embedding_pickles import (
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
    value = {"a": (1.5, None, True, False), "é\n": [[], (), {}, (1, 2, 3, 4), b"\xff\x00"], 3: "it's"}
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


def test_files_that_do_not_fit_are_told(tmp_path):
    write_published(tmp_path, PublishedEmbeddings(ROWS, NAMES, np.array([2, 2, 3])))
    dump(tmp_path / FILENAMES, NAMES[:2], 2)
    with pytest.raises(DataError, match="2 names"):
        read_published(tmp_path)
    with pytest.raises(DataError, match=EMBEDDINGS):
        read_published(tmp_path / "absent")
