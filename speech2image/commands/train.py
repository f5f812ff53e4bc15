"""train: one training each; needs the `train` extra.

The flags of a training are the fields of its settings, their defaults those of the chosen `--preset`:

    speech2image train one-stage-gan --preset cpu --batch-size 16 --generator.code-size 128 --data S --out R
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from speech2image.commands.flags import (
    GanFiles,
    TrainingFiles,
    call,
    import_training,
    list_choices,
    open_conditions,
    open_data,
    open_data_or_stream,
    open_recordings,
    open_teacher,
    parse_job,
    read_lines,
)
from speech2image.errors import SettingsError
from speech2image.pipeline.registry import DEFAULT_MODEL, find


def run(command: str, arguments: list[str]) -> None:
    """Train one network; the first word says which."""
    recipe, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if recipe in ("", "-h", "--help"):
        list_choices(
            "train RECIPE [OPTIONS]",
            {"recipes": {name: text for name, (_, text) in RECIPES.items()}},
            "speech2image train RECIPE --help shows its settings; --preset NAME changes their\n"
            "defaults; with --dry-run data, networks and settings are checked, and nothing is\n"
            "trained.\n\nExample: speech2image train direct --preset toy --data shards/toy --out runs/toy",
        )
        if not recipe:
            raise SystemExit(2)
        return
    if recipe not in RECIPES:
        raise SettingsError(f"unknown recipe '{recipe}'; there are: {', '.join(RECIPES)}")
    if "--dry-run" in rest:
        rest.remove("--dry-run")
        _dry_run(recipe, rest)
        return
    RECIPES[recipe][0](rest)


def _dry_run(recipe: str, rest: list[str]) -> None:
    """Do all that a training does before its first step, and nothing more."""
    run = import_training("training.core.run")
    run.dry_run(True)
    try:
        RECIPES[recipe][0](rest)
    finally:
        run.dry_run(False)


@dataclass(frozen=True)
class TeacherFiles(TrainingFiles):
    """Where a training reads and writes.

    Attributes:
        data: shards folder that prepare wrote, or training shards of prepare stream, by folder or
            address; several are trained on as one.
        out: folder of the run: checkpoint, log, sample sheets; a run in it goes on.
        preset: which settings are the defaults of the flags below.
        teacher: weights of the image teacher, a GoogLeNet.
        start_from: checkpoint of a similar training to start from.
    """

    teacher: Path = tyro.MISSING
    start_from: Path | None = None


@dataclass(frozen=True)
class SpeechEncoderFiles(TrainingFiles):
    """Where a training reads and writes.

    Attributes:
        data: shards folder that prepare wrote, or training shards of prepare stream, by folder or
            address; several are trained on as one.
        out: folder of the run: checkpoint, log; a run in it goes on.
        preset: which settings are the defaults of the flags below.
        recordings: folders that prepare recordings wrote: people to learn to hear, in a second task.
        start_from: checkpoint of a similar training to start from.
    """

    recordings: tuple[Path, ...] = ()
    start_from: Path | None = None


@dataclass(frozen=True)
class DirectFiles(TrainingFiles):
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
    module = import_training("training.recipes.direct")
    files, settings = parse_job(module, DirectFiles, "train direct", arguments)
    arrays = open_data(files.data)
    teacher = None if files.teacher is None else open_teacher(files.teacher)
    if (
        teacher is None
        and files.preset == "toy"
        and import_training("data.corpora.toy").is_toy(arrays.voices)
    ):
        teacher = import_training("models.teacher.toy").ToyTeacher()
    trained, model = module.train(settings, arrays, teacher, files.out), files.out / "model"
    card = {"name": files.name, "licence": files.licence}
    export = import_training("export.direct").export_checkpoints
    with import_training("data.processes").first_alone() as is_first:
        if is_first:
            export(*trained, model, max_bytes=settings.max_bytes, **card)
            print(model)


def _train_speech_encoder(arguments: list[str]) -> None:
    module = import_training("training.recipes.speech_encoder")
    files, settings = parse_job(module, SpeechEncoderFiles, "train speech-encoder", arguments)
    recordings = open_recordings(files.recordings)
    arrays = open_data_or_stream(files.data)
    print(module.train(settings, arrays, files.out, recordings=recordings, start_from=files.start_from))


@dataclass(frozen=True)
class GradientBalanceFiles:
    """What is measured; nothing is written.

    Attributes:
        data: shards folder that prepare wrote; several are taken as one.
        preset: which settings are the defaults of the flags below.
        encoder: checkpoint of a speech-encoder training; by default one at its start.
        batches: first batches of the training, over which the mean is taken.
    """

    data: tuple[Path, ...]
    preset: str = "paper"
    encoder: Path | None = None
    batches: int = 8


def _measure_gradient_balance(arguments: list[str]) -> None:
    module = import_training("training.recipes.speech_encoder")
    files, settings = parse_job(module, GradientBalanceFiles, "train gradient-balance", arguments)
    print(module.gradient_balance_of(settings, open_data(files.data), files.batches, files.encoder).table())


@dataclass(frozen=True)
class PretrainedEncoderFiles(TrainingFiles):
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
        decoder: Whisper's published weights with tokenizer.json beside them: its text decoder is tuned along
            with the words head and then writes the words.
    """

    preset: str = "head"
    backbone: Path | None = None
    start_from: Path | None = None
    recordings: tuple[Path, ...] = ()
    decoder: Path | None = None


