"""Many recordings at once: order, errors by name, how far ahead is worked, what is taken in turn."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_model import make_model, speech, write_wav

import speech2image
from speech2image.errors import SettingsError, SpeechError
from speech2image.pipeline.many import in_threads


@pytest.fixture
def clips(tmp_path) -> list[Path]:
    return [write_wav(tmp_path / f"{i}.wav", 1.5, i) for i in range(5)]


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_results_are_those_of_translate_in_order(tmp_path, clips, threads: int | None) -> None:
    route = speech2image.load(make_model(tmp_path / "m"))
    results = list(route.translate_many(clips, 2, 7, threads=threads))
    assert [result.source for result in results] == [str(clip) for clip in clips]
    for clip, result in zip(clips, results, strict=True):
        alone = route.translate(clip, 2, 7)
        assert np.array_equal(result.speech_embedding, alone.speech_embedding)
        assert [a.tobytes() for a in result.images] == [b.tobytes() for b in alone.images]


def test_a_bad_recording_is_named_or_passed_over(tmp_path, clips) -> None:
    route = speech2image.load(make_model(tmp_path / "m"))
    mixed = [clips[0], (speech(0.001), 16_000), tmp_path / "absent.wav", clips[1]]
    results = route.translate_many(mixed)
    assert next(results).source == str(clips[0])
    with pytest.raises(SpeechError, match=r"recording 2: .*short"):
        next(results)
    with pytest.warns(UserWarning) as warned:
        kept = list(route.translate_many(mixed, skip_bad=True))
    assert [result.source for result in kept] == [str(clips[0]), str(clips[1])]
    told = [str(w.message) for w in warned]
    assert told[0].startswith("passed over: recording 2: ")
    assert told[1] == f"passed over: {tmp_path / 'absent.wav'}: no such file"


def test_settings_are_refused_before_anything_is_taken(tmp_path) -> None:
    route = speech2image.load(make_model(tmp_path / "m"))

    def never():
        yield pytest.fail("taken")

    for wrong in ({"threads": 0}, {"threads": 65}, {"n": 0}, {"seed": -1}):
        with pytest.raises(SettingsError):
            route.translate_many(never(), **wrong)


def test_several_are_made_at_once_and_few_ahead() -> None:
    meeting, taken = threading.Barrier(3, timeout=30), []

    def items():
        for i in range(30):
            taken.append(i)
            yield i

    def wait(i: int) -> int:
        meeting.wait()  # passes only if three are here at once
        return i

    results = in_threads(wait, items(), 3)
    assert next(results) == 0
    assert len(taken) <= 6
    assert list(results) == list(range(1, 30))


def test_an_error_ends_the_work() -> None:
    started = []

    def fail(i: int) -> int:
        started.append(i)
        if i == 1:
            raise ZeroDivisionError
        return i

    results = in_threads(fail, range(1000), 2)
    assert next(results) == 0
    with pytest.raises(ZeroDivisionError):
        list(results)
    assert len(started) < 20


def test_threads_are_not_the_first_to_load_parts_of_numpy() -> None:
    """numpy loads some parts on first use, which failed in a server when several requests were the first."""
    script = """
import sys, speech2image.pipeline.base, speech2image.pipeline.direct
import numpy as np
before = {name for name in sys.modules if name.startswith("numpy")}
speech2image.pipeline.base.listen((np.sin(np.arange(16000.0)), 16000), None)
from speech2image.pipeline.noise import noise
noise(2, 8, 0)
print(sorted({name for name in sys.modules if name.startswith("numpy")} - before))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
