"""Measurement of one model on prepared data: embeds speech, draws pictures, computes all figures."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from speech2image.audio.vad import VoiceActivityDetector
from speech2image.data.shards.array_files import ResumableArray
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.rows import SHARED
from speech2image.errors import DataError, SettingsError
from speech2image.evaluation import colours, realism, robustness, variety
from speech2image.evaluation.drawing import DrawnSet, Reading, draw, noise_set, sheet, spoken_set
from speech2image.evaluation.embeddings import Embeddings, embed, transcripts
from speech2image.evaluation.real_set import Photographs, real_set
from speech2image.evaluation.realism import NamedClassifier, score_classifier
from speech2image.evaluation.results import Results, Row, write_row
from speech2image.evaluation.retrieval import Gallery, RetrievalEvaluator, open_gallery
from speech2image.evaluation.settings import FITTED, OF_FEATURES, EvaluationSettings
from speech2image.evaluation.utterances import (
    VOICES,
    UtteranceGroup,
    caption_of,
    choose_utterances,
    describe_utterance,
    evenly,
    file_name,
    main_voices,
    shuffled,
    split_evaluation_voices,
    unchanged,
    utterance_groups,
)
from speech2image.metrics.colour_agreement import ColourReader
from speech2image.metrics.feature_network import FeatureNetwork
from speech2image.metrics.picture_sets import PictureFeatures
from speech2image.metrics.registry import PICTURES, TABLES, WORDS
from speech2image.metrics.word_errors import Transcripts
from speech2image.pipeline.base import Route

SHEET_ROWS, SHEET_NOISES = 8, 4
OF_CLASSIFIER = {measure.option for measure in PICTURES if "classifier" in measure.needs}
OF_KNOWN_CLASSES = {measure.option for measure in PICTURES if "classes" in measure.needs}
"""Options whose measures need a classifier, and one that knows the classes tested."""
NO_TEXT = "the direct route goes without text: there are no words to be wrong"
CAPTIONS_DRAWN = "the captions were drawn as they are written (--captions): no speech was embedded"
WORD_VECTORS = "the model's embeddings are no features of the teacher's (word vectors): nothing to compare by"
NETWORK_FILE = (
    "needs --network FILE: pt_inception-2015-12-05-6726825d.pth, published with pytorch-fid "
    "(github.com/mseitzer/pytorch-fid, release fid_weights), or a safetensors file of its first part"
)


@dataclass(frozen=True)
class EvaluationPlan:
    """What will be measured.

    Attributes:
        voices: "heard" and "kept out" -> names of voices.
        cells: utterances of every kind.
        shown: utterances of the sheet.
        gallery: the teacher's features; None if retrieval is not asked for.
        main: group of voices that floors, sheet and the model's one row are of, see `main_voices`.
    """

    voices: dict[str, list[str]]
    cells: list[UtteranceGroup]
    shown: NDArray[np.int64]
    gallery: Gallery | None
    main: str

    def tested(self, voices: str) -> NDArray[np.int64]:
        """Utterances about test pictures, in voices of a group (one of `VOICES`); possibly none."""
        kinds = (cell for cell in self.cells if (cell.split, cell.voices) == ("test", voices))
        return next((cell.utterances for cell in kinds), np.zeros(0, np.int64))


def check_route(settings: EvaluationSettings, route: Route) -> None:
    """Check that the model can hear, or read, what it is to be measured on.

    Raises:
        SettingsError: captions are to be drawn by a model that reads no text, or speech is to be written down
            by one without a recognizer.
    """
    if settings.captions and not route.capabilities.text:
        raise SettingsError(
            f"--captions is for models of the route through text; '{route.name}' is none (model.json: route)"
        )
    if route.capabilities.text and route.recognizer is None and not settings.captions:
        raise SettingsError(
            f"model '{route.name}' has no speech recognizer: measure it on captions (--captions), or choose "
            "one (--recognizer)"
        )


def make_plan(settings: EvaluationSettings, arrays: PairArrays, route: Route) -> EvaluationPlan:
    """Choose what to measure, and find whatever forbids it before any work is done.

    Raises:
        DataError: pictures, speech or the teacher's features are missing.
        CheckpointError: the model belongs to another teacher.
        SettingsError: a voice is named that is not there, or as `check_route`.
    """
    check_route(settings, route)
    for split, use in (("train", "to fit readers on"), ("test", "to test on")):
        if not len(arrays.samples_of(split)):
            raise DataError(
                f"{arrays.folder} has no pictures in split '{split}' {use}; prepare a set with both"
            )
    heard, kept_out = split_evaluation_voices(arrays, settings.held_out_voices)
    cells = utterance_groups(arrays, heard, kept_out, settings.limit)
    main, voices = main_voices(arrays, heard, kept_out)
    if settings.only_drawn:
        drawn = {main, *settings.drawn}
        cells = [cell for cell in cells if cell.split == "test" and cell.voices in drawn]
    spoken = arrays.utterances_of("test", voices)
    variety_asked = "variety" in settings.measures and settings.network is not None
    if variety_asked and in_teacher_space(arrays, route):
        open_gallery(arrays, route.model.card["embedding_size"])  # refuses what lacks the teacher's features
    gallery = None
    if "retrieval" in settings.measures and in_teacher_space(arrays, route):
        gallery = open_gallery(arrays, route.model.card["embedding_size"])
        if settings.gallery is not None and settings.gallery > len(arrays.samples_of("test")):
            most = len(arrays.samples_of("test"))
            raise SettingsError(f"--gallery is {settings.gallery}, but there are {most} test pictures")
    shown = choose_utterances(arrays, spoken, SHEET_ROWS, settings.seed)
    return EvaluationPlan({"heard": heard, "kept out": kept_out}, cells, shown, gallery, main)


def in_teacher_space(arrays: PairArrays, route: Route) -> bool:
    """Whether a model's embeddings lie where the teacher's features do; word vectors do not."""
    return not route.capabilities.text or route.model.card["embedding_size"] == arrays.teacher.shape[-1]


def classes_unknown(settings: EvaluationSettings, arrays: PairArrays) -> str:
    """Why there is no classifier that knows the classes of the test pictures; "" if there is one."""
    if (shown := arrays.classes_of("test")) != SHARED:
        return f"test pictures show {shown}; a classifier fitted to training photographs does not know them"
    if settings.classifier != FITTED:
        return "is by a classifier fitted to this set's own training photographs: leave --classifier out"
    return ""


class Measuring:
    """One evaluation at work; `results` does it.

    Args:
        settings: see `EvaluationSettings`.
        arrays: the prepared data.
        route: the model.
        network: the evaluating network, if there is one.
        plan: from `make_plan`.
        work: folder for what is drawn.
        detector: the model's speech detector, if it has one.
    """

    def __init__(
        self,
        settings: EvaluationSettings,
        arrays: PairArrays,
        route: Route,
        network: FeatureNetwork | None,
        plan: EvaluationPlan,
        work: Path,
        detector: VoiceActivityDetector | None = None,
    ) -> None:
        self.settings, self.arrays, self.route = settings, arrays, route
        self.network, self.plan, self.work, self.detector = network, plan, work, detector
        self.photographs = Photographs(arrays, route.picture_size)
        self.of_features = [m for m in settings.measures if m in OF_FEATURES] if network else []
        self.classes_unknown = classes_unknown(settings, arrays)
        if self.classes_unknown:
            self.of_features = [m for m in self.of_features if m not in OF_KNOWN_CLASSES]

    def results(self) -> tuple[Results, Image.Image]:
        """All figures, and the sheet of pictures."""
        wanted = np.unique(np.concatenate([self.plan.shown, *(cell.utterances for cell in self.plan.cells)]))
        speech = embed(self.route, self.arrays, wanted, self.work, self.settings.captions)
        tables: dict[str, list[Row]] = {}
        searches = self._searches()
        tables |= self._retrieval(searches, speech)
        reader = colours.fit_reader(self.photographs) if "colours" in self.settings.measures else None
        sets = self._sets(speech) if reader or self.of_features else []
        read = {pictures.name: self._draw(pictures, reader) for pictures in sets}
        tables["colours"] = self._colours(sets, read, reader)
        tables["pictures"], classifier = self._pictures(sets, read)
        tables["variety"] = self._variety(speech)
        tables["robustness"] = self._robustness(searches, reader)
        tables["words"] = self._words()
        sheet_of, rows = self._sheet(speech)
        main = self.plan.main
        results: Results = {"voices": self.plan.voices, "main_group": main}
        results |= {"not_measured": self._not_measured()}
        results |= {table: [write_row(table, row, main) for row in found] for table, found in tables.items()}
        results["classifier"] = None if classifier is None else classifier.description
        shown = {"photographs": True, "noises": SHEET_NOISES, "noise_seed": self.settings.seed, "rows": rows}
        return results | {"sheet": shown}, sheet_of

    def _retrieval(self, searches: RetrievalEvaluator | None, speech: Embeddings) -> dict[str, list[Row]]:
        if searches is None:
            return {"retrieval": [], "voice_by_voice": []}
        rows = searches.rows(self.plan.cells, speech, self.plan.main, self.settings.gallery)
        return {"retrieval": rows, "voice_by_voice": searches.by_voice(self.plan.cells, speech)}

    def _searches(self) -> RetrievalEvaluator | None:
        gallery, settings = self.plan.gallery, self.settings
        if gallery is None:
            return None
        return RetrievalEvaluator(self.arrays, gallery, settings.seed, settings.resamples)

    def _robustness(self, searches: RetrievalEvaluator | None, reader: ColourReader | None) -> list[Row]:
        """What was measured of retrieval and colours once more, under difficult conditions."""
        settings = self.settings
        asked = "robustness" in settings.measures and not settings.captions
        if not asked or (searches is None and reader is None):
            return []
        most = min(settings.robustness_utterances, settings.limit or settings.robustness_utterances)
        voices = self.plan.voices
        groups = robustness.make_groups(self.arrays, voices["heard"], voices["kept out"], most)
        groups = [group for group in groups if group.voices in settings.robustness_groups]
        seed, resamples = settings.seed, settings.resamples
        return robustness.Robustness(
            self.route, self.arrays, self.detector, searches, reader, self.work, seed, resamples
        ).rows(groups)

    def _sets(self, speech: Embeddings) -> list[DrawnSet]:
        """Pictures of every kind of voices, and of noise, as many as there are photographs."""
        each, seed = self.settings.pictures_each, self.settings.seed
        few = evenly(self.plan.tested(self.plan.main), len(self.arrays.samples_of("test")))
        drawn = {self.plan.main}
        if not self.settings.captions:  # the voices' captions are the same
            drawn |= set(self.settings.drawn)
        asked = {voices: self.plan.tested(voices) for voices in VOICES if voices in drawn}
        sets = [
            spoken_set(name, speech, own, each(len(own)), seed) for name, own in asked.items() if len(own)
        ]
        return [*sets, noise_set(speech, few, each(len(few)), seed)]

    def _draw(self, pictures: DrawnSet, reader: ColourReader | None) -> dict[str, ResumableArray]:
        """Draw a set and read it; "features" and "colours" -> what was read."""
        readings, name = {}, file_name(pictures.name)
        if self.network is not None and self.of_features:
            path = self.work / f"{name}-{self.network.checksum[:12]}-{self.network.dim}.npy"
            rows = ResumableArray(path, (len(pictures), self.network.dim))
            readings["features"] = Reading(rows, self.network)
        if reader is not None:
            rows = ResumableArray(self.work / f"{name}-colours.npy", (len(pictures), 1), np.int8)
            readings["colours"] = Reading(rows, partial(colours.numbers, reader))
        draw(self.route, self.arrays, pictures, list(readings.values()))
        return {kind: reading.rows for kind, reading in readings.items()}

    def _colours(
        self, sets: list[DrawnSet], read: dict[str, dict[str, ResumableArray]], reader: ColourReader | None
    ) -> list[Row]:
        if reader is None:
            return []
        rows = colours.ColourRows(self.arrays, self.settings.seed, self.settings.resamples)
        found = [rows.real(self.photographs, reader)]
        for pictures in sets:
            found += rows.drawn(
                pictures, read[pictures.name]["colours"].array, pictures.name == self.plan.main
            )
        return found

    def _pictures(
        self, sets: list[DrawnSet], read: dict[str, dict[str, ResumableArray]]
    ) -> tuple[list[Row], NamedClassifier | None]:
        if self.network is None or not self.of_features:
            return [], None
        settings, network = self.settings, self.network
        real = real_set(self.arrays, settings.reference_size, network)
        classifier = None
        if settings.network is not None and not OF_CLASSIFIER.isdisjoint(self.of_features):
            classifier = score_classifier(
                settings.classifier,
                settings.network,
                network,
                self.arrays,
                settings.reference_size,
                settings.out,
            )
        drawn = [self._compared(pictures, read[pictures.name]["features"].array) for pictures in sets]
        compare = realism.Comparison(
            real,
            self.of_features,
            classifier,
            settings.queries_per_class,
            min(len(real.first), *(len(pictures.features) for pictures in drawn)),
            settings.seed,
            settings.resamples,
        )
        rows = [compare.ceiling(), *(compare.drawn(pictures) for pictures in drawn)]
        order = shuffled(drawn[0].owners, settings.seed)
        rows.insert(-1, compare.shuffled(rows[1], drawn[0], order))
        return rows, classifier

    def _variety(self, speech: Embeddings) -> list[Row]:
        """Where variety goes, from features over the prior's samples to pictures."""
        settings, network = self.settings, self.network
        asked = "variety" in settings.measures and in_teacher_space(self.arrays, self.route)
        if network is None or not asked:
            return []
        real = real_set(self.arrays, settings.reference_size, network)
        most = min(settings.variety_utterances, settings.limit or settings.variety_utterances)
        plan = variety.plan_variety(self.arrays, real, self.plan.tested(self.plan.main), most)

        def read(pictures: DrawnSet) -> NDArray[np.float32]:
            return self._draw_features(pictures, network).array

        return variety.VarietyRows(
            self.route, self.arrays, real, plan, speech, read, settings.seed, settings.resamples
        ).rows()

    def _draw_features(self, pictures: DrawnSet, network: FeatureNetwork) -> ResumableArray:
        name = file_name(pictures.name)
        path = self.work / f"{name}-{network.checksum[:12]}-{network.dim}.npy"
        reading = Reading(ResumableArray(path, (len(pictures), network.dim)), network)
        draw(self.route, self.arrays, pictures, [reading])
        return reading.rows

    def _compared(self, pictures: DrawnSet, features: NDArray[np.float32]) -> PictureFeatures:
        owners = self.arrays.utterance_sample[pictures.owners]
        return PictureFeatures(pictures.name, features, self.arrays.labels[owners], owners)

    def _words(self) -> list[Row]:
        """What a route through text wrote down; the direct route writes nothing."""
        asked = "words" in self.settings.measures and not self.settings.captions
        if not asked or not self.route.capabilities.text:
            return []
        rows, as_spoken = [], unchanged(self.arrays)
        for voices in VOICES:
            said = {u: caption_of(self.arrays, u) for u in self.plan.tested(voices).tolist()}
            known = np.array([u for u, text in said.items() if text], dtype=np.int64)
            written = dict(transcripts(self.route, self.arrays, known, self.work))
            clean = [u for u in written if as_spoken[u]]
            groups = {voices: list(written)} if written else {}
            if 0 < len(clean) < len(written):
                groups[f"{voices}, not augmented"] = clean
            for name, own in groups.items():
                spoken = Transcripts([said[u] for u in own], [written[u] for u in own])
                estimates = {measure.key: measure.compute(spoken) for measure in WORDS}
                rows.append(Row(name, estimates, {"utterances": len(own)}))
        return rows

    def _sheet(self, speech: Embeddings) -> tuple[Image.Image, list[Results]]:
        shown, seed = self.plan.shown, self.settings.seed
        drawn = [self.route.generate(vector, SHEET_NOISES, seed) for vector in speech.of(np.sort(shown))]
        by_utterance = dict(zip(np.sort(shown).tolist(), drawn, strict=True))
        rows = [describe_utterance(self.arrays, int(u)) for u in shown]
        pictures = [[self._photograph(int(u)), *by_utterance[int(u)]] for u in shown]
        return sheet(pictures, [row["caption"] or row["id"] for row in rows]), rows

    def _photograph(self, u: int) -> Image.Image:
        """The photograph that utterance `u` describes, its central square at the pictures' size."""
        size = self.route.picture_size
        stored = self.arrays.pictures(size)[int(self.arrays.utterance_sample[u])]
        edge = (stored.shape[0] - size) // 2
        return Image.fromarray(np.asarray(stored[edge : edge + size, edge : edge + size]))

    def _not_measured(self) -> dict[str, str]:
        """Measures that were asked for and cannot be taken, with what to do."""
        asked = self.settings.measures
        reasons = {}
        for measure in (measure for table in ("pictures", "variety", "words") for measure in TABLES[table]):
            if measure.option not in asked:
                continue
            if "network" in measure.needs and self.network is None:
                reasons[measure.option] = NETWORK_FILE
            elif "classes" in measure.needs and self.classes_unknown:
                reasons[measure.option] = self.classes_unknown
            if "transcripts" in measure.needs and not self.route.capabilities.text:
                reasons[measure.option] = NO_TEXT
        of_teacher = [option for option in ("retrieval", "variety") if option in asked]
        if of_teacher and not in_teacher_space(self.arrays, self.route):
            reasons |= dict.fromkeys(of_teacher, WORD_VECTORS)
        if self.settings.captions:
            reasons |= {option: CAPTIONS_DRAWN for option in ("words", "robustness") if option in asked}
        return reasons
