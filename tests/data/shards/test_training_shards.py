"""Training shards: what is packed comes back, from wherever it lies, in full or not at all."""

import functools
import http.server
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_sets import sample

pytest.importorskip("torch")
import fsspec

from speech2image.audio.front_ends import WHISPER
from speech2image.data.pairs import write_shards
from speech2image.data.shards import urls
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.packing import pack
from speech2image.data.shards.training_shards import (
    read_training_header,
    read_training_shard,
)
from speech2image.data.streams import Stream, is_stream
from speech2image.errors import DataError, SettingsError

N = 10


@pytest.fixture(scope="module")
def arrays(tmp_path_factory) -> PairArrays:
    folder = tmp_path_factory.mktemp("prepared")
    samples = [sample(i, i % 3, "test" if i % 5 == 4 else "train") for i in range(N)]
    write_shards(samples, folder, samples_per_shard=4)
    opened = PairArrays.open(folder)
    rng = np.random.default_rng(0)
    opened.save_teacher(rng.random((N, 2, 1024)))
    opened.save_embeddings(rng.random((len(opened.utterance_sample), 1024)))
    return opened


@pytest.fixture(scope="module")
def packed(arrays: PairArrays, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "stream"
    assert len(pack(arrays, folder, samples_per_shard=3, shuffle=False)) == 3
    return folder


def test_packed_samples_are_those_of_the_data_set(arrays: PairArrays, packed: Path) -> None:
    stream = Stream.open([str(packed)])
    found = stream.load(range(3), pictures=True, frames=True)
    train = arrays.samples_of("train")
    assert found.ids == [arrays.ids[i] for i in train]
    assert found.captions == [arrays.captions[i] for i in train]
    np.testing.assert_array_equal(found.teacher, arrays.teacher[train])
    np.testing.assert_array_equal(found.pictures(32), arrays.pictures(32)[train])
    utterances = arrays.utterances_of("train")
    np.testing.assert_array_equal(found.embeddings, arrays.embeddings[utterances])
    np.testing.assert_array_equal(found.utterance_voice, arrays.utterance_voice[utterances])
    np.testing.assert_array_equal(found.utterance_caption, arrays.utterance_caption[utterances])
    np.testing.assert_array_equal(found.n_frames(), arrays.n_frames()[utterances])
    for mine, theirs in enumerate(utterances):
        np.testing.assert_array_equal(found.log_mel(mine), arrays.log_mel(int(theirs)))
    names = [arrays.class_names[int(label)] for label in arrays.labels[train]]
    assert [found.class_names[int(label)] for label in found.labels] == names
    mean = arrays.teacher[train].astype(np.float64).mean((0, 1))
    np.testing.assert_allclose(stream.teacher_mean, mean, rtol=1e-5)


def test_packing_goes_on_and_tells_other_data(arrays: PairArrays, tmp_path: Path) -> None:
    folder = tmp_path / "stream"
    paths = pack(arrays, folder, samples_per_shard=3)
    before = [path.stat().st_mtime_ns for path in paths]
    order = [one.id for path in paths for one in read_training_shard(str(path))]
    assert order != sorted(order)  # mixed
    paths[1].unlink()
    pack(arrays, folder, samples_per_shard=3)
    after = [path.stat().st_mtime_ns for path in paths]
    assert (after[0], after[2]) == (before[0], before[2]) and paths[1].exists()
    assert [one.id for path in paths for one in read_training_shard(str(path))] == order
    with pytest.raises(DataError, match="packed from other data"):
        pack(arrays, folder, samples_per_shard=4)
    assert len(pack(arrays, folder, samples_per_shard=8, overwrite=True)) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["training-000000.tar"]


@pytest.fixture(scope="module")
def server(packed: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        """Serves a folder; what is asked for below /short ends early, though its length is stated."""

        def log_message(self, *_: object) -> None: ...

        def copyfile(self, source, output) -> None:
            data = source.read()
            output.write(data[: len(data) // 2] if self.short else data)

        def do_GET(self) -> None:
            self.short = self.path.startswith("/short")
            self.path = self.path.removeprefix("/short")
            super().do_GET()

    handler = functools.partial(Quiet, directory=str(packed))
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_address[1]}"
        served.shutdown()


def addresses(packed: Path, server: str) -> dict[str, str]:
    """The same shards by every kind of address; an object store is played by fsspec's own in memory."""
    memory = fsspec.filesystem("memory")
    for path in packed.glob("*.tar"):
        memory.pipe(f"/bucket/{path.name}", path.read_bytes())
    names = "training-{000000..000002}.tar"
    return {
        "files": f"{packed}/{names}",
        "file": f"file://{packed}/{names}",
        "http": f"{server}/{names}",
        "memory": f"memory://bucket/{names}",
        "pipe": f"pipe:cat '{packed}'/{names}",
    }


@pytest.mark.parametrize("kind", ["files", "file", "http", "memory", "pipe"])
def test_shards_come_from_anywhere(kind: str, packed: Path, server: str, arrays: PairArrays) -> None:
    if kind == "http":
        pytest.importorskip("aiohttp")
    name = addresses(packed, server)[kind]
    assert is_stream(name)
    stream = Stream.open([name])
    assert [shard.samples for shard in stream.shards] == [{"train": 3}, {"train": 3}, {"train": 2}]
    found = stream.load([0, 1, 2], pictures=False, frames=True)
    assert found.ids == [arrays.ids[i] for i in arrays.samples_of("train")]


@pytest.mark.parametrize("kept", ["half", "to a sample's end", "all but one sample's picture"])
def test_a_file_cut_short_is_an_error(kept: str, packed: Path, tmp_path: Path) -> None:
    import tarfile

    whole = (packed / "training-000000.tar").read_bytes()
    with tarfile.open(packed / "training-000000.tar") as tar:
        ends = [member.offset for member in tar.getmembers() if member.name.endswith(".json")]
    size = {
        "half": len(whole) // 2,
        "to a sample's end": ends[1],
        "all but one sample's picture": ends[2] + 1024,
    }
    path = tmp_path / "training-000000.tar"
    path.write_bytes(whole[: size[kept]])
    assert read_training_header(str(path)).samples == {"train": 3}
    with pytest.raises(DataError, match="breaks off"):
        read_training_shard(str(path))


def test_a_changed_byte_is_an_error(packed: Path, tmp_path: Path) -> None:
    data = bytearray((packed / "training-000000.tar").read_bytes())
    place = data.index(b"\x93NUMPY") + 200
    data[place] ^= 1
    (tmp_path / "training-000000.tar").write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        read_training_shard(str(tmp_path / "training-000000.tar"))


def test_a_connection_that_ends_early_is_tried_again_and_then_an_error(server: str, monkeypatch) -> None:
    pytest.importorskip("aiohttp")
    paused = []
    monkeypatch.setattr(urls.time, "sleep", paused.append)
    with pytest.raises(DataError, match=r"short/training-000000\.tar"):
        read_training_shard(f"{server}/short/training-000000.tar")
    assert paused == list(urls.PAUSES)
    with pytest.raises(DataError, match="no shard"):
        read_training_header(f"{server}/training-000009.tar")
    assert paused == list(urls.PAUSES)  # what is not there is not asked for again


def test_a_command_that_ends_early_is_an_error(packed: Path, monkeypatch) -> None:
    monkeypatch.setattr(urls, "PAUSES", (0.0,))
    size = (packed / "training-000000.tar").stat().st_size
    with pytest.raises(DataError, match="breaks off"):
        read_training_shard(f"pipe:head -c {size // 2} '{packed}/training-000000.tar'")
    with pytest.raises(DataError, match=r"cannot read pipe:false.*exit 1"):
        Stream.open(["pipe:false"])
    # a header is read, and the command goes on writing in vain
    header = read_training_header(f"pipe:cat '{packed}/training-000000.tar' /dev/zero")
    assert header.samples == {"train": 3}


def test_what_is_no_stream_says_so(arrays: PairArrays, packed: Path, tmp_path: Path) -> None:
    assert not is_stream(str(arrays.folder)) and is_stream(str(packed))
    with pytest.raises(DataError, match="prepare stream"):
        Stream.open([str(arrays.folder / "pictures-000000.tar")])
    with pytest.raises(DataError, match="named twice"):
        Stream.open([str(packed), f"{packed}/training-000001.tar"])
    with pytest.raises(DataError, match="--front-end whisper-80"):
        Stream.open([str(packed)], front_end=WHISPER)
    with pytest.raises(SettingsError, match="braces"):
        Stream.open([f"{packed}/training-{{000000..000002.tar"])
