"""States of a frozen backbone for every utterance, computed once and cached beside the shards.

A head that is trained on them alone takes a small part of the time. They lie in one array a speech shard, as
the frames they are computed from do (`log_mels.py`), named after the backbone's weights: adding speech
computes the new shards' states alone, and an interrupted call goes on with the shard where it stopped.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from speech2image.data.log_mels import LogMels, write_log_mels
from speech2image.data.progress import progress_bar
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.recordings import Recordings
from speech2image.data.training_sets import JoinedArrays, TrainingArrays, parts_of
from speech2image.errors import DataError
from speech2image.models.bfloat16 import multiplies_bfloat16
from speech2image.models.pretrained_speech_encoder import PretrainedSpeechEncoder

UTTERANCES_AT_ONCE = 16


def with_states(arrays: TrainingArrays, encoder: PretrainedSpeechEncoder) -> TrainingArrays:
    """The same data sets, whose `log_mel` gives the backbone's states, float32 [width, steps of 40 ms].

    Args:
        arrays: opened with the encoder's front end.
        encoder: its backbone, on the device that shall do the work, counts alone.

    Raises:
        DataError: there is no speech, or an utterance cannot be used.
        OutputError: a folder cannot be written.
    """
    parts = [_part_with_states(part, encoder) for part in parts_of(arrays)]
    return parts[0] if len(parts) == 1 else JoinedArrays(parts)


def recordings_with_states(recordings: Recordings, encoder: PretrainedSpeechEncoder) -> Recordings:
    """The same recordings, whose `log_mel` gives the backbone's states, as `with_states` does.

    Raises:
        DataError: they were prepared with another front end than the encoder's.
        OutputError: their folder cannot be written.
    """
    if recordings.front_end != encoder.front_end:
        wanted = encoder.front_end.name
        raise DataError(
            f"the recordings in {recordings.folder} are frames of {recordings.front_end.name}, this encoder "
            f"takes {wanted}; make them with: speech2image prepare recordings --front-end {wanted}"
        )
    digest = weights_digest(encoder.backbone)
    targets = [path.with_name(f"states-{digest}-{path.name}") for path in recordings.paths]
    _build(recordings.folder.name, recordings.paths, targets, encoder)
    return recordings.with_frames(targets)


def with_cached_states(arrays: PairArrays, encoder: PretrainedSpeechEncoder) -> PairArrays | None:
    """`with_states` of one data set where all its states have been computed; else None."""
    targets = _targets(arrays, encoder)
    return arrays.with_frames(targets) if all(target.exists() for target in targets) else None


def _part_with_states(arrays: PairArrays, encoder: PretrainedSpeechEncoder) -> PairArrays:
    targets = _targets(arrays, encoder)
    _build(arrays.folder.name, arrays.build_log_mels(), targets, encoder)
    return arrays.with_frames(targets)


def _targets(arrays: PairArrays, encoder: PretrainedSpeechEncoder) -> list[Path]:
    """Where the states of a data set lie, one array a speech shard."""
    return arrays.speech_arrays(f"states-{weights_digest(encoder.backbone)}")


def _build(name: str, frames: list[Path], targets: list[Path], encoder: PretrainedSpeechEncoder) -> None:
    """States of the arrays of frames whose targets are not there yet."""
    missing = [(LogMels([f]), t) for f, t in zip(frames, targets, strict=True) if not t.exists()]
    if not missing:
        return
    training = encoder.training
    encoder.eval()
    with progress_bar() as progress:
        bar = progress.add_task(f"{name}: states", total=sum(len(shard) for shard, _ in missing))
        for shard, target in missing:
            write_log_mels(target, _shard_states(shard, encoder, lambda n: progress.advance(bar, n)))
    encoder.train(training)  # or its head would be trained without dropout by the call that computes states


def _shard_states(
    shard: LogMels, encoder: PretrainedSpeechEncoder, done: Callable[[int], None]
) -> list[NDArray[np.float16]]:
    """States of all utterances of a shard, each [steps, width]; clips of one length go together."""
    width = encoder.settings.backbone.width
    states = [np.zeros((0, width), np.float16)] * len(shard)  # what was left out as bad has no frames
    order = np.argsort(shard.n_frames(), kind="stable")
    order = order[shard.n_frames()[order] > 0]
    for rows in np.split(order, range(UTTERANCES_AT_ONCE, len(order), UTTERANCES_AT_ONCE)):
        for row, found in zip(rows, _states(shard, rows, encoder), strict=True):
            states[row] = found
        done(len(rows))
    return states


@torch.inference_mode()
def _states(
    shard: LogMels, rows: NDArray[np.int64], encoder: PretrainedSpeechEncoder
) -> list[NDArray[np.float16]]:
    """States of some utterances, each [steps, width]; in bfloat16 where that is faster, which keeps their
    direction to a cosine of 0.9999."""
    clips = [torch.from_numpy(shard[int(row)].T) for row in rows]
    device = next(encoder.parameters()).device
    n_frames = torch.tensor([len(clip) for clip in clips], device=device)
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True).transpose(1, 2).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=multiplies_bfloat16(device.type)):
        states, n_steps = encoder.states(batch, n_frames)
    halved = states.transpose(1, 2).half().cpu().numpy()
    return [one[: int(n)] for one, n in zip(halved, n_steps, strict=True)]


def weights_digest(network: torch.nn.Module) -> str:
    """What a network's weights are told apart by, 12 hexadecimal digits.

    A weight of -0.0 counts as 0.0, which averaging makes of it.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        values = tensor.detach().float().cpu().contiguous().numpy() + np.float32(0)
        digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()[:12]
