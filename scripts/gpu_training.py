"""The stages of a training on a GPU: how long each may take, how fast it is fed, what travels back."""

import argparse
import ast
import dataclasses
import io
import json
import os
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpu_checkpoints
import gpu_data
import numpy as np
import torch
from gpu_speed import quick_fabric, reading_ahead
from PIL import Image

from speech2image.data.arrays import PairArrays
from speech2image.data.joined import TrainingArrays, open_arrays, parts_of
from speech2image.errors import DataError, SettingsError
from speech2image.models.image_teacher import GoogLeNet, load_teacher
from speech2image.models.one_stage_gan import GeneratorSettings, HeadSettings
from speech2image.training import one_stage_gan, speech_encoder
from speech2image.training.checkpoint import load_checkpoint
from speech2image.training.speech_embeddings import embed, load_speech_encoder

MINUTES = {"speech": 4.0, "gan64": 2.5, "gan128": 5.0, "gan256": 9.0}
"""Default budgets: with six parts to bring over, about half an hour in all."""
CHANNELS = (256, 256, 224, 128, 64, 32, 16)
"""Of maps of side 4, 8, ... 256: the CPU recipe's, so that either goes on from the other's weights."""
FEATURE_SIZES = {64: 96, 128: 128, 256: 160}
RESERVE = 25.0
"""Seconds kept at the end of a call for the last checkpoint and its parts."""
MOST_FILES, MOST_BYTES = 8, 64_000_000
"""What may be in OUT."""
SHEETS = 3
"""Newest sample sheets of each stage that go into the reports."""

Settings = Any
"""`speech_encoder.Settings` or `one_stage_gan.Settings`."""


def train(options: argparse.Namespace, deadline: float) -> None:
    """All stages in turn until the call's time is up; what travels back is written after each.

    Args:
        options: the command line's, see `train_on_gpu`.
        deadline: when the call must have ended, as `time.monotonic` tells it.

    Raises:
        DataError: parts of the pack are missing; else as the trainers say.
    """
    for folder in options.data:
        _check_complete(folder)
    torch.set_float32_matmul_precision("high")
    end = deadline - RESERVE
    plan = Plan(options)
    arrays = open_arrays(options.data, workers=os.cpu_count() or 1)
    touched: list[str] = []
    for stage in options.stages:
        left = end - time.monotonic()
        if plan.finished(stage):
            continue
        if left < 10:
            break
        print(f"stage {stage}, {left / 60:.1f} minutes left in this call", file=sys.stderr, flush=True)
        if stage == "teacher":
            for part in parts_of(arrays):
                _teacher_features(part, plan)
        elif stage == "embeddings":
            for part in parts_of(arrays):
                _embeddings(part, plan)
        else:
            touched.append(stage)
            try:
                plan.train(stage, arrays, left / 60)
            finally:  # what an earlier checkpoint holds travels even if the training broke off
                if plan.checkpoint(stage).exists():
                    ship(plan, touched)
        if not plan.finished(stage):
            break
    todo = [stage for stage in options.stages if not plan.finished(stage)]
    print(f"to do: {', '.join(todo)}; run again to go on" if todo else "all stages done")


def _check_complete(data: Path) -> None:
    """A folder that unpack filled must hold all parts."""
    missing = gpu_data.missing(data) if (data / gpu_data.MANIFEST).exists() else []
    if missing:
        raise DataError(f"{data} lacks {', '.join(missing)}; unpack them first")


