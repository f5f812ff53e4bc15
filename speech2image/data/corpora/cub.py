"""CUB-200 birds, both editions.

What:       200 bird species with a bounding box each: 11,788 photographs (2011, 1.1 GB) or
            6,033 (2010, 650 MB).
Where:      https://www.vision.caltech.edu/datasets/cub_200_2011/ and
            https://www.vision.caltech.edu/datasets/cub_200_2010/
Licence:    for non-commercial research and education; photographs belong to their authors.
Citation:   C. Wah et al., "The Caltech-UCSD Birds-200-2011 dataset", CNS-TR-2011-001; P. Welinder et al.,
            "Caltech-UCSD Birds 200", CNS-TR-2010-001. Captions: S. Reed et al., CVPR 2016 (`text_c10`),
            or this project's own for the pictures of the 2010 edition (`corpora.publishers`).
Layout:     2011: root/images.txt, image_class_labels.txt, bounding_boxes.txt,
            images/<class>/<image>.jpg; or root/CUB_200_2011/ with these, as the archive unpacks
            2010: root/lists/files.txt, images/<class>/<image>.jpg, annotations-mat/<class>/<image>.mat
            (lists/ and annotations-mat/ come in archives of their own; without boxes pictures stay uncropped)
            both: text_c10/<class>/<image>.txt optional: ten captions, one a line; in root, beside the
                  pictures' folder, or in cvpr2016_cub/ there, as Reed's archive unpacks;
                  testclasses.txt optional, in root, in text_c10/ or beside that:
                  001.Black_footed_Albatross ..., one a line
Protocol:   zero-shot, the usual 150 / 50 classes (Reed's; the list ships with this project's captions).
Pictures:   cropped to a square around the bird's box (`pictures.object_square` has both published crops).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from speech2image.data.corpora.publishers import (
    SOURCE,
    captions_folder,
    class_list_file,
    is_number,
    load_mat,
    own_captions,
    read_class_list,
    read_numbered,
    read_text_captions,
)
from speech2image.data.entries import Entry
from speech2image.data.listings import sample_id
from speech2image.data.pictures import Box
from speech2image.errors import DataError

ARCHIVES = ("CUB_200_2011", "CUB_200_2010", "CUB_200")
"""Folders that the publishers' archives unpack to."""
CAPTION_ARCHIVES = ("cvpr2016_cub", "CUB", "birds")
"""Folders that archives of Reed's captions unpack to."""


class _Listed(NamedTuple):
    name: str  # "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg"
    box: Box | None
    place: str


def cub_entries(root: str | os.PathLike[str]) -> list[Entry]:
    """List the pictures of CUB-200-2011 or CUB-200 (2010) in its publishers' layout.

    Raises:
        DataError: neither layout is there, or a file is missing, unreadable or does not fit the others.
    """
    root = _pictures_root(Path(root))
    if (root / "images.txt").is_file():
        listed, edition = _listed_2011(root), "CUB-200-2011"
    else:
        listed, edition = _listed_2010(root), "CUB-200 (2010)"
    captions = captions_folder(root, *CAPTION_ARCHIVES)
    test_classes = _test_classes(class_list_file(root, captions))
    return [_entry(root, item, edition, captions, test_classes) for item in listed]


def _pictures_root(root: Path) -> Path:
    """`root`, or the folder in it that an archive unpacks to.

    Raises:
        DataError: the lists of neither edition are there.
    """
    for place in (root, *(root / name for name in ARCHIVES)):
        if (place / "images.txt").is_file() or (place / "lists" / "files.txt").is_file():
            return place
    raise DataError(
        f"neither images.txt (CUB-200-2011) nor lists/files.txt (CUB-200, 2010) in {root}, "
        f"nor in {', '.join(ARCHIVES)} there; give --root the folder into which the archives were unpacked"
    )


