"""The domain head: it learns what is described, its threshold turns few descriptions away, all else stays."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tiny_whisper
import torch
from exported import save_trained
from small_sets import sample, tone
from tiny_networks import MatrixGenerator

from speech2image import audio
from speech2image.audio.front_ends import WHISPER
from speech2image.data.corpora.transcribed import Transcribed
from speech2image.data.pairs import Utterance, write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.recordings import Recordings, build_recordings
from speech2image.data.shards.rows import SHARED
from speech2image.errors import CheckpointError, DataError, SettingsError
from speech2image.export import direct
from speech2image.models.pretrained_speech_encoder import (
    DomainHead,
    DomainSettings,
    PretrainedSpeechEncoder,
    WordsSettings,
    with_new_head,
)
from speech2image.pipeline import registry
from speech2image.training.core.checkpoint import load_checkpoint, save_checkpoint
from speech2image.training.core.networks import load_pretrained
from speech2image.training.recipes import pretrained_speech_encoder, words_head
from speech2image.training.recipes.domain_head import (
    PRESETS,
    DomainBatches,
    about_other_things,
    choose_threshold,
    described,
    gather_domain_speech,
    mistakes,
    train,
)

TINY = dataclasses.replace(
    PRESETS["toy"], domains=("flower", "bird"), steps=4, log_every=1, precision="32-true"
)
SPLITS = ["train", "train", "train", "val", "val", "test"]


def data_set(folder: Path, pitch: float, splits: list[str] = SPLITS) -> PairArrays:
    """Captions "spoken" as tones about a pitch, by voices v0 and v1."""
    samples = []
    for i, split in enumerate(splits):
        spoken = tuple(
            Utterance(k, f"v{k}", audio.encode_flac(tone(pitch + 5 * i, 0.8 + 0.1 * k)), "flac")
            for k in range(2)
        )
        samples.append(dataclasses.replace(sample(i, split=split), utterances=spoken))
    write_shards(samples, folder)
    return PairArrays.open(folder, front_end=WHISPER)


def recordings(folder: Path, split: str | None, pitch: float, speakers: int = 12) -> Recordings:
    folder.mkdir(parents=True)
    listed = []
    for i in range(speakers):
        path = folder / f"{i}.flac"
        path.write_bytes(audio.encode_flac(tone(pitch + 9 * i, 0.8 + 0.05 * i)))
        listed.append(Transcribed(path, f"s{i}", "a red car " + "very " * i))
    built = build_recordings(listed, folder / f"built-{split}", front_end=WHISPER)
    if split is None:
        return built
    listing = built.folder / "recordings.jsonl"
    first, *rest = listing.read_text().splitlines()
    listing.write_text("\n".join([json.dumps({**json.loads(first), "split": split}), *rest]) + "\n")
    return Recordings(built.folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> list[PairArrays]:
    folder = tmp_path_factory.mktemp("sets")
    return [data_set(folder / "flowers", 150.0), data_set(folder / "birds", 500.0)]


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> list[Recordings]:
    folder = tmp_path_factory.mktemp("other")
    return [recordings(folder / split, split, 1500.0) for split in ("train", "test")]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return tiny_whisper.write_checkpoint(tmp_path_factory.mktemp("encoder") / "checkpoint.safetensors")


@pytest.fixture(scope="module")
def trained(data, other, encoder, tmp_path_factory) -> Path:
    settings = dataclasses.replace(TINY, steps=60, held_out_voices=("s3",))
    return train(settings, encoder, data, other, tmp_path_factory.mktemp("run"))


def test_it_learns_and_the_encoder_embeds_as_before(trained, encoder):
    facts = load_checkpoint(trained)
    assert facts["domains"] == ["flower", "bird", "other"] and 0 < facts["other_threshold"] <= 1
    errors = facts["domain_errors"]
    assert set(errors["validation"]) == {"flowers", "birds", "built-train"}
    assert errors["validation"]["flowers"]["called other"] <= 0.02
    found = errors["test"]
    assert found[f"flowers: {SHARED}, heard voices"] == {
        "utterances": 2, "called other": 0.0, "other domain": 0.0,
    }  # fmt: skip
    assert found["built-test: other voices"]["called described"] == 0.0
    assert found["built-test: held-out voices"]["utterances"] == 1
    log = (trained.parent / "log.jsonl").read_text()
    assert "test, built-test: other voices/called described" in log and '"other_threshold"' in log
    before, after = load_pretrained(encoder), load_pretrained(trained)
    clip = torch.from_numpy(WHISPER.extract(tone(200.0)))[None]
    with torch.no_grad():
        n_frames = torch.tensor([clip.shape[2]])
        assert torch.equal(before(clip, n_frames), after(clip, n_frames))


def test_a_clip_alone_and_in_a_padded_batch_are_the_same():
    head = DomainHead(8, DomainSettings(3, width=16)).eval()
    states = torch.randn(2, 8, 30, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        together = head(states, torch.tensor([30, 20]))
        states[1, :, 20:] = 1e4
        torch.testing.assert_close(head(states, torch.tensor([30, 20])), together)
        torch.testing.assert_close(head(states[1:, :, :20], torch.tensor([20])), together[1:])
    torch.testing.assert_close(together.exp().sum(1), torch.ones(2))


def test_resumed_equals_uninterrupted(data, other, encoder, tmp_path):
    settings = dataclasses.replace(TINY, final_rate=1.0)
    whole = load_pretrained(train(settings, encoder, data, other, tmp_path / "whole")).state_dict()
    train(dataclasses.replace(settings, steps=2), encoder, data, other, tmp_path / "parts")
    parts = load_pretrained(train(settings, encoder, data, other, tmp_path / "parts")).state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_what_is_measured_is_never_trained_on(data, other, encoder):
    held_out = ("v1", "s3")
    flowers = described(data[0], data[0], 0, held_out)
    splits, voices = data[0].splits[data[0].utterance_sample], data[0].utterance_voice
    for chosen, split in ((flowers.training, "train"), (flowers.validation, "val")):
        assert set(splits[chosen]) == {split} and set(voices[chosen]) == {"v0"}
    assert set(voices[flowers.tests[f"flowers: {SHARED}, unheard voices"]]) == {"v1"}
    parts = about_other_things(other[0], 2, held_out)
    measured = parts.tests["built-train: held-out voices"]
    assert other[0].speakers[measured].tolist() == ["s3"]
    sets = [set(one.tolist()) for one in (parts.training, parts.validation, measured)]
    assert sum(map(len, sets)) == 12 == len(set.union(*sets)) and all(sets)
    texts = [{other[0].texts[u] for u in one} for one in (parts.training, parts.validation)]
    assert not texts[0] & texts[1]
    tests = about_other_things(other[1], 2, held_out)
    assert not len(tests.training) and not len(tests.validation)
    assert sum(map(len, tests.tests.values())) == 12


def test_without_a_validation_split_whole_pictures_are_held_back(tmp_path):
    arrays = data_set(tmp_path / "set", 200.0, ["train"] * 40)
    source = described(arrays, arrays.with_frames(arrays.build_log_mels()), 0, ())
    assert 2 <= len(source.validation) <= 20
    pictures = [set(arrays.utterance_sample[one]) for one in (source.training, source.validation)]
    assert not pictures[0] & pictures[1] and len(pictures[0] | pictures[1]) == 40


def test_batches_hold_all_domains_alike_often(data, other, encoder):
    sources = gather_domain_speech(TINY, data, other, load_pretrained(encoder))
    batches = DomainBatches(sources, batch_size=24, longest_states=21, seed=0)
    batch = batches(5)
    assert torch.bincount(batch.domains).tolist() == [8, 8, 8]
    assert int(batch.n_steps.max()) == 21 and int(batch.n_steps.min()) > 10
    again = batches(5)
    assert all(torch.equal(one, two) for one, two in zip(batch, again, strict=True))
    assert not torch.equal(batches(6).states[:1, :, :10], batch.states[:1, :, :10])


def test_the_threshold_turns_few_descriptions_away():
    chances = np.random.default_rng(0).random(200)
    threshold = choose_threshold(chances, 0.02)
    assert (chances >= threshold).sum() == 4
    below = np.sort(chances)[-5]
    assert threshold > below and threshold - below < 1e-9
    assert choose_threshold(np.array([0.4]), 0.02) > 0.4
    assert choose_threshold(np.ones(3), 0.0) == 1.0
    found = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [0.2, 0.1, 0.7]])
    told = mistakes(found, 0, 0.5)
    assert told == {"utterances": 4, "called other": 0.5, "other domain": 0.25}
    assert mistakes(found, 2, 0.5) == {"utterances": 4, "called described": 0.5}


def test_a_new_words_head_and_tuning_keep_it(trained, data, tmp_path):
    tiny = dataclasses.replace(words_head.PRESETS["toy"], steps=2, frames=200, precision="32-true")
    written = words_head.train(tiny, trained, data[0], {}, tmp_path / "words")
    data[0].save_teacher(np.random.default_rng(0).random((6, 2, 1024)).astype(np.float16))
    settings = dataclasses.replace(
        pretrained_speech_encoder.PRESETS["toy"], tuned_layers=2, steps=2, batch_size=4
    )
    tuned = pretrained_speech_encoder.train(settings, data[0], tmp_path / "tuned", start_from=written)
    first, words, last = (load_pretrained(path) for path in (trained, written, tuned))
    assert words.words is not None and last.words is not None
    for name, value in first.state_dict().items():
        if name.startswith("domain."):
            assert torch.equal(value, words.state_dict()[name]), name
            assert torch.equal(value, last.state_dict()[name]), name
    facts = [load_checkpoint(path) for path in (trained, written, tuned)]
    assert all(one["domains"] == ["flower", "bird", "other"] for one in facts)
    assert len({one["other_threshold"] for one in facts}) == 1
    assert facts[1]["domain_errors"] == facts[0]["domain_errors"]
    assert "domain_errors" not in facts[2]  # they were measured on other states


def test_another_head_takes_the_place_of_the_first(trained):
    first = load_pretrained(trained)
    other = with_new_head(first, domain=DomainSettings(4, width=8))
    assert other.domain is not None and other.domain.decide.out_features == 4
    both = with_new_head(first, words=WordsSettings(30, width=16, heads=2))
    assert both.domain is not None and both.words is not None and first.words is None


def test_older_checkpoints_and_models_open(encoder):
    state = load_checkpoint(encoder)
    assert state["settings"]["encoder"].pop("domain") is None
    save_checkpoint(encoder.with_name("older.safetensors"), state)
    assert load_pretrained(encoder.with_name("older.safetensors")).domain is None


def test_the_exported_encoder_tells_the_domain(trained, tmp_path):
    from speech2image.models.gan.one_stage import OneStageGenerator
    from speech2image.training.recipes import one_stage_gan

    sizes = one_stage_gan.GeneratorSettings(16, noise_size=7, code_size=8, channels=(8, 8, 4))
    generator = tmp_path / "generator.safetensors"
    stored = {"generator": dataclasses.asdict(sizes)}
    save_trained(generator, "one_stage_gan", stored, OneStageGenerator(sizes).eval())
    direct.export_checkpoints(trained, generator, tmp_path / "mine", name="mine", licence="CC0-1.0")
    model, facts = registry.find(tmp_path / "mine"), load_checkpoint(trained)
    assert model.domains is not None and model.domains.names == ("flower", "bird", "other")
    assert model.domains.threshold == facts["other_threshold"]
    assert model.card["domain_errors"] == facts["domain_errors"]
    assert model.further_outputs == ("domain",)


def test_a_domain_head_that_is_not_there(encoder, tmp_path):
    from speech2image.pipeline.domains import Domains

    bare: PretrainedSpeechEncoder = load_pretrained(encoder)
    options = {"noise_size": 7, "front_end": WHISPER, "domains": Domains(("flower", "other"), 0.5)}
    with pytest.raises(CheckpointError, match="no domain head"):
        direct.export_direct(
            bare, MatrixGenerator(1024), tmp_path / "m", name="m", licence="CC0-1.0", **options
        )
    assert not (tmp_path / "m").exists()


def test_what_cannot_be_trained_is_said(data, other, encoder, tmp_path):
    def refused(error: type[Exception], match: str, sets=data, others=other, **changes) -> None:
        with pytest.raises(error, match=match):
            train(dataclasses.replace(TINY, **changes), encoder, sets, others, tmp_path / "run")

    refused(SettingsError, "for instance flower bird", domains=("flower",))
    refused(SettingsError, "'other' comes by itself", domains=("flower", "other"))
    refused(SettingsError, "--other is missing", others=[])
    refused(SettingsError, "several folders are called flowers", sets=[data[0], data[0]])
    refused(SettingsError, "--turned-away is 1", turned_away=1.0)
    refused(DataError, "no speech to choose the threshold on", held_out_voices=("v0", "v1"))
    refused(DataError, "'other' has no speech", others=other[1:])
