"""Old flags: rewritten to their present names, with a warning; everything else passes through."""

import pytest

from speech2image.commands import old_names


def test_old_flags_and_values_are_rewritten_and_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(old_names, "OLD_FLAGS", {"--told": "--n-predicted", "--old-flag": "--flag"})
    monkeypatch.setattr(old_names, "OLD_VALUES", {("--effects", "lively"): "strong"})
    with pytest.warns(FutureWarning, match="--told is called --n-predicted"):
        assert old_names.renamed(["--told", "8"]) == ["--n-predicted", "8"]
    with pytest.warns(FutureWarning):
        assert old_names.renamed(["--old_flag=x=y", "a"]) == ["--flag=x=y", "a"]
    with pytest.warns(FutureWarning, match="lively is called strong"):
        assert old_names.renamed(["--effects", "lively"]) == ["--effects", "strong"]
    with pytest.warns(FutureWarning):
        assert old_names.renamed(["--effects=lively"]) == ["--effects=strong"]


def test_present_names_pass_through() -> None:
    words = ["a lively told bird", "--out", "lively.png", "-n", "4", "-"]
    assert old_names.renamed(words) == words


def test_no_new_name_is_an_old_one() -> None:
    assert not set(old_names.OLD_FLAGS) & set(old_names.OLD_FLAGS.values())
