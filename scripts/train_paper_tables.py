"""Trains the models of the paper's tables, every row of a table under one budget, for `paper_tables.py`.

    python scripts/train_paper_tables.py --data shards/flowers shards/birds --out models --seeds 0 1

`OUT/seed-<seed>/<row>` then holds each row's model, `OUT/common` what several rows share: the classifier's
encoder, which Table IV's encoders start from, since it hears and knows no teacher; the text encoder; Stage I;
the speech encoder of Tables II and V. The shards need teacher features (`prepare teacher`).
The same command goes on after an interruption, and with more tables or seeds. Each step's output lies in
`OUT/logs`. Table II is trained from the first seed alone.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from speech2image.data.arrays import PairArrays
from speech2image.errors import DataError, Speech2ImageError
from speech2image.evaluation.experiments import LOSSES, TABLES
from speech2image.files import writing
from speech2image.models.conditional_discriminator import SIZES

CHECKPOINT = "checkpoint.safetensors"
EMBEDDINGS = "speech_embeddings.npy"


@dataclass(frozen=True)
class Budget:
    """Flags of each training; rows that are compared share theirs.

    Attributes:
        classifier, text_encoder, recognizer: of Table II.
        speech_encoder: of Tables II and V.
        stage_one, stage_two: StackGAN-v1.
        routes: stacked generators of Table II.
        losses: encoders of Table IV.
        of_losses: their generators.
        scales: generators of Table V.
    """

    classifier: str
    text_encoder: str
    recognizer: str
    speech_encoder: str
    stage_one: str
    stage_two: str
    routes: str
    losses: str
    of_losses: str
    scales: str


BUDGETS = {
    "paper": Budget(
        classifier="--preset paper",
        text_encoder="--preset paper",
        recognizer="--preset paper",
        speech_encoder="--preset paper",
        stage_one="--preset paper",
        stage_two="--preset paper-stage2",
        routes="--preset paper",
        losses="--preset paper",
        of_losses="--preset paper",
        scales="--preset paper",
    ),
    "cpu": Budget(
        classifier="--preset cpu --steps 2000",
        text_encoder="--preset cpu",
        recognizer="--preset cpu",
        speech_encoder="--preset cpu",
        stage_one="--preset cpu --steps 2000",
        stage_two="--preset cpu-stage2 --steps 2000",
        routes="--preset cpu --steps 2000",
        losses="--preset ablation",
        of_losses="--preset ablation --steps 2000",
        scales="--preset ablation --steps 1300",
    ),
    "toy": Budget(
        classifier="--preset cpu --steps 2 --batch-size 8",
        text_encoder="--preset toy --steps 4",
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
class Plan:
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
        own = Plan(tuple(place / "data" / folder.name for folder in self.data), self.out, self.budget)
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
        recognizer, needs = self.recognizer, ("stage-two",)
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


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without ending the trainings
    try:
        for data in options.data:
            if not (data / "manifest.jsonl").is_file():
                raise DataError(f"{data} is no shards folder; make one with `speech2image prepare`")
        plan = Plan(
            tuple(options.data), options.out, BUDGETS[options.budget], options.encoder, options.recognizer
        )
        steps = plan.steps(options.tables, options.seeds)
        build_arrays(options.data, steps, options.out, options.parallel)
        run(steps, options.out, options.parallel)
    except Speech2ImageError as error:
        print(f"train_paper_tables: {error}", file=sys.stderr)
        return 1
    return 0


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


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="shards folders, trained on as one"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    numbers = [number for number in TABLES if number != 3]
    parser.add_argument("--tables", type=int, nargs="+", choices=numbers, default=numbers, help="which")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of Tables IV and V")
    parser.add_argument("--budget", choices=tuple(BUDGETS), default="cpu", help="flags of the trainings")
    parser.add_argument("--encoder", type=Path, help="speech encoder's checkpoint for Tables II and V")
    parser.add_argument("--recognizer", type=Path, help="recogniser's folder for Table II")
    parser.add_argument("--parallel", type=int, default=1, help="trainings at a time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
