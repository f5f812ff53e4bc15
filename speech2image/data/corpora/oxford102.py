"""Oxford-102 flowers.

What:       8,189 photographs of 102 flower species common in Britain, 40 to 258 a class, about 345 MB.
Where:      https://www.robots.ox.ac.uk/~vgg/data/flowers/102/ (102flowers.tgz,
            imagelabels.mat, setid.mat).
Licence:    none stated; gathered from the web, for research.
Citation:   M.-E. Nilsback and A. Zisserman, "Automated flower classification over a large number of classes",
            ICVGIP 2008. Captions: S. Reed et al., "Learning deep representations of fine-grained visual
            descriptions", CVPR 2016 (`text_c10`), or this project's own (`corpora.publishers`).
Layout:     root/jpg/image_00001.jpg ... image_08189.jpg
            root/imagelabels.mat                           labels [1, 8189], 1 to 102
            root/setid.mat                                 for protocol "published"
            text_c10/class_00001/image_06734.txt           optional: ten captions, one a line; in root,
                                                           beside it, or in cvpr2016_flowers/ there
            testclasses.txt                                optional: class_00001 ..., in root, in
                                                           text_c10/ or beside that
Protocol:   zero-shot: classes 1-20 (1,155 pictures) are test unless Reed's lists say otherwise; validation
            classes count as training ones, as in the papers.
"""

import os
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from speech2image.data.corpora.publishers import (
    SOURCE,
    captions_folder,
    class_list_file,
    is_number,
    load_mat,
    own_captions,
    picture_folder,
    read_class_list,
    read_text_captions,
)
from speech2image.data.entries import Entry
from speech2image.errors import DataError

TEST_CLASSES = frozenset(range(1, 21))


def oxford102_entries(
    root: str | os.PathLike[str], protocol: Literal["zero-shot", "published"] = "zero-shot"
) -> list[Entry]:
    """List the pictures of Oxford-102 in its publishers' layout.

    Args:
        root: folder that holds `jpg/` and `imagelabels.mat`.
        protocol: "zero-shot" splits by class, "published" by `setid.mat` (test as published, all else
            training).

    Raises:
        DataError: a file is missing, is unreadable or does not fit the others.
    """
    root = Path(root)
    pictures = picture_folder(root, "jpg", "image_*.jpg")
    labels = _array(root / "imagelabels.mat", "labels")
    test_numbers = _array(root / "setid.mat", "tstid") if protocol == "published" else None
    texts = captions_folder(root, "cvpr2016_flowers", "flowers")
    test_classes = _test_classes(class_list_file(root, texts))
    return [_entry(root, path, labels, test_numbers, texts, test_classes) for path in pictures]


def _entry(
    root: Path,
    path: Path,
    labels: NDArray[np.int64],
    test_numbers: NDArray[np.int64] | None,
    texts: Path | None,
    test_classes: frozenset[int],
) -> Entry:
    number = _number(path.stem, str(path))
    if not 1 <= number <= len(labels):
        raise DataError(
            f"{path} is beyond the {len(labels)} labels of imagelabels.mat; these do not belong together"
        )
    label = int(labels[number - 1])
    is_test = number in test_numbers if test_numbers is not None else label in test_classes
    own = own_captions("oxford102").get(label)
    captions: tuple[str, ...] = ()
    if texts is not None:
        captions = read_text_captions(texts / f"class_{label:05d}" / f"{path.stem}.txt")
    source = "Oxford-102; captions of Reed et al. 2016"
    if not captions and own is not None:
        captions, source = own.captions.get(path.stem, ()), f"Oxford-102; {SOURCE}"
    return Entry(
        id=path.stem,
        image=path,
        label=label,
        class_name=own.species if own is not None else f"class {label}",
        split="test" if is_test else "train",
        captions=captions,
        source=source,
        place=str(root / "imagelabels.mat"),
    )


def _test_classes(path: Path | None) -> frozenset[int]:
    """Classes of Reed's `testclasses.txt`, else classes 1-20."""
    if path is not None and (names := read_class_list(path)):
        return frozenset(_number(name, str(path)) for name in names)
    return TEST_CLASSES


def _number(name: str, place: str) -> int:
    """The number that "image_00001" and "class_00001" end in."""
    last = name.rpartition("_")[2]
    if not is_number(last):
        raise DataError(f"{place}: {name!r} does not end in a number, as image_00001 or class_00001 do")
    return int(last)


def _array(path: Path, name: str) -> NDArray[np.int64]:
    contents = load_mat(path)
    if name not in contents:
        raise DataError(f"{path} has no array {name!r}, only {sorted(k for k in contents if k[0] != '_')}")
    return np.asarray(contents[name]).reshape(-1).astype(np.int64)
