"""Official metrics worked out by hand, with cases in which pooling the samples would give another value."""

import numpy as np
import pytest

from verl_vaopd.evaluation.parts import accuracy, hallusion, mathverse, wemath
from verl_vaopd.evaluation.statistics import score


def by_name(parts):
    return {part.name: part for part in parts}


def test_accuracy_is_the_mean_over_passes():
    questions = [{"group": str(n)} for n in range(4)]
    correct = np.array([[1, 0, 0, 0], [1, 1, 1, 0]], dtype=bool)
    assert score(accuracy(questions, correct)).value == 50.0  # (25 + 75) / 2
    np.testing.assert_allclose(accuracy(questions, correct)[0].per_pass(), [25, 75])


def test_hallusion_groups_are_judged_within_a_pass():
    """One set: figures 0 and 1, questions 0 and 1, asked of both.

    Pass 0 right: (f0 q0), (f0 q1). aAcc 2/4; fAcc: f0 yes, f1 no, 1/2; qAcc: q0 and q1 each miss f1, 0/2.
    Pass 1 right: (f1 q0), (f1 q1). The same figures: 50, 50, 0.
    Mean of the three, each pass: 100/3. Pooled by majority of samples (ties right) every question would be right: 100;
    pooled as one file of 8 rows, each figure would have a wrong row: fAcc 0 instead of 50.
    """
    keys = [(0, 0), (0, 1), (1, 0), (1, 1)]
    questions = [
        {"group": "illusion_0", "category": "illusion", "set": "0", "figure": str(figure), "question": str(question)}
        for figure, question in keys
    ]
    correct = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], dtype=bool)
    parts = by_name(hallusion(questions, correct))
    np.testing.assert_allclose(parts["aAcc"].per_pass(), [50, 50])
    np.testing.assert_allclose(parts["fAcc"].per_pass(), [50, 50])
    np.testing.assert_allclose(parts["qAcc"].per_pass(), [0, 0])
    assert score(list(parts.values())).value == pytest.approx(100 / 3)


def test_hallusion_does_not_join_sets_or_categories():
    questions = [
        {"group": f"{category}_{of_set}", "category": category, "set": of_set, "figure": "0", "question": "0"}
        for category, of_set in (("chart", "0"), ("chart", "1"), ("map", "0"))
    ]
    parts = by_name(hallusion(questions, np.array([[1, 0, 1]], dtype=bool)))
    for name in ("aAcc", "fAcc", "qAcc"):
        np.testing.assert_allclose(parts[name].per_pass(), [200 / 3])


def problem(name, *keys):
    return [{"group": name, "key": key} for key in keys]


def test_wemath_strict_and_loose():
    """Four problems of two steps, one of three, one pass; (steps, whole) -> strict, loose:

    a: both steps and whole right -> 1, 1        b: one step and whole right -> 0 (rote), 1
    c: no step, whole right -> 0, 0 (rote)       d: both steps right, whole wrong -> 1/2, 1/2
    e: two of three steps, whole wrong -> 0, 0   strict (1 + 1/2) / 5 = 30, loose (1 + 1 + 1/2) / 5 = 50, mean 40
    """
    two = ("2steps_1", "2steps_2", "2steps_multi")
    questions = [
        *problem("a", *two),
        *problem("b", *two),
        *problem("c", *two),
        *problem("d", *two),
        *problem("e", "3steps_1", "3steps_2", "3steps_3", "3steps_multi"),
    ]
    correct = np.array([[1, 1, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0]], dtype=bool)
    parts = by_name(wemath(questions, correct))
    np.testing.assert_allclose(parts["strict"].per_pass(), [30])
    np.testing.assert_allclose(parts["loose"].per_pass(), [50])
    assert score(list(parts.values())).value == pytest.approx(40)


def test_wemath_samples_are_not_pooled():
    """One problem. Pass 0: both steps right, whole wrong -> 1/2. Pass 1: steps wrong, whole right -> 0, 0. Mean 25.

    Pooled (right if any sample is) steps and whole would all be right: 100.
    """
    questions = problem("a", "2steps_1", "2steps_2", "2steps_multi")
    parts = wemath(questions, np.array([[1, 1, 0], [0, 0, 1]], dtype=bool))
    assert [part.per_pass().tolist() for part in parts] == [[50, 0], [50, 0]]
    assert score(parts).value == 25


def test_wemath_leaves_out_problems_that_a_limit_cut_off():
    questions = problem("a", "2steps_1", "2steps_2", "2steps_multi") + problem("b", "2steps_1")
    assert [part.per_pass().tolist() for part in wemath(questions, np.ones((1, 4), dtype=bool))] == [[100], [100]]
    assert wemath(questions[3:], np.ones((1, 1), dtype=bool)) == []


def test_mathverse_shows_its_versions():
    questions = [{"group": str(n // 2), "version": ("Text Lite", "Vision Only")[n % 2]} for n in range(4)]
    parts = by_name(mathverse(questions, np.array([[1, 0, 1, 1]], dtype=bool)))
    assert {name: part.per_pass()[0] for name, part in parts.items()} == {
        "all versions": 75,
        "Text Lite": 100,
        "Vision Only": 50,
    }
