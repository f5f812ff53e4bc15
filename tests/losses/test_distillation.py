"""The distillation losses, against numbers worked out by hand."""

import math

import pytest
import torch

from speech2image.errors import SettingsError
from speech2image.losses.distillation import (
    ContrastiveWeights,
    TeacherStudentWeights,
    balanced,
    contrastive_loss,
    gradient_norms,
    info_nce_loss,
    joint_embedding_loss,
    kdl_loss,
    norm_loss,
    relative_error,
    teacher_student_loss,
)

SPEECH = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
IMAGE = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.5, 0.0]])
LABELS = torch.tensor([0, 1, 0])


def test_joint_embedding_by_hand():
    # dot products: rows (2, 0, 1.5), (0, 1, 0), (2, 1, 1.5)
    # row 0: other class 0 - 2 + 1 < 0; own class 1.5 - 2 + 0.1 < 0 -> 0
    # row 1: both of another class: 0 - 1 + 1 = 0 twice -> 0
    # row 2: own class 2 - 1.5 + 0.1 = 0.6; other class 1 - 1.5 + 1 = 0.5
    weights = TeacherStudentWeights(margin_same=0.1, alpha=2.0, beta=3.0)
    loss = joint_embedding_loss(SPEECH, IMAGE, LABELS, weights)
    assert loss.item() == pytest.approx((3 * 0.6 + 2 * 0.5) / 9)
    code = TeacherStudentWeights()  # margin 0 and weight 0.1 within a class
    assert joint_embedding_loss(SPEECH, IMAGE, LABELS, code).item() == pytest.approx((0.1 * 0.5 + 0.5) / 9)


def test_joint_embedding_of_the_paper_by_hand():
    # the expectation over 2 pairs of one class (rows 0 and 2), 4 of different ones; margin 0.1 within a class
    paper = TeacherStudentWeights(form="paper")
    assert joint_embedding_loss(SPEECH, IMAGE, LABELS, paper).item() == pytest.approx(0.5 / 4 + 0.6 / 2)
    own = TeacherStudentWeights(form="paper", alpha=2.0, beta=3.0, margin_same=0.0)
    assert joint_embedding_loss(SPEECH, IMAGE, LABELS, own).item() == pytest.approx(2 * 0.5 / 4 + 3 * 0.5 / 2)
    no_pair = joint_embedding_loss(SPEECH, IMAGE, torch.tensor([0, 1, 2]), paper)
    assert no_pair.item() == pytest.approx((0.5 + 1.5 + 0.5) / 6)


def test_norm_by_hand():
    assert norm_loss(SPEECH, IMAGE, "paper").item() == pytest.approx((1 + 0 + 1.5) / 3)
    # Frobenius norms 2 and sqrt(4 + 1 + 2.25) = 2.6925824
    parts = [abs(s / 2 - v / math.sqrt(7.25)) for s, v in ((1, 2), (0, 0), (0, 0), (1, 1), (1, 1.5), (1, 0))]
    assert norm_loss(SPEECH, IMAGE, "code").item() == pytest.approx(sum(parts) / 6, rel=1e-5)


def test_distribution_by_hand():
    speech, image = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3), 0.0]])
    of_student = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert kdl_loss(speech, image, "paper").item() == pytest.approx(of_student, rel=1e-5)
    twice = torch.cat([speech, speech]), torch.cat([image, speech])  # the second student is its teacher
    assert kdl_loss(*twice, "paper").item() == pytest.approx(of_student / 2, rel=1e-5)
    p = math.sqrt(3) / (1 + math.sqrt(3))  # temperature 2
    soft = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    assert kdl_loss(speech, image, "code").item() == pytest.approx(soft / 2, rel=1e-5)


def test_equation_6_adds_its_weighted_items():
    loss, items = teacher_student_loss(SPEECH, IMAGE, LABELS)
    expected = items["joint_embedding"] + 5 * items["norm"] + 1000 * items["distribution"]
    assert loss.item() == pytest.approx(expected.item())
    rows = {  # of Table IV
        "norm": TeacherStudentWeights(joint_embedding=0.0, distribution=0.0),
        "norm + JEL": TeacherStudentWeights(distribution=0.0),
        "norm + KDL": TeacherStudentWeights(joint_embedding=0.0),
        "all": TeacherStudentWeights(),
    }
    losses = {name: teacher_student_loss(SPEECH, IMAGE, LABELS, w)[0].item() for name, w in rows.items()}
    assert losses["norm"] == pytest.approx(5 * items["norm"].item())
    assert losses["norm + JEL"] + losses["norm + KDL"] == pytest.approx(losses["all"] + losses["norm"])


def test_perfect_student_loses_nothing():
    paper = TeacherStudentWeights(joint_embedding=0.0, form="paper")
    assert teacher_student_loss(IMAGE, IMAGE, LABELS, paper)[0].item() == pytest.approx(0.0, abs=1e-6)
    assert relative_error(IMAGE, IMAGE, IMAGE.mean(0)).item() == 0.0


