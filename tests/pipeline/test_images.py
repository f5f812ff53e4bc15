import io

import numpy as np
import pytest
from PIL import Image

from speech2image.errors import OutputError, SettingsError
from speech2image.pipeline import images


def test_levels_and_axes() -> None:
    picture = np.full((3, 2, 4), -1.0)
    picture[0, 1, 3] = 1.0
    picture[1] = 9.0
    pixels = images.to_uint8(picture)
    assert pixels.shape == (2, 4, 3)
    assert pixels[1, 3].tolist() == [255, 255, 0]
    assert pixels[0, 0].tolist() == [0, 255, 0]


def test_a_png_looks_for_no_repetitions_and_loses_nothing() -> None:
    """Two equal halves: a search for repetitions would leave out the second."""
    half = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)
    picture = Image.fromarray(np.concatenate([half, half]))
    written = images.encode(picture)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(written))), np.asarray(picture))
    assert len(written) > 2 * half.size * 0.95
    plain = images.encode(Image.new("RGB", (256, 256), "white"))
    assert len(plain) < 3_000


def test_batch_equals_one_by_one() -> None:
    batch = np.random.default_rng(0).uniform(-1, 1, (3, 3, 5, 4))
    assert np.array_equal(images.to_uint8(batch), np.stack([images.to_uint8(one) for one in batch]))


def test_there_and_back() -> None:
    levels = images.from_uint8(np.array([[[0, 255, 51]]], dtype=np.uint8))
    assert levels.shape == (3, 1, 1) and levels.dtype == np.float32
    np.testing.assert_allclose(levels.ravel(), [-1, 1, -0.6], atol=1e-6)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    assert np.array_equal(images.to_uint8(images.from_uint8(pixels)), pixels)
    pixels = pixels[0]
    assert np.array_equal(np.asarray(images.to_image(images.from_uint8(pixels))), pixels)


def test_wrong_shape() -> None:
    with pytest.raises(SettingsError, match=r"\[4, 8, 8\]"):
        images.to_uint8(np.zeros((4, 8, 8)))


def test_grid_places_pictures_row_by_row() -> None:
    colours = ["red", "lime", "blue", "black", "yellow"]
    sheet = images.grid([Image.new("RGB", (4, 3), colour) for colour in colours], columns=3, gap=1)
    assert sheet.size == (14, 7)
    assert sheet.getpixel((0, 0)) == (255, 0, 0)
    assert sheet.getpixel((10, 2)) == (0, 0, 255)
    assert sheet.getpixel((5, 4)) == (255, 255, 0)
    assert sheet.getpixel((4, 0)) == sheet.getpixel((13, 6)) == (255, 255, 255)


@pytest.mark.parametrize(("n", "size"), [(1, (4, 4)), (2, (10, 4)), (3, (10, 10)), (8, (16, 16))])
def test_grid_is_about_square(n: int, size: tuple[int, int]) -> None:
    assert images.grid([Image.new("RGB", (4, 4))] * n).size == size


def test_grid_refuses() -> None:
    with pytest.raises(SettingsError, match="at least one"):
        images.grid([])
    with pytest.raises(SettingsError, match="one size"):
        images.grid([Image.new("RGB", (4, 4)), Image.new("RGB", (5, 4))])
    with pytest.raises(SettingsError, match="column"):
        images.grid([Image.new("RGB", (4, 4))], columns=0)


@pytest.mark.parametrize(
    ("suffix", "kind"), [("png", "PNG"), ("JPG", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP")]
)
def test_save(tmp_path, suffix: str, kind: str) -> None:
    path = images.save(Image.new("RGB", (9, 9), "red"), tmp_path / "new" / f"a.{suffix}")
    with Image.open(path) as back:
        assert (back.format, back.size) == (kind, (9, 9))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch) -> None:
    path = images.save(Image.new("RGB", (9, 9), "red"), tmp_path / "a.png")
    before = path.read_bytes()

    def full(self: Image.Image, file, *_, **__) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        images.save(Image.new("RGB", (9, 9), "blue"), path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_unusable_paths(tmp_path) -> None:
    image = Image.new("RGB", (2, 2))
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a folder"):
        images.save(image, tmp_path)
    with pytest.raises(OutputError, match="picture format"):
        images.save(image, tmp_path / "a.txt")
    with pytest.raises(OutputError, match="cannot write"):
        images.save(image, tmp_path / "file" / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["a" * 252 + ".png", "桜" * 84 + ".png", "a\0b.png"])
def test_names_no_file_can_have(tmp_path, name: str) -> None:
    for check in (images.check_path, lambda path: images.save(Image.new("RGB", (2, 2)), path)):
        with pytest.raises(OutputError, match="cannot write"):
            check(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "longest"), [(".webp", 16_383), (".jpg", 65_500), (".jpeg", 65_500)])
def test_a_format_holds_so_many_pixels_a_side_and_no_more(tmp_path, suffix: str, longest: int) -> None:
    for size in ((longest, 1), (1, longest)):
        images.save(Image.new("RGB", size), tmp_path / f"fits{suffix}")
    for size in ((longest + 1, 1), (1, longest + 1)):
        with pytest.raises(OutputError, match=f"at most {longest} pixels a side"):
            images.save(Image.new("RGB", size), tmp_path / f"does-not{suffix}")
        images.save(Image.new("RGB", size), tmp_path / "fits.png")
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["fits", "fits"]


def test_a_sheet_is_checked_before_it_is_drawn() -> None:
    """By the size that the grid then has."""
    sheet = images.grid([Image.new("RGB", (4, 4))] * 7, columns=3)
    images.check_sheet("a.webp", 7, 4, 3)
    images.check_size("a.webp", sheet.size)
    images.check_sheet("a.webp", 64, 254)  # 8 by 8
    images.check_sheet("a.webp", 64, 253, columns=64)  # 64 * 255 - 2 = 16318
    with pytest.raises(OutputError, match="would be 16510 x 256 pixels"):
        images.check_sheet("a.webp", 64, 256, columns=64)
    images.check_sheet("a.png", 10_000, 256)
    with pytest.raises(OutputError, match="at most 1074 megapixels"):
        images.check_sheet("a.png", 20_000, 256)


def test_encode() -> None:
    assert images.encode(Image.new("RGB", (2, 2))).startswith(b"\x89PNG")
