"""Accuracy is judged on the last boxed answer; format is reported apart."""

import pytest

from verl_vaopd.data.reward import compute_score


@pytest.mark.parametrize(
    "text, truth, accuracy, form",
    [
        (r"\boxed{42}", "42", 1.0, 1.0),
        (r"\boxed{43}", "42", 0.0, 1.0),
        ("42", "42", 0.0, 0.0),
        (r"\boxed{0.5}", r"\frac{1}{2}", 1.0, 1.0),
        (r"\boxed{42} or \boxed{41}", "42", 0.0, 1.0),
    ],
)
def test_score(text, truth, accuracy, form):
    assert compute_score("any", text, truth) == {"score": accuracy, "acc": accuracy, "format": form}
