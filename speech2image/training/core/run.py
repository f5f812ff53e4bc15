"""Runs: devices, seeds, log, sample sheets, checkpoints, resumption and the end of a training.

A trainer composes these; there is no base class. Its loop reads as follows. A GAN's recipe writes it out; for
a single network it is `Learner.fit`:

    fabric = make_fabric(settings.precision, settings.seed)
    run = Run(folder, "speech_encoder", settings, fabric)
    learner = Learner(model, model.encoder, optimizer, settings.ema_decay)      # a GAN: gan.Adversaries
    step = learner.begin(fabric, run.restore())                                 # None at the start
    next_batch = run.read_ahead(batches)
    while not run.finished(step):
        batch = next_batch(step)
        ...                                   # one optimiser step; draw randomness from step_rng(seed, step)
        step += 1
        run.log(step, {"loss": loss})         # tensors or floats; written every `log_every` steps
        if run.checkpoint_due():
            run.save({"step": step, **learner.state_dict()})
    run.save({"step": step, **learner.state_dict()})
    run.close()

Ctrl-C and SIGTERM end such a loop after its step, with a checkpoint.
"""

import atexit
import ctypes
import dataclasses
import gc
import hashlib
import json
import math
import os
import platform
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric, seed_everything
from torch.utils.tensorboard import SummaryWriter

from speech2image import __version__
from speech2image.data import processes
from speech2image.data.training_sets import TrainingArrays, parts_of
from speech2image.errors import OutputError, SettingsError
from speech2image.files import check_writable, writing
from speech2image.models.bfloat16 import multiplies_bfloat16
from speech2image.pipeline import images
from speech2image.training.core.checkpoint import State, load_checkpoint, save_checkpoint
from speech2image.training.core.loggers import WandbLogger
from speech2image.training.core.prefetch import Batch, ReadAhead

LOG, CONFIG = "log.jsonl", "config.json"
BEST, BEST_NOTE, KEPT = "best.safetensors", "best.json", "checkpoints"
LogItems = Mapping[str, float | torch.Tensor]
"""Name -> number or one-element tensor, for a row of the log."""
_EVERYWHERE = ("step", "seconds")
"""Keys of every row of the log."""

FREE_SETTINGS = frozenset(
    {"steps", "minutes", "checkpoint_minutes", "log_every", "grid_every", "fid_network", "fid_every"}
    | {"read_ahead", "channels_last", "compile", "buffer", "keep_last", "wandb", "fid_pictures"}
    | {"second_network"}
)
"""Settings that may differ when a run goes on: they say how long, how often and how fast, not what is
learnt."""


BELONGINGS = {
    "data": "pictures (--data)",
}
"""What a run may belong to -> what an error calls it."""


