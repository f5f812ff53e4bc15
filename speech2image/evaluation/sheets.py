"""Sheets of pictures with the words beside them."""

from collections.abc import Sequence
from textwrap import fill

from PIL import Image, ImageDraw, ImageFont

LABEL_WIDTH, LABEL_LETTERS, HEAD_HEIGHT = 230, 34, 20


def sheet(
    rows: Sequence[Sequence[Image.Image]], captions: Sequence[str], heads: Sequence[str] = (), gap: int = 2
) -> Image.Image:
    """Pictures in rows, each row's caption to its left in Pillow's own letters.

    Args:
        rows: pictures of one size, as many in each row.
        captions: one a row; wrapped to the column.
        heads: over the columns, one a picture of a row.
        gap: white pixels between neighbours.
    """
    font = ImageFont.load_default(13)
    labels = [fill(caption, LABEL_LETTERS) for caption in captions]
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    tallest = max(int(pen.multiline_textbbox((0, 0), label, font)[3]) + 6 for label in labels)
    width, height = rows[0][0].size[0] + gap, max(tallest, rows[0][0].size[1]) + gap
    top = HEAD_HEIGHT if heads else 0
    size = (LABEL_WIDTH + len(rows[0]) * width - gap, top + len(rows) * height - gap)
    out = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(out)
    for place, head in enumerate(heads):
        pen.text((LABEL_WIDTH + place * width, 2), head, fill="black", font=font)
    for number, (pictures, label) in enumerate(zip(rows, labels, strict=True)):
        pen.multiline_text((4, top + number * height + 2), label, fill="black", font=font)
        for place, picture in enumerate(pictures):
            out.paste(picture, (LABEL_WIDTH + place * width, top + number * height))
    return out
