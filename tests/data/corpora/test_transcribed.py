"""Speech corpora in their publishers' layouts and in this project's own form."""

import json
from pathlib import Path

import pytest

from speech2image.data.corpora.librispeech import librispeech
from speech2image.data.corpora.ljspeech import SPEAKER, ljspeech
from speech2image.data.corpora.transcribed import Transcribed, words_of
from speech2image.errors import DataError


@pytest.fixture
def libri(tmp_path: Path) -> Path:
    chapter = tmp_path / "LibriSpeech" / "dev-clean" / "84" / "121123"
    chapter.mkdir(parents=True)
    (chapter / "84-121123.trans.txt").write_text("84-121123-0000 GO\n84-121123-0001 HE SAID IT'S TIME\n")
    for number in range(2):
        (chapter / f"84-121123-{number:04d}.flac").touch()
    return tmp_path / "LibriSpeech"


@pytest.fixture
def lj(tmp_path: Path) -> Path:
    (tmp_path / "wavs").mkdir()
    (tmp_path / "metadata.csv").write_text("LJ001-0001|in 1901,|in nineteen oh one,\nLJ001-0002|so|\n")
    (tmp_path / "wavs" / "LJ001-0001.wav").touch()
    (tmp_path / "wavs" / "LJ001-0002.opus").touch()
    return tmp_path


def test_librispeech_as_published_wherever_the_root_is(libri: Path) -> None:
    chapter = libri / "dev-clean" / "84" / "121123"
    expected = [
        Transcribed(chapter / "84-121123-0000.flac", "84", "go"),
        Transcribed(chapter / "84-121123-0001.flac", "84", "he said it's time"),
    ]
    for root in (libri, libri / "dev-clean", chapter):
        assert librispeech(root) == expected


def test_librispeech_in_linked_folders(libri: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "dev-clean").symlink_to(libri / "dev-clean")
    assert [item.text for item in librispeech(corpus)] == [item.text for item in librispeech(libri)]


def test_librispeech_names_a_missing_clip_and_its_line(libri: Path) -> None:
    (libri / "dev-clean/84/121123/84-121123-0001.flac").unlink()
    with pytest.raises(DataError, match=r"84-121123-0001\.flac.*trans\.txt line 2"):
        librispeech(libri)


def test_librispeech_line_without_words(libri: Path) -> None:
    (libri / "dev-clean/84/121123/84-121123.trans.txt").write_text("84-121123-0000\n")
    with pytest.raises(DataError, match="line 1: no words"):
        librispeech(libri)


def test_librispeech_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither transcripts .* nor utterances\.jsonl"):
        librispeech(tmp_path)


def test_ljspeech_takes_the_text_in_words_and_any_kind_of_clip(lj: Path) -> None:
    assert ljspeech(lj) == [
        Transcribed(lj / "wavs" / "LJ001-0001.wav", SPEAKER, "in nineteen oh one,"),
        Transcribed(lj / "wavs" / "LJ001-0002.opus", SPEAKER, "so"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("LJ001-0009|so|so", r"missing recording .*LJ001-0009\.flac.* line 1"),
        ("LJ001-0001|so", "line 1 has 2 fields"),
        ("LJ001-0001|-|-", "line 1: no words"),
    ],
)
def test_ljspeech_bad_lines(lj: Path, line: str, message: str) -> None:
    (lj / "metadata.csv").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        ljspeech(lj)


def test_ljspeech_empty_or_not_there(lj: Path) -> None:
    (lj / "metadata.csv").write_text("\n")
    with pytest.raises(DataError, match="the corpus is empty"):
        ljspeech(lj)
    with pytest.raises(DataError, match=r"unreadable .*metadata\.csv"):
        ljspeech(lj / "wavs")


@pytest.mark.parametrize("corpus", [librispeech, ljspeech])
def test_own_form(tmp_path: Path, corpus: object) -> None:
    (tmp_path / "a.opus").touch()
    rows = [{"audio": "a.opus", "speaker": "7", "text": "red rose "}]
    (tmp_path / "utterances.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert corpus(tmp_path) == [Transcribed(tmp_path / "a.opus", "7", "red rose")]  # type: ignore[operator]


@pytest.mark.parametrize("lost", ["audio", "speaker", "text"])
def test_own_form_lacks_a_field(tmp_path: Path, lost: str) -> None:
    row = {"audio": "a.opus", "speaker": "7", "text": "red rose"}
    del row[lost]
    (tmp_path / "utterances.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match="line 1 needs 'audio', 'speaker' and 'text'"):
        librispeech(tmp_path)


def test_words_have_no_punctuation() -> None:
    assert words_of("A yellow-green bird\N{RIGHT SINGLE QUOTATION MARK}s wing; 'no'.") == [
        *("a", "yellow", "green", "bird's", "wing", "no")
    ]


def test_shared_recordings_are_listed(shared: Path) -> None:
    listed = librispeech(shared / "data" / "librispeech-dev-clean")
    assert len(listed) == 2194
    assert len({item.speaker for item in listed}) == 32
    assert len(ljspeech(shared / "data" / "ljspeech-part")) == 385
