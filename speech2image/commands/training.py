"""prepare, train, evaluate, export: thin; each needs the `train` extra and calls one function of the package.

The flags of a training are the fields of its `Settings`, their defaults those of the chosen `--preset`:

    speech2image train one-stage-gan --preset cpu --batch-size 16 --generator.code-size 128 --data S --out R
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from speech2image.audio.front_ends import find_front_end
from speech2image.commands import cascade
from speech2image.commands.jobs import Files, FilesOfGan, bytes_of, open_conditions
from speech2image.commands.jobs import call as _call
from speech2image.commands.jobs import import_training as _import
from speech2image.commands.jobs import open_data as _open
from speech2image.commands.jobs import open_teacher as _teacher
from speech2image.commands.jobs import parse as _parse
from speech2image.commands.jobs import parse_job as _parse_job
from speech2image.errors import SettingsError, printable


def run(command: str, arguments: list[str]) -> None:
    """Parse `arguments` for `command` and do it."""
    {"prepare": prepare, "train": train, "evaluate": evaluate, "export": export}[command](arguments)


def prepare(arguments: list[str]) -> None:
    """Turn a corpus into shards; `prepare teacher`, `recordings`, `words` and `other` prepare what
    trainings take besides."""
    if arguments[:1] == ["teacher"]:
        _call(prepare_teacher, "prepare teacher", arguments[1:])
        return
    if arguments[:1] == ["recordings"]:
        _call(cascade.prepare_recordings, "prepare recordings", arguments[1:])
        return
    if arguments[:1] == ["words"]:
        _call(prepare_words, "prepare words", arguments[1:])
        return
    if arguments[:1] == ["other"]:
        _call(prepare_other, "prepare other", arguments[1:])
        return
    module = _import("data.prepare")
    settings = _parse(module.PrepareSettings, "prepare", arguments)
    print(module.prepare(settings))


def prepare_teacher(data: Path, weights: Path, crops: int = 10) -> None:
    """Compute the image teacher's features of every picture and cache them beside the shards.

    Args:
        data: shards folder that prepare wrote.
        weights: GoogLeNet as bvlc_googlenet.caffemodel, torchvision's googlenet-1378be20.pth or safetensors.
        crops: crops of each picture: 10 (paper), 2 or 1.
    """
    arrays, teacher = _open((data,)), _teacher(weights)
    print(_import("data.features").cache_teacher_features(arrays, teacher, crops=crops))


def prepare_words(roots: tuple[Path, ...], out: Path, captions: tuple[Path, ...] = ()) -> None:
    """Cut the words of captions out of transcribed recordings, for `prepare --word-bank`.

    Args:
        roots: folders of LibriSpeech or LJSpeech, in their publishers' layouts.
        out: folder of the word bank to write.
        captions: manifests of captions, or the folders they lie in; only their words are kept; by default
            all are.
    """
    print(_import("data.word_cutting").prepare_words(roots, out, captions))


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
    speaking, kind = _import("data.speech.speaking"), find_front_end(front_end)
    voice_plan = speaking.VoicePlan(
        (), held_out_voices, augment=augment, seed=seed, effects=effects, delivery=delivery
    )
    made = _import("data.other_speech").prepare_other(out, voices, voice_plan, n, split, workers, kind)
    print(f"{out}: {len(made.texts)} sentences, {made.n_frames().sum() / 360_000:.1f} hours")


def train(arguments: list[str]) -> None:
    """Train one network; the first word says which."""
    recipe, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if recipe in ("", "-h", "--help"):
        print("usage: speech2image train RECIPE [OPTIONS]\n\nrecipes:")
        for name, (_, text) in RECIPES.items():
            print(f"  {name:25} {text}")
        print("\nspeech2image train RECIPE --help shows its settings; --preset NAME changes their defaults")
        if not recipe:
            raise SystemExit(2)
        return
    if recipe not in RECIPES:
        raise SettingsError(f"unknown recipe '{recipe}'; there are: {', '.join(RECIPES)}")
    RECIPES[recipe][0](rest)


@dataclass(frozen=True)
class FilesWithTeacher(Files):
    """Where a training reads and writes.

    Attributes:
        data: shards folder that prepare wrote; several are trained on as one.
        out: folder of the run: checkpoint, log, sample sheets; a run in it goes on.
        preset: which settings are the defaults of the flags below.
        teacher: weights of the image teacher, a GoogLeNet.
        start_from: checkpoint of a similar training to start from.
    """

    teacher: Path = tyro.MISSING
    start_from: Path | None = None


@dataclass(frozen=True)
class FilesOfSpeech(Files):
    """Where a training reads and writes.

    Attributes:
        data: shards folder that prepare wrote; several are trained on as one.
        out: folder of the run: checkpoint, log; a run in it goes on.
        preset: which settings are the defaults of the flags below.
        recordings: folders that prepare recordings wrote: people to learn to hear, in a second task.
        start_from: checkpoint of a similar training to start from.
    """

    recordings: tuple[Path, ...] = ()
    start_from: Path | None = None


@dataclass(frozen=True)
class FilesOfAll(Files):
    """Where a training reads and writes.

    Attributes:
        data: shards folder that prepare wrote; several are trained on as one.
        out: folder of the run: checkpoints, logs, sample sheets and the model; a run in it goes on.
        preset: which settings are the defaults of the flags below.
        teacher: weights of the image teacher, a GoogLeNet; needed unless its features are there and the
            generator is stackgan-v2. Preset toy, with the toy set, does without.
        name: of the model.
        licence: of the model's weights.
    """

    teacher: Path | None = None
    name: str = "direct"
    licence: str = "unstated"


def _train_direct(arguments: list[str]) -> None:
    module = _import("training.recipes.direct")
    files, settings = _parse_job(module, FilesOfAll, "train direct", arguments)
    arrays = _open(files.data)
    teacher = None if files.teacher is None else _teacher(files.teacher)
    if teacher is None and files.preset == "toy" and _import("data.corpora.toy").is_toy(arrays.voices):
        teacher = _import("models.teacher.toy").ToyTeacher()
    trained, model = module.train(settings, arrays, teacher, files.out), files.out / "model"
    card = {"name": files.name, "licence": files.licence}
    _import("export.direct").export_checkpoints(*trained, model, max_bytes=settings.max_bytes, **card)
    print(model)


def _train_speech_encoder(arguments: list[str]) -> None:
    module = _import("training.recipes.speech_encoder")
    files, settings = _parse_job(module, FilesOfSpeech, "train speech-encoder", arguments)
    recordings = [_import("data.shards.recordings").Recordings(folder) for folder in files.recordings]
    arrays = _open(files.data)
    print(module.train(settings, arrays, files.out, recordings=recordings, start_from=files.start_from))


@dataclass(frozen=True)
class FilesOfBackbone(Files):
    """Where a training reads and writes.

    Attributes:
        data: shards folder that prepare wrote; several are trained on as one.
        out: folder of the run: checkpoint, log; a run in it goes on.
        preset: which settings are the defaults of the flags below: head, tune, teacher-student or toy.
        backbone: Whisper's published weights: model.safetensors of openai/whisper-tiny.en, or a folder of
            faster-whisper's.
        start_from: checkpoint of such a training, or of train words-head, to start from, in place of the
            backbone.
        recordings: folders that `prepare recordings --front-end whisper-80` wrote, for tuning an encoder
            with a words head.
    """

    preset: str = "head"
    backbone: Path | None = None
    start_from: Path | None = None
    recordings: tuple[Path, ...] = ()


def _train_pretrained_speech_encoder(arguments: list[str]) -> None:
    module = _import("training.recipes.pretrained_speech_encoder")
    files, settings = _parse_job(module, FilesOfBackbone, "train pretrained-speech-encoder", arguments)
    arrays = _open(files.data, front_end=module.PretrainedSpeechEncoder.front_end)
    recordings = [_import("data.shards.recordings").Recordings(folder) for folder in files.recordings]
    print(module.train(settings, arrays, files.out, files.backbone, files.start_from, recordings))


@dataclass(frozen=True)
class FilesOfWords:
    """Where a training reads and writes.

    Attributes:
        encoder: checkpoint of a pretrained-speech-encoder training.
        out: folder of the run: checkpoint, log, transcripts; a run in it goes on.
        data: shards folders that prepare wrote, whose captions are spoken.
        recordings: folders that `prepare recordings --front-end whisper-80` wrote.
        preset: which settings are the defaults of the flags below.
    """

    encoder: Path
    out: Path
    data: tuple[Path, ...] = ()
    recordings: tuple[Path, ...] = ()
    preset: str = Files.preset


def _train_words_head(arguments: list[str]) -> None:
    module = _import("training.recipes.words_head")
    files, settings = _parse_job(module, FilesOfWords, "train words-head", arguments)
    front_end = module.PretrainedSpeechEncoder.front_end
    arrays = _open(files.data, front_end=front_end) if files.data else None
    opened = [_import("data.shards.recordings").Recordings(folder) for folder in files.recordings]
    recordings = {one.folder.name: one for one in opened}
    print(module.train(settings, files.encoder, arrays, recordings, files.out))


@dataclass(frozen=True)
class FilesOfDomains:
    """Where a training reads and writes.

    Attributes:
        encoder: checkpoint of a pretrained-speech-encoder or words-head training.
        out: folder of the run: checkpoint and log; a run in it goes on.
        data: shards folders that prepare wrote, one for each of --domains, in their order.
        other: folders of speech about other things, which prepare other and `prepare recordings --front-end
            whisper-80` wrote; what prepare other spoke for the split test is measured alone.
        preset: which settings are the defaults of the flags below.
    """

    encoder: Path
    out: Path
    data: tuple[Path, ...]
    other: tuple[Path, ...]
    preset: str = Files.preset


def _train_domain_head(arguments: list[str]) -> None:
    module = _import("training.recipes.domain_head")
    files, settings = _parse_job(module, FilesOfDomains, "train domain-head", arguments)
    front_end = module.PretrainedSpeechEncoder.front_end
    data = [_open((folder,), front_end=front_end) for folder in files.data]
    other = [_import("data.shards.recordings").Recordings(folder) for folder in files.other]
    print(module.train(settings, files.encoder, data, other, files.out))


def _train_one_stage_gan(arguments: list[str]) -> None:
    module = _import("training.recipes.one_stage_gan")
    files, settings = _parse_job(module, FilesWithTeacher, "train one-stage-gan", arguments)
    arrays, teacher = _open(files.data), _teacher(files.teacher)
    print(module.train(settings, arrays, teacher, files.out, files.start_from))


def _train_stackgan_v2(arguments: list[str]) -> None:
    module = _import("training.recipes.stackgan_v2")
    files, settings = _parse_job(module, FilesOfGan, "train stackgan-v2", arguments)
    print(module.train(settings, open_conditions(files), files.out))


@dataclass(frozen=True)
class FilesOfSounds(Files):
    """Where a training reads and writes.

    Attributes:
        data: shards folders that prepare wrote; their training captions are speech.
        out: folder of the run: checkpoint and log; a run in it goes on.
        preset: which settings are the defaults of the flags below.
        recordings: folders of recordings of people who speak, without noise.
        sounds: folders of music and noises without speech; besides them there are sounds made by code.
    """

    recordings: tuple[Path, ...] = ()
    sounds: tuple[Path, ...] = ()


def _train_speech_detector(arguments: list[str]) -> None:
    module = _import("training.recipes.speech_detector")
    files, settings = _parse_job(module, FilesOfSounds, "train speech-detector", arguments)
    print(module.train(settings, files.data, files.recordings, files.sounds, files.out))


def _embed(arguments: list[str]) -> None:
    _call(embeddings, "train embeddings", arguments)


def embeddings(data: Path, encoder: Path, conditions: Literal["speech", "classifier"] = "speech") -> None:
    """Compute a trained encoder's embedding of every utterance and cache them beside the shards.

    Args:
        data: shards folder that prepare wrote.
        encoder: checkpoint of a speech-encoder or classifier training.
        conditions: which of the two; their embeddings lie apart.
    """
    arrays = _import("data.condition_pairs").open_conditions([data], conditions)
    print(_import("training.recipes.direct").store_embeddings(arrays, encoder))


def _fit_prior(arguments: list[str]) -> None:
    _call(condition_prior, "train condition-prior", arguments)


def condition_prior(
    data: tuple[Path, ...], generator: Path, out: Path, n_predicted: int = 32, residual_blend: float = 0.4
) -> None:
    """Fit the condition prior of a trained one-stage generator anew, to the embeddings beside the shards.

    Args:
        data: shards folders with teacher features and speech embeddings.
        generator: checkpoint of a one-stage-gan training.
        out: checkpoint to write.
        n_predicted: directions of the feature that are taken from the prediction.
        residual_blend: share of training pictures in these directions, 0 to 1.
    """
    module = _import("training.recipes.condition_prior")
    settings = module.PriorSettings(n_predicted, residual_blend=residual_blend)
    print(module.refit_prior(generator, _open(data), out, settings))


def _unpack_model(arguments: list[str]) -> None:
    _call(checkpoint, "train checkpoint", arguments)


def checkpoint(
    out: Path,
    network: Literal["speech_encoder", "text_encoder", "recognizer", "generator"],
    model: str = "flowers-and-birds",
    preset: str | None = None,
) -> None:
    """Make a checkpoint of a model's network, to go on from with data of your own (--start-from).

    Args:
        out: checkpoint to write.
        network: which; text_encoder and recognizer are those of a cascade (flowers-and-birds-cascade).
        model: a shipped model, or a model folder.
        preset: of the network's training; says its shape (of an encoder on Whisper's, that of its heads). By
            default that of the shipped models.
    """
    print(_import("export.checkpoint").checkpoint_of(model, network, out, preset))


RECIPES: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "direct": (_train_direct, "all of the below, from prepared data to a model folder"),
    "speech-encoder": (_train_speech_encoder, "speech -> the image teacher's feature space"),
    "pretrained-speech-encoder": (
        _train_pretrained_speech_encoder,
        "the same on Whisper's encoder: a head on its frozen states, then all of it",
    ),
    "words-head": (_train_words_head, "what is said, from the states of that encoder (CTC)"),
    "domain-head": (_train_domain_head, "whether that was about what a model draws, from the same states"),
    "embeddings": (_embed, "no training: a trained encoder's embedding of every utterance, for the next two"),
    "one-stage-gan": (
        _train_one_stage_gan,
        "embedding -> picture, against projected discriminators (shipped)",
    ),
    "condition-prior": (_fit_prior, "no training: what stands between another encoder and that generator"),
    "checkpoint": (_unpack_model, "no training: a model's network as a checkpoint, to start from"),
    "stackgan-v2": (_train_stackgan_v2, "embedding -> pictures, the paper's stacked generator"),
    "speech-detector": (_train_speech_detector, "speech -> is anyone speaking? turns silence and music away"),
    **cascade.RECIPES,
}


def evaluate(arguments: list[str]) -> None:
    """Measure a model on prepared data."""
    module = _import("evaluation")
    settings = _parse(module.EvaluationSettings, "evaluate", arguments)
    module.evaluate(settings)
    for line in (settings.out / "results.md").read_text(encoding="utf-8").splitlines():
        print(printable(line))


def export(arguments: list[str]) -> None:
    """Make a model folder from trained networks; `export cascade` one of the route through text.

    `export speech-detector` gives a model a speech detector, `export recognizer` makes a recognizer's folder.
    """
    others: dict[str, Callable[..., None]] = {
        "speech-detector": add_speech_detector,
        "cascade": cascade.export_cascade,
        "recognizer": cascade.export_recognizer,
    }
    if arguments[:1] and arguments[0] in others:
        _call(others[arguments[0]], f"export {arguments[0]}", arguments[1:])
        return
    _call(export_checkpoints, "export", arguments)


def add_speech_detector(checkpoint: Path, model: Path, clips: tuple[Path, ...] = ()) -> None:
    """Give a model that is already there a speech detector; its other networks stay as they are.

    Args:
        checkpoint: of a speech-detector training.
        model: model folder to change.
        clips: recordings on which ONNX is compared with torch; made-up sounds by default.
    """
    from speech2image import audio

    module = _import("export.direct")
    detector = _import("training.recipes.speech_detector").load_speech_detector(checkpoint)
    log_mels = [audio.log_mel(audio.load(clip)) for clip in clips]
    off = module.add_speech_detector(model, detector, log_mels)
    print(f"{model}: the speech detector differs from torch by at most {off['speech']:.1e}")


def export_checkpoints(
    speech_encoder: Path,
    generator: Path,
    out: Path,
    name: str,
    licence: str,
    description: str = "",
    speech_detector: Path | None = None,
    generator_of: str | None = None,
    clips: tuple[Path, ...] = (),
    max_megabytes: float = 25.0,
) -> None:
    """Make a model folder, which translate and load take, from training checkpoints.

    Args:
        speech_encoder: checkpoint of a speech-encoder training.
        generator: checkpoint of a one-stage-gan or stackgan-v2 training.
        out: model folder to write.
        name: the model's name.
        licence: of the weights, for instance CC-BY-4.0.
        description: one line that speech2image models shows.
        speech_detector: checkpoint of a speech-detector training; without one the model takes any sound.
        generator_of: a model beside this one, or a shipped one, that has this very generator, which is then
            not stored twice, nor its speech detector if none is given.
        clips: recordings on which ONNX is compared with torch; made-up sounds by default.
        max_megabytes: the most each of its networks may take; inf for any size.
    """
    from speech2image import audio

    max_bytes = bytes_of(max_megabytes)
    module = _import("export.direct")
    parity = module.export_checkpoints(
        speech_encoder,
        generator,
        out,
        name=name,
        licence=licence,
        description=description,
        speech_detector=speech_detector,
        generator_of=generator_of,
        clips=[audio.load(clip) for clip in clips],
        max_bytes=max_bytes,
    )
    print(f"{out}: differs from torch by at most {parity.embedding:.1e} and {parity.picture:.1e}")