def belonging(arrays: object, *, embeddings: bool = False) -> dict[str, str]:
    """What a run on a data set belongs to: digests, which its checkpoint keeps.

    Args:
        arrays: the data set. A stream, which states nothing that would tell it, and None, for a run without
            one, belong to nothing.
        embeddings: whether it also learns from the embeddings beside the shards, and so belongs to their
            space.
    """
    if not isinstance(arrays, TrainingArrays):
        return {}
    names = [part.folder.resolve().name for part in parts_of(arrays)]
    found = {"data_name": f"{', '.join(names)}: {len(arrays.ids)} pictures"}
    found["data"] = hashlib.sha256("\n".join(arrays.ids).encode()).hexdigest()[:16]
    if embeddings and arrays.embedding_space:
        found["space"] = arrays.embedding_space
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings that every training has.

    Attributes:
        steps: optimiser steps until the end.
        minutes: stop after so many minutes of training, counted over all sessions; None for no limit.
        seed: of everything random.
        precision: "auto" (bfloat16 where the processor has it), "32-true" or "bf16-mixed".
        log_every: steps between two lines of the log.
        checkpoint_minutes: minutes between two checkpoints.
        read_ahead: threads that make the next batches while a step is computed; 0 makes each when it is
            needed. The batches are the same. Worth it on a GPU; on a CPU the threads take from the step.
        buffer: of a stream, the pictures that a process holds at most, to mix them; a shard or two at least.
        keep_last: besides checkpoint.safetensors, keep the last so many checkpoints in checkpoints/.
        wandb: project at Weights & Biases to log to, too (extra wandb); "" logs there nothing.
        accumulate: batches whose gradients are added up for each step, where a larger one does not fit into
            memory. What compares within a batch (contrastive losses, BatchNorm) still sees one batch.
    """

    steps: int
    minutes: float | None = None
    seed: int = 0
    precision: str = "auto"
    log_every: int = 20
    checkpoint_minutes: float = 10.0
    read_ahead: int = 0
    buffer: int = 10_000
    keep_last: int = 0
    wandb: str = ""
    accumulate: int = 1


def make_fabric(precision: str, seed: int) -> Fabric:
    """Choose the devices and seed every generator; under `torchrun` this joins the process group.

    Args:
        precision: "32-true", "bf16-mixed", or "auto": bfloat16 where the processor multiplies it natively.
        seed: any non-negative integer; each process adds its rank for what must differ between them.

    Raises:
        SettingsError: an unknown precision or a negative seed.
    """
    if precision not in ("auto", "32-true", "bf16-mixed"):
        raise SettingsError(f"precision is '{precision}'; choose auto, 32-true or bf16-mixed")
    if seed < 0:
        raise SettingsError(f"seed is {seed}; give an integer of at least 0")
    keep_freed_memory()
    cuda = torch.cuda.is_available()
    if precision == "auto":
        precision = "bf16-mixed" if multiplies_bfloat16("cuda" if cuda else "cpu") else "32-true"
    world = int(os.environ.get("WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        num_nodes=max(1, world // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
        strategy="ddp" if world > 1 else "auto",
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    if world > 1:
        atexit.register(leave_process_group)
    seed_everything(seed + fabric.global_rank, verbose=False)
    return fabric


def join_processes() -> None:
    """Join the processes that `torchrun` started, if it did, for work that makes no fabric of its own."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        make_fabric("32-true", 0)


def leave_process_group() -> None:
    """Ends the process group and its threads while Python still runs.

    A thread of gloo's that lets go of a tensor's Python half after the interpreter has begun to close ends
    the whole process ("terminate called without an active exception").
    """
    processes.leave()
    gc.collect()  # models wrapped for several processes hold the group, too
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks, where there is glibc.

    By default it gives every large block back to the system, so each step of a training on the CPU pays for
    fresh pages again; keeping them took a forward pass of the teacher from 44 to 26 ms of processor time a
    picture.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mmap_max, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


def step_rng(seed: int, step: int, rank: int = 0) -> np.random.Generator:
    """A random generator that depends on nothing but its arguments, so a resumed run draws the same
    numbers."""
    return np.random.default_rng((seed, rank, step))