def test_info_nce_by_hand():
    speech = torch.tensor([[3.0, 1.0], [1.0, 2.0]])  # mean (1, 1) taken away: (1, 0) and (0, 1) after scaling
    image = torch.tensor([[2.0, 1.0], [1.0, 5.0], [1.0, 2.0]])  # (1, 0), (0, 1); the extra one is (0, 1)
    mean, labels, pictures = torch.ones(2), torch.tensor([0, 1, 2]), torch.tensor([10, 11, 12])
    e = math.exp(1 / 0.5)
    to_image = (math.log((e + 2) / e) + math.log((2 * e + 1) / e)) / 2
    to_speech = math.log((e + 1) / e)
    found = info_nce_loss(speech, image, mean, labels, pictures, 0.5)
    assert found.item() == pytest.approx((to_image + to_speech) / 2, rel=1e-5)


def test_own_class_and_own_picture_as_negatives():
    speech, image, mean = torch.eye(3), torch.eye(3), torch.zeros(3)
    pictures, one_class = torch.arange(3), torch.zeros(3, dtype=torch.long)
    e = math.e
    half = info_nce_loss(speech, image, mean, one_class, pictures, 1.0, same_class=0.5)
    assert half.item() == pytest.approx(math.log((e + 2 * 0.5) / e), rel=1e-5)
    none = info_nce_loss(speech, image, mean, one_class, pictures, 1.0, same_class=0.0)
    assert none.item() == pytest.approx(0.0, abs=1e-6)
    one_picture = torch.tensor([7, 7, 8])
    twice = info_nce_loss(speech, image, mean, one_class, one_picture, 1.0)
    assert twice.item() == pytest.approx((2 * math.log((e + 1) / e) + math.log((e + 2) / e)) / 3, rel=1e-5)


def test_relative_error_of_the_mean_is_one():
    mean = IMAGE.mean(0)
    assert relative_error(mean.expand(3, 2), IMAGE, mean).item() == pytest.approx(1.0)


def test_no_gradient_reaches_the_teacher():
    speech, image = SPEECH.clone().requires_grad_(), IMAGE.clone().requires_grad_()
    pictures, temperature = torch.arange(3), torch.tensor(-1.0, requires_grad=True)
    for form in ("paper", "code"):
        loss = teacher_student_loss(speech, image, LABELS, TeacherStudentWeights(form=form))[0]
        loss = (
            loss
            + contrastive_loss(
                speech, image, torch.zeros(2), LABELS, pictures, ContrastiveWeights(), temperature
            )[0]
        )
        loss.backward()
    assert image.grad is None
    assert speech.grad.abs().sum() > 0
    assert temperature.grad.abs() > 0


def test_temperature_stops_at_a_hundredth():
    arguments = SPEECH, IMAGE, torch.zeros(2), LABELS, torch.arange(3), ContrastiveWeights()
    at_limit, below = (contrastive_loss(*arguments, torch.tensor(t))[0] for t in (math.log(0.01), -20.0))
    assert below.item() == pytest.approx(at_limit.item(), rel=1e-4)


def test_gradients_of_the_items_by_hand():
    # norm, paper: the sign of each difference over the batch of 3; three numbers differ
    norms, values = gradient_norms(SPEECH, IMAGE, LABELS, TeacherStudentWeights(form="paper"))
    assert norms["norm"] == pytest.approx(math.sqrt(3) / 3) and values["norm"] == pytest.approx(2.5 / 3)
    whole = SPEECH.clone().requires_grad_()
    weights = TeacherStudentWeights(joint_embedding=0.0, norm=0.0, distribution=7.0)
    teacher_student_loss(whole, IMAGE, LABELS, weights)[0].backward()
    norms, values = gradient_norms(SPEECH, IMAGE, LABELS, weights)
    assert 7 * norms["distribution"] == pytest.approx(whole.grad.norm().item(), rel=1e-5)
    assert values["distribution"] == pytest.approx(kdl_loss(SPEECH, IMAGE).item())


def test_balanced_weights_give_gradients_of_one_size():
    norms = {"joint_embedding": 0.4, "norm": 0.002, "distribution": 0.01}
    chosen = balanced(TeacherStudentWeights(joint_embedding=2.0), norms)
    assert [getattr(chosen, name) * norm for name, norm in norms.items()] == pytest.approx([0.8] * 3)
    assert (chosen.joint_embedding, chosen.form, chosen.alpha) == (2.0, "code", 1.0)
    without = balanced(TeacherStudentWeights(joint_embedding=0.0), norms)
    assert (without.joint_embedding, without.norm, without.distribution) == pytest.approx((0.0, 5.0, 1.0))
    with pytest.raises(SettingsError, match=r"the gradient of the item norm is 0\.0"):
        balanced(TeacherStudentWeights(), norms | {"norm": 0.0})
    with pytest.raises(SettingsError, match="all items"):
        balanced(TeacherStudentWeights(joint_embedding=0.0, norm=0.0, distribution=0.0), norms)
