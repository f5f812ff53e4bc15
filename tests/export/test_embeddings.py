"""Models of published text embeddings and of word vectors: trained, exported, drawn from."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_sets import own_folder
from tiny_networks import MatrixGenerator

import speech2image
from speech2image import cli
from speech2image.data.corpora.embedding_pickles import PublishedEmbeddings, write_published
from speech2image.data.prepare import PrepareSettings, prepare
from speech2image.data.training_sets import CaptionPairs
from speech2image.errors import CheckpointError, SettingsError
from speech2image.export import cascade, embeddings
from speech2image.models.gan.stackgan_v1 import Architecture
from speech2image.models.gan.stackgan_v2 import Architecture as TreeArchitecture
from speech2image.training.recipes import stackgan_v1, stackgan_v2
from speech2image.training.recipes.text_embeddings import WordVectors, store_text_embeddings

SIZE = 30
WORDS = ["flower", "number", "bloom", "with", "petals", "a", "one", "two", "three", "four", "five", "zero"]
V1 = stackgan_v1.StackGanV1Training(
    networks=Architecture(
        size=64, generator_width=8, discriminator_width=2, noise=3, code=4, residual_blocks=1
    ),
    steps=2,
    batch_size=2,
    precision="32-true",
)
V2 = stackgan_v2.StackGanV2Training(
    networks=TreeArchitecture(branches=1, generator_width=4, discriminator_width=2, noise=3, code=4),
    steps=1,
    batch_size=2,
    precision="32-true",
)


def vectors_file(path: Path, words: list[str] = WORDS) -> Path:
    rng = np.random.default_rng(0)
    lines = [f"{word} {' '.join(map(str, rng.standard_normal(SIZE).round(3)))}" for word in words]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of two classes with two captions each, and the vectors of their words."""
    folder = tmp_path_factory.mktemp("captioned")
    out = prepare(PrepareSettings("folder", folder / "shards", root=own_folder(folder), speak=False))
    store_text_embeddings(CaptionPairs.open(out), vectors_file(folder / "vectors.txt"))
    return out


