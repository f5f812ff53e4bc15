"""The registry of corpora: every row lists, names its files in errors, and says where the data come from."""

import inspect
from pathlib import Path

import pytest

from speech2image import cli
from speech2image.commands import prepare
from speech2image.data.corpora.registry import CORPORA, SPEECH_CORPORA, list_recordings
from speech2image.errors import DataError

PUBLISHED = [name for name in CORPORA if name != "folder"]


@pytest.mark.parametrize("name", CORPORA)
def test_an_empty_folder_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=tmp_path.name):
        CORPORA[name](tmp_path)


@pytest.mark.parametrize("known", SPEECH_CORPORA)
def test_a_corpus_of_speech_is_known_by_its_file(known: str, tmp_path: Path) -> None:
    if known:
        (tmp_path / known).touch()
    with pytest.raises(DataError, match=tmp_path.name):
        list_recordings(tmp_path)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_corpora_say_what_where_and_under_which_licence(name: str) -> None:
    said = inspect.getdoc(inspect.getmodule(CORPORA[name])) or ""
    assert all(
        f"\n{word}:" in said for word in ("What", "Where", "Licence", "Citation", "Layout", "Protocol")
    )


def test_the_command_takes_every_corpus(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(prepare.CORPORA) == {*CORPORA, "toy"}
    assert cli.main(["prepare", "--help"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert listed >= {*CORPORA, "toy"}
