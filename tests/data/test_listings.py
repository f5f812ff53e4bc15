"""Names: ids of any script stay apart, ASCII ones are what they were, names in files lead nowhere else."""

import pytest

from speech2image.data.listings import check_file_name, check_id, sample_id
from speech2image.data.shards.corpus import part_name
from speech2image.errors import DataError


def test_ascii_names_have_the_ids_they_always_had() -> None:
    assert sample_id("images/001.Black_Bird/Bird_0001.jpg") == "001_Black_Bird/Bird_0001"
    assert sample_id("./jpg/image_00001.jpg") == "image_00001"
    assert sample_id("a b/c(1).v2.PNG") == "a_b/c_1__v2"
    assert sample_id("a\\b.jpg") == "a/b"


def test_other_scripts_stay() -> None:
    for name in ("桜", "菊", "роза", "गुलाब", "été", "花/桜 の-1".replace(" ", "_"), "🌸"):
        assert sample_id(f"{name}.jpg") == name


ALIKE = (
    ("桜.jpg", "菊.jpg"),
    ("桜 1.jpg", "桜_1.jpg", "桜.1.jpg", "桜(1.jpg"),
    ("花 /a.jpg", "花_/a.jpg"),
    ("🌸.jpg", "🌺.jpg"),
    ("नमस\u200cते.jpg", "नमस ते.jpg", "नमस_ते.jpg"),
    ("e\u0301.jpg", "\u00e9.jpg"),
    ("\ud800.jpg", "\ud801.jpg"),
    ("../a/桜.jpg", "a/桜.jpg"),
    ("...jpg", "??.jpg", "!!.jpg"),
)


@pytest.mark.parametrize("names", ALIKE)
def test_names_that_differ_have_ids_that_differ_and_are_fit(names: tuple[str, ...]) -> None:
    ids = [sample_id(name) for name in names]
    assert len(set(ids)) == len(names)
    for found in ids:
        check_id(found)


@pytest.mark.parametrize("name", ["", "/a", "../a", "a.b", "__a", "a\\b", "a\nb", "a\x00"])
def test_ids_that_are_unfit(name: str) -> None:
    with pytest.raises(DataError, match="sample id"):
        check_id(name)


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "a\\b", ".hidden", "a\x00b", "C:a"])
def test_names_that_lead_elsewhere(name: str) -> None:
    with pytest.raises(DataError, match=r"a reader's name is .* must be fit as a file's name"):
        check_file_name(name, "a reader's name")


def test_parts_are_named_after_folders_of_any_script() -> None:
    assert part_name("Spoken Captions_2") == "spoken-captions-2"
    assert part_name("桜") == "桜" and part_name("菊") == "菊" and part_name("...") == "added"