@pytest.fixture(scope="module")
def stage_one(captioned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stackgan_v1.train(V1, CaptionPairs.open(captioned), tmp_path_factory.mktemp("stage1"))


def test_both_stackgans_take_conditions_of_any_length(
    captioned: Path, stage_one: Path, tmp_path: Path
) -> None:
    arrays = CaptionPairs.open(captioned)
    assert arrays.embeddings.shape == (12, SIZE)
    two = replace(V1, networks=replace(V1.networks, stage=2))
    checkpoints = [
        stage_one,
        stackgan_v1.train(two, arrays, tmp_path / "stage2", stage_one),
        stackgan_v2.train(V2, arrays, tmp_path / "v2"),
    ]
    for checkpoint in checkpoints:
        assert embeddings.condition_size(embeddings.read_facts(checkpoint)) == SIZE
    again = stackgan_v1.train(replace(V1, steps=3), arrays, stage_one.parent)
    assert embeddings.read_facts(again)["step"] == 3, "the same settings go on"


def test_teacher_features_of_another_length_cannot_be_mixed_in(captioned: Path, tmp_path: Path) -> None:
    arrays = CaptionPairs.open(captioned)
    arrays.save_teacher(np.zeros((6, 1, 1024), np.float16))
    with pytest.raises(SettingsError, match=r"embeddings have 30 numbers .* 1024, .*--speech-fraction 1"):
        stackgan_v1.train(replace(V1, speech_fraction=0.5), arrays, tmp_path / "mixed")


def test_word_vectors_become_a_model_that_reads_text(
    captioned: Path, stage_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = captioned.parent / "vectors.txt"
    folder, chosen = tmp_path / "words", {"name": "words", "licence": "CC0-1.0"}
    cascade.export_checkpoints(vectors, stage_one, folder, **chosen)
    route = speech2image.load(folder)
    expected = WordVectors.read(vectors)(["a flower with two petals, xyzzy!"])[0]
    np.testing.assert_allclose(route.embed_text("A flower with 2 petals, xyzzy!"), expected, atol=2e-3)
    assert route.draw_text("a bloom").images[0].size == (64, 64)
    with pytest.raises(SettingsError, match="no known word in 'xyzzy'"):
        route.draw_text("xyzzy")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["translate", "--text", "a flower", "--model", "words", "-o", "drawn.png"]) == 0
    with Image.open("drawn.png") as drawn:
        assert np.array_equal(np.asarray(drawn), np.asarray(route.draw_text("a flower").images[0]))


def test_a_word_counts_as_often_as_it_is_said(captioned: Path, stage_one: Path, tmp_path: Path) -> None:
    vectors = captioned.parent / "vectors.txt"
    cascade.export_checkpoints(vectors, stage_one, tmp_path / "m", name="m", licence="CC0-1.0")
    known = WordVectors.read(vectors).words
    found = speech2image.load(tmp_path / "m").embed_text("two two flower")
    np.testing.assert_allclose(found, (2 * known["two"] + known["flower"]) / 3, atol=2e-3)


def test_the_most_frequent_words_are_kept_as_captions_have_them(stage_one: Path, tmp_path: Path) -> None:
    file = vectors_file(tmp_path / "v.txt", ["the", ",", "Flower", "u.s.", "flower", "bird", "late"])
    cascade.export_checkpoints(file, stage_one, tmp_path / "m", name="m", licence="CC0-1.0", most_words=3)
    card = json.loads((tmp_path / "m" / "model.json").read_text())
    assert card["vocabulary"] == "the flower bird" and card["embedding_size"] == SIZE
    assert card["files"]["text_encoder"]["inputs"] == ["counts"]


def published(folder: Path, size: int = SIZE) -> NDArray[np.float32]:
    rows = np.random.default_rng(1).standard_normal((3, 2, size)).astype(np.float32)
    names = [f"00{i}.X/{i}" for i in range(3)]
    write_published(folder, PublishedEmbeddings(rows, names, np.arange(3)))
    return rows.reshape(6, size)


def test_a_generator_alone_draws_published_embeddings(
    stage_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = published(tmp_path / "published")
    monkeypatch.chdir(tmp_path)
    file = "published/char-CNN-RNN-embeddings.pickle"
    words = ["--generator", str(stage_one), "--name", "m", "--licence", "CC0-1.0", "--embeddings", file]
    assert cli.main(["export", "generator", "--out", "m", *words]) == 0
    assert (card := json.loads(Path("m/model.json").read_text()))["route"] == "embeddings"
    assert set(card["files"]) == {"generator"} and card["embedding_size"] == SIZE
    route = speech2image.load("m")
    assert cli.main(["translate", "--embedding", file, "--row", "4", "--model", "m", "-o", "one.png"]) == 0
    with Image.open("one.png") as drawn:
        assert np.array_equal(np.asarray(drawn), np.asarray(route.generate(rows[4])[0]))
    np.save("some.npy", rows[:2])
    capsys.readouterr()
    sheet = ["translate", "--embedding", "some.npy", "--model", "m", "-n", "3", "--json"]
    assert cli.main([*sheet, "--manifest", "rows.jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["embeddings"] == ["some.npy row 0", "some.npy row 1"]
    assert json.loads(Path("rows.jsonl").read_text().splitlines()[1])["embedding"] == "some.npy row 1"
    with Image.open("picture.png") as drawn:
        assert drawn.size[0] > 3 * 64 and drawn.size[1] > 2 * 64


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--embedding", "none.npy"], "unreadable embeddings none.npy"),
        (["--embedding", "text.npy"], "unreadable embeddings text.npy"),
        (["--embedding", "nan.npy"], "not finite embeddings"),
        (["--embedding", "short.npy"], "an embedding of this model"),
        (["--embedding", "short.npy", "--row", "7"], "--row is 7, but short.npy holds 2"),
        (["--row", "1", "--text", "x"], "--row is for --embedding"),
        (["--embedding", "short.npy", "--text", "x"], "not several"),
        (["--text", "a flower"], "is of the embeddings route, and no 'm-cascade' lies beside it"),
        (["clip.wav"], "neither speech encoder nor text encoder"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    vectors = np.zeros((4, 16), np.float32)
    embeddings.export_generator(
        MatrixGenerator(), "m", name="m", licence="CC0-1.0", embeddings=vectors, noise_size=7
    )
    np.save("short.npy", np.zeros((2, 5), np.float32))
    np.save("nan.npy", np.full(16, np.nan))
    Path("text.npy").write_text("no array")
    assert cli.main(["translate", *words, "--model", "m"]) != 0
    assert message in " ".join(capsys.readouterr().err.split())


def test_one_embedding_alone_is_not_enough_to_compare_on(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="at least two embeddings"):
        embeddings.export_generator(
            MatrixGenerator(), tmp_path / "m", name="m", licence="x", embeddings=np.zeros((1, 16), np.float32)
        )
    with pytest.raises(CheckpointError, match="does not draw from"):
        embeddings.export_generator(
            MatrixGenerator(), tmp_path / "m", name="m", licence="x", embeddings=np.zeros((4, 9), np.float32)
        )
    assert not (tmp_path / "m").exists()
