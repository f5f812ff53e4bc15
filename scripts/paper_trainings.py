"""What `train_paper_tables.py` trains: the budgets, and the steps from prepared data to every row's model."""

import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from speech2image.evaluation.experiments import LOSSES
from speech2image.files import writing
from speech2image.models.gan.layers import SIZES

CHECKPOINT = "checkpoint.safetensors"
EMBEDDINGS = "speech_embeddings.npy"


@dataclass(frozen=True)
class Budget:
    """Flags of each training, the paper's by default; rows that are compared share theirs.

    Attributes:
        classifier, text_encoder, recognizer: of Table II.
        speech_encoder: of Tables II and V.
        stage_one, stage_two: StackGAN-v1.
        routes: stacked generators of Table II.
        losses: encoders of Table IV.
        of_losses: their generators.
        scales: generators of Table V.
    """

    classifier: str = "--preset paper"
    text_encoder: str = "--preset paper"
    recognizer: str = "--preset paper"
    speech_encoder: str = "--preset paper"
    stage_one: str = "--preset paper"
    stage_two: str = "--preset paper-stage2"
    routes: str = "--preset paper"
    losses: str = "--preset paper"
    of_losses: str = "--preset paper"
    scales: str = "--preset paper"


BUDGETS = {
    "paper": Budget(),
    "cpu": Budget(
        classifier="--preset cpu --steps 2000",
        text_encoder="--preset cpu",
        recognizer="--preset cpu",
        speech_encoder="--preset cpu",
        stage_one="--preset cpu --steps 1300",
        stage_two="--preset cpu-stage2 --steps 1300",
        routes="--preset cpu --steps 1300",
        losses="--preset ablation",
        of_losses="--preset ablation --steps 4000",
        scales="--preset ablation --steps 2000",
    ),
    "toy": Budget(
        classifier="--preset cpu --steps 2 --batch-size 8",
        # fewer steps give all captions nearly one embedding, whose rounding errors generators then scale up
        text_encoder="--preset toy --steps 150",
        recognizer="--preset toy --steps 2",
        speech_encoder="--preset toy --steps 4",
        stage_one="--preset toy --steps 2",
        stage_two="--preset toy-stage2 --steps 2",
        routes="--preset toy --steps 2",
        losses="--preset ablation --steps 2 --batch-size 8",
        of_losses="--preset toy --steps 2",
        scales="--preset toy --steps 2",
    ),
}


