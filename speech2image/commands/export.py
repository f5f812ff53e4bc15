"""export: makes model folders from trained networks; needs the `train` extra."""

from collections.abc import Callable
from pathlib import Path

from speech2image.commands.flags import (
    bytes_of,
    call,
    import_training,
    list_choices,
    open_data,
    read_embeddings,
    read_lines,
)
from speech2image.errors import SettingsError


def run(command: str, arguments: list[str]) -> None:
    """Export what the first word says, or a model of the direct route."""
    what = arguments[0] if arguments else ""
    if what in ("", "-h", "--help"):
        parts = {"direct": export_checkpoints, **PARTS}
        list_choices(
            "export [WHAT] [OPTIONS]",
            {
                "what": {
                    name: (part.__doc__ or "").partition("\n")[0].rstrip(".") for name, part in parts.items()
                }
            },
            "speech2image export WHAT --help shows its options; without WHAT it is direct.\n\n"
            "Example: speech2image export --speech-encoder runs/speech/checkpoint.safetensors\n"
            "--generator runs/gan/checkpoint.safetensors --out my_model --name my_model\n"
            "--licence CC-BY-4.0",
        )
        if not what:
            raise SystemExit(2)
    elif what in PARTS:
        call(PARTS[what], f"export {what}", arguments[1:])
    elif what == "direct" or what.startswith("-"):
        call(export_checkpoints, "export direct", arguments[what == "direct" :])
    else:
        raise SettingsError(f"cannot export '{what}'; there are: direct, {', '.join(PARTS)}")


def export_checkpoints(
    speech_encoder: Path,
    generator: Path,
    out: Path,
    name: str,
    licence: str,
    description: str = "",
    speech_detector: Path | None = None,
    generator_of: str | None = None,
    decoder_of: str | None = None,
    clips: tuple[Path, ...] = (),
    max_megabytes: float = 25.0,
) -> None:
    """Make a model folder, which translate and load take, from training checkpoints.

    Example: speech2image export --speech-encoder runs/speech/checkpoint.safetensors --generator
    runs/gan/checkpoint.safetensors --out my_model --name my_model --licence CC-BY-4.0

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
        decoder_of: a model, by name or folder, whose decoder and language model the new one writes down words
            with: for an encoder whose head alone was trained since.
        clips: recordings on which ONNX is compared with torch; made-up sounds by default.
        max_megabytes: the most each of its networks may take; inf for any size.
    """
    from speech2image import audio

    max_bytes = bytes_of(max_megabytes)
    module = import_training("export.direct")
    parity = module.export_checkpoints(
        speech_encoder,
        generator,
        out,
        name=name,
        licence=licence,
        description=description,
        speech_detector=speech_detector,
        generator_of=generator_of,
        decoder_of=decoder_of,
        clips=[audio.load(clip) for clip in clips],
        max_bytes=max_bytes,
    )
    print(f"{out}: differs from torch by at most {parity.embedding:.1e} and {parity.picture:.1e}")


def add_speech_detector(checkpoint: Path, model: Path, clips: tuple[Path, ...] = ()) -> None:
    """Give a model that is already there a speech detector; its other networks stay as they are.

    Example: speech2image export speech-detector --checkpoint runs/detector/checkpoint.safetensors
    --model my_model

    Args:
        checkpoint: of a speech-detector training.
        model: model folder to change.
        clips: recordings on which ONNX is compared with torch; made-up sounds by default.
    """
    from speech2image import audio

    module = import_training("export.direct")
    detector = import_training("training.core.networks").load_speech_detector(checkpoint)
    log_mels = [audio.log_mel(audio.load(clip)) for clip in clips]
    off = module.add_speech_detector(model, detector, log_mels)
    print(f"{model}: the speech detector differs from torch by at most {off['speech']:.1e}")


def add_language_model(checkpoint: Path, model: Path, weight: float = 0.1) -> None:
    """Give a model with a decoder a language model, which helps it to write down what is said.

    Example: speech2image export language-model --checkpoint runs/language_model/checkpoint.safetensors
    --model my_model

    Args:
        checkpoint: of a language-model training.
        model: model folder to change.
        weight: of its log-probabilities beside the decoder's, 0 to 1; choose it on validation speech
            (benchmarks/word_errors.py --split val).
    """
    off = import_training("export.language_model").add_checkpoint(checkpoint, model, weight)
    print(f"{model}: the language model differs from torch by at most {off['language_model']:.1e}")


