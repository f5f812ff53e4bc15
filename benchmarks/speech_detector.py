"""How often a model's speech detector misses speech and takes other sounds for speech; a Markdown table.

python benchmarks/speech_detector.py --model MODEL --speech NAME=FOLDER ... --sounds NAME=FOLDER ... \
    --shards FOLDER --voices NAME ...

Speech: recordings below FOLDER, each cut to at most 5 s, and test captions of a shards folder in some voices.
Sounds: pieces of 3 to 5 s of the recordings below FOLDER, besides those made by code. Choose what no training
heard.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from speech2image import audio
from speech2image.audio.vad import VoiceActivityDetector
from speech2image.data.augment.acoustic_conditions import ACOUSTIC_CONDITIONS, changed
from speech2image.data.augment.sounds import excerpts, made_sound, read_sound, sound_files
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import SpeechError
from speech2image.evaluation.embeddings import recordings
from speech2image.pipeline.loading import open_vad
from speech2image.pipeline.registry import find

RATE = audio.SAMPLE_RATE


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="flowers-and-birds")
    parser.add_argument("--speech", nargs="*", default=[])
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--voices", nargs="*", default=[])
    parser.add_argument("--sounds", nargs="*", default=[])
    parser.add_argument("--clips", type=int, default=200, help="of each kind")
    options = parser.parse_args()
    detector = open_vad(find(options.model))
    if detector is None:
        parser.error(f"the model {options.model} has no speech detector")
    groups = {name: list(_people(folder, options.clips)) for name, folder in map(_pair, options.speech)}
    for voice in options.voices:
        groups[voice] = list(_captions(options.shards, voice, options.clips))
    print("| missed, in % | clips |", " | ".join(c.name for c in ACOUSTIC_CONDITIONS), "|")
    print("| --- " * (len(ACOUSTIC_CONDITIONS) + 2) + "|")
    for name, clips in groups.items():
        shares = [_missed(detector, clips, i) for i in range(len(ACOUSTIC_CONDITIONS))]
        print(
            f"| {name} | {len(clips)} |",
            " | ".join(f"{100 * share:.1f}" for share in shares),
            "|",
            flush=True,
        )
    print("\n| taken for speech, in % | clips | 3 to 5 s | 10 s |\n| --- | --- | --- | --- |")
    for name, folder in [("made by code", ""), *map(_pair, options.sounds)]:
        taken = [
            _taken(detector, list(_sounds(folder, options.clips, seconds))) for seconds in ((3, 5), (10, 10))
        ]
        print(
            f"| {name} | {options.clips} |",
            " | ".join(f"{100 * share:.1f}" for share in taken),
            "|",
            flush=True,
        )


def _pair(text: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    return name, folder


def _people(folder: str, most: int) -> Iterator[np.ndarray]:
    files = sound_files([folder])
    for i in np.random.default_rng(0).permutation(len(files))[:most]:
        yield audio.load(files[i])[: 5 * RATE]


def _captions(shards: Path, voice: str, most: int) -> Iterator[np.ndarray]:
    arrays = PairArrays.open(shards)
    spoken = arrays.utterances_of("test", [voice])
    for _, encoded in recordings(arrays, spoken[np.linspace(0, len(spoken) - 1, most).astype(int)]):
        yield audio.load(encoded)


def _missed(detector: VoiceActivityDetector, clips: list[np.ndarray], number: int) -> float:
    rng = np.random.default_rng(number)
    heard = [
        detector.has_speech(audio.log_mel(changed(ACOUSTIC_CONDITIONS[number], clip, rng, clips)))
        for clip in clips
    ]
    return 1 - float(np.mean(heard))


def _sounds(folder: str, most: int, seconds: tuple[int, int]) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(1)
    pieces = []
    for path in sound_files([folder]) if folder else []:
        pieces += list(excerpts(read_sound(path), 4, rng))
    for _ in range(most):
        n = int(rng.uniform(*seconds) * RATE)
        if not pieces:
            yield made_sound(rng, n)
            continue
        piece = pieces[rng.integers(len(pieces))].astype(np.float32) / 32768
        start = rng.integers(0, max(1, len(piece) - n))
        sound = np.zeros(n, np.float32)
        sound[: len(piece[start : start + n])] = piece[start : start + n]
        yield sound + 1e-4 * rng.standard_normal(n).astype(np.float32)


def _taken(detector: VoiceActivityDetector, sounds: list[np.ndarray]) -> float:
    taken = []
    for sound in sounds:
        try:
            taken.append(detector.has_speech(audio.log_mel(sound)))
        except SpeechError:
            taken.append(False)
    return float(np.mean(taken))


if __name__ == "__main__":
    main()