def _train_pretrained_speech_encoder(arguments: list[str]) -> None:
    module = import_training("training.recipes.pretrained_speech_encoder")
    files, settings = parse_job(module, PretrainedEncoderFiles, "train pretrained-speech-encoder", arguments)
    arrays = open_data(files.data, front_end=module.PretrainedSpeechEncoder.front_end)
    recordings = open_recordings(files.recordings)
    checkpoint = module.train(
        settings, arrays, files.out, files.backbone, files.start_from, recordings, files.decoder
    )
    print(checkpoint)


@dataclass(frozen=True)
class WordsHeadFiles:
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
    preset: str = TrainingFiles.preset


def _train_words_head(arguments: list[str]) -> None:
    module = import_training("training.recipes.words_head")
    files, settings = parse_job(module, WordsHeadFiles, "train words-head", arguments)
    front_end = module.PretrainedSpeechEncoder.front_end
    arrays = open_data(files.data, front_end=front_end) if files.data else None
    recordings = {one.folder.name: one for one in open_recordings(files.recordings)}
    print(module.train(settings, files.encoder, arrays, recordings, files.out))


@dataclass(frozen=True)
class LanguageModelFiles:
    """Where a training reads and writes.

    Attributes:
        out: folder of the run: checkpoint and log; a run in it goes on.
        data: shards folders that prepare wrote; captions alone are read, spoken or not.
        recordings: folders that prepare recordings wrote; their texts alone are read.
        model: a model with a decoder, by name or folder: its pieces of text are foretold.
        preset: which settings are the defaults of the flags below.
    """

    out: Path
    data: tuple[Path, ...] = ()
    recordings: tuple[Path, ...] = ()
    model: str = DEFAULT_MODEL
    preset: str = TrainingFiles.preset


def _train_language_model(arguments: list[str]) -> None:
    module = import_training("training.recipes.language_model")
    files, settings = parse_job(module, LanguageModelFiles, "train language-model", arguments)
    arrays = open_data(files.data) if files.data else None
    recordings = {one.folder.name: one for one in open_recordings(files.recordings)}
    print(module.train(settings, find(files.model), arrays, recordings, files.out))


@dataclass(frozen=True)
class DomainHeadFiles:
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
    preset: str = TrainingFiles.preset


def _train_domain_head(arguments: list[str]) -> None:
    module = import_training("training.recipes.domain_head")
    files, settings = parse_job(module, DomainHeadFiles, "train domain-head", arguments)
    front_end = module.PretrainedSpeechEncoder.front_end
    data = [open_data((folder,), front_end=front_end) for folder in files.data]
    other = open_recordings(files.other)
    print(module.train(settings, files.encoder, data, other, files.out))


