"""Training of a speech encoder on Whisper's pretrained encoder: first its head, then the whole network.

Presets: `head` trains the head alone, on the frozen backbone's states, which are computed once and cached
beside the shards (`data/features.py`); `tune` goes on from such a training (`--start-from`) and trains
the whole network on augmented speech, its words head too if it has one, but not a domain head (train that
last, or again: `train domain-head`); `teacher-student` is `head` with the paper's loss; `toy` is for tests.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from speech2image.asr.text import BLANK, END, Vocabulary
from speech2image.data.augment.log_mel import LogMelAugmentation
from speech2image.data.features import with_states
from speech2image.data.shards.recordings import JoinedSpeech, Recordings, SpokenCaptions, TranscribedSpeech
from speech2image.data.training_sets import TrainingArrays
from speech2image.errors import SettingsError
from speech2image.losses.distillation import (
    ContrastiveWeights,
    TeacherStudentWeights,
    start_temperature,
)
from speech2image.losses.transcription import ctc_loss
from speech2image.models.pretrained_speech_encoder import (
    PoolingHeadSettings,
    PretrainedEncoderSettings,
    PretrainedSpeechEncoder,
    mean_of_pairs,
    with_new_head,
)
from speech2image.models.whisper import load_backbone
from speech2image.models.whisper_decoder import load_decoder
from speech2image.pipeline.registry import DECODER_PIECES, DOMAIN_ERRORS, PIECES
from speech2image.training.core.checkpoint import State
from speech2image.training.core.learner import Learner
from speech2image.training.core.networks import SPEECH_ENCODER, load_pretrained, stated_facts
from speech2image.training.core.run import Run, RunSettings, belonging, make_fabric
from speech2image.training.core.schedules import cosine_rate
from speech2image.training.core.speech_batches import (
    SpeechBatch,
    SpeechBatches,
    TranscribedBatch,
    TranscribedBatches,
    mean_teacher_feature,
)
from speech2image.training.recipes.speech_embeddings import log_retrieval
from speech2image.training.recipes.speech_encoder import (
    Transcription,
    distillation_loss,
    favoured,
    training_recordings,
)


@dataclass(frozen=True)
class PretrainedEncoderTraining(RunSettings):
    """Everything that decides a training.

    Attributes:
        encoder: its shape; the backbone's is taken from the weights.
        tuned_layers: so many of the backbone's last layers are trained along; 0 freezes it, as many as it
            has trains its convolutions, too.
        backbone_rate: learning rate of the backbone, as a share of the head's.
        loss: InfoNCE, or the paper's teacher-student loss, with their weights.
        utterances_a_picture: so many utterances of one picture come together, if it has them.
        transcription: of the words head, trained along with the backbone where the encoder has one.
        augmentation: changes to the training speech when the backbone is trained; None for none.
        augmentation_ramp: steps over which the augmentation grows to its full strength.
        held_out_voices: voices kept out of training, to test on.
        favoured_voices: names or patterns ("reader/*") of voices drawn `favour` times as often as others.
        favour: see there.
        steps: optimiser steps; the learning rate falls along a half cosine until the last.
        batch_size: utterances a step and process.
        learning_rate: Adam's for the head, after the warm-up.
        final_rate: share of it left at the last step; 1 keeps it constant.
        warm_up: steps over which it rises from 0.
        weight_decay: AdamW's.
        clip: largest norm of the gradient.
        ema_decay: of the averaged weights that are evaluated and shipped; 0 follows the live ones.
        evaluation_utterances: spoken test captions whose retrieval is logged at every checkpoint.
    """

    encoder: PretrainedEncoderSettings = field(default_factory=PretrainedEncoderSettings)
    tuned_layers: int = 0
    backbone_rate: float = 0.1
    loss: ContrastiveWeights | TeacherStudentWeights = field(
        default_factory=lambda: ContrastiveWeights(same_class=0.3, several_positives=True)
    )
    utterances_a_picture: int = 2
    transcription: Transcription = field(default_factory=Transcription)
    augmentation: LogMelAugmentation | None = None
    augmentation_ramp: int = 0
    held_out_voices: tuple[str, ...] = ()
    favoured_voices: tuple[str, ...] = ()
    favour: int = 4
    steps: int = 6_000
    batch_size: int = 128
    learning_rate: float = 1e-3
    final_rate: float = 0.02
    warm_up: int = 100
    weight_decay: float = 0.01
    clip: float = 5.0
    ema_decay: float = 0.998
    evaluation_utterances: int = 500
    checkpoint_minutes: float = 5.0


PRESETS = {
    "head": PretrainedEncoderTraining(),
    "tune": PretrainedEncoderTraining(
        tuned_layers=4,
        augmentation=LogMelAugmentation(vocal_tract=0.08),
        augmentation_ramp=300,
        batch_size=32,
        learning_rate=3e-4,
    ),
    "teacher-student": PretrainedEncoderTraining(loss=TeacherStudentWeights()),
    "toy": PretrainedEncoderTraining(
        encoder=PretrainedEncoderSettings(head=PoolingHeadSettings(width=32, heads=2)),
        loss=ContrastiveWeights(extra_pictures=0, several_positives=True),
        steps=100,
        batch_size=32,
        learning_rate=3e-3,
        warm_up=10,
        ema_decay=0.95,
        evaluation_utterances=100,
    ),
}


def in_other_pieces(batch: TranscribedBatch, pieces: Vocabulary, other: Vocabulary) -> Tensor:
    """The sentences of a batch in the decoder's pieces, each with END behind it, padded with -1."""
    rows = [
        [*other.encode(f" {pieces.text(row[:n])}"), END]
        for row, n in zip(batch.tokens.tolist(), batch.n_tokens.tolist(), strict=True)
    ]
    tokens = torch.full((len(rows), max(map(len, rows))), -1)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
    return tokens