def _listed_2011(root: Path) -> Iterator[_Listed]:
    names, boxes = read_numbered(root / "images.txt"), boxes_2011(root)
    labels = read_numbered(root / "image_class_labels.txt")
    for number, name in names.items():
        place = f"{root / 'images.txt'} picture {number}"
        if number not in labels:
            raise DataError(f"{place} has no class label: the lists do not belong together")
        if not is_number(labels[number]) or int(labels[number]) != class_number(name, place):
            raise DataError(f"{place}: {name} is labelled {labels[number]} in image_class_labels.txt")
        yield _Listed(name, boxes[name], place)


def boxes_2011(root: Path) -> dict[str, Box]:
    """Box of every picture of CUB-200-2011, by its name "001.X/Y.jpg".

    Raises:
        DataError: a list is missing or does not fit the other.
    """
    names, boxes = read_numbered(root / "images.txt"), read_numbered(root / "bounding_boxes.txt")
    for number in names:
        if number not in boxes:
            place = f"{root / 'images.txt'} picture {number}"
            raise DataError(f"{place} has no bounding box: the lists do not belong together")
    return {
        name: _box(boxes[number], f"{root / 'bounding_boxes.txt'} picture {number}")
        for number, name in names.items()
    }


def _box(text: str, place: str) -> Box:
    try:
        left, top, width, height = map(float, text.split())
    except ValueError as error:
        raise DataError(f"{place}: expected left, top, width and height, got {text!r}") from error
    return Box(left, top, width, height)


def _listed_2010(root: Path) -> Iterator[_Listed]:
    files = root / "lists" / "files.txt"
    for name in read_class_list(files):
        annotation = root / "annotations-mat" / Path(name).with_suffix(".mat")
        box = _mat_box(annotation) if annotation.is_file() else None
        yield _Listed(name, box, f"{files} {name}")


def _mat_box(path: Path) -> Box:
    """Box of a 2010 annotation: a struct `bbox` of left, top, right, bottom."""
    contents = load_mat(path)
    try:
        bbox = contents["bbox"]
        left, top, right, bottom = (
            float(bbox[side].item().item()) for side in ("left", "top", "right", "bottom")
        )
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"{path} holds no box (struct bbox of left, top, right, bottom): {error}") from error
    return Box(left, top, right - left, bottom - top)


def class_number(name: str, place: str) -> int:
    """Class number of "001.Black_footed_Albatross/...".

    Raises:
        DataError: the name does not begin with a number and a dot.
    """
    head = name.partition(".")[0]
    if not is_number(head):
        raise DataError(f"{place}: the class folder must be like 001.Black_footed_Albatross, got {name!r}")
    return int(head)


def _entry(
    root: Path, item: _Listed, edition: str, texts: Path | None, test_classes: frozenset[int]
) -> Entry:
    folder, _, file = item.name.rpartition("/")
    label = class_number(item.name, item.place)
    captions: tuple[str, ...] = ()
    if texts is not None:
        captions = read_text_captions(texts / folder / Path(file).with_suffix(".txt"))
    source = f"{edition}; captions of Reed et al. 2016"
    if not captions:
        own = own_captions("cub200").get(label)
        captions = own.captions.get(Path(file).stem, ()) if own else ()
        source = f"{edition}; {SOURCE if captions else 'no captions'}"
    return Entry(
        id=sample_id(item.name),
        image=root / "images" / item.name,
        label=label,
        class_name=folder.partition(".")[2].replace("_", " "),
        split="test" if label in test_classes else "train",
        captions=captions,
        source=source,
        box=item.box,
        place=item.place,
    )


def _test_classes(path: Path | None) -> frozenset[int]:
    """Classes of Reed's `testclasses.txt`, else the shipped list of the usual 50."""
    if path is not None and (names := read_class_list(path)):
        return frozenset(class_number(name, str(path)) for name in names)
    return frozenset(c.label for c in own_captions("cub200").values() if c.split == "test")
