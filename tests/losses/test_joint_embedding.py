"""The symmetric hinge against numbers worked out by hand."""

import pytest
import torch

from speech2image.losses.joint_embedding import symmetric_joint_embedding_loss


def test_against_a_hand_computed_number():
    image = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    text = torch.tensor([[0.5, 0.2], [0.3, 1.0]])
    # scores v_i.t_j: [[.5, .3], [.4, 2]]
    # picture 0: caption 1: 1 + .3 - .5 = .8; picture 1: caption 0: 1 + .4 - 2 < 0
    # caption 0: picture 1: 1 + .4 - .5 = .9; caption 1: picture 0: 1 + .3 - 2 < 0
    loss = symmetric_joint_embedding_loss(text, image, torch.tensor([3, 5]))
    assert float(loss) == pytest.approx((0.8 + 0.9) / 4)
    assert float(symmetric_joint_embedding_loss(text, image, torch.tensor([3, 5]), 0.15)) == pytest.approx(
        0.05 / 4
    )


def test_rows_of_one_class_are_no_negatives():
    text, image = torch.randn(3, 4), torch.randn(3, 4)
    assert float(symmetric_joint_embedding_loss(text, image, torch.tensor([1, 1, 1]))) == 0.0


def test_no_gradient_reaches_the_teacher():
    text, image = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    symmetric_joint_embedding_loss(text, image, torch.tensor([0, 1, 2]), 10.0).backward()
    assert image.grad is None and text.grad.abs().sum() > 0