class Plan:
    """What each stage is trained with, and how far it is."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        packs = [folder for folder in options.data if (folder / gpu_data.MANIFEST).exists()]
        self.manifests = [gpu_data.read_manifest(folder) for folder in packs]
        self.minutes = {**MINUTES, **{k: float(v) for k, v in map(_assignment, options.minutes)}}
        self.changes: dict[str, dict[str, Any]] = {stage: {} for stage in MINUTES}
        for name, value in map(_assignment, options.set):
            stage, _, key = name.partition(".")
            stages = [s for s in MINUTES if s == stage or (stage == "gan" and s.startswith("gan"))]
            if not stages or not key:
                raise SettingsError(
                    f"--set takes STAGE.NAME=VALUE, STAGE one of {', '.join(MINUTES)}; got {name}"
                )
            for each in stages:
                self.changes[each][key] = _literal(value)

    def checkpoint(self, stage: str) -> Path:
        """The checkpoint a training stage writes."""
        path: Path = self.options.runs / stage / "checkpoint.safetensors"
        return path

    def settings(self, stage: str) -> Settings:
        """The stage's settings before its length is known."""
        if stage == "speech":
            settings: Settings = speech_encoder.PRESETS["cpu"]
        else:
            size = int(stage.removeprefix("gan"))
            sides = [4 * 2**i for i in range(len(CHANNELS))]
            generator = GeneratorSettings(size, channels=CHANNELS[: sides.index(size) + 1])
            preset = one_stage_gan.PRESETS["gpu"]
            settings = replace(
                preset,
                generator=generator,
                heads=HeadSettings(details=size == 256),
                detail_share=1 / 3 if size == 256 else 0.0,
                feature_size=FEATURE_SIZES[size],
                steps=10**6,
                checkpoint_minutes=2.0,
            )
        for key, value in self.changes[stage].items():
            settings = _replaced(settings, key.split("."), value)
        return settings

    def done(self, stage: str) -> tuple[int, float]:
        """Steps and minutes trained so far."""
        if not self.checkpoint(stage).exists():
            return 0, 0.0
        state = load_checkpoint(self.checkpoint(stage))
        return int(state["step"]), float(state["seconds"]) / 60

    def finished(self, stage: str) -> bool:
        """Whether nothing is left to do."""
        folders = [folder / "arrays" for folder in self.options.data]
        if stage == "teacher":
            return all((folder / "teacher.npy").exists() for folder in folders)
        if stage == "embeddings":
            stored = [folder / "speech_embeddings.npy" for folder in folders]
            return all(_newer(path, self.checkpoint("speech")) for path in stored)
        if stage == "speech" and any(told.get("speech") == "embeddings" for told in self.manifests):
            return True
        step, minutes = self.done(stage)
        steps = self._planned_steps(stage) or self.settings(stage).steps
        if stage == "speech":
            planned = self._planned_steps(stage) is not None or "steps" in self.changes[stage]
            return planned and step >= steps
        return step >= steps or minutes >= self.minutes[stage] - 0.02

    def train(self, stage: str, arrays: TrainingArrays, left: float) -> None:
        """Train the stage for at most `left` minutes, with what it has left of its own."""
        torch.backends.cudnn.benchmark = stage != "speech"  # speech comes in all lengths
        if stage == "speech":
            self._train_speech(arrays, left)
            return
        _, done = self.done(stage)
        settings = replace(self.settings(stage), minutes=min(self.minutes[stage], done + left))
        teacher = _teacher(self.options)
        if self.options.compile:
            teacher.stages = torch.compile(teacher.stages)  # type: ignore[method-assign]
        fabric = quick_fabric(settings.precision, settings.seed, self.options.compile)
        folder = self.options.runs / stage
        with reading_ahead(one_stage_gan, "picture_batches", self.options.workers):
            one_stage_gan.train(settings, arrays, teacher, folder, self._start(stage), fabric)

    def _train_speech(self, arrays: TrainingArrays, left: float) -> None:
        """The learning rate falls until the last step, so the steps that fit are found out on the warm-up."""
        settings, folder = self.settings("speech"), self.options.runs / "speech"
        _, done = self.done("speech")
        with reading_ahead(speech_encoder, "training_batches", self.options.workers):
            if "steps" not in self.changes["speech"]:
                steps = self._planned_steps("speech")
                if steps is None:
                    start = time.monotonic()
                    speech_encoder.train(replace(settings, steps=settings.warm_up), arrays, folder)
                    steps = self._plan_steps("speech", settings.warm_up)
                    left -= (time.monotonic() - start) / 60
                    done = self.done("speech")[1]
                settings = replace(settings, steps=steps)
            speech_encoder.train(replace(settings, minutes=done + max(0.0, left)), arrays, folder)

    def _plan_steps(self, stage: str, done: int) -> int:
        """Steps that the stage's minutes allow, by the pace of the later half of the first `done`."""
        rows = [
            json.loads(line) for line in (self.options.runs / stage / "log.jsonl").read_text().splitlines()
        ]
        times = {row["step"]: row["seconds"] for row in rows if "loss" in row}
        late = [step for step in times if step >= done // 2]
        pace = (times[max(late)] - times[min(late)]) / max(1, max(late) - min(late))
        left = 60 * self.minutes[stage] - times[max(late)]
        steps = done + max(0, int(0.9 * left / max(pace, 1e-4)))  # a tenth for evaluations and checkpoints
        (self.options.runs / stage / "plan.json").write_text(json.dumps({"steps": steps}))
        return steps

    def _planned_steps(self, stage: str) -> int | None:
        path = self.options.runs / stage / "plan.json"
        return int(json.loads(path.read_text())["steps"]) if path.exists() else None

    def _start(self, stage: str) -> Path | None:
        """The generator before this one, if it was trained here; else what the command line names."""
        stages = list(MINUTES)
        earlier = [self.checkpoint(s) for s in stages[: stages.index(stage)] if s.startswith("gan")]
        return next((path for path in reversed(earlier) if path.exists()), self.options.start_from)


def _teacher(options: argparse.Namespace) -> GoogLeNet:
    packed = [folder / gpu_data.TEACHER_WEIGHTS for folder in options.data]
    path = options.teacher or next((path for path in packed if path.exists()), packed[0])
    return load_teacher(path).to("cuda" if torch.cuda.is_available() else "cpu")


def _teacher_features(arrays: PairArrays, plan: Plan) -> None:
    from speech2image.data.features import cache_teacher_features

    cache_teacher_features(arrays, _teacher(plan.options), crops=2, crops_at_once=64)


def _embeddings(arrays: PairArrays, plan: Plan) -> None:
    """Embeddings of all utterances by the trained encoder."""
    encoder = load_speech_encoder(plan.checkpoint("speech"))
    encoder = encoder.to("cuda" if torch.cuda.is_available() else "cpu")
    utterances = np.arange(len(arrays.utterance_sample))
    arrays.save_speech_embeddings(embed(encoder, arrays, utterances, batch_size=256).astype(np.float16))


def ship(plan: Plan, touched: Sequence[str]) -> None:
    """Write reports and checkpoint parts, most wanted first, as many as may travel."""
    out: Path = plan.options.out
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.part"):
        old.unlink()
    reports = _reports(plan, out / "reports.zip")
    files, used = 1, reports.stat().st_size
    for stage, piece in _wanted(touched):
        parts = gpu_checkpoints.split(plan.checkpoint(stage), out, stage, pieces=[piece])
        size = gpu_data.total_bytes(parts)
        if files + len(parts) > MOST_FILES or used + size > MOST_BYTES:
            for part in parts:
                part.unlink()
            print(f"{stage}.{piece} ({size / 1e6:.1f} MB) stays behind: no room in {out}", file=sys.stderr)
            continue
        files, used = files + len(parts), used + size
    print(f"{out}: {files} files, {used / 1e6:.1f} MB", file=sys.stderr, flush=True)


def _wanted(touched: Sequence[str]) -> list[tuple[str, str]]:
    """Stages and pieces, most wanted first: a model to export, the newest training, older generators."""
    newest, older = touched[-1], list(reversed(touched[:-1]))
    exported = [(stage, "average") for stage in [newest, *older] if stage in (newest, "speech")]
    going_on = [(newest, "weights"), (newest, "moments")]
    return exported + going_on + [(stage, "average") for stage in older if stage != "speech"]


def _reports(plan: Plan, path: Path) -> Path:
    """Logs, newest sample sheets, and how far each stage is."""
    facts: dict[str, Any] = {"torch": torch.__version__, "cpus": os.cpu_count()}
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
        facts["peak_gigabytes"] = torch.cuda.max_memory_allocated() / 1e9
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for stage in MINUTES:
            folder = plan.options.runs / stage
            if not plan.checkpoint(stage).exists():
                continue
            step, minutes = plan.done(stage)
            facts[stage] = {"steps": step, "minutes": round(minutes, 2)}
            if (folder / "log.jsonl").exists():
                archive.write(folder / "log.jsonl", f"{stage}/log.jsonl")
            for sheet in sorted((folder / "samples").glob("*.png"))[-SHEETS:]:
                archive.writestr(f"{stage}/{sheet.stem}.webp", _as_webp(sheet))
        archive.writestr("report.json", json.dumps(facts, indent=1))
    return path


def _as_webp(sheet: Path) -> bytes:
    """A sample sheet at a tenth of its size."""
    out = io.BytesIO()
    Image.open(sheet).save(out, "WEBP", quality=90)
    return out.getvalue()


def _newer(path: Path, source: Path) -> bool:
    """Whether `path` is there and was not made before `source`, if that is there."""
    return path.exists() and (not source.exists() or path.stat().st_mtime >= source.stat().st_mtime)


def _assignment(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise SettingsError(f"expected NAME=VALUE, got {text}")
    return name, value


def _literal(text: str) -> Any:
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _replaced(settings: Any, path: Sequence[str], value: Any) -> Any:
    """A frozen dataclass with one field, maybe of a field, changed."""
    name, *rest = path
    if not dataclasses.is_dataclass(settings) or name not in {f.name for f in dataclasses.fields(settings)}:
        raise SettingsError(f"there is no setting {name}; see the trainer's Settings")
    return replace(settings, **{name: _replaced(getattr(settings, name), rest, value) if rest else value})  # type: ignore[type-var]
