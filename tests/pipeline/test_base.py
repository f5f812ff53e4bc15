import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_model import EMBEDDING, SIZE, make_model, speech, write_wav

import speech2image
from speech2image.errors import OutputError, SettingsError, SpeechError
from speech2image.pipeline.direct import DirectRoute


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> DirectRoute:
    return speech2image.load(make_model(tmp_path_factory.mktemp("models") / "tiny"))


def _bytes(images: list[Image.Image]) -> list[bytes]:
    return [image.tobytes() for image in images]


def test_translate(model: DirectRoute, tmp_path) -> None:
    result = model.translate(write_wav(tmp_path / "a.wav"), n=3, seed=4)
    assert [image.size for image in result.images] == [(SIZE, SIZE)] * 3
    assert result.speech_embedding.shape == (EMBEDDING,)
    assert result.log_mel.shape == (40, 98)
    assert (result.seed, result.model) == (4, "tiny")
    assert set(result.timings) == {"listen", "embed", "draw"}
    assert result.seconds > 0
    assert result.grid().size == (2 * SIZE + 2, 2 * SIZE + 2)
    with Image.open(result.save(tmp_path / "out.png")) as back:
        assert np.array_equal(np.asarray(back), np.asarray(result.grid()))


def test_every_kind_of_source_is_the_same(model: DirectRoute, tmp_path) -> None:
    path = write_wav(tmp_path / "a.wav")
    with path.open("rb") as file:
        results = [model.translate(source) for source in (path, str(path), path.read_bytes(), file)]
    assert len({result.images[0].tobytes() for result in results}) == 1


def test_seed(model: DirectRoute) -> None:
    source = (speech(), 16000)
    three, eight, other = (model.translate(source, n, seed) for n, seed in ((3, 0), (8, 0), (3, 1)))
    assert _bytes(three.images) == _bytes(eight.images)[:3]
    assert not set(_bytes(three.images)) & set(_bytes(other.images))
    assert len(set(_bytes(eight.images))) == 8


def test_pictures_follow_the_recording(model: DirectRoute) -> None:
    first, second = (model.translate((speech(seed=seed), 16000)) for seed in (0, 1))
    assert first.images[0].tobytes() != second.images[0].tobytes()


def test_embed_and_generate_are_the_halves_of_translate(model: DirectRoute) -> None:
    whole = model.translate((speech(), 16000), n=2, seed=9)
    embedding = model.embed((speech(), 16000))
    assert np.array_equal(embedding, whole.speech_embedding)
    assert _bytes(model.generate(embedding, n=2, seed=9)) == _bytes(whole.images)


def test_interpolate(model: DirectRoute, tmp_path) -> None:
    first, second = (speech(), 16000), (speech(seed=1), 16000)
    walk = model.interpolate(first, second, seed=2)
    assert walk.alphas == [1 - k / 8 for k in range(9)]
    assert walk.images[0].tobytes() == model.translate(first, seed=2).images[0].tobytes()
    assert walk.images[-1].tobytes() == model.translate(second, seed=2).images[0].tobytes()
    middle = (model.embed(first) + model.embed(second)) / 2
    assert np.allclose(walk.speech_embeddings[4], middle, atol=1e-5)
    assert walk.grid().size == (9 * SIZE + 16, SIZE)
    assert walk.save(tmp_path / "row.png").is_file()


@pytest.mark.parametrize("n", [0, -3, 1.5, 10_001])
def test_bad_count_is_refused_before_listening(model: DirectRoute, n: int) -> None:
    with pytest.raises(SettingsError, match="n must be"):
        model.translate("no such file.wav", n=n)
    with pytest.raises(SettingsError, match="n must be"):
        model.generate(np.zeros(EMBEDDING), n=n)


@pytest.mark.parametrize("steps", [1, 0, 2.5, 10_001])
def test_bad_steps(model: DirectRoute, steps: int) -> None:
    with pytest.raises(SettingsError, match="steps must be"):
        model.interpolate("a.wav", "b.wav", steps=steps)


@pytest.mark.parametrize("embedding", [np.zeros(3), np.zeros((1, EMBEDDING)), np.full(EMBEDDING, np.nan)])
def test_bad_embedding(model: DirectRoute, embedding: np.ndarray) -> None:
    with pytest.raises(SettingsError, match="speech embedding"):
        model.generate(embedding)


def test_bad_recordings(model: DirectRoute, tmp_path) -> None:
    for source in (tmp_path / "absent.wav", (speech(0.01), 16000), (np.zeros(32000), 16000)):
        with pytest.raises(SpeechError):
            model.translate(source)


def test_unwritable(model: DirectRoute, tmp_path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        model.translate((speech(), 16000)).save(tmp_path / "file" / "a.png")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, speech2image; dir(speech2image);"
        "heavy = {'numpy', 'onnxruntime', 'av', 'PIL', 'torch', 'tyro', 'rich'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_works_without_any_extra(tmp_path) -> None:
    """With every package of the extras blocked from import, a recording still becomes a picture."""
    folder, clip = make_model(tmp_path / "tiny"), write_wav(tmp_path / "a.wav")
    blocked = ["torch", "onnx", "scipy", "safetensors", "webdataset", "jaxtyping", "beartype"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked}));"
        f"import speech2image; speech2image.load({str(folder)!r}).translate({str(clip)!r}).save('a.png')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert (tmp_path / "a.png").is_file()


def test_public_names() -> None:
    for name in speech2image.__all__:
        assert getattr(speech2image, name).__module__.startswith("speech2image.")
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = speech2image.lode
    assert Path(speech2image.__file__).name == "__init__.py"
