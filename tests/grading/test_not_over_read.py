r"""What looks like a unit, a base, a second option or ``so`` and is none: answers that are right as they stand."""

import pytest

from verl_vaopd.data.reward import compute_score
from verl_vaopd.grading.committed import committed_answer

SAME = [
    *((text, text) for text in ("D. 2R - 3", r"D. \frac{1}{2}R - 3", "C. y = 2X - 3", "D. 60 W 40", "C. 3, B 5")),
    ("2nm", "2mn"),
    ("4nm^2", "4m^2n"),
    ("2kA", "2Ak"),
    (r"\frac{1}{2}\frac{mg}{L}", r"\frac{mg}{2L}"),
    (r"2 \frac{L}{g}", r"\frac{2L}{g}"),
    (r"3\frac{m}{s}", r"\frac{3m}{s}"),
    ("101_{(2)}", "101_2"),
    ("^4_2He", "^{4}_{2}He"),
    ("=", "="),
    (r"\approx", r"\approx"),
]
OTHER = [
    ("A 12 B 13", "A"),
    ("A - 12 / B - 13", "A"),
    ("101_{(2)}", "101_8"),
    (r"12 \frac{m}{s}", "13"),
    ("=", "<"),
    ("5", "="),
    ("12 nm", "12 mm"),
]
WHOLE = ["SO2", "SO_2", r"SO \perp AB", "故宫", "so-called", "SO // BC", "Clearly so"]
SAID = ["SO2", "SO_4^{2-}", "SO // BC", "simply supported beam", "just right", "故宫", "so"]


def score(text: str, truth: str) -> float:
    return compute_score("own", text, truth)["score"]


@pytest.mark.parametrize(("answer", "truth"), SAME)
def test_it_is_right(answer, truth):
    letter = truth[0] if truth[1:3] == ". " else truth
    assert score(rf"\boxed{{{answer}}}", letter) == 1


@pytest.mark.parametrize(("answer", "truth"), OTHER)
def test_it_is_wrong(answer, truth):
    assert score(rf"\boxed{{{answer}}}", truth) == 0


@pytest.mark.parametrize(("answer", "truth"), [("12 nm", "12"), ("12 kPa", "12 kPa"), ("12kPa", "12000 Pa")])
def test_units_are_units_still(answer, truth):
    assert score(rf"\boxed{{{answer}}}", truth) == 1


def test_what_is_no_conclusion_stays_whole():
    assert [committed_answer(text) for text in WHOLE] == WHOLE
    assert [committed_answer(f"Answer: {text}") for text in SAID] == SAID


@pytest.mark.parametrize(
    "text", ["Therefore, x = 5", "So the rest.\nSo x = 5", "The answer is therefore 5", "所以 x=5", "故 5"]
)
def test_a_conclusion_is_one(text):
    assert score(text, "5") == 1
