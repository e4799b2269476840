"""The boxed answer that is read."""

import pytest

from verl_vaopd.grading.boxed import last_boxed


@pytest.mark.parametrize(
    "text, answer",
    [
        (r"so \boxed{42}", "42"),
        (r"first \boxed{1}, no: \boxed{2}.", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        ("no box", None),
        (r"unbalanced \boxed{4", None),
    ],
)
def test_last_boxed(text, answer):
    assert last_boxed(text) == answer
