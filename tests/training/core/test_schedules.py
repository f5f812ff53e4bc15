"""Learning-rate schedules, by hand."""

import pytest

from speech2image.training.core.schedules import cosine, halving, inverse_sqrt, linear


def test_cosine_rises_then_falls() -> None:
    shares = [cosine(step, 110, warm_up=10, final=0.1) for step in (0, 9, 10, 60, 110, 500)]
    assert shares == pytest.approx([0.1, 1.0, 1.0, 0.55, 0.1, 0.1])
    assert [cosine(step, 100) for step in (0, 50, 100)] == pytest.approx([1.0, 0.5, 0.0])
    assert {cosine(step, 100, final=1.0) for step in range(0, 120, 7)} == {1.0}


def test_inverse_sqrt_rises_then_falls() -> None:
    assert [inverse_sqrt(step, 100) for step in (0, 99, 399)] == pytest.approx([0.01, 1.0, 0.5])
    assert inverse_sqrt(3, 0) == 0.5


def test_linear_ends_where_it_is_told() -> None:
    assert [linear(step, 100) for step in (0, 50, 100, 200)] == pytest.approx([1.0, 0.505, 0.01, 0.01])


def test_halving() -> None:
    assert [halving(step, 10) for step in (0, 9, 10, 25)] == [1.0, 1.0, 0.5, 0.25]
    assert halving(1000, 0) == 1.0
