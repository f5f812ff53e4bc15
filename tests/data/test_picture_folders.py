"""Folders of pictures of every kind, broken ones among them."""

import os

import numpy as np
import pytest
from PIL import Image

from speech2image.data import listings, pictures
from speech2image.data.pictures import list_pictures, read_picture, stream_pictures
from speech2image.errors import DataError, SettingsError


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array)).save(path, **options)


def flat(*colour, side=8):
    return np.full((side, side, len(colour)), colour, np.uint8)


def names_of(batches):
    return [name for batch in batches for name in batch.names]


def test_linked_folders_and_files_are_looked_into(tmp_path):
    for name in ("real/rose/a.png", "elsewhere/daisy/b.png", "elsewhere/c.png"):
        save(tmp_path / name, flat(10, 20, 30))
    (tmp_path / "real" / "daisy").symlink_to(tmp_path / "elsewhere" / "daisy")
    (tmp_path / "real" / "c.png").symlink_to("../elsewhere/c.png")
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    for folder in ("real", "linked"):
        assert list_pictures(tmp_path / folder) == ["c.png", "daisy/b.png", "rose/a.png"]


def test_links_in_a_circle_end(tmp_path):
    save(tmp_path / "a" / "b" / "x.png", flat(10, 20, 30))
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "self").symlink_to(".")
    assert list_pictures(tmp_path / "a") == ["b/x.png"]


