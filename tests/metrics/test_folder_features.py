"""Features of folders: kept by content, found again, gone on with after an interruption."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_network import RandomNetwork, pictures

from speech2image.errors import DataError, OutputError
from speech2image.metrics import folder_features as module
from speech2image.metrics.folder_comparison import compare, summary
from speech2image.metrics.folder_features import folder_features, user_cache


def fill(folder, n, seed=0, side=32):
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(pictures(n, side, seed)):
        Image.fromarray(picture).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "PART", 4)


def test_features_are_those_of_the_network(tmp_path):
    folder = fill(tmp_path / "a", 10)
    found = folder_features(folder, RandomNetwork(), tmp_path / "cache")
    expected = RandomNetwork()(pictures(10))
    np.testing.assert_allclose(found.all(), expected, rtol=1e-5)
    assert (found.n, len(found.parts), found.broken) == (10, 3, [])
    assert found.names() == [f"{i:03}.png" for i in range(10)]
    moments = found.moments(24)
    assert moments.n == 10
    np.testing.assert_allclose(moments.covariance, np.cov(expected, rowvar=False), atol=1e-6)


def test_second_time_nothing_is_computed_until_something_changes(tmp_path):
    folder, cache, network = fill(tmp_path / "a", 6), tmp_path / "cache", RandomNetwork()
    first = folder_features(folder, network, cache)
    assert network.seen == 6
    assert folder_features(folder, network, cache).all().tolist() == first.all().tolist()
    assert network.seen == 6
    (folder / "000.png").rename(folder / "zzz.png")
    assert folder_features(folder, network, cache).digest != first.digest
    assert network.seen == 12
    Image.fromarray(pictures(1, seed=9)[0]).save(folder / "001.png")
    folder_features(folder, network, cache)
    assert network.seen == 18
    folder_features(folder, network, cache, size=16)
    assert network.seen == 24
    network.checksum = "1" * 64
    folder_features(folder, network, cache)
    assert network.seen == 30


def test_equal_folders_share_their_features(tmp_path):
    network = RandomNetwork()
    one = folder_features(fill(tmp_path / "a", 4), network, tmp_path / "cache")
    other = folder_features(fill(tmp_path / "b", 4), network, tmp_path / "cache")
    assert one.digest == other.digest
    assert network.seen == 4


def test_goes_on_after_an_interruption(tmp_path):
    folder, cache = fill(tmp_path / "a", 10), tmp_path / "cache"

    class Dying(RandomNetwork):
        def __call__(self, given):
            if self.seen >= 8:
                raise KeyboardInterrupt
            return super().__call__(given)

    with pytest.raises(KeyboardInterrupt):
        folder_features(folder, Dying(), cache)
    network = RandomNetwork()
    assert folder_features(folder, network, cache).n == 10
    assert network.seen == 2


def test_a_damaged_part_is_computed_again(tmp_path):
    folder, cache, network = fill(tmp_path / "a", 8), tmp_path / "cache", RandomNetwork()
    found = folder_features(folder, network, cache)
    whole = found.all()
    found.parts[1].write_bytes(b"damaged")
    np.testing.assert_array_equal(folder_features(folder, network, cache).all(), whole)
    assert network.seen == 12


def test_broken_files_are_named_and_left_out(tmp_path):
    folder = fill(tmp_path / "a", 9)
    for name in ("002.png", "008.png"):
        (folder / name).write_bytes(b"no picture")
    found = folder_features(folder, RandomNetwork(), tmp_path / "cache")
    assert [name for name, _ in found.broken] == ["002.png", "008.png"]
    assert found.n == len(found.all()) == len(found.names()) == 7
    for path in folder.iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of the 9 files"):
        folder_features(folder, RandomNetwork(), tmp_path / "cache")


def test_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError):
        folder_features(fill(tmp_path / "a", 2), RandomNetwork(), tmp_path / "cache")


def test_user_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "speech2image"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache() == tmp_path / ".cache" / "speech2image"


@pytest.mark.parametrize("home", [None, "a file"])
def test_without_a_home_features_are_temporary(home, monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if home is None:  # and a user without a name, who has no home in the list of users, either
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    else:
        (tmp_path / home).touch()
        monkeypatch.setenv("HOME", str(tmp_path / home))
    cache = user_cache()
    assert cache.is_dir() and cache.parent == Path(tempfile.gettempdir()) and user_cache() != cache


def test_comparison(tmp_path):
    network = RandomNetwork()
    sides = [
        folder_features(fill(tmp_path / name, n, seed), network, tmp_path / "cache")
        for name, n, seed in (("a", 40, 0), ("b", 30, 1))
    ]
    figures = compare(*sides, network, resamples=5)
    assert figures["n"] == [40, 30]
    assert figures["fid"] > 0
    assert figures["fid_interval"][0] < figures["fid"] < figures["fid_interval"][1]
    assert figures["kid_interval"][0] < figures["kid_interval"][1]
    assert 0 <= figures["precision"] <= 1
    assert figures["warnings"] == []
    assert (figures["network"], figures["checksum"]) == (network.name, network.checksum)
    assert figures["content"][0] != figures["content"][1]
    assert figures == compare(*sides, network, resamples=5)
    text = summary(figures)
    assert f"FID        {figures['fid']:.3f}  (95 %: " in text
    same = compare(sides[0], sides[0], network, resamples=0)
    assert same["fid"] == pytest.approx(0, abs=1e-6)
    assert (same["precision"], same["recall"], same["fid_interval"]) == (1, 1, None)


def test_few_pictures(tmp_path):
    network = RandomNetwork()
    sides = [folder_features(fill(tmp_path / str(n), n), network, tmp_path / "cache") for n in (1, 2, 3)]
    with pytest.raises(DataError, match="has 1 readable picture"):
        compare(sides[1], sides[0], network)
    figures = compare(sides[1], sides[2], network, resamples=3)
    assert figures["precision"] is None
    assert "precision" not in summary(figures)
    assert len(figures["warnings"]) == 2
    assert "fewer pictures than dimensions" in figures["warnings"][0]
