"""Trainings of the paper's tables: steps from prepared data to every row's model, a table's under one budget.

`OUT/seed-<seed>/<row>` then holds each row's model, `OUT/common` what several rows share: the speech encoder
of Tables II, III and V, the classifier's encoder, the text encoder, the recognizer. All of them start from
nothing and learn from the data given alone. The shards need teacher features (`prepare teacher`). Work
goes on after an interruption. Each step's output lies in `OUT/logs`. Tables II and III are of the first seed.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError, SettingsError
from speech2image.evaluation.paper.tables import SPECIFICATION, TABLES, PaperRow
from speech2image.files import writing
from speech2image.models.gan.layers import SIZES

CHECKPOINT = "checkpoint.safetensors"
EMBEDDINGS = "speech_embeddings.npy"


@dataclass(frozen=True)
class Budget:
    """Flags of each training (`tables.toml`); rows that are compared share theirs.

    Attributes:
        classifier, text_encoder, recognizer: of Tables II and III.
        speech_encoder: of Tables II, III and V.
        stage_one, stage_two: StackGAN-v1.
        routes: stacked generators of Table II.
        rooms: of Table III.
        losses: encoders of Table IV.
        of_losses: their generators.
        scales: generators of Table V.
        scale_batches: of Table V's generators, one a row.
        scale_pictures: that each of them is trained on, whatever its batch.
    """

    classifier: str
    text_encoder: str
    recognizer: str
    speech_encoder: str
    stage_one: str
    stage_two: str
    routes: str
    rooms: str
    losses: str
    of_losses: str
    scales: str
    scale_batches: Sequence[int]
    scale_pictures: int

    def of_scale(self, branches: int) -> str:
        """Flags of the generator of Table V with so many branches: as many pictures as the others see."""
        batch = self.scale_batches[branches - 1]
        steps = self.scale_pictures // batch
        return f"{self.scales} --networks.branches {branches} --batch-size {batch} --steps {steps}"


BUDGETS = {name: Budget(**flags) for name, flags in SPECIFICATION["budgets"].items()}


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
        encoder: checkpoint of another speech encoder, for a further row of Table II.
        recognizer: folder that `export recognizer` wrote, for a further row of Table II.
    """

    data: tuple[Path, ...]
    out: Path
    budget: Budget
    encoder: Path | None = None
    recognizer: Path | None = None

    def steps(self, tables: Sequence[int], seeds: Sequence[int]) -> list[Step]:
        """All steps, those that others wait for first.

        Raises:
            SettingsError: Table III together with another one: its rows have the names of Table II's.
        """
        if 3 in tables and len(tables) > 1:
            raise SettingsError(
                "Table III is of rooms, at 128 pixels: train it alone (--tables 3), into a folder of its own"
            )
        steps: list[Step] = []
        routes = bool({2, 3} & set(tables))
        if routes:
            steps += [self._classifier(), self._text_encoder(), self._recognizer()]
        if routes or 5 in tables:
            steps += self._speech_encoder()
        for seed in seeds:
            if 4 in tables:
                for row in TABLES[4].rows:
                    steps += self._loss(row, seed)
            if 5 in tables:
                steps += [self._scale(row, seed) for row in TABLES[5].rows]
        if 2 in tables:
            steps += self._routes(self.budget.routes, seeds[0])
            steps += [*self._stackgan_v1(seeds[0]), *self._given(seeds[0])]
        if 3 in tables:
            steps += self._routes(self.budget.rooms, seeds[0])
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
        return self._common / "speech_encoder" / CHECKPOINT

    def _embed(self, encoder: Path, data: Sequence[Path], *flags: str) -> tuple[list[str], ...]:
        words = ["train", "embeddings", *flags, "--encoder", str(encoder), "--data"]
        return tuple([*words, str(folder)] for folder in data)

    def _classifier(self) -> Step:
        return Step(
            "classifier", (self._train("classifier", self.budget.classifier, self._common / "classifier"),)
        )

    def _speech_encoder(self) -> list[Step]:
        command = self._train("speech-encoder", self.budget.speech_encoder, self._encoder.parent)
        embed = self._embed(self._encoder, self.data)
        return [
            Step("speech-encoder", (command,)),
            Step("speech-embeddings", embed, ("speech-encoder",)),
        ]

    def _recognizer(self) -> Step:
        folder = self._common / "recognizer"
        return Step("recognizer", (self._train("speech-recognizer", self.budget.recognizer, folder),))

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

    def _loss(self, row: PaperRow, seed: int) -> list[Step]:
        place, name = self._row(row.row, seed), f"{row.row}-seed-{seed}"
        joint, distillation = str(row.joint_embedding), str(row.distribution)
        flags = ["--loss.joint-embedding", joint, "--loss.distribution", distillation, "--seed", str(seed)]
        flags += ["--balance", "8"] if row.balanced else []
        encoder = self._train("speech-encoder", self.budget.losses, place / "speech_encoder", *flags)
        return [
            Step(f"{name}-encoder", (encoder,)),
            *self._own_embeddings(
                place, name, place / "speech_encoder" / CHECKPOINT, self.budget.of_losses, seed
            ),
        ]

    def _own_embeddings(self, place: Path, name: str, encoder: Path, flags: str, seed: int) -> list[Step]:
        """A generator that draws from another encoder's embeddings than those beside the shards."""
        own = replace(self, data=tuple(place / "data" / folder.name for folder in self.data))
        generator = own._train("stackgan-v2", flags, place / "generator", "--seed", str(seed))

        def link() -> None:
            for folder, linked in zip(self.data, own.data, strict=True):
                link_data(folder, linked)

        needs = () if encoder.parent != place / "speech_encoder" else (f"{name}-encoder",)
        return [
            Step(f"{name}-embeddings", self._embed(encoder, own.data), needs, link),
            Step(f"{name}-generator", (generator,), (f"{name}-embeddings",)),
        ]

    def _scale(self, row: PaperRow, seed: int) -> Step:
        place = self._row(row.row, seed)
        flags = self.budget.of_scale(row.branches)
        command = self._train("stackgan-v2", flags, place / "generator", "--seed", str(seed))
        return Step(
            f"{row.row}-seed-{seed}",
            (command,),
            ("speech-embeddings",),
            lambda: copy(self._encoder, place / "speech_encoder" / CHECKPOINT),
        )

    def _routes(self, flags: str, seed: int) -> list[Step]:
        """The rows of Tables II and III: one stacked generator each, all with these flags."""
        direct, classifier = self._row("direct", seed), self._row("classifier", seed)
        own, chosen = self._common / "classifier" / CHECKPOINT, ("--seed", str(seed))
        by_class = ("--conditions", "classifier")
        on_text = self._row("two-step", seed) / "generator"
        return [
            Step(
                "direct",
                (self._train("stackgan-v2", flags, direct / "generator", *chosen),),
                ("speech-embeddings",),
                lambda: copy(self._encoder, direct / "speech_encoder" / CHECKPOINT),
            ),
            Step(
                "classifier-route",
                (
                    *self._embed(own, self.data, *by_class),
                    self._train("stackgan-v2", flags, classifier / "generator", *by_class, *chosen),
                ),
                ("classifier",),
                lambda: copy(own, classifier / "speech_encoder" / CHECKPOINT),
            ),
            Step(
                "stackgan-v2-text",
                (self._train("stackgan-v2", flags, on_text, "--conditions", "text", *chosen),),
                ("text-encoder",),
            ),
            Step(
                "two-step",
                (self._export("two-step", on_text, seed, self._common / "recognizer" / CHECKPOINT),),
                ("stackgan-v2-text", "recognizer"),
            ),
        ]

    def _stackgan_v1(self, seed: int) -> list[Step]:
        text = ("--conditions", "text", "--seed", str(seed))
        stages = [self._row("stackgan-v1-text", seed) / name for name in ("stage_one", "generator")]
        one = self._train("stackgan-v1", self.budget.stage_one, stages[0], *text)
        first = stages[0] / CHECKPOINT
        two = self._train("stackgan-v1", self.budget.stage_two, stages[1], *text, "--stage-one", first)
        return [
            Step("stage-one", (one,), ("text-encoder",)),
            Step("stage-two", (two, self._export("stackgan-v1-text", stages[1], seed)), ("stage-one",)),
        ]

    def _given(self, seed: int) -> list[Step]:
        """Further rows of Table II, of networks trained on other data."""
        steps: list[Step] = []
        if self.encoder is not None:
            given, place = self.encoder, self._row("direct-given", seed)
            embeddings, generator = self._own_embeddings(
                place, "direct-given", given, self.budget.routes, seed
            )
            link = embeddings.before

            def take() -> None:
                link()
                copy(given, place / "speech_encoder" / CHECKPOINT)

            steps += [replace(embeddings, before=take), generator]
        if self.recognizer is not None:
            on_text = self._row("two-step", seed) / "generator"
            export = self._export("two-step-given", on_text, seed, self.recognizer)
            steps.append(Step("two-step-given", (export,), ("stackgan-v2-text",)))
        return steps

    def _export(self, row: str, generator: Path, seed: int, recognizer: Path | None = None) -> list[str]:
        out = self._row(row, seed) / "model"
        words = ["export", "cascade", "--text-encoder", self._common / "text_encoder" / CHECKPOINT]
        words += ["--generator", generator / CHECKPOINT, "--out", out, "--name", row]
        words += [] if recognizer is None else ["--recognizer", recognizer]
        return [*map(str, words), "--licence", "unstated", "--max-megabytes", "1000"]


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