class Distillation(nn.Module):
    """The encoder with its loss, so that all trained parameters (the temperature too) are in one module.

    Args:
        encoder: to train.
        loss: which, with its weights.
        frozen: batches hold the backbone's states, not frames.
        transcription_weight: of the losses of the words head (CTC) and of the decoder (cross entropy).
        pieces: of text, the words head's and the decoder's.
    """

    def __init__(
        self,
        encoder: PretrainedSpeechEncoder,
        loss: ContrastiveWeights | TeacherStudentWeights,
        frozen: bool,
        transcription_weight: float = 0.0,
        pieces: tuple[Vocabulary, Vocabulary] = (Vocabulary(()), Vocabulary(())),
    ) -> None:
        super().__init__()
        self.pieces = pieces
        self.encoder, self.loss, self.frozen = encoder, loss, frozen
        self.transcription_weight = transcription_weight
        self.log_temperature = start_temperature(loss)

    def forward(
        self, batch: SpeechBatch, transcribed: TranscribedBatch | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch and its items for the log."""
        loss, items = self._distil(batch)
        if transcribed is None:
            return loss, items
        assert self.encoder.words is not None
        all_states, n_all = self.encoder.frame_states(transcribed.log_mel, transcribed.n_frames)
        states, n_steps = mean_of_pairs(all_states, n_all)
        written = self.encoder.words(states, n_steps)
        with torch.autocast(written.device.type, enabled=False):
            ctc = ctc_loss(written.float(), n_steps, transcribed.tokens, transcribed.n_tokens)
        items = {**items, "ctc": ctc.detach()}
        if self.encoder.decoder is not None:
            decoder = self.encoder.decoder
            tokens = in_other_pieces(transcribed, *self.pieces).to(all_states.device)
            first = torch.tensor([BLANK, END], device=tokens.device).expand(len(tokens), 2)
            read = torch.cat([first, tokens[:, :-1].clamp(min=0)], dim=1)
            following = decoder(read, decoder.start(all_states), n_all)[0][:, 1:]
            entropy = nn.functional.nll_loss(following.flatten(0, 1), tokens.flatten(), ignore_index=-1)
            items, ctc = {**items, "decoder": entropy.detach()}, ctc + entropy
        return loss + self.transcription_weight * ctc, items

    def _distil(self, batch: SpeechBatch) -> tuple[Tensor, dict[str, Tensor]]:
        network = self.encoder.head if self.frozen else self.encoder
        speech = network(batch.log_mel, batch.n_frames)
        return distillation_loss(speech, batch, self.loss, self.encoder.teacher_mean, self.log_temperature)


def train(
    settings: PretrainedEncoderTraining,
    arrays: TrainingArrays,
    folder: str | os.PathLike[str],
    backbone: str | os.PathLike[str] | None = None,
    start_from: str | os.PathLike[str] | None = None,
    recordings: Sequence[Recordings] = (),
    decoder: str | os.PathLike[str] | None = None,
    fabric: Fabric | None = None,
) -> Path:
    """Trains, or goes on with the training in `folder` as if it had never stopped.

    Args:
        settings: see PretrainedEncoderTraining and PRESETS.
        arrays: the prepared data set, opened with `PretrainedSpeechEncoder.front_end`; the teacher's features
            must be there.
        folder: takes the checkpoint and the log.
        backbone: Whisper's published weights (`whisper.load_backbone`).
        start_from: checkpoint of another training of such an encoder, in place of `backbone`.
        recordings: transcribed recordings of people, of that front end, for the words head.
        decoder: Whisper's published weights, whose decoder is trained along to write down the words; None
            keeps the one that `start_from` has, if any.
        fabric: devices and precision; made from the settings if absent.

    Returns:
        The checkpoint (kind `speech_encoder`; read it with `core.networks.load_speech_encoder`).

    Raises:
        SettingsError: neither or both of `backbone` and `start_from` are given.
        CheckpointError: what is given is damaged or something else.
    """
    fabric = fabric or make_fabric(settings.precision, settings.seed)
    encoder, facts = starting_encoder(settings, backbone, start_from)
    stored = Path(folder) / "checkpoint.safetensors"
    resumed = decoder is not None and stored.exists()
    shape = load_pretrained(stored).settings.decoder if resumed else None
    if shape is not None:  # keep the stored pieces: the words of speech added since may be others
        encoder = with_new_head(encoder, decoder=shape).train()
        facts[DECODER_PIECES] = stated_facts(stored)[DECODER_PIECES]
    elif decoder is not None:
        captions = SpokenCaptions(arrays, favoured(settings, arrays))
        sources: list[TranscribedSpeech] = [captions, *recordings]
        texts = [text for source in sources for text in source.texts]
        encoder, facts[DECODER_PIECES] = with_decoder(encoder, decoder, texts)
    settings = replace(settings, encoder=encoder.settings)
    run = Run(folder, SPEECH_ENCODER, settings, fabric, belonging(arrays))
    freeze(encoder, settings.tuned_layers)
    frozen = settings.tuned_layers == 0
    if not frozen:
        facts.pop(DOMAIN_ERRORS, None)  # measured on states that this training changes
    # The frozen backbone's states never change: computed once, an epoch costs the head alone.
    if frozen:
        arrays = with_states(arrays, encoder.to(fabric.device))
    mean = torch.from_numpy(mean_teacher_feature(arrays)).to(encoder.teacher_mean)
    if start_from is None:
        encoder.head.set_teacher_mean(mean)
    encoder.teacher_mean.copy_(mean)
    transcribed = None
    if encoder.words is not None and not frozen and settings.transcription.weight:
        vocabulary = Vocabulary(tuple(facts["pieces"]))
        transcribed = transcribed_batches(settings, arrays, recordings, vocabulary, fabric)
    pieces = Vocabulary(tuple(facts.get(PIECES, ()))), Vocabulary(tuple(facts.get(DECODER_PIECES, ())))
    distillation = Distillation(encoder, settings.loss, frozen, settings.transcription.weight, pieces)
    learner = Learner(distillation, encoder, optimizer(distillation, settings), settings.ema_decay)
    batches = training_batches(settings, arrays, fabric)
    step = learner.begin(fabric, run.restore())

    next_batch = run.read_ahead(batches)
    next_words = run.read_ahead(transcribed) if transcribed is not None else None

    def loss_of(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        other = next_words(step).to(fabric.device) if next_words is not None else None
        loss, items = learner(next_batch(step).to(fabric.device), other)
        return loss, items

    def save(step: int) -> None:
        run.save({"step": step, **facts, **learner.state_dict()})
        averaged = learner.ema.module
        assert isinstance(averaged, PretrainedSpeechEncoder)
        log_retrieval(run, step, averaged.head if frozen else averaged, arrays, settings)

    return learner.fit(run, step, loss_of, partial(cosine_rate, settings), settings.clip, save)


def starting_encoder(
    settings: PretrainedEncoderTraining,
    backbone: str | os.PathLike[str] | None,
    start_from: str | os.PathLike[str] | None,
) -> tuple[PretrainedSpeechEncoder, State]:
    """The encoder before the first step, in training mode, and the facts that its checkpoints state: the
    published weights it began with, and the text pieces of its words head, if any.

    Raises:
        SettingsError, CheckpointError: as `train`.
    """
    if (backbone is None) == (start_from is None):
        raise SettingsError(
            "give either the backbone's weights (--backbone: model.safetensors of openai/whisper-tiny.en, or "
            "a faster-whisper folder) or a checkpoint to start from (--start-from)"
        )
    if start_from is not None:
        return load_pretrained(start_from).train(), stated_facts(start_from)
    assert backbone is not None
    whisper = load_backbone(backbone)
    encoder = PretrainedSpeechEncoder(replace(settings.encoder, backbone=whisper.encoder.settings))
    encoder.backbone.load_state_dict(whisper.encoder.state_dict())
    return encoder, {"backbone": {"name": whisper.name, "sha256": whisper.sha256}}


def with_decoder(
    encoder: PretrainedSpeechEncoder, whisper: str | os.PathLike[str], texts: Sequence[str]
) -> tuple[PretrainedSpeechEncoder, list[str]]:
    """The encoder with Whisper's decoder beside its heads, and the pieces of text it writes in.

    Args:
        encoder: without one, or with one that is replaced.
        whisper: published weights.
        texts: whose words it has to write in Whisper's own pieces.
    """
    decoder, pieces = load_decoder(whisper, {word for text in texts for word in text.split()})
    whole = with_new_head(encoder, decoder=decoder.settings)
    assert whole.decoder is not None
    whole.decoder.load_state_dict(decoder.state_dict())
    return whole.train(), list(pieces)


def freeze(encoder: PretrainedSpeechEncoder, tuned_layers: int) -> None:
    """Freeze the backbone but for its last layers (with as many as it has, all of it is trained), and a
    domain head.

    Raises:
        SettingsError: it has fewer layers.
    """
    layers = encoder.backbone.layers
    if not 0 <= tuned_layers <= len(layers):
        raise SettingsError(f"tuned_layers is {tuned_layers}, this backbone has {len(layers)} layers")
    encoder.backbone.requires_grad_(tuned_layers == len(layers))
    for layer in layers[len(layers) - tuned_layers :]:
        layer.requires_grad_(True)
    encoder.backbone.norm.requires_grad_(tuned_layers > 0)
    if encoder.words is not None:
        encoder.words.requires_grad_(tuned_layers > 0)
    if encoder.domain is not None:
        encoder.domain.requires_grad_(False)


def optimizer(distillation: Distillation, settings: PretrainedEncoderTraining) -> torch.optim.Optimizer:
    """AdamW over what is not frozen; each group states its `share` of the learning rate."""
    pretrained: list[nn.Module] = [distillation.encoder.backbone]
    if distillation.encoder.decoder is not None:
        pretrained.append(distillation.encoder.decoder)
    backbone = [p for module in pretrained for p in module.parameters() if p.requires_grad]
    names = {id(parameter) for parameter in backbone}
    rest = [p for p in distillation.parameters() if p.requires_grad and id(p) not in names]
    groups = [{"params": rest, "share": 1.0}]
    if backbone:
        groups.append({"params": backbone, "share": settings.backbone_rate})
    return torch.optim.AdamW(groups, settings.learning_rate, weight_decay=settings.weight_decay)


def training_batches(
    settings: PretrainedEncoderTraining, arrays: TrainingArrays, fabric: Fabric
) -> SpeechBatches:
    """This process's batches; test classes and held-out voices are never among them."""
    extra = settings.loss.extra_pictures if isinstance(settings.loss, ContrastiveWeights) else 0
    return SpeechBatches(
        arrays,
        favoured(settings, arrays),
        settings.batch_size,
        settings.seed,
        settings.augmentation,
        extra,
        settings.augmentation_ramp,
        fabric.global_rank,
        fabric.world_size,
        together=settings.utterances_a_picture,
        front_end=PretrainedSpeechEncoder.front_end,
    )


def transcribed_batches(
    settings: PretrainedEncoderTraining,
    arrays: TrainingArrays,
    recordings: Sequence[Recordings],
    vocabulary: Vocabulary,
    fabric: Fabric,
) -> TranscribedBatches:
    """This process's batches of the words head: spoken captions and recordings of who is not held out."""
    captions = SpokenCaptions(arrays, favoured(settings, arrays))
    people = training_recordings(recordings, settings.held_out_voices)
    parts = [(captions, np.arange(len(captions.texts)))]
    task = settings.transcription
    return TranscribedBatches(
        JoinedSpeech(parts if people is None else [*parts, (people, np.arange(len(people.texts)))]),
        vocabulary,
        task.frames,
        settings.seed,
        longest_frames=task.longest_frames,
        augmentation=settings.augmentation,
        ramp=settings.augmentation_ramp,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        front_end=PretrainedSpeechEncoder.front_end,
    )