def _train_one_stage_gan(arguments: list[str]) -> None:
    module = import_training("training.recipes.one_stage_gan")
    files, settings = parse_job(module, TeacherFiles, "train one-stage-gan", arguments)
    arrays, teacher = open_data_or_stream(files.data), open_teacher(files.teacher)
    print(module.train(settings, arrays, teacher, files.out, files.start_from))


def _train_stackgan_v2(arguments: list[str]) -> None:
    module = import_training("training.recipes.stackgan_v2")
    files, settings = parse_job(module, GanFiles, "train stackgan-v2", arguments)
    print(module.train(settings, open_conditions(files), files.out))


@dataclass(frozen=True)
class SpeechDetectorFiles(TrainingFiles):
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
    module = import_training("training.recipes.speech_detector")
    files, settings = parse_job(module, SpeechDetectorFiles, "train speech-detector", arguments)
    data = [Path(folder) for folder in files.data]
    print(module.train(settings, data, files.recordings, files.sounds, files.out))


def _embed(arguments: list[str]) -> None:
    call(embeddings, "train embeddings", arguments)


def embeddings(
    data: str,
    encoder: Path,
    conditions: Literal["speech", "classifier"] = "speech",
    out: Path | None = None,
) -> None:
    """Compute a trained encoder's embedding of every utterance and cache them beside the shards.

    Of a stream, the shards are written once more, with the embeddings in them.

    Example: speech2image train embeddings --data shards/flowers --encoder
    runs/speech/checkpoint.safetensors

    Args:
        data: shards folder that prepare wrote, or training shards that prepare stream wrote.
        encoder: checkpoint of a speech-encoder or classifier training.
        conditions: which of the two; their embeddings lie apart.
        out: folder to write, for training shards.
    """
    import_training("training.core.run").join_processes()
    if import_training("data.streams").is_stream(data):
        if out is None:
            raise SettingsError("--out is missing: the folder for training shards with embeddings")
        module = import_training("training.recipes.speech_embeddings")
        front_end = import_training("training.core.networks").load_speech_encoder(encoder).front_end
        stream = open_data_or_stream((data,), front_end=front_end)
        print(f"{out}: {len(module.embed_stream(stream, encoder, out))} shards")
        return
    if out is not None:
        raise SettingsError("--out is for training shards alone; embeddings of prepared data lie beside them")
    arrays = import_training("data.training_sets").open_conditions([Path(data)], conditions)
    print(import_training("training.recipes.speech_embeddings").store_embeddings(arrays, encoder))


def _fit_prior(arguments: list[str]) -> None:
    call(condition_prior, "train condition-prior", arguments)


def condition_prior(
    data: tuple[Path, ...],
    generator: Path,
    out: Path,
    n_predicted: int = 32,
    residual_blend: float = 0.4,
    kind: Literal["neighbours", "flow"] = "neighbours",
    steps: int = 1500,
) -> None:
    """Fit the condition prior of a trained one-stage generator anew, to the embeddings beside the shards.

    Example: speech2image train condition-prior --data shards/flowers --generator
    runs/gan/checkpoint.safetensors --out runs/prior.safetensors

    Args:
        data: shards folders with teacher features and speech embeddings.
        generator: checkpoint of a one-stage-gan training.
        out: checkpoint to write.
        n_predicted: directions of the feature that are taken from the prediction.
        residual_blend: share of training pictures (neighbours), or of the sample (flow), in these directions,
            0 to 1: less binds pictures to the words, more makes them more like photographs.
        kind: neighbours (means of training pictures that were described alike) or flow (a small network,
            trained in some minutes, that moves noise to features).
        steps: of the flow's training.
    """
    module = import_training("training.recipes.condition_prior")
    settings = (
        module.PriorSettings(n_predicted, residual_blend=residual_blend)
        if kind == "neighbours"
        else module.FlowPriorSettings(n_predicted, steps=steps, residual_blend=residual_blend)
    )
    print(module.refit_prior(generator, open_data(data), out, settings))


