"""Recipes of the cascade and of the paper's baselines: recognizer, text encoder, StackGAN-v1, classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from speech2image.audio.front_ends import PAPER, find_front_end
from speech2image.commands.jobs import (
    Files,
    FilesOfGan,
    bytes_of,
    call,
    import_training,
    open_conditions,
    open_data,
    parse_job,
)
from speech2image.errors import DataError, SettingsError


def prepare_recordings(
    root: Path, out: Path, workers: int = 1, skip_bad: bool = False, front_end: str = PAPER.name
) -> None:
    """Turn a corpus of transcribed speech into frames, for `train speech-recognizer` and `train words-head`.

    Args:
        root: of LJSpeech (metadata.csv), LibriSpeech or a part of it, or utterances.jsonl (audio, speaker,
            text).
        out: folder to write.
        workers: processes.
        skip_bad: leave out recordings that cannot be used, and say which.
        front_end: what makes the frames: log-mel-40 (the paper's), or whisper-80 for `train words-head`.
    """
    module, kind = import_training("data.shards.recordings"), find_front_end(front_end)
    listed = module.list_recordings(root, skip_bad=skip_bad)
    recordings = module.build_recordings(listed, out, workers, skip_bad=skip_bad, front_end=kind)
    print(f"{out}: {len(recordings.texts)} recordings, {recordings.n_frames().sum() / 360_000:.1f} hours")


@dataclass(frozen=True)
class FilesWithRecordings:
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
    preset: str = Files.preset
    start_from: Path | None = None


@dataclass(frozen=True)
class FilesOfText(Files):
    """Where a training reads and writes.

    Attributes:
        data: shards folder that prepare wrote; several are trained on as one.
        out: folder of the run: checkpoint, log; a run in it goes on.
        preset: which settings are the defaults of the flags below.
        start_from: checkpoint of another text encoder to start from.
    """

    start_from: Path | None = None


@dataclass(frozen=True)
class FilesOfStages(FilesOfGan):
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
    files, settings = parse_job(module, FilesWithRecordings, "train speech-recognizer", arguments)
    recordings = import_training("data.shards.recordings")
    corpora = {folder.name: recordings.Recordings(folder) for folder in files.recordings}
    arrays = open_data(files.data) if files.data else None
    print(module.train(settings, arrays, corpora, files.out, start_from=files.start_from))


def _train_stackgan_v1(arguments: list[str]) -> None:
    module = import_training("training.recipes.stackgan_v1")
    files, settings = parse_job(module, FilesOfStages, "train stackgan-v1", arguments)
    print(module.train(settings, open_conditions(files), files.out, files.stage_one))


def _train_classifier(arguments: list[str]) -> None:
    module = import_training("training.recipes.classifier")
    files, settings = parse_job(module, Files, "train classifier", arguments)
    print(module.train(settings, open_data(files.data), files.out))


def _train_text_encoder(arguments: list[str]) -> None:
    module = import_training("training.recipes.text_encoder")
    files, settings = parse_job(module, FilesOfText, "train text-encoder", arguments)
    print(module.train(settings, open_data(files.data), files.out, files.start_from))


def _align_text(arguments: list[str]) -> None:
    call(text_alignment, "train text-alignment", arguments)


def _embed_text(arguments: list[str]) -> None:
    call(text_embeddings, "train text-embeddings", arguments)


def text_embeddings(
    encoder: Path, data: tuple[Path, ...] = (), captions: Path | None = None, out: Path | None = None
) -> None:
    """Embed every caption of prepared data, for generators on text; or captions of your own.

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
        arrays = import_training("data.condition_pairs").CaptionPairs.open(folder)
        print(module.store_text_embeddings(arrays, encoder))
    if captions is not None:
        print(module.write_caption_embeddings(_lines(captions), encoder, out))


def export_cascade(
    text_encoder: Path,
    generator: str,
    out: Path,
    name: str,
    licence: str,
    recognizer: Path | None = None,
    shared_recognizer: str | None = None,
    description: str = "",
    speech_detector: Path | None = None,
    captions: Path | None = None,
    max_megabytes: float = 25.0,
) -> None:
    """Make a model folder of the route through text from training checkpoints.

    NAME-cascade beside the model NAME is what translate --route cascade takes for it. Without recognizer the
    model draws texts (translate --text).

    Args:
        text_encoder: checkpoint of a text-encoder training.
        generator: checkpoint of a stackgan-v1 (either stage) or stackgan-v2 training with --conditions text
            (others draw from the image teacher's space, too); or a direct model beside this one, or a shipped
            one, whose generator is shared: the text encoder then comes from train text-alignment.
        out: model folder to write.
        name: the model's name.
        licence: of the weights, for instance CC-BY-4.0.
        recognizer: checkpoint of a speech-recognizer training, or a folder that export recognizer wrote; it
            becomes a part of the model.
        shared_recognizer: name of a recognizer's folder that lies beside the model's.
        description: one line that speech2image models shows.
        speech_detector: checkpoint of a speech-detector training; without one the model takes any sound.
        captions: text file, one a line, on which ONNX is compared with torch; made-up ones by default.
        max_megabytes: the most each of its networks may take; inf for any size.
    """
    parity = import_training("export.cascade").export_checkpoints(
        text_encoder,
        generator,
        out,
        recognizer,
        speech_detector,
        name=name,
        licence=licence,
        shared_recognizer=shared_recognizer,
        description=description,
        captions=() if captions is None else _lines(captions),
        max_bytes=bytes_of(max_megabytes),
    )
    off = max(parity["embedding"], parity.get("picture", 0.0))
    print(f"{out}: differs from torch by at most {off:.1e}")


def text_alignment(text_encoder: Path, data: tuple[Path, ...], out: Path) -> None:
    """Move a text encoder's embeddings to where the speech encoder puts the same captions.

    Both routes then share one generator (export cascade --generator MODEL).

    Args:
        text_encoder: checkpoint of a text-encoder training.
        data: shards folders with speech embeddings (train embeddings).
        out: checkpoint to write.
    """
    print(import_training("training.recipes.text_encoder").align(text_encoder, open_data(data), out))


def export_recognizer(checkpoint: Path, out: Path, licence: str, clips: tuple[Path, ...] = ()) -> None:
    """Make a speech recognizer's folder, which several models may share.

    Args:
        checkpoint: of a speech-recognizer training.
        out: folder to write.
        licence: of the weights, for instance CC-BY-4.0.
        clips: recordings on which ONNX is compared with torch; made-up sounds by default.
    """
    from speech2image import audio

    module = import_training("export.recognizer")
    log_mels = [audio.log_mel(audio.load(clip)) for clip in clips]
    off = module.export_checkpoint(checkpoint, out, log_mels=log_mels, licence=licence)
    print(f"{out}: differs from torch by at most {off['float32']:.1e}")


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"unreadable text file {path}: {error}") from error


RECIPES: dict[str, tuple[Callable[[list[str]], None], str]] = {
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
