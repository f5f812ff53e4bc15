"""Pair arrays: random access to a prepared data set for training, memory-mapped, built beside the shards.

The arrays are named after the content of the shards they come from, and log-mels lie in one array a speech
shard: adding speech builds the new shards' log-mels alone, and an interrupted build goes on where it stopped.
Frames of several front ends may lie side by side; `front_ends.json` says how those of each were computed.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from speech2image.audio.front_ends import PAPER, FrontEnd, stated_front_end
from speech2image.data.listings import JsonObject, parse_json
from speech2image.data.pairs import UNFINISHED, picture_shards, speech_shards, stream_pictures, stream_speech
from speech2image.data.pictures import central_square
from speech2image.data.processes import first_alone, share, wait
from speech2image.data.shards.array_files import allocate_array, create_array, open_array
from speech2image.data.shards.header import Header, read_header
from speech2image.data.shards.plan import ALL, Workers, counted, make_shards
from speech2image.data.shards.rows import LogMels, Rows, frames_of, write_log_mels
from speech2image.errors import DataError
from speech2image.files import writing


@dataclass
class PairArrays(Rows):
    """A prepared data set of N samples and U utterances; make one with `PairArrays.open`.

    Attributes:
        folder: the shards folder; the arrays lie in `folder/arrays`.
        ids: sample names [N].
        labels: class numbers, int64 [N].
        class_names: class number -> name.
        splits: "train", "val" or "test" [N].
        captions: captions of every sample [N].
        utterance_sample: index of the sample spoken of, int64 [U].
        utterance_caption: index of the caption spoken, -1 if unknown, int64 [U].
        utterance_voice: voice names [U].
        workers: processes that build missing arrays.
        front_end: what `log_mel` gives frames of.
        embeddings_file, embeddings_command: where the embeddings of this kind of utterances lie, what makes
            them.
    """

    embeddings_file: ClassVar[str] = "speech_embeddings.npy"
    embeddings_command: ClassVar[str] = "speech2image train embeddings"
    folder: Path
    ids: list[str]
    labels: NDArray[np.int64]
    class_names: dict[int, str]
    splits: NDArray[np.str_]
    captions: list[tuple[str, ...]]
    utterance_sample: NDArray[np.int64]
    utterance_caption: NDArray[np.int64]
    utterance_voice: NDArray[np.str_]
    workers: Workers = 1
    front_end: FrontEnd = PAPER
    _pictures: list[tuple[Path, Header]] = field(default_factory=list, repr=False)
    _speech: list[tuple[Path, Header]] = field(default_factory=list, repr=False)
    _frames: LogMels | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], *, workers: Workers = 1, front_end: FrontEnd = PAPER
    ) -> "PairArrays":
        """Open a shards folder.

        Args:
            folder: what `speech2image prepare` wrote.
            workers: processes that build arrays not yet there.
            front_end: what makes frames of the speech.

        Raises:
            DataError: there are no shards, they are damaged, or speech speaks of a picture that is not there.
        """
        folder = Path(folder)
        if (folder / UNFINISHED).exists():
            raise DataError(f"the preparation of {folder} did not end; run the same prepare command again")
        pictures = [(path, read_header(path, "pictures")) for path in picture_shards(folder)]
        if not pictures:
            raise DataError(
                f"no picture shards (pictures-*.tar) in {folder}; make them with: "
                f"speech2image prepare CORPUS --out {folder}, where CORPUS is one that prepare --help lists"
            )
        speech = [(path, read_header(path, "speech")) for path in speech_shards(folder)]
        rows = [row for _, header in pictures for row in header.rows]
        spoken = [row for _, header in speech for row in header.rows]
        return cls(
            folder=folder,
            ids=[row["id"] for row in rows],
            labels=np.array([row["label"] for row in rows], dtype=np.int64),
            class_names={row["label"]: row["class"] for row in rows},
            splits=np.array([row["split"] for row in rows], dtype=np.str_),
            captions=[tuple(row["captions"]) for row in rows],
            utterance_sample=_sample_indices(rows, spoken),
            utterance_caption=np.array([row["caption"] for row in spoken], dtype=np.int64),
            utterance_voice=np.array([row["voice"] for row in spoken], dtype=np.str_),
            workers=workers,
            front_end=front_end,
            _pictures=pictures,
            _speech=speech,
        )

    @property
    def picture_headers(self) -> list[tuple[Path, Header]]:
        """The picture shards and their headers, in order."""
        return self._pictures

    @property
    def speech_headers(self) -> list[tuple[Path, Header]]:
        """The speech shards and their headers, in order."""
        return self._speech

    def pictures(self, size: int) -> NDArray[np.uint8]:
        """All pictures for training at `size` x `size`: memory-mapped uint8 [N, S, S, 3].

        Each is the central square of its picture, S = `stored_side(size)` pixels wide; training crops
        `size` out of S at random. Built at first use.
        """
        side = stored_side(size)
        path = self._array_path(f"pictures-{side}-{_digest(self._pictures)}")
        with first_alone():  # several machines may not write one file at once
            if not path.exists():
                self._build_pictures(path, side)
        array = open_array(path, np.uint8, 4)
        if array.shape != (shape := (len(self.ids), side, side, 3)):
            raise DataError(f"{path} has shape {array.shape}, must have {shape}; delete it and run again")
        return array

    def _build_pictures(self, path: Path, side: int) -> None:
        sizes = [len(header.rows) for _, header in self._pictures]
        starts = np.cumsum([0, *sizes])
        # All workers fill one temporary file, named when it is whole: an interruption leaves none.
        with writing(path) as temporary:
            allocate_array(temporary, (len(self.ids), side, side, 3), np.uint8, called=path)
            tasks = [
                (shard, temporary, int(start), self.ids[start : start + size])
                for (shard, _), start, size in zip(self._pictures, starts, sizes, strict=False)
            ]
            make_shards(_fill_pictures, tasks, sizes, f"pictures {side} x {side}", self.workers)

    def log_mel(self, u: int) -> NDArray[np.float32]:
        """Frames of utterance `u`, float32 [40, n_frames] of the paper's; all are built at first use."""
        return self._log_mels[u]

    def n_frames(self) -> NDArray[np.int64]:
        """Number of frames of every utterance, int64 [U]."""
        return self._log_mels.n_frames()

    @cached_property
    def _log_mels(self) -> LogMels:
        return LogMels(self.build_log_mels()) if self._frames is None else self._frames

    def with_frames(self, paths: Sequence[Path]) -> "PairArrays":
        """The same data set, whose `log_mel` gives what `write_log_mels` wrote, one file a speech shard."""
        return replace(self, _frames=LogMels(paths))

    def build_log_mels(self, only: slice = ALL) -> list[Path]:
        """Build the arrays of frames of the speech shards that have none yet, in `workers` processes.

        Args:
            only: of these speech shards.

        Returns:
            The files of all of them, in the shards' order.

        Raises:
            DataError: there is no speech, or an utterance cannot be used.
            CheckpointError: the arrays there are of another version of the front end.
        """
        targets = self.speech_arrays(self.front_end.array_name)
        missing = [i for i in range(len(targets))[only] if not targets[i].exists()]
        with first_alone():
            self._check_front_end(new=bool(missing))
        missing = share(missing)
        todo = [(self._speech[i][0], targets[i], self.front_end) for i in missing]
        sizes = [len(self._speech[i][1].rows) for i in missing]
        make_shards(_build_log_mels, todo, sizes, "log-mels", self.workers)
        wait()
        return targets

    def speech_arrays(self, kind: str) -> list[Path]:
        """Where the arrays of this kind lie, one a speech shard, in the shards' order.

        Raises:
            DataError: there is no speech.
        """
        if not self._speech:
            command = f"speech2image prepare ... --out {self.folder}"
            raise DataError(f"no speech in {self.folder}; speak the captions with: {command}")
        return [self._array_path(f"{kind}-{path.stem}-{header.identity}") for path, header in self._speech]

    def _check_front_end(self, new: bool) -> None:
        """Compare how frames are computed with what `arrays/front_ends.json` says; note it for new ones."""
        path = self.folder / "arrays" / "front_ends.json"
        stated = parse_json(path.read_bytes(), str(path)) if path.is_file() else {}
        if not isinstance(stated, dict):
            raise DataError(f"{path} is damaged: it is no JSON object; delete the arrays beside it")
        own = self.front_end.name
        if own in stated:
            stated_front_end(stated[own], str(path))
        if own in stated or not new:
            return
        with writing(path) as temporary:
            text = json.dumps(stated | {own: self.front_end.describe()}, indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")

    @property
    def teacher(self) -> NDArray[np.float16]:
        """Teacher features of every sample's crops: memory-mapped float16 [N, n_crops, 1024].

        Raises:
            DataError: they are not made yet, or belong to another set of pictures.
        """
        return self._load("teacher.npy", (len(self.ids), 3), "speech2image prepare teacher")

    def save_teacher(self, features: NDArray[np.float16]) -> None:
        """Store teacher features [N, n_crops, 1024] as float16."""
        self._save("teacher.npy", features, len(self.ids))

    @property
    def embeddings(self) -> NDArray[np.float16]:
        """Speech embedding of every utterance: memory-mapped float16 [U, 1024].

        Raises:
            DataError: they are not made yet, speech was added since, or there is none.
        """
        if not len(self.utterance_sample):
            raise DataError(
                f"no speech in {self.folder}, and no caption, that pictures could be drawn from; prepare it "
                "with captions, or let the teacher's features describe all pictures (--speech-fraction 0)"
            )
        return self._load(self.embeddings_file, (len(self.utterance_sample), 2), self.embeddings_command)

    def save_embeddings(self, embeddings: NDArray[Any], space: str = "") -> Path:
        """Store an embedding of every utterance, [U, size], as float16; returns the file.

        Args:
            embeddings: of the utterances, in their order.
            space: digest of the encoder that made them (`embedding_space`); "" where it is not known.
        """
        note = self.folder / "arrays" / self.embeddings_note
        note.unlink(missing_ok=True)
        path = self._save(self.embeddings_file, embeddings, len(self.utterance_sample))
        if space:
            with writing(note) as temporary:
                temporary.write_text(json.dumps({"space": space}) + "\n", encoding="utf-8")
        return path

    @property
    def embeddings_note(self) -> str:
        """The file beside the embeddings that names their space."""
        return Path(self.embeddings_file).with_suffix(".json").name

    @property
    def embedding_space(self) -> str:
        """The space of the embeddings, the digest of the encoder that made them; "" for those of before it
        was noted.

        Raises:
            DataError: the note is damaged.
        """
        path = self.folder / "arrays" / self.embeddings_note
        if not path.is_file():
            return ""
        stated = parse_json(path.read_bytes(), str(path))
        space = stated.get("space") if isinstance(stated, dict) else None
        if not isinstance(space, str):
            raise DataError(f"{path} is damaged: it names no space; run again: {self.embeddings_command}")
        return space

    def _save(self, name: str, array: NDArray[Any], rows: int) -> Path:
        if len(array) != rows:
            raise DataError(f"{name} must have {rows} rows, one each; got {len(array)}")
        path = self.folder / "arrays" / name
        create_array(path, array.shape, np.float16, array)
        return path

    def _load(self, name: str, rows_and_axes: tuple[int, int], command: str) -> NDArray[Any]:
        path, (rows, axes) = self.folder / "arrays" / name, rows_and_axes
        if not path.exists():
            raise DataError(f"{path} is missing; make it with: {command} --data {self.folder}")
        advice = f"delete it and make it again with: {command} --data {self.folder}"
        array = open_array(path, np.float16, axes, advice=advice)
        if len(array) != rows:
            raise DataError(
                f"{path} has {len(array)} rows but the data set {rows}: it was made before the data changed; "
                f"make it again with: {command} --data {self.folder}"
            )
        return array

    def _array_path(self, stem: str) -> Path:
        return self.folder / "arrays" / f"{stem}.npy"


def stored_side(size: int) -> int:
    """Side of the squares that training crops pictures of `size` x `size` from: 304 for 256 (the paper's)."""
    return round(size * 304 / 256)


def _sample_indices(rows: Sequence[JsonObject], spoken: Sequence[JsonObject]) -> NDArray[np.int64]:
    index = {row["id"]: i for i, row in enumerate(rows)}
    if len(index) != len(rows):
        raise DataError("two samples have the same id; prepare the data set again in an empty folder")
    lost = next((row["id"] for row in spoken if row["id"] not in index), None)
    if lost is not None:
        raise DataError(
            f"speech shards speak of {lost}, which no picture shard holds; prepare the pictures in full"
        )
    for row in spoken:
        if row["caption"] >= len(rows[index[row["id"]]]["captions"]):
            raise DataError(
                f"speech shards speak of caption {row['caption']} of {row['id']}, which has fewer; "
                "prepare the pictures in full"
            )
    return np.array([index[row["id"]] for row in spoken], dtype=np.int64)


def _digest(shards: Sequence[tuple[Path, Header]]) -> str:
    text = "\n".join(f"{path.name} {header.identity} {len(header.rows)}" for path, header in shards)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _fill_pictures(task: tuple[Path, Path, int, list[str]]) -> None:
    """Central squares of a shard's pictures -> their rows, the first of them given, of an array on disk."""
    shard, target, first, ids = task
    out = open_array(target, np.uint8, 4, mode="r+")
    rows = {name: i for i, name in enumerate(ids, first)}
    for sample in counted(stream_pictures([shard])):
        if sample.id not in rows:
            raise DataError(f"{shard} changed since it was opened: {sample.id} is new; start again")
        out[rows.pop(sample.id)] = central_square(sample.image, out.shape[1], sample.id)
    if rows:
        raise DataError(f"{shard} changed since it was opened: {next(iter(rows))} is gone; start again")
    cast(np.memmap, out).flush()


def _build_log_mels(task: tuple[Path, Path, FrontEnd]) -> None:
    """Speech shard -> its frames."""
    shard, target, front_end = task
    spoken = stream_speech([shard])
    log_mels = [
        frames_of(s.utterance.audio, f"{shard.name}: an utterance of {s.sample}", front_end)
        for s in counted(spoken)
    ]
    write_log_mels(target, log_mels)