def _unpack_model(arguments: list[str]) -> None:
    call(checkpoint, "train checkpoint", arguments)


def checkpoint(
    out: Path,
    network: Literal["speech_encoder", "text_encoder", "recognizer", "generator"],
    model: str = "flowers-and-birds",
    preset: str | None = None,
) -> None:
    """Make a checkpoint of a model's network, to go on from with data of your own (--start-from).

    Example: speech2image train checkpoint --network speech_encoder --out runs/start.safetensors

    Args:
        out: checkpoint to write.
        network: which; a text_encoder is that of a cascade (flowers-and-birds-cascade), a recognizer its own
            model (words).
        model: a shipped model, or a model folder.
        preset: of the network's training; says its shape (of an encoder on Whisper's, that of its heads). By
            default that of the shipped models.
    """
    print(import_training("export.checkpoint").checkpoint_of(model, network, out, preset))


@dataclass(frozen=True)
class RecognizerFiles:
    """Where a training reads and writes.

    Attributes:
        out: folder of the run: checkpoint, log, transcripts; a run in it goes on.
        data: shards folders that prepare wrote, whose captions are spoken.
        recordings: folders that `prepare recordings` wrote.
        preset: which settings are the defaults of the flags below.
        start_from: checkpoint of another recognizer to start from.
    """

    out: Path
    data: tuple[Path, ...] = ()
    recordings: tuple[Path, ...] = ()
    preset: str = TrainingFiles.preset
    start_from: Path | None = None


@dataclass(frozen=True)
class TextEncoderFiles(TrainingFiles):
    """Where a training reads and writes.

    Attributes:
        data: shards folder that prepare wrote; several are trained on as one.
        out: folder of the run: checkpoint, log; a run in it goes on.
        preset: which settings are the defaults of the flags below.
        start_from: checkpoint of another text encoder to start from.
    """

    start_from: Path | None = None


@dataclass(frozen=True)
class StackganV1Files(GanFiles):
    """Where a training reads and writes.

    Attributes:
        data: shards folder that prepare wrote; several are trained on as one.
        out: folder of the run: checkpoint, log, sample sheets; a run in it goes on.
        preset: which settings are the defaults of the flags below; those of Stage II end in -stage2.
        conditions: what pictures are drawn from: embeddings of speech, features of the classifier route's
            encoder, or embeddings of captions (text).
        stage_one: checkpoint of Stage I, to train Stage II.
    """

    stage_one: Path | None = None


def _train_speech_recognizer(arguments: list[str]) -> None:
    module = import_training("training.recipes.speech_recognizer")
    files, settings = parse_job(module, RecognizerFiles, "train speech-recognizer", arguments)
    recordings = import_training("data.shards.recordings")
    corpora = {folder.name: recordings.Recordings(folder) for folder in files.recordings}
    arrays = open_data(files.data) if files.data else None
    print(module.train(settings, arrays, corpora, files.out, start_from=files.start_from))


def _train_stackgan_v1(arguments: list[str]) -> None:
    module = import_training("training.recipes.stackgan_v1")
    files, settings = parse_job(module, StackganV1Files, "train stackgan-v1", arguments)
    print(module.train(settings, open_conditions(files), files.out, files.stage_one))


def _train_classifier(arguments: list[str]) -> None:
    module = import_training("training.recipes.classifier")
    files, settings = parse_job(module, TrainingFiles, "train classifier", arguments)
    print(module.train(settings, open_data(files.data), files.out))


def _train_text_encoder(arguments: list[str]) -> None:
    module = import_training("training.recipes.text_encoder")
    files, settings = parse_job(module, TextEncoderFiles, "train text-encoder", arguments)
    print(module.train(settings, open_data(files.data), files.out, files.start_from))


def _align_text(arguments: list[str]) -> None:
    call(text_alignment, "train text-alignment", arguments)