@dataclass(frozen=True)
class Step:
    """Some commands of speech2image, one after the other.

    Attributes:
        name: of the mark that it is done, and of its log.
        commands: their arguments.
        needs: steps to be done before.
        before: called before the first command.
    """

    name: str
    commands: tuple[list[str], ...]
    needs: tuple[str, ...] = ()
    before: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class TrainingPlan:
    """What is to be trained.

    Attributes:
        data: shards folders.
        out: folder to write.
        budget: of each training.
        encoder: checkpoint of a speech encoder for Tables II and V; None trains one.
        recognizer: folder that `export recognizer` wrote, for Table II; None trains one.
    """

    data: tuple[Path, ...]
    out: Path
    budget: Budget
    encoder: Path | None = None
    recognizer: Path | None = None

    def steps(self, tables: Sequence[int], seeds: Sequence[int]) -> list[Step]:
        """All steps, those that others wait for first."""
        steps: list[Step] = []
        if {2, 4} & set(tables):
            steps.append(self._classifier())
        if {2, 5} & set(tables):
            steps += self._speech_encoder()
        if 2 in tables:
            steps.append(self._text_encoder())
        for seed in seeds:
            if 4 in tables:
                for row, weights in LOSSES.items():
                    steps += self._loss(row, weights, seed)
            if 5 in tables:
                steps += [self._scale(branches, seed) for branches in range(1, len(SIZES) + 1)]
            if 2 in tables and seed == seeds[0]:
                steps += self._routes(seed)
        return steps

    def _train(self, recipe: str, flags: str, out: Path, *more: str | Path) -> list[str]:
        words = ["train", recipe, *shlex.split(flags), "--data", *self.data, "--out", out, *more]
        return [str(word) for word in words]

    def _row(self, row: str, seed: int) -> Path:
        return self.out / f"seed-{seed}" / row

    @property
    def _common(self) -> Path:
        return self.out / "common"

    @property
    def _encoder(self) -> Path:
        return self.encoder or self._common / "speech_encoder" / CHECKPOINT

    def _embed(self, encoder: Path, data: Sequence[Path], *flags: str) -> tuple[list[str], ...]:
        words = ["train", "embeddings", *flags, "--encoder", str(encoder), "--data"]
        return tuple([*words, str(folder)] for folder in data)

    def _classifier(self) -> Step:
        return Step(
            "classifier", (self._train("classifier", self.budget.classifier, self._common / "classifier"),)
        )

    def _speech_encoder(self) -> list[Step]:
        steps = []
        if self.encoder is None:
            command = self._train("speech-encoder", self.budget.speech_encoder, self._encoder.parent)
            steps.append(Step("speech-encoder", (command,)))
        needs = tuple(step.name for step in steps)
        return [*steps, Step("speech-embeddings", self._embed(self._encoder, self.data), needs)]

    def _text_encoder(self) -> Step:
        out = self._common / "text_encoder"
        embed = [
            "train",
            "text-embeddings",
            "--encoder",
            str(out / CHECKPOINT),
            "--data",
            *map(str, self.data),
        ]
        return Step("text-encoder", (self._train("text-encoder", self.budget.text_encoder, out), embed))

    def _loss(self, row: str, weights: tuple[int, int], seed: int) -> list[Step]:
        place, name = self._row(row, seed), f"{row}-seed-{seed}"
        joint, distillation = map(str, weights)
        start = self._common / "classifier" / CHECKPOINT
        flags = ("--loss.joint-embedding", joint, "--loss.distribution", distillation, "--seed", str(seed))
        encoder = self._train(
            "speech-encoder", self.budget.losses, place / "speech_encoder", "--start-from", start, *flags
        )
        own = TrainingPlan(tuple(place / "data" / folder.name for folder in self.data), self.out, self.budget)
        embed = self._embed(place / "speech_encoder" / CHECKPOINT, own.data)
        generator = own._train("stackgan-v2", self.budget.of_losses, place / "generator", "--seed", str(seed))

        def link() -> None:
            for folder, linked in zip(self.data, own.data, strict=True):
                link_data(folder, linked)

        return [
            Step(f"{name}-encoder", (encoder,), ("classifier",)),
            Step(f"{name}-embeddings", embed, (f"{name}-encoder",), link),
            Step(f"{name}-generator", (generator,), (f"{name}-embeddings",)),
        ]

    def _scale(self, branches: int, seed: int) -> Step:
        side = SIZES[branches - 1]
        place = self._row(f"scale-{side}", seed)
        flags = ("--networks.branches", str(branches), "--seed", str(seed))
        command = self._train("stackgan-v2", self.budget.scales, place / "generator", *flags)
        return Step(
            f"scale-{side}-seed-{seed}", (command,), ("speech-embeddings",), lambda: self._take_encoder(place)
        )

    def _routes(self, seed: int) -> list[Step]:
        direct, classifier = self._row("direct", seed), self._row("classifier", seed)
        own, chosen = self._common / "classifier" / CHECKPOINT, ("--seed", str(seed))
        return [
            Step(
                "direct",
                (self._train("stackgan-v2", self.budget.routes, direct / "generator", *chosen),),
                ("speech-embeddings",),
                lambda: self._take_encoder(direct),
            ),
            Step(
                "classifier-route",
                (
                    *self._embed(own, self.data, "--conditions", "classifier"),
                    self._train(
                        "stackgan-v2",
                        self.budget.routes,
                        classifier / "generator",
                        "--conditions",
                        "classifier",
                        *chosen,
                    ),
                ),
                ("classifier",),
                lambda: copy(own, classifier / "speech_encoder" / CHECKPOINT),
            ),
            *self._on_text(seed),
        ]

    def _on_text(self, seed: int) -> list[Step]:
        text = ("--conditions", "text", "--seed", str(seed))
        stages = [self._row("two-step", seed) / name for name in ("stage_one", "generator")]
        one = self._train("stackgan-v1", self.budget.stage_one, stages[0], *text)
        first = stages[0] / CHECKPOINT
        two = self._train("stackgan-v1", self.budget.stage_two, stages[1], *text, "--stage-one", first)
        of_v2 = self._row("stackgan-v2-text", seed) / "generator"
        v2 = self._train("stackgan-v2", self.budget.routes, of_v2, *text)
        steps = [
            Step("stage-one", (one,), ("text-encoder",)),
            Step("stage-two", (two,), ("stage-one",)),
            Step("stackgan-v2-text", (v2, self._export(of_v2)), ("text-encoder",)),
        ]
        recognizer = self.recognizer
        needs: tuple[str, ...] = ("stage-two",)
        if recognizer is None:
            folder = self._common / "recognizer"
            train = self._train("speech-recognizer", self.budget.recognizer, folder)
            steps.append(Step("recognizer", (train,)))
            recognizer, needs = folder / CHECKPOINT, ("stage-two", "recognizer")
        export = self._export(stages[1], "--recognizer", str(recognizer))
        return [*steps, Step("two-step", (export,), needs)]

    def _export(self, generator: Path, *flags: str) -> list[str]:
        row = generator.parent
        words = ["export", "cascade", "--text-encoder", self._common / "text_encoder" / CHECKPOINT]
        words += ["--generator", generator / CHECKPOINT, "--out", row / "model", "--name", row.name]
        return [*map(str, words), "--licence", "unstated", "--max-megabytes", "1000", *flags]

    def _take_encoder(self, row: Path) -> None:
        copy(self._encoder, row / "speech_encoder" / CHECKPOINT)


def link_data(shards: Path, linked: Path) -> None:
    """A shards folder whose files are those of another but for the speech embeddings, which are its own."""
    for source in [*shards.glob("*"), *shards.glob("arrays/*")]:
        target = linked / source.relative_to(shards)
        if source.is_dir() or source.name == EMBEDDINGS or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source.resolve())


def copy(source: Path, target: Path) -> None:
    """Copy a checkpoint to where a row's model is looked for."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with writing(target) as temporary:
        shutil.copyfile(source, temporary)