def train(plan: TrainingPlan, tables: Sequence[int], seeds: Sequence[int], parallel: int) -> None:
    """Train all rows of some tables.

    Raises:
        DataError: a folder is no shards folder, or a step failed.
    """
    for folder in plan.data:
        if not (folder / "manifest.jsonl").is_file():
            raise DataError(f"{folder} is no shards folder; make one with `speech2image prepare`")
    steps = plan.steps(tables, seeds)
    build_arrays(plan.data, steps, plan.out, parallel)
    run(steps, plan.out, parallel)


def build_arrays(data: Sequence[Path], steps: Sequence[Step], out: Path, workers: int) -> None:
    """Let the arrays beside the shards be made once, before several processes want them."""
    if all(_done(out, step).exists() for step in steps):
        return
    for folder in data:
        arrays = PairArrays.open(folder, workers=workers)
        arrays.n_frames()
        for size in SIZES:
            arrays.pictures(size)


def run(steps: Sequence[Step], out: Path, parallel: int) -> None:
    """Do all steps that are not done, `parallel` at a time, each on its share of the cores.

    Raises:
        DataError: a step failed; what does not wait for it was done all the same.
    """
    todo = [step for step in steps if not _done(out, step).exists()]
    running: list[tuple[Step, subprocess.Popen[bytes]]] = []
    failed: list[str] = []
    threads = str(max(1, (os.cpu_count() or 1) // parallel))
    try:
        while todo or running:
            for step, process in [pair for pair in running if pair[1].poll() is not None]:
                running.remove((step, process))
                print(f"{step.name}: {'failed' if process.returncode else 'done'}", flush=True)
                if process.returncode:
                    failed.append(f"{step.name} (see {_log(out, step)})")
                else:
                    _done(out, step).parent.mkdir(parents=True, exist_ok=True)
                    _done(out, step).touch()
            ready = [step for step in todo if all((out / "done" / name).exists() for name in step.needs)]
            for step in ready[: parallel - len(running)]:
                todo.remove(step)
                step.before()
                running.append((step, _start(step, out, threads)))
                print(f"{step.name}: begun", flush=True)
            if not running:
                break
            time.sleep(0.5)
    finally:
        for _, process in running:
            process.terminate()
        for _, process in running:
            process.wait()  # for its checkpoint
    if failed:
        raise DataError(f"failed: {', '.join(failed)}; not begun: {[step.name for step in todo]}")


def _start(step: Step, out: Path, threads: str) -> "subprocess.Popen[bytes]":
    """All commands of a step as one process, so that it can be stopped as one."""
    _log(out, step).parent.mkdir(parents=True, exist_ok=True)
    program = "import sys\nfrom speech2image.cli import main\n" + "".join(
        f"if main({command!r}): sys.exit(1)\n" for command in step.commands
    )
    with _log(out, step).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads),
        )


def _done(out: Path, step: Step) -> Path:
    return out / "done" / step.name


def _log(out: Path, step: Step) -> Path:
    return out / "logs" / f"{step.name}.log"
