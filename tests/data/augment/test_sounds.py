import numpy as np
import pytest

from speech2image import audio
from speech2image.data.augment.sounds import MAKERS, excerpts, made_sound, read_sound, sound_files
from speech2image.errors import DataError


@pytest.mark.parametrize("maker", sorted(set(MAKERS), key=lambda maker: maker.__name__))
@pytest.mark.parametrize("n", [10_400, 48_001])
def test_makers_make_what_can_be_heard(maker, n: int) -> None:
    for seed in range(5):
        sound = maker(np.random.default_rng(seed), n)
        assert sound.shape == (n,) and sound.dtype == np.float32 and np.isfinite(sound).all()
        assert np.abs(sound).max() > 1e-3
        assert np.array_equal(sound, maker(np.random.default_rng(seed), n))


def test_made_sounds_differ_and_have_full_scale() -> None:
    sounds = [made_sound(np.random.default_rng(seed), 16_000) for seed in range(20)]
    assert len({sound.tobytes() for sound in sounds}) == 20
    assert all(np.abs(sound).max() == pytest.approx(1, abs=1e-4) for sound in sounds)


def test_files_are_read_however_short(tmp_path) -> None:
    time = np.arange(3200) / 16_000
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.FLAC").write_bytes(
        audio.encode_flac(0.001 * np.sin(2000 * time).astype(np.float32))
    )
    (tmp_path / "b.wav").write_bytes(b"no sound")
    (tmp_path / "notes.txt").write_text("x")
    paths = sound_files([tmp_path])
    assert [path.name for path in paths] == ["b.wav", "a.FLAC"]
    assert len(read_sound(paths[0])) == 0
    sound = read_sound(paths[1])
    assert sound.shape == (3200,)
    (piece,) = excerpts(sound, 3, np.random.default_rng(0))
    assert np.abs(piece.astype(int)).max() == 32767
    assert list(excerpts(np.zeros(3200, np.float32), 3, np.random.default_rng(0))) == []
    with pytest.raises(DataError, match="no recordings"):
        sound_files([tmp_path / "absent"])


def test_a_play_list_is_no_sound(tmp_path, monkeypatch) -> None:
    """The same decoder as everywhere: a file that names others opens none of them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.flac").write_bytes(audio.encode_flac(np.sin(np.arange(32_000) / 9).astype(np.float32)))
    (tmp_path / "list.wav").write_text("ffconcat version 1.0\nfile other.flac\n")
    assert len(read_sound(tmp_path / "other.flac")) == 32_000
    assert len(read_sound(tmp_path / "list.wav")) == 0


def test_the_beginning_of_long_and_of_damaged_files(tmp_path) -> None:
    flac = audio.encode_flac(np.random.default_rng(0).uniform(-0.1, 0.1, 160_000).astype(np.float32))
    (tmp_path / "long.flac").write_bytes(flac)
    assert 3 <= len(read_sound(tmp_path / "long.flac", longest=3.0)) / 16_000 < 4
    (tmp_path / "cut.flac").write_bytes(flac[: len(flac) // 2])
    assert 4 < len(read_sound(tmp_path / "cut.flac")) / 16_000 < 5.1


def test_long_files_give_several_pieces() -> None:
    pieces = list(
        excerpts(
            np.random.default_rng(0).standard_normal(16_000 * 50).astype(np.float32),
            3,
            np.random.default_rng(0),
        )
    )
    assert [len(piece) for piece in pieces] == [320_000] * 3