def _embed_text(arguments: list[str]) -> None:
    call(text_embeddings, "train text-embeddings", arguments)


def text_embeddings(
    encoder: Path, data: tuple[Path, ...] = (), captions: Path | None = None, out: Path | None = None
) -> None:
    """Embed every caption of prepared data, for generators on text; or captions of your own.

    Example: speech2image train text-embeddings --encoder runs/text/checkpoint.safetensors --data
    shards/flowers

    Args:
        encoder: checkpoint of a text-encoder training, a file of word vectors (GloVe, word2vec), or, for
            data, a folder of published embeddings (char-CNN-RNN-embeddings.pickle ...).
        data: shards folders that prepare wrote; the embeddings are cached beside the shards.
        captions: a text file, one caption a line.
        out: where the embeddings of `captions` go: NAME.npy, or a folder for pickles as published.
    """
    module = import_training("training.recipes.text_embeddings")
    if (captions is None) != (out is None) or not (data or captions):
        raise SettingsError("give --data SHARDS, or --captions FILE with --out NAME.npy")
    for folder in data:
        arrays = import_training("data.training_sets").CaptionPairs.open(folder)
        print(module.store_text_embeddings(arrays, encoder))
    if captions is not None:
        print(module.write_caption_embeddings(read_lines(captions), encoder, out))


def text_alignment(text_encoder: Path, data: tuple[Path, ...], out: Path) -> None:
    """Move a text encoder's embeddings to where the speech encoder puts the same captions.

    Both routes then share one generator (export cascade --generator MODEL).

    Example: speech2image train text-alignment --text-encoder runs/text/checkpoint.safetensors --data
    shards/flowers --out runs/aligned.safetensors

    Args:
        text_encoder: checkpoint of a text-encoder training.
        data: shards folders with speech embeddings (train embeddings).
        out: checkpoint to write.
    """
    print(import_training("training.recipes.text_encoder").align(text_encoder, open_data(data), out))


RECIPES: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "direct": (_train_direct, "all of the below, from prepared data to a model folder"),
    "speech-encoder": (_train_speech_encoder, "speech -> the image teacher's feature space"),
    "gradient-balance": (
        _measure_gradient_balance,
        "no training: how hard each item of the teacher-student loss pulls at the embeddings",
    ),
    "pretrained-speech-encoder": (
        _train_pretrained_speech_encoder,
        "the same on Whisper's encoder: a head on its frozen states, then all of it",
    ),
    "words-head": (_train_words_head, "states of that encoder -> the words that were said (CTC)"),
    "language-model": (_train_language_model, "what captions say: it helps a decoder to write them down"),
    "domain-head": (_train_domain_head, "the same states -> does the model draw what is described?"),
    "embeddings": (_embed, "no training: a trained encoder's embedding of every utterance, for the next two"),
    "one-stage-gan": (
        _train_one_stage_gan,
        "embedding -> picture, against projected discriminators (shipped)",
    ),
    "condition-prior": (_fit_prior, "the prior between a speech encoder and that generator"),
    "checkpoint": (_unpack_model, "no training: a model's network as a checkpoint, to start from"),
    "stackgan-v2": (_train_stackgan_v2, "embedding -> pictures, the paper's stacked generator"),
    "speech-detector": (_train_speech_detector, "speech -> is anyone speaking? (refuses silence and music)"),
    "speech-recognizer": (_train_speech_recognizer, "speech -> text, the cascade's first step"),
    "text-encoder": (_train_text_encoder, "caption -> the image teacher's feature space"),
    "text-embeddings": (_embed_text, "no training: embeddings of captions, for generators on text"),
    "text-alignment": (
        _align_text,
        "no training: brings a text encoder to a direct model, whose generator then serves both",
    ),
    "stackgan-v1": (
        _train_stackgan_v1,
        "embedding -> pictures, Stages I and II of the two-step system",
    ),
    "classifier": (_train_classifier, "speech -> class, the paper's baseline for the speech encoder"),
}
