"""Pictures of every mode come out RGB, upright and small; small RGB ones keep their bytes."""

import io
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image
from small_sets import encoded, picture

from speech2image.data.pictures import Box, central_square, object_square, open_picture, shard_picture, to_rgb
from speech2image.errors import DataError


def reread(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("L", (30, 30), 128), "PNG", (128, 128, 128)),
        (Image.new("LA", (30, 30), (50, 255)), "PNG", (50, 50, 50)),
        (Image.new("RGBA", (30, 30), (200, 10, 10, 255)), "PNG", (200, 10, 10)),
        (Image.new("RGBA", (30, 30), (200, 10, 10, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGB", (30, 30), (10, 200, 60)).quantize(8), "PNG", (10, 200, 60)),
        (Image.new("1", (30, 30), 1), "PNG", (255, 255, 255)),
        (Image.new("CMYK", (30, 30), (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
        (Image.fromarray(np.full((30, 30), 32896, np.uint16)), "PNG", (128, 128, 128)),
        (Image.fromarray(np.full((30, 30), 32896, np.int32)), "TIFF", (128, 128, 128)),
        (Image.fromarray(np.full((30, 30), 0.5, np.float32)), "TIFF", (128, 128, 128)),
    ],
    ids=["grey", "grey-alpha", "rgba", "clear", "palette", "bits", "cmyk", "16-bit", "32-bit", "float"],
)
def test_every_mode_becomes_rgb(image: Image.Image, kind: str, expected: tuple[int, int, int]) -> None:
    data, suffix = shard_picture(encoded(image, kind), "x")
    out = reread(data)
    assert out.mode == "RGB" and suffix == "webp"
    np.testing.assert_allclose(np.asarray(out).mean((0, 1)), expected, atol=6)


def test_palette_with_a_clear_colour_becomes_white_there() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0] + [0] * 765)
    image.info["transparency"] = 0
    again = open_picture(encoded(image, "PNG", transparency=0), "x")
    assert to_rgb(again).getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize(("kind", "suffix"), [("JPEG", "jpg"), ("WEBP", "webp"), ("PNG", "png")])
def test_small_rgb_pictures_keep_their_bytes(kind: str, suffix: str) -> None:
    data = encoded(picture(size=(400, 304)), kind)
    assert shard_picture(data, "x") == (data, suffix)


@pytest.mark.parametrize("size", [(700, 500), (500, 700), (305, 305)])
def test_large_pictures_are_scaled_to_a_short_side_of_304(size: tuple[int, int]) -> None:
    out = reread(shard_picture(encoded(picture(size=size), "JPEG"), "x")[0])
    assert min(out.size) == 304
    assert out.width / out.height == pytest.approx(size[0] / size[1], rel=0.01)


def test_turned_photographs_are_set_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    wide = Image.new("RGB", (60, 30))
    assert reread(shard_picture(encoded(wide, "JPEG", exif=exif), "x")[0]).size == (30, 60)


def test_object_square_is_centred_and_its_half_side_three_quarters_of_the_box() -> None:
    assert object_square(Box(100, 80, 40, 20), (300, 300)) == (90, 60, 150, 120)


@pytest.mark.parametrize("size", [(40, 20), (33, 61), (100, 100), (7, 5)])
def test_the_papers_crop_is_the_one_that_holds_three_quarters(size: tuple[int, int]) -> None:
    box = Box(300, 300, *size)
    shares = {}
    for crop in ("paper", "stackgan"):
        left, top, right, bottom = object_square(box, (1000, 1000), crop=crop)
        assert right - left == bottom - top
        shares[crop] = max(size) / (right - left)
    assert 0.75 <= shares["paper"] < 0.95 and shares["stackgan"] < 0.75


def test_object_square_is_clipped_at_the_frame() -> None:
    assert object_square(Box(0, 0, 40, 40), (50, 200)) == (0, 0, 50, 50)


def test_box_outside_the_picture() -> None:
    with pytest.raises(DataError, match="outside the picture of 50 x 50"):
        shard_picture(encoded(picture(size=(50, 50))), "x", Box(200, 200, 10, 10))


def test_cropped_picture_holds_the_object_alone() -> None:
    image = Image.new("RGB", (200, 100))
    image.paste((0, 0, 250), (100, 30, 120, 50))
    data, suffix = shard_picture(encoded(image), "x", Box(100, 30, 20, 20))
    assert suffix == "webp" and reread(data).size == (30, 30)
    assert np.asarray(reread(data))[15, 15, 2] > 230


@pytest.mark.parametrize("data", [b"", b"no picture at all", encoded(picture(), "JPEG")[:300]])
def test_unreadable_pictures_are_named(data: bytes) -> None:
    with pytest.raises(DataError, match=r"unreadable picture rose\.jpg"):
        shard_picture(data, "rose.jpg")


def test_central_square_takes_the_middle() -> None:
    image = Image.new("RGB", (90, 30), (0, 0, 0))
    image.paste((250, 250, 250), (30, 0, 60, 30))
    square = central_square(encoded(image), 12, "x")
    assert square.shape == (12, 12, 3) and square.dtype == np.uint8 and square.min() > 240


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "DDS", "AVIF"])
def test_damaged_pictures_give_data_errors_alone(kind: str) -> None:
    rng = np.random.default_rng(0)
    try:
        whole = encoded(picture(), kind)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {kind}")
    for _ in range(40):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 150), 3).tolist():
            data[place] = int(rng.integers(256))
        for use in (lambda data: shard_picture(data, "a"), lambda data: central_square(data, 8, "a")):
            with suppress(DataError):
                use(bytes(data))


def test_a_strip_too_long_for_webp_is_named() -> None:
    strip = encoded(Image.new("L", (20_000, 10)))
    with pytest.raises(DataError, match=r"unreadable picture strip\.png: .*16383"):
        shard_picture(strip, "strip.png")
