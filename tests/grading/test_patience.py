"""An answer may take half a second; after some that did not end, less."""

import pytest

from verl_vaopd.grading.patience import LIMIT, SHORT, Patience


def test_limit_falls_with_what_was_lost_and_comes_back():
    now = [0.0]
    patience = Patience(width=2, clock=lambda: now[0])
    assert patience.limit() == LIMIT == 0.5
    patience.spend(0.5)
    assert patience.limit() == pytest.approx(0.25)  # 0.5 less 0.5 / 2
    patience.spend(0.5)
    assert patience.limit() == SHORT  # 0.5 less 1 / 2 is 0
    for _ in range(100):
        patience.spend(0.5)  # no more can be lost than two graders' half seconds
    now[0] += 2.5  # forgives 0.1 x 2 x 2.5 = 0.5 of 1
    assert patience.limit() == pytest.approx(0.25)
    now[0] += 100
    assert patience.limit() == LIMIT
