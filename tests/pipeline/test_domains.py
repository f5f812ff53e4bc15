"""Deciding what a recording is about, and refusing what no model states about it."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_model import make_model

from speech2image.errors import CheckpointError
from speech2image.pipeline import registry
from speech2image.pipeline.domains import Decision, Domains, check_domains, decided, something_else

NAMES = ("flower", "bird", "other")


def test_other_from_its_threshold_on_else_the_likeliest() -> None:
    domains = Domains(NAMES, 0.3)
    for chances, expected in (
        ((0.5, 0.4, 0.1), ("flower", 0.5)),
        ((0.2, 0.55, 0.25), ("bird", 0.55)),
        ((0.4, 0.29, 0.31), ("other", 0.31)),
        ((0.0, 0.0, 1.0), ("other", 1.0)),
    ):
        with np.errstate(divide="ignore"):
            found = domains.decide(np.log(np.array(chances, np.float32)))
        assert (found.domain, found.confidence) == (expected[0], pytest.approx(expected[1], rel=1e-5))
    assert Domains(NAMES, 1.0).decide(np.zeros(3, np.float32)) == Decision("other", 1.0, NAMES)
    assert decided(None, None, "encoder.onnx") == Decision() == (None, None, ())


def test_a_network_that_does_not_fit_its_card() -> None:
    with pytest.raises(CheckpointError, match=r"shape \[1, 2\].*3 domains; it does not fit its card"):
        decided(Domains(NAMES, 0.5), np.zeros((1, 2), np.float32), "encoder.onnx")


def test_what_is_drawn_in_words() -> None:
    for names, known in (
        (NAMES, "flowers and birds"),
        (("flower", "bird", "room", "other"), "flowers, birds and rooms"),
        (("flower", "other"), "flowers"),
    ):
        assert something_else(names) == f"this model draws {known}; this sounded like something else"


@pytest.mark.parametrize(
    ("names", "threshold"),
    [
        ("flower", 0.5),
        ([], 0.5),
        (["other"], 0.5),
        (["flower", "bird"], 0.5),
        (["flower", "flower", "other"], 0.5),
        (["flower", 3, "other"], 0.5),
        (["flo\nwer", "other"], 0.5),
        (["f" * 41, "other"], 0.5),
        (["flower", "other"], 0.0),
        (["flower", "other"], 1.5),
        (["flower", "other"], float("nan")),
        (["flower", "other"], True),
        (["flower", "other"], "0.5"),
        (["flower", "other"], None),
    ],
)
def test_a_card_with_other_domains_is_refused(names, threshold, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is damaged: '(domains|other_threshold)' is"):
        check_domains(names, threshold, "the card")
    if threshold == threshold:  # JSON has no NaN
        folder = make_model(tmp_path / "mine", domains=names, other_threshold=threshold)
        with pytest.raises(CheckpointError, match=r"model\.json is damaged"):
            registry.find(folder)


def test_a_model_tells_its_domains(tmp_path: Path) -> None:
    plain = registry.find(make_model(tmp_path / "plain"))
    assert plain.domains is None and plain.further_outputs == ()
    folder = make_model(tmp_path / "mine", domains=list(NAMES), other_threshold=0.25, pieces=["a"])
    model = registry.find(folder)
    assert model.domains == Domains(NAMES, 0.25) and model.further_outputs == ("ctc", "domain")
    card = json.loads((folder / "model.json").read_text())
    del card["other_threshold"]
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="'other_threshold' is None"):
        registry.find(folder)
