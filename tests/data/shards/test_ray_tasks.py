"""Preparation on a local Ray: what this machine makes, though workers are killed; job arrays likewise."""

import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_sets import own_folder

pytest.importorskip("torch")

from speech2image.data.features import cache_teacher_features
from speech2image.data.prepare import PrepareSettings, prepare
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.packing import pack
from speech2image.data.shards.plan import shard_range
from speech2image.data.shards.ray_tasks import RayCluster
from speech2image.errors import DataError, SettingsError, Speech2ImageError
from speech2image.models.teacher.googlenet import GoogLeNet


@pytest.fixture(scope="module")
def cluster():
    """Ray on two cores of this machine; its workers find the package and the tests' modules."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("pyarrow")
    paths = os.pathsep.join([str(Path(__file__).parents[3]), str(Path(__file__).parents[2])])
    paths += os.pathsep + os.environ.get("PYTHONPATH", "")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100_000_000,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    yield RayCluster("local")
    ray.shutdown()


def settings_for(folder: Path, corpus: Path) -> PrepareSettings:
    """Ten pictures with recordings, in five shards."""
    return PrepareSettings("folder", folder, root=corpus, speak=False, samples_per_shard=2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    own_folder(folder, 10, recordings=True)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files but notes of when they were made."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def killed_once(task, *, function, folder: Path, **options):
    """The function, but two of the tasks lose their worker in the middle, once each."""
    for number in (1, 4):
        mark = folder / f"killed-{number}"
        if f"{number:06d}" in str(task.path) and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return function(task, **options)


def failing(task: int) -> int:
    if task == 2:
        raise DataError("task 2 cannot be done; give another")
    return task


def raising(task: int) -> int:
    return 1 // task


@pytest.mark.slow
def test_ray_makes_the_same_shards_though_two_workers_are_killed(
    cluster, corpus, tmp_path, monkeypatch
) -> None:
    import speech2image.data.shards.corpus as module

    here = prepare(settings_for(tmp_path / "here", corpus))
    make = module.make_picture_shard
    monkeypatch.setattr(module, "make_picture_shard", partial(killed_once, function=make, folder=tmp_path))
    there = prepare(replace(settings_for(tmp_path / "there", corpus), ray="local"))
    assert (tmp_path / "killed-1").exists() and (tmp_path / "killed-4").exists()
    assert contents(there) == contents(here)
    assert not list(there.glob(".*"))

    opened = PairArrays.open(here), replace(PairArrays.open(there), workers=cluster)
    for arrays in opened:
        arrays.build_log_mels()
    weights = tmp_path / "teacher.safetensors"
    _store(GoogLeNet(), weights)
    cache_teacher_features(opened[0], _loaded(weights), crops=1)
    cache_teacher_features(opened[1], _loaded(weights), crops=1, elsewhere=cluster, weights=weights)
    np.testing.assert_array_equal(opened[0].teacher, opened[1].teacher)
    for arrays, name in zip(opened, ("here", "there"), strict=True):
        (arrays.folder / "arrays" / "teacher.json").unlink()
        pack(arrays, tmp_path / f"packed-{name}", samples_per_shard=3)
    names = [path.name for path in (tmp_path / "packed-here").iterdir()]
    for name in names:
        members = [contents_of(tmp_path / f"packed-{where}" / name) for where in ("here", "there")]
        assert members[0] == members[1]


def contents_of(shard: Path) -> str:
    from speech2image.data.shards.training_shards import read_training_header

    return read_training_header(str(shard)).content


def _store(teacher: GoogLeNet, path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: weight.contiguous() for name, weight in teacher.state_dict().items()}, path)


def _loaded(path: Path) -> GoogLeNet:
    from speech2image.models.teacher.googlenet import load_teacher

    return load_teacher(path)


@pytest.mark.slow
def test_results_come_in_order_and_errors_as_they_were_raised(cluster) -> None:
    assert list(cluster.run(failing, [5, 4, 3, 7, 6])) == [5, 4, 3, 7, 6]
    with pytest.raises(DataError, match="task 2 cannot be done"):
        list(cluster.run(failing, [1, 2, 3]))
    with pytest.raises(Speech2ImageError, match="ZeroDivisionError"):
        list(cluster.run(raising, [0]))


@pytest.mark.slow
def test_translate_on_ray_writes_what_translate_writes(cluster, tmp_path, capsys) -> None:
    from tiny_model import make_model, write_wav

    from speech2image import cli

    model = make_model(tmp_path / "model")
    clips = [str(write_wav(tmp_path / f"{number}.wav", seed=number)) for number in range(5)]
    Path(clips[2]).write_bytes(b"no recording")
    written = []
    for place in ([], ["--ray", "local"]):
        out = tmp_path / f"drawn{len(written)}"
        out.mkdir()
        flags = ["--model", str(model), "--separate", "-o", str(out / "p.png"), "--skip-bad"]
        assert cli.main(["translate", *clips, *flags, *place]) == 0
        assert "2.wav" in capsys.readouterr().err
        written.append(contents(out))
    assert len(written[0]) == 4 and written[0] == written[1]
    assert cli.main(["translate", "-", "--ray", "local"]) != 0
    assert "cannot be read by a cluster" in capsys.readouterr().err


def test_jobs_that_share_the_shards_make_what_one_makes(corpus, tmp_path) -> None:
    here = prepare(settings_for(tmp_path / "here", corpus))
    settings = settings_for(tmp_path / "jobs", corpus)
    jobs = tmp_path / "jobs"
    prepare(replace(settings, shards="0:2"))
    assert sorted(path.name for path in jobs.glob("pictures-0*")) == [
        "pictures-000000.tar",
        "pictures-000001.tar",
    ]
    with pytest.raises(DataError, match="did not end"):
        PairArrays.open(jobs)
    prepare(replace(settings, shards="4:99"))
    prepare(replace(settings, shards="2:4"))
    prepare(settings)
    assert contents(jobs) == contents(here)

    whole, parts = PairArrays.open(here), PairArrays.open(jobs)
    teacher = GoogLeNet()
    cache_teacher_features(whole, teacher, crops=1)
    for shards in ("0:3", "3:6"):
        parts.build_log_mels(shard_range(shards))
        cache_teacher_features(parts, teacher, crops=1, only=shard_range(shards))
    assert not (jobs / "arrays" / "teacher.npy").exists()
    cache_teacher_features(parts, teacher, crops=1)
    np.testing.assert_array_equal(parts.teacher, whole.teacher)
    np.testing.assert_array_equal(parts.n_frames(), whole.n_frames())


@pytest.mark.parametrize("text", ["", "3", "5:5", "7:2", "a:b", "-1:4", "0:50:2"])
def test_other_ranges_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="START:STOP"):
        shard_range(text)