def step_torch_rng(seed: int, step: int, rank: int = 0) -> torch.Generator:
    """`step_rng` as a torch generator on the CPU."""
    number = int(np.random.SeedSequence((seed, rank, step)).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator().manual_seed(number)


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed torch's own generator, which dropout draws from, for one step."""
    torch.manual_seed(step_torch_rng(seed, step, rank).initial_seed())


def versions() -> dict[str, str]:
    """Of this package, Python and torch."""
    return {
        "speech2image": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


_dry = False


def dry_run(on: bool) -> None:
    """Let every training stop before its first step, once data, networks and settings were found to fit."""
    global _dry
    _dry = on


class Run:
    """One training's folder: `config.json`, `log.jsonl`, TensorBoard events, `samples/`,
    `checkpoint.safetensors`, and what is kept of it: `best.safetensors`, `checkpoints/`.

    Args:
        folder: made if absent; a checkpoint already there is what `restore` goes on from.
        kind: what is trained; a checkpoint of another kind is refused.
        settings: the trainer's frozen dataclass.
        fabric: only its process of rank 0 writes.
        belongs: what the run belongs to (`belonging`); a run of something else in the folder is refused.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        kind: str,
        settings: RunSettings,
        fabric: Fabric,
        belongs: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.kind = kind
        self.settings = settings
        self.fabric = fabric
        self.belongs = dict(belongs or {})
        self.checkpoint = self.folder / "checkpoint.safetensors"
        check_writable(self.checkpoint)
        self._earlier_seconds = 0.0
        self._first_step = 0
        self._logged: set[tuple[object, ...]] = set()
        self._start = self._last_save = time.monotonic()
        self._begun: tuple[float, int] | None = None
        self._board: SummaryWriter | None = None
        self._warned: set[str] = set()
        self._stopped = False
        self._handlers: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        self._ahead: list[ReadAhead[Any]] = []
        self._wandb: WandbLogger | None = None

    def restore(self) -> State | None:
        """Read the checkpoint to go on from, or None at the start of a run; cut the log back to it.

        Raises:
            CheckpointError: the checkpoint is damaged or of another kind.
            SettingsError: it was made with other settings than these (run lengths may differ).
            OutputError: the log cannot be written.
        """
        if self.settings_kept("keep_last", 0) < 0:
            raise SettingsError(f"keep_last is {self.settings.keep_last}; give 0 or more checkpoints to keep")
        if self.settings_kept("accumulate", 1) < 1:
            raise SettingsError(f"accumulate is {self.settings.accumulate}; give 1 or more batches a step")
        if not self.checkpoint.exists():
            self._cut_log(-1, -1.0)
            self._write_config()
            return None
        state = load_checkpoint(self.checkpoint, self.kind)
        now = _as_stored(self.settings)
        then = _with_later_settings(state["settings"], self.settings)
        changed = [key for key in sorted(now.keys() | then.keys()) if now.get(key) != then.get(key)]
        changed = [key for key in changed if key not in FREE_SETTINGS]
        if changed:
            raise SettingsError(
                f"{self.folder} was trained with other settings: "
                + ", ".join(f"{key} {then.get(key)!r}, now {now.get(key)!r}" for key in changed)
                + "; use another folder or the same settings"
            )
        self._check_belonging(state.get("belongs", {}))
        if self.fabric.is_global_zero:
            print(f"{self.kind}: resuming from step {state['step']} in {self.folder}", file=sys.stderr)
        # No generator's state is stored: batches and noise are functions of (seed, rank, step) alone, so
        # weights, moments and the step are enough to go on bit by bit.
        self._earlier_seconds = float(state["seconds"])
        self._first_step = state["step"] + 1
        self._cut_log(state["step"], self._earlier_seconds)
        self._write_config()
        return state

    def settings_kept(self, name: str, otherwise: Any) -> Any:
        """A setting that not every kind of settings has."""
        return getattr(self.settings, name, otherwise)

    def batches_of(self, step: int) -> range:
        """Numbers of the batches whose gradients make up `step` (0, 1, ...): `accumulate` of them."""
        parts = self.settings_kept("accumulate", 1)
        return range(step * parts, (step + 1) * parts)

    def _write_config(self) -> None:
        """Write `config.json`: what is trained, how, on what, by which versions, by which command."""
        if not self.fabric.is_global_zero or _dry:
            return
        config = {
            "kind": self.kind,
            "settings": _as_stored(self.settings),
            "belongs": self.belongs,
            "command": sys.argv,
            "processes": self.fabric.world_size,
            "device": str(self.fabric.device),
            "versions": versions(),
        }
        with writing(self.folder / CONFIG) as temporary:
            temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        if self.settings_kept("wandb", "") and self._wandb is None:
            name = f"{self.folder.resolve().parent.name}/{self.folder.resolve().name}"
            self._wandb = WandbLogger(self.settings.wandb, str(self.folder), name, config)

    def _check_belonging(self, then: Mapping[str, str]) -> None:
        """Refuse to go on with other data than those of the checkpoint; older ones do not state theirs."""
        for key, what in BELONGINGS.items():
            now = self.belongs.get(key)
            if now and then.get(key) and now != then[key]:
                raise SettingsError(
                    f"{self.folder} holds a run on other {what}; give another --out, or the data of before"
                )

    def _cut_log(self, step: int, seconds: float) -> None:
        """Drop what a killed run logged after its checkpoint, since it is going to be logged again."""
        log = self.folder / LOG
        if not self.fabric.is_global_zero or not log.exists():
            return
        kept = [row for row in _rows(log) if row.get("step", step) <= step]
        kept = [
            row for row in kept if "step" in row or row.get("seconds", 0.0) <= round(seconds, 1)
        ]  # warnings
        self._logged = {
            (step, *(name for name in row if name not in _EVERYWHERE))
            for row in kept
            if row.get("step") == step
        }
        with writing(log) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")

    def read_ahead(self, batches: Callable[[int], Batch]) -> Callable[[int], Batch]:
        """The same batches, made ahead of their step if the settings say so; `close` ends that.

        Raises:
            SettingsError: a negative number of threads.
        """
        # threads may finish in any order: a batch depends on its step alone
        threads = self.settings.read_ahead
        if threads < 0:
            raise SettingsError(f"read_ahead is {threads}; give a number of threads, or 0 to read none ahead")
        if not threads:
            return batches
        self._ahead.append(ReadAhead(batches, threads))
        return self._ahead[-1]

    @property
    def seconds(self) -> float:
        """Seconds trained so far, earlier sessions included."""
        return self._earlier_seconds + time.monotonic() - self._start

    def finished(self, step: int) -> bool:
        """Whether the steps or minutes asked for are done (decided by rank 0 for all processes)."""
        if _dry:
            self._say_dry(step)
        self._catch_signals()
        if self._begun is None:
            self._begun = time.monotonic(), step
        minutes = self.settings.minutes
        over = step >= self.settings.steps or (minutes is not None and self.seconds >= 60 * minutes)
        return self._agreed(over)

    def _say_dry(self, step: int) -> None:
        """Say that all is well and end the process: nothing was trained or written."""
        self.close()
        if self.fabric.is_global_zero:
            left = max(0, self.settings.steps - step)
            print(
                f"{self.kind}: data, networks and settings fit; {left} of {self.settings.steps} steps would "
                f"follow in {self.folder} (--dry-run)"
            )
        raise SystemExit(0)

    def checkpoint_due(self) -> bool:
        """Whether `checkpoint_minutes` have passed since the last save, or Ctrl-C or SIGTERM came."""
        due = time.monotonic() - self._last_save >= 60 * self.settings.checkpoint_minutes
        return self._agreed(due or self._stopped)

    def save(self, state: State) -> Path:
        """Write `state` (with `step`, networks and optimisers) atomically as the checkpoint to go on from.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM came; the checkpoint is written.
        """
        if self.fabric.is_global_zero:
            settings = dataclasses.asdict(self.settings)  # type: ignore[call-overload]
            extra = {"kind": self.kind, "settings": settings, "seconds": self.seconds}
            extra["versions"] = versions()
            if self.belongs:
                extra["belongs"] = self.belongs
            save_checkpoint(self.checkpoint, {**state, **extra})
            self._keep_last(state["step"])
        self._last_save = time.monotonic()
        if self._agreed(self._stopped):
            self.close()
        return self.checkpoint

    def _keep_last(self, step: int) -> None:
        """Keep the checkpoint under its step's name, and delete those beyond the last `keep_last`."""
        keep = self.settings_kept("keep_last", 0)
        if not keep:
            return
        _copy(self.checkpoint, self.folder / KEPT / f"step-{step:07d}.safetensors")
        for old in sorted((self.folder / KEPT).glob("step-*.safetensors"))[:-keep]:
            old.unlink()

    def judge(self, step: int, name: str, value: float, *, lower_is_better: bool = False) -> None:
        """Keep the checkpoint saved last as `best.safetensors` if it is better than all before.

        Args:
            step: at which it was saved and measured.
            name: of the figure, which is of pictures kept out of training and not of the test classes.
            value: of the figure.
            lower_is_better: than an earlier value.
        """
        if not self.fabric.is_global_zero or not math.isfinite(value):
            return
        note = self.folder / BEST_NOTE
        with suppress(OSError, ValueError, KeyError, TypeError):
            before = json.loads(note.read_text(encoding="utf-8"))
            same = before["name"] == name and before["step"] <= step
            if same and (before["value"] <= value if lower_is_better else before["value"] >= value):
                return
        _copy(self.checkpoint, self.folder / BEST)
        with writing(note) as temporary:
            temporary.write_text(json.dumps({"step": step, "name": name, "value": value}) + "\n")

    def _agreed(self, answer: bool) -> bool:
        """The answer of rank 0, for all processes."""
        return bool(self.fabric.broadcast(answer)) if self.fabric.world_size > 1 else answer

    def _catch_signals(self) -> None:
        """But for those the process was started to ignore, as a shell's background jobs are."""
        if self._handlers or self._stopped or threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True
        self._release_signals()
        print(
            f"{self.kind}: stops after this step and saves it; the same command goes on from there "
            "(again: stops at once)",
            file=sys.stderr,
            flush=True,
        )

    def _release_signals(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        self._handlers = {}

    def log(self, step: int, values: LogItems, *, now: bool = False) -> None:
        """Write `values` for `step` to the JSONL log, TensorBoard and the terminal, every `log_every` steps.

        Args:
            step: steps done.
            values: name -> number or one-element tensor (read only when written, so logging costs no sync).
            now: write whatever the step.
        """
        if not self.fabric.is_global_zero or not (now or step % self.settings.log_every == 0):
            return
        if (step, *values) in self._logged:
            return  # a finished run that is called again measures its last step again
        row = {name: float(v.detach() if isinstance(v, torch.Tensor) else v) for name, v in values.items()}
        self._append({"step": step, "seconds": round(self.seconds, 1), **row})
        if self._board is None:  # hides what was logged from this step on before
            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self._first_step)
        for name, value in row.items():
            self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log_metrics(row, step)
        text = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
        print(
            f"{self.kind} step {step}/{self.settings.steps}  {self._left(step)}  {text}",
            file=sys.stderr,
            flush=True,
        )

    def _left(self, step: int) -> str:
        """Minutes done and an estimate of minutes left."""
        done = self.seconds / 60
        begun, first = self._begun or (self._start, self._first_step)
        # What came before this session's first step (opening data, compiling) says nothing of the next.
        pace = (time.monotonic() - begun) / 60 / max(1, step - first)
        left = pace * (self.settings.steps - step)
        if self.settings.minutes is not None:
            left = min(left, self.settings.minutes - done)
        return f"{done:.1f} min done, {max(0.0, left):.1f} left"

    def warn(self, name: str, message: str) -> None:
        """Print a warning once a run (by `name`) and keep it in the log."""
        if name in self._warned or not self.fabric.is_global_zero:
            return
        self._warned.add(name)
        print(f"warning: {message}", file=sys.stderr, flush=True)
        self._append({"seconds": round(self.seconds, 1), "warning": name, "message": message})

    def _append(self, row: dict[str, object]) -> None:
        try:
            with open(self.folder / LOG, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self.folder / LOG}: {error.strerror or error}") from error

    def grid(self, step: int, pictures: torch.Tensor, columns: int) -> None:
        """Write `samples/<step>.png` from pictures [n, 3, size, size] in [-1, 1], row by row."""
        if not self.fabric.is_global_zero:
            return
        drawn = [images.to_image(picture) for picture in pictures.detach().float().cpu().numpy()]
        path = images.save(images.grid(drawn, columns, gap=0), self.folder / "samples" / f"{step:07d}.png")
        if self._wandb is not None:
            self._wandb.log_picture(str(path), step)

    def close(self) -> None:
        """Flush TensorBoard, end the threads, wait for other processes, leave Ctrl-C and SIGTERM to others.

        Raises:
            KeyboardInterrupt: one of the two came, though it be after the last step.
        """
        self._release_signals()
        for ahead in self._ahead:
            ahead.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finalize("success")
            self._wandb = None
        self.fabric.barrier()
        if self._agreed(self._stopped):
            raise KeyboardInterrupt


def _as_stored(value: Any) -> Any:
    """Settings, or one of them, as they come out of a checkpoint."""
    return json.loads(json.dumps(value, default=dataclasses.asdict))


def _with_later_settings(stored: State, settings: Any) -> State:
    """Stored settings with those that came later at their defaults, which is how they were trained."""
    filled = dict(stored)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in stored:
            if dataclasses.is_dataclass(value) and isinstance(stored[field.name], dict):
                filled[field.name] = _with_later_settings(stored[field.name], value)
        elif field.default is not dataclasses.MISSING:
            filled[field.name] = _as_stored(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            filled[field.name] = _as_stored(field.default_factory())
    return filled


def _copy(checkpoint: Path, to: Path) -> None:
    with writing(to) as temporary:
        try:
            os.link(checkpoint, temporary)  # a checkpoint is replaced and never changed
        except OSError:
            shutil.copyfile(checkpoint, temporary)


def _rows(log: Path) -> Iterator[State]:
    """The rows of a log, without one that a kill broke off."""
    for line in log.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):
            yield json.loads(line)
