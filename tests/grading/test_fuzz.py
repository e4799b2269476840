"""Whatever an answer and a truth hold: right or wrong, in time, and no error.

``VAOPD_FUZZ=5000`` looks at that many examples of each property instead of a few.
"""

import time

from hypothesis import example, given

from tests.fuzzing import looked_at
from tests.grading.latex import ANSWERS
from verl_vaopd.data.reward import compute_score
from verl_vaopd.grading.committed import committed_answer
from verl_vaopd.grading.grading import MAX_CHARACTERS, same_answer
from verl_vaopd.grading.rules import judge
from verl_vaopd.grading.text import key, plain

ENDS = 60  # seconds; an answer without limits takes hours, one with them a few on a busy machine


@looked_at(60)
@given(answer=ANSWERS, truth=ANSWERS)
@example("(" * 400, ")" * 400)
@example("km " * 160, "5")
@example("0^-0.001", "0")
@example("9" * 500, "9^" * 200)
@example("1,11" * 120, "\\sqrt" * 100)
@example(r"\boxed{" * 3000, r"\boxed{5}")
@example("\ud800", "\x00")
@example(r"\frac{\frac{\frac{1}{2}}{3}}{" * 12, "x^" * 150)
@example(r"\int_0^1 e^{x^2}\sin(x^3)\,dx", "1")
@example(r"\sum_{n=1}^{10^9} n^2\sin n", "1")
@example(r"\begin{pmatrix}x&y\\z&w\end{pmatrix}^{99}", "1")
def test_an_answer_is_right_or_wrong_in_time(answer, truth):
    started = time.monotonic()
    score = compute_score("any", answer, truth)
    assert score.keys() == {"score", "acc", "format"} and score["acc"] == score["score"]
    assert all(value in (0.0, 1.0) and type(value) is float for value in score.values())
    assert time.monotonic() - started < ENDS


def test_rules_are_quick():
    """Without sympy, in this thread, which holds up others."""

    @looked_at(300)
    @given(answer=ANSWERS, truth=ANSWERS)
    @example("of " + "y" * 480 + "∈", "in " + "x" * 480 + "∈")
    def quick(answer, truth):
        started = time.thread_time()
        judge(committed_answer(answer)[:MAX_CHARACTERS], truth[:MAX_CHARACTERS], lambda given, wanted: False)
        assert time.thread_time() - started < 2

    quick()


@looked_at(100)
@given(answer=ANSWERS)
def test_an_answer_is_its_own_truth(answer):
    assert same_answer(answer, answer) or not key(plain(answer))
