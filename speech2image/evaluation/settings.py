"""Settings of an evaluation, and the checks made before any work is done."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from speech2image.errors import SettingsError
from speech2image.evaluation.utterances import GROUPS, VOICES
from speech2image.metrics.registry import OPTIONS as MEASURES
from speech2image.metrics.registry import PICTURES
from speech2image.pipeline.noise import check_count, check_seed
from speech2image.pipeline.registry import DEFAULT_MODEL

OF_FEATURES = tuple(dict.fromkeys(measure.option for measure in PICTURES))
"""Measures that compare pictures in the feature space of `network`."""

FITTED, IMAGENET = "fitted", "imagenet"
"""Classifiers of the Inception Score beside those of files."""
TableNumber = Literal[2, 3, 4, 5]


@dataclass(frozen=True)
class EvaluationSettings:
    """Measure a model on prepared data; write results.json, results.md, report.html and grid.png.

    Run it again to go on after an interruption. `--table` and `--figure` repeat the paper's experiments.

    Example: speech2image evaluate --data shards/flowers --out results

    Attributes:
        data: shards folder that prepare wrote; retrieval needs the teacher's features in it.
        out: folder to write; `out/work` keeps what was drawn, as features.
        model: name of a shipped model, or a model folder.
        captions: draw from the captions as they are written, not from speech: what a recognizer without
            errors would reach; for models of the route through text.
        recognizer: what writes down speech in the route through text: own (the model's), own:FOLDER,
            whisper:NAME or pocketsphinx.
        speech_encoder: checkpoint of a speech-encoder training, with `generator`, in place of `model`.
        generator: checkpoint of a one-stage-gan or stackgan-v2 training.
        network: Inception-v3 of 2015-12-05 for FID and its kin: pt_inception-2015-12-05-6726825d.pth, which
            pytorch-fid publishes, or a safetensors file of its first part.
        layer: of the network; by default the deepest its file holds (pool3 is the usual, with 2048 numbers).
        measures: some of retrieval, colours, fid, kid, precision-recall, inception-score, class-map,
            class-accuracy (of sets whose test classes are trained on), words, variety (where it is lost:
            pictures of features, of the prior's samples and of speech), robustness (retrieval
            and colours once more, under noise, in rooms, at other speeds ...).
        held_out_voices: voices the model was not trained on although training utterances in them are there
            (--held-out-voices of the training); those in test utterances alone count as kept out anyway.
        seed: of the noise, the shuffling, the intervals and the choice of the sheet's utterances.
        drawn: voices whose utterances become pictures: "kept out" (always, for floors follow from it; where
            all test voices are heard in training, "heard" takes its place), and some of "kept out, natural
            voices", "kept out, people", "heard", "heard, natural voices" and "heard, people"; by default all.
        only_drawn: listen to no other utterances than those that become pictures: no retrieval of seen
            classes, nor in voices that are not drawn.
        pictures_per_utterance: pictures drawn of each utterance.
        least_pictures: draw more of each utterance until every set has so many (by default 2,000 for --table,
            since FID of few pictures says little, and no more than asked for otherwise).
        classifier: what the Inception Score is of: fitted (to training photographs of the data set, no test
            photograph among them), imagenet (the head of `network`, if its file has it), or a classifier.npz
            that an earlier evaluation wrote.
        limit: measure so many utterances of each kind alone, spread evenly; real sets stay whole.
        variety_utterances: so many utterances are drawn for variety, three times where the model has a
            condition prior, and 40 of them eight times.
        robustness_utterances: so many utterances of each group of voices are put through every condition.
        robustness_groups: the groups: some of "kept out, synthesizers", "kept out, natural voices", "kept
            out, people" and the same with "heard"; by default all.
        reference_size: side of the photographs that drawn pictures are compared with by FID and its kin, the
            same for models of every picture size.
        gallery: retrieve among so many pictures too, beside the whole test set.
        queries_per_class: photographs of each class that look for drawn pictures (S2IGAN's class mAP: 2).
        resamples: of the bootstrap intervals; FID's take a twentieth of them, as each costs a second.
        threads: processor threads of the model and the network (default: all).
        table: 2 (routes), 3 (of rooms), 4 (loss items) or 5 (picture scales): a row for each model in
            `models`.
        figure: 3 (eight noises), 4 (the same, of rooms) or 5 (interpolation) of the paper, drawn by `model`.
        models: folder of the table's models, named as the table's message says.
        whisper: of tables 2 and 3: folder of an off-the-shelf recognizer (faster-whisper's), for the row that
            hears with it; without, the row is skipped.
    """

    data: Path
    out: Path
    model: str = DEFAULT_MODEL
    captions: bool = False
    recognizer: str = "own"
    speech_encoder: Path | None = None
    generator: Path | None = None
    network: Path | None = None
    layer: Literal["mixed_6e", "pool3"] | None = None
    measures: tuple[str, ...] = MEASURES
    held_out_voices: tuple[str, ...] = ()
    seed: int = 0
    drawn: tuple[str, ...] = VOICES
    only_drawn: bool = False
    pictures_per_utterance: int = 1
    least_pictures: int | None = None
    classifier: str = FITTED
    limit: int | None = None
    variety_utterances: int = 300
    robustness_utterances: int = 300
    robustness_groups: tuple[str, ...] = GROUPS
    reference_size: int = 256
    gallery: int | None = None
    queries_per_class: int = 2
    resamples: int = 1000
    threads: int | None = None
    table: TableNumber | None = None
    figure: Literal[3, 4, 5] | None = None
    models: Path | None = None
    whisper: Path | None = None

    def pictures_each(self, utterances: int) -> int:
        """Pictures to draw of each of so many utterances."""
        least = self.least_pictures or 0
        return max(self.pictures_per_utterance, -(-least // max(1, utterances)))


def check(settings: EvaluationSettings) -> None:
    """Check what can be checked without the data.

    Raises:
        SettingsError: a setting is out of range, unknown, or at odds with another.
    """
    check_seed(settings.seed)
    check_count(settings.pictures_per_utterance, "pictures_per_utterance")
    check_count(settings.queries_per_class, "queries_per_class")
    check_count(settings.resamples, "resamples")
    check_count(settings.robustness_utterances, "robustness_utterances")
    check_count(settings.variety_utterances, "variety_utterances")
    if not 16 <= settings.reference_size <= 1024:
        raise SettingsError(f"--reference-size is {settings.reference_size}; give 16 to 1024 pixels")
    for name in ("limit", "gallery"):
        value = getattr(settings, name)
        if value is not None and value < 2:
            raise SettingsError(f"{name} must be a whole number from 2, not {value!r}")
    if (settings.least_pictures or 0) < 0:
        raise SettingsError(f"--least-pictures is {settings.least_pictures}, must be 0 or more")
    if settings.classifier not in (FITTED, IMAGENET) and not Path(settings.classifier).is_file():
        raise SettingsError(
            f"--classifier is {settings.classifier!r}: neither {FITTED}, {IMAGENET} nor a file there is"
        )
    _check_measures(settings.measures)
    if "kept out" not in settings.drawn or not set(settings.drawn) <= set(VOICES):
        raise SettingsError(f"--drawn takes some of {VOICES}, 'kept out' among them; not {settings.drawn}")
    if not settings.robustness_groups or not set(settings.robustness_groups) <= set(GROUPS):
        raise SettingsError(f"--robustness-groups takes some of {GROUPS}; not {settings.robustness_groups}")
    _check_together(settings)


def _check_measures(measures: tuple[str, ...]) -> None:
    unknown = sorted(set(measures) - set(MEASURES))
    if unknown or not measures:
        named = ", ".join(unknown) or "none"
        raise SettingsError(f"unknown measure: {named}; --measures takes some of {', '.join(MEASURES)}")


def _check_together(settings: EvaluationSettings) -> None:
    if (settings.speech_encoder is None) != (settings.generator is None):
        raise SettingsError("--speech-encoder and --generator go together: checkpoints of the two networks")
    if settings.speech_encoder is not None and (settings.captions or settings.recognizer != "own"):
        raise SettingsError(
            "--captions and --recognizer are for models of the route through text: name a --model folder"
        )
    if settings.table is not None and (settings.captions or settings.recognizer != "own"):
        raise SettingsError(
            "--table decides itself which row draws captions, with each model's own recognizer"
        )
    if settings.table is not None and settings.figure is not None:
        raise SettingsError("choose --table or --figure, not both")
    if settings.whisper is not None and settings.table not in (2, 3):
        raise SettingsError(
            "--whisper is for --table 2 and 3; elsewhere --recognizer whisper:FOLDER hears with it"
        )
    if settings.table is not None and settings.models is None:
        raise SettingsError("--table needs --models, the folder in which the table's models lie")