def add_domain_words(
    model: Path,
    data: tuple[Path, ...],
    domains: tuple[str, ...],
    other: tuple[Path, ...] = (),
    weight: float = 0.2,
    threshold: float = 0.05,
) -> None:
    """Let the words heard have a say in what a recording is about, beside the sound.

    Words are counted in the training captions of data sets and in sentences about other things. The model
    needs a decoder and a domain head.

    Example: speech2image export domain-words --model my_model --data shards/flowers shards/birds
    --domains flower bird --other recordings/other recordings/librispeech-80

    Args:
        model: model folder to change.
        data: shards folders whose training captions describe what the model draws.
        domains: what each of them shows, as for train domain-head.
        other: folders of recordings about other things (prepare other, prepare recordings); their texts are
            counted beside 6,000 made-up sentences.
        weight: what the words count by, 0 to 1; 0 takes them away. Choose it on speech that nothing is
            measured on.
        threshold: from which probability on a recording is about something else, where words have a say.
    """
    module = import_training("export.domain_words")
    recordings = import_training("data.shards.recordings").Recordings
    sets = [open_data((folder,)) for folder in data]
    texts = [recordings(folder) for folder in other]
    found = module.add_domain_words(model, sets, domains, texts, weight, threshold)
    print(f"{model}: {len(found.frequencies)} words have a say of weight {weight:g}")


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
    most_words: int = 20_000,
) -> None:
    """Make a model folder of the route through text from training checkpoints.

    NAME-cascade beside the model NAME is what translate --route cascade takes for it. Without recognizer the
    model draws texts (translate --text).

    Example: speech2image export cascade --text-encoder runs/aligned.safetensors --generator my_model
    --out my_model-cascade --name my_model-cascade --licence CC-BY-4.0

    Args:
        text_encoder: checkpoint of a text-encoder training; or a file of word vectors (GloVe, word2vec) that
            the generator was trained on (train text-embeddings).
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
        most_words: of a file of word vectors the first so many are kept, which are the most frequent ones.
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
        captions=() if captions is None else read_lines(captions),
        max_bytes=bytes_of(max_megabytes),
        most_words=most_words,
    )
    off = max(parity["embedding"], parity.get("picture", 0.0))
    print(f"{out}: differs from torch by at most {off:.1e}")


def export_generator(
    generator: Path,
    out: Path,
    name: str,
    licence: str,
    description: str = "",
    embeddings: Path | None = None,
    max_megabytes: float = 25.0,
) -> None:
    """Make a model folder of a generator alone, which draws embeddings (translate --embedding FILE).

    For generators trained on published text embeddings, whose encoder is in no file.

    Example: speech2image export generator --generator runs/stage2/checkpoint.safetensors --out published
    --name published --licence CC-BY-4.0

    Args:
        generator: checkpoint of a stackgan-v1, stackgan-v2 or one-stage-gan training.
        out: model folder to write.
        name: the model's name.
        licence: of the weights, for instance CC-BY-4.0.
        description: one line that speech2image models shows.
        embeddings: file of embeddings (as of translate --embedding) on which ONNX is compared with torch;
            made-up ones by default.
        max_megabytes: the most its network may take; inf for any size.
    """
    parity = import_training("export.embeddings").export_checkpoint(
        generator,
        out,
        None if embeddings is None else read_embeddings(embeddings),
        name=name,
        licence=licence,
        description=description,
        max_bytes=bytes_of(max_megabytes),
    )
    print(f"{out}: differs from torch by at most {parity.picture:.1e}")


def export_recognizer(checkpoint: Path, out: Path, licence: str, clips: tuple[Path, ...] = ()) -> None:
    """Make a speech recognizer's folder, which several models may share.

    Example: speech2image export recognizer --checkpoint runs/recognizer/checkpoint.safetensors --out
    words --licence CC-BY-4.0

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


def export_weights(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint's averaged weights as plain safetensors, under the module's own names.

    Any program reads them; kind and settings stand in the file's metadata.

    Example: speech2image export weights --checkpoint runs/speech/checkpoint.safetensors --out
    speech_encoder.safetensors

    Args:
        checkpoint: of any training.
        out: file to write, NAME.safetensors.
    """
    print(import_training("export.weights").write_weights(checkpoint, out))


PARTS: dict[str, Callable[..., None]] = {
    "speech-detector": add_speech_detector,
    "language-model": add_language_model,
    "domain-words": add_domain_words,
    "cascade": export_cascade,
    "generator": export_generator,
    "recognizer": export_recognizer,
    "weights": export_weights,
}
"""What else can be exported."""