def test_a_link_that_leads_nowhere_is_named_as_broken(tmp_path):
    save(tmp_path / "a.png", flat(10, 20, 30))
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    (batch,) = stream_pictures(tmp_path)
    assert batch.names == ["a.png"]
    assert [name for name, _ in batch.broken] == ["b.png"] and "No such file" in batch.broken[0][1]


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    save(tmp_path / "a.png", flat(10, 20, 30))
    save(tmp_path / "locked" / "b.png", flat(10, 20, 30))
    scandir = os.scandir

    def refuse(folder):
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(listings.os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot list .*locked: Permission denied"):
        list_pictures(tmp_path)


def test_every_kind_becomes_rgb(tmp_path):
    save(tmp_path / "a.png", flat(10, 20, 30))
    save(tmp_path / "b.webp", flat(10, 20, 30), lossless=True)
    save(tmp_path / "c.bmp", flat(10, 20, 30))
    save(tmp_path / "d.JPG", flat(10, 20, 30), quality=100)
    save(tmp_path / "grey.png", np.full((8, 8), 77, np.uint8))
    save(tmp_path / "grey16.png", np.full((8, 8), 65535, np.uint16))
    save(tmp_path / "grey16dark.tif", np.full((8, 8), 257 * 50, np.uint16))
    save(tmp_path / "clear.png", flat(9, 9, 9, 0))
    save(tmp_path / "half.png", flat(0, 0, 0, 128))
    Image.fromarray(flat(10, 20, 30)).quantize(2).save(tmp_path / "palette.gif")
    Image.new("1", (8, 8), 1).save(tmp_path / "bit.png")
    expected = {
        "a.png": (10, 20, 30),
        "b.webp": (10, 20, 30),
        "c.bmp": (10, 20, 30),
        "d.JPG": (10, 20, 30),
        "grey.png": (77,) * 3,
        "grey16.png": (255,) * 3,
        "grey16dark.tif": (50,) * 3,
        "clear.png": (255,) * 3,
        "half.png": (127,) * 3,
        "palette.gif": (10, 20, 30),
        "bit.png": (255,) * 3,
    }
    found = {}
    for batch in stream_pictures(tmp_path, batch_size=4):
        found |= dict(zip(batch.names, batch.pictures, strict=True))
        assert not batch.broken
    assert found.keys() == expected.keys()
    for name, colour in expected.items():
        assert found[name].shape == (8, 8, 3)
        assert found[name].dtype == np.uint8
        assert np.abs(found[name].astype(int) - colour).max() <= 2, name


def test_mixed_sizes_stay_and_can_be_made_one(tmp_path):
    save(tmp_path / "a.png", np.zeros((4, 9, 3), np.uint8))
    save(tmp_path / "b.png", np.zeros((1, 1, 3), np.uint8))
    save(tmp_path / "c.png", np.zeros((30, 20, 3), np.uint8))
    (batch,) = stream_pictures(tmp_path)
    assert [picture.shape[:2] for picture in batch.pictures] == [(4, 9), (1, 1), (30, 20)]
    (batch,) = stream_pictures(tmp_path, size=12)
    assert np.stack(batch.pictures).shape == (3, 12, 12, 3)


def test_the_square_is_the_middle(tmp_path):
    picture = np.zeros((6, 18, 3), np.uint8)
    picture[:, 6:12] = 200
    save(tmp_path / "a.png", picture)
    assert (read_picture(tmp_path / "a.png", 6) == 200).all()


def test_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a.png", np.zeros((4, 9, 3), np.uint8), exif=exif)
    assert read_picture(tmp_path / "a.png").shape == (9, 4, 3)


def test_broken_files_are_named_and_the_rest_goes_on(tmp_path):
    for i in range(30):
        save(tmp_path / f"{i:02}.png", flat(i, i, i))
    whole = (tmp_path / "07.png").read_bytes()
    (tmp_path / "07.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "15.png").write_bytes(b"")
    (tmp_path / "29.png").write_bytes(b"not a picture at all")
    batches = list(stream_pictures(tmp_path, batch_size=8))
    assert names_of(batches) == [f"{i:02}.png" for i in range(30) if i not in (7, 15, 29)]
    broken = [entry for batch in batches for entry in batch.broken]
    assert [name for name, _ in broken] == ["07.png", "15.png", "29.png"]
    assert all("unreadable picture" in reason for _, reason in broken)


def test_only_broken_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no")
    (batch,) = stream_pictures(tmp_path)
    assert (batch.names, batch.pictures, len(batch.broken)) == ([], [], 1)


def test_what_pillow_stumbles_upon_is_no_end(tmp_path, monkeypatch):
    save(tmp_path / "a.png", flat(1, 1, 1))
    save(tmp_path / "b.png", flat(2, 2, 2))
    real = pictures.open_picture

    def stumble(data, name):
        if name.endswith("a.png"):
            raise RuntimeError("deep inside a decoder")
        return real(data, name)

    monkeypatch.setattr(pictures, "open_picture", stumble)
    (batch,) = stream_pictures(tmp_path)
    assert batch.names == ["b.png"]
    assert "deep inside" in batch.broken[0][1]


def test_subfolders_in_order_without_what_is_hidden_or_no_picture(tmp_path):
    for name in ("b/2.png", "a/9.png", "a/10.png", ".cache/x.png", "a/.y.png", "z.png"):
        save(tmp_path / name, flat(0, 0, 0))
    (tmp_path / "captions.txt").write_text("red")
    (tmp_path / "folder.png").mkdir()
    assert list_pictures(tmp_path) == ["a/10.png", "a/9.png", "b/2.png", "z.png"]
    assert names_of(stream_pictures(tmp_path, names=["b/2.png", "z.png"])) == ["b/2.png", "z.png"]


def test_batches_are_bounded_in_number_and_in_bytes(tmp_path, monkeypatch):
    for i in range(10):
        save(tmp_path / f"{i}.png", flat(0, 0, 0))
    assert [len(batch.names) for batch in stream_pictures(tmp_path, batch_size=4)] == [4, 4, 2]
    monkeypatch.setattr(pictures, "_HELD", 2 * 8 * 8 * 3)
    assert [len(batch.names) for batch in stream_pictures(tmp_path, batch_size=4)] == [2] * 5


def test_pictures_are_read_as_they_are_asked_for(tmp_path):
    save(tmp_path / "a.png", flat(1, 1, 1))
    save(tmp_path / "b.png", flat(1, 1, 1))
    batches = stream_pictures(tmp_path, batch_size=1)
    next(batches)
    save(tmp_path / "b.png", flat(9, 9, 9))
    assert next(batches).pictures[0].max() == 9


def test_folders_without_pictures(tmp_path):
    with pytest.raises(DataError, match="no pictures in"):
        stream_pictures(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        stream_pictures(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is no folder"):
        stream_pictures(tmp_path / "file")


def test_settings(tmp_path):
    save(tmp_path / "a.png", flat(1, 1, 1))
    with pytest.raises(SettingsError):
        stream_pictures(tmp_path, size=0)
    with pytest.raises(SettingsError):
        stream_pictures(tmp_path, batch_size=0)
