"""prepare: turns data sets into what trainings read; needs the `train` extra."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from speech2image.audio.front_ends import PAPER, find_front_end
from speech2image.commands.flags import call, import_training, list_choices, open_data, open_teacher, parse
from speech2image.errors import SettingsError, require


def run(command: str, arguments: list[str]) -> None:
    """Prepare what the first word says, or the corpus that it names."""
    what = arguments[0] if arguments else ""
    if what in ("", "-h", "--help"):
        list_choices(
            "prepare WHAT [OPTIONS]",
            {"pictures with their speech": CORPORA, "what trainings take besides": _firsts(PARTS)},
            "speech2image prepare WHAT --help shows its options.\n\n"
            "Example: speech2image prepare toy --out shards/toy",
        )
        if not what:
            raise SystemExit(2)
        return
    if what in PARTS:
        call(PARTS[what], f"prepare {what}", arguments[1:])
        return
    if not what.startswith("-") and what not in CORPORA:
        raise SettingsError(f"cannot prepare '{what}'; there are: {', '.join((*CORPORA, *PARTS))}")
    module = import_training("data.prepare")
    print(module.prepare(parse(module.PrepareSettings, "prepare", arguments)))


CORPORA = {
    "oxford102": "Oxford-102 flowers: 8,189 pictures of 102 classes",
    "cub": "CUB-200 birds, of 2011 (11,788 pictures) or of 2010 (6,033)",
    "flickr8k": "Flickr8k with its captions read aloud by 183 people",
    "lists": "train.json and test.json as released with the paper",
    "folder": "pictures of your own with captions, recordings or both",
    "toy": "made-up shapes that speak in tones, to try things out",
}
"""What `data.corpora.registry` names, and the toy set; a test compares."""


def _firsts(parts: dict[str, Callable[..., None]]) -> dict[str, str]:
    """What each part does, by the first line of its docstring."""
    return {name: (part.__doc__ or "").partition("\n")[0].rstrip(".") for name, part in parts.items()}


def prepare_teacher(
    data: Path, weights: Path, crops: int = 10, ray: str | None = None, shards: str | None = None
) -> None:
    """Compute the image teacher's features of every picture and cache them beside the shards.

    Example: speech2image prepare teacher --data shards/flowers --weights bvlc_googlenet.caffemodel

    Args:
        data: shards folder that prepare wrote.
        weights: GoogLeNet as bvlc_googlenet.caffemodel, torchvision's googlenet-1378be20.pth or safetensors.
        crops: crops of each picture: 10 (paper), 2 or 1.
        ray: do the work on a Ray cluster: its address, auto, or local.
        shards: only the features of picture shards START:STOP, for one job of many; the same command
            without it then puts all together.
    """
    import_training("training.core.run").join_processes()
    arrays, teacher = open_data((data,)), open_teacher(weights)
    cache = import_training("data.features").cache_teacher_features
    only = import_training("data.shards.plan").shard_range(shards)
    print(cache(arrays, teacher, crops=crops, only=only, elsewhere=_cluster(ray), weights=weights.absolute()))


def _cluster(address: str | None) -> Any:
    """A Ray cluster, or None without an address; a task takes a GPU where this machine has one."""
    if address is None:
        return None
    gpus = float(require("torch", "train").cuda.is_available())
    return import_training("data.shards.ray_tasks").RayCluster(address, gpus=gpus)


def prepare_frames(
    data: Path,
    front_end: str = PAPER.name,
    workers: int = 1,
    ray: str | None = None,
    shards: str | None = None,
) -> None:
    """Compute the frames of all speech, which a training would else do when it first reads them.

    Example: speech2image prepare frames --data shards/flowers --workers 8

    Args:
        data: shards folder that prepare wrote.
        front_end: what makes the frames: log-mel-40 (the paper's), or whisper-80.
        workers: processes.
        ray: do the work on a Ray cluster, in place of --workers: its address, auto, or local.
        shards: of speech shards START:STOP alone, for one job of many.
    """
    cluster, only = _cluster(ray), import_training("data.shards.plan").shard_range(shards)
    arrays = open_data((data,), workers=cluster or workers, front_end=find_front_end(front_end))
    made = arrays.build_log_mels(only)
    print(f"{data}: frames of {sum(path.exists() for path in made)} of {len(made)} speech shards")


def prepare_recordings(
    root: Path, out: Path, workers: int = 1, skip_bad: bool = False, front_end: str = PAPER.name
) -> None:
    """Turn a corpus of transcribed speech into frames, for `train speech-recognizer` and `train words-head`.

    Example: speech2image prepare recordings --root LJSpeech-1.1 --out recordings/ljspeech

    Args:
        root: of LJSpeech (metadata.csv), LibriSpeech or a part of it, or utterances.jsonl (audio, speaker,
            text).
        out: folder to write.
        workers: processes.
        skip_bad: leave out recordings that cannot be used, and say which.
        front_end: what makes the frames: log-mel-40 (the paper's), or whisper-80 for `train words-head`.
    """
    module, kind = import_training("data.shards.recordings"), find_front_end(front_end)
    listed = import_training("data.corpora.registry").list_recordings(root, skip_bad=skip_bad)
    recordings = module.build_recordings(listed, out, workers, skip_bad=skip_bad, front_end=kind)
    print(f"{out}: {len(recordings.texts)} recordings, {recordings.n_frames().sum() / 360_000:.1f} hours")


def prepare_words(roots: tuple[Path, ...], out: Path, captions: tuple[Path, ...] = ()) -> None:
    """Cut the words of captions out of transcribed recordings, for `prepare --word-bank`.

    Example: speech2image prepare words --roots LibriSpeech LJSpeech-1.1 --out words

    Args:
        roots: folders of LibriSpeech or LJSpeech, in their publishers' layouts.
        out: folder of the word bank to write.
        captions: manifests of captions, or the folders they lie in; only their words are kept; by default
            all are.
    """
    print(import_training("data.speech.word_bank").prepare_words(roots, out, captions))


def prepare_other(
    out: Path,
    n: int = 2000,
    split: Literal["train", "test"] = "train",
    voices: tuple[str, ...] = (),
    held_out_voices: tuple[str, ...] = (),
    seed: int = 0,
    augment: float = 0.5,
    effects: Literal["default", "strong"] = "default",
    delivery: Literal["even", "varied"] = "even",
    workers: int = 1,
    front_end: str = "whisper-80",
) -> None:
    """Speak sentences about other things than flowers, birds and rooms, for `train domain-head --other`.

    Half describe things with colours and parts, three tenths are what people say to a microphone, one fifth
    is German, French, Spanish and Italian, spoken by espeak-ng where it is installed. Speak them as the
    captions were spoken (voices, augmentation, effects, delivery), so that the voice tells nothing. Running
    it again goes on where it stopped, or with more sentences.

    Example: speech2image prepare other --n 4000 --out recordings/other

    Args:
        out: folder to write; a speaker in it is a voice.
        n: sentences.
        split: train, or test for things and sentences that train never has, to measure on.
        voices: that speak, as names or patterns such as "flite/*" (default: all found).
        held_out_voices: that never speak here, likewise.
        seed: of sentences, voices and augmentation.
        augment: share of utterances with changed rate, pitch, formants, level, noise or room, 0 to 1.
        effects: default, or strong for pauses, silence, telephone lines and low bit rates, too.
        delivery: even, or varied: every sentence at a speed of its own.
        workers: processes.
        front_end: what makes the frames: whisper-80 for train domain-head.
    """
    speaking, kind = import_training("data.speech.speaking"), find_front_end(front_end)
    voice_plan = speaking.VoicePlan(
        (), held_out_voices, augment=augment, seed=seed, effects=effects, delivery=delivery
    )
    made = import_training("data.speech.other_sentences").prepare_other(
        out, voices, voice_plan, n, split, workers, kind
    )
    print(f"{out}: {len(made.texts)} sentences, {made.n_frames().sum() / 360_000:.1f} hours")


def prepare_stream(
    data: Path,
    out: Path,
    splits: tuple[Literal["train", "val", "test"], ...] = ("train",),
    samples_per_shard: int = 1000,
    seed: int = 0,
    shuffle: bool = True,
    front_end: str = PAPER.name,
    workers: int = 1,
    overwrite: bool = False,
    ray: str | None = None,
    shards: str | None = None,
) -> None:
    """Pack a prepared data set as training shards, which `train --data ADDRESS` reads as a stream.

    A shard holds pictures, their captions, the teacher's features, frames of what is said about them, and
    speech embeddings where `train embeddings` made them. Copy the folder to any server or bucket.

    Example: speech2image prepare stream --data shards/flowers --out stream/flowers

    Args:
        data: shards folder that prepare wrote, with features of prepare teacher.
        out: folder to write.
        splits: whose samples to take.
        samples_per_shard: pictures a shard.
        seed: of the samples' order.
        shuffle: mix the samples, whose classes follow one another in a data set; else keep their order.
        front_end: what makes the frames: log-mel-40 (the paper's), or whisper-80.
        workers: processes.
        overwrite: replace shards that were packed from something else.
        ray: do the work on a Ray cluster, in place of --workers: its address, auto, or local.
        shards: make the shards START:STOP alone, for one job of many.
    """
    only = import_training("data.shards.plan").shard_range(shards)
    arrays = open_data((data,), workers=_cluster(ray) or workers, front_end=find_front_end(front_end))
    made = import_training("data.shards.packing").pack(
        arrays,
        out,
        splits=splits,
        samples_per_shard=samples_per_shard,
        seed=seed,
        shuffle=shuffle,
        overwrite=overwrite,
        only=only,
    )
    print(f"{out}: {len(made)} shards of {sum(path.stat().st_size for path in made) / 1e6:,.1f} MB in all")


PARTS: dict[str, Callable[..., None]] = {
    "teacher": prepare_teacher,
    "recordings": prepare_recordings,
    "words": prepare_words,
    "other": prepare_other,
    "frames": prepare_frames,
    "stream": prepare_stream,
}
"""What trainings take besides a corpus of pictures."""
