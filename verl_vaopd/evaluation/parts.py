"""From verdicts on single questions to the parts of a benchmark's official metric, one value a unit and pass.

A unit is what a part averages over: a question, a figure with all its questions, a multi-step problem. Each pass has
its own value on each unit; samples of different passes are never pooled before a group is judged.
K passes, Q questions, U units.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Part:
    """A mean over units: ``values`` [K, U] between 0 and 1, ``groups`` the unit's group, which is resampled whole."""

    name: str
    groups: tuple[str, ...]
    values: np.ndarray

    def per_pass(self) -> np.ndarray:
        """[K]: percent."""
        return 100 * self.values.mean(axis=1)


def accuracy(questions: Sequence[dict], correct: np.ndarray) -> list[Part]:
    """Share of right answers. ``correct`` [K, Q]."""
    return [Part("accuracy", tuple(question["group"] for question in questions), correct.astype(float))]


def all_right(name: str, keys: Sequence[str], groups: Sequence[str], correct: np.ndarray) -> Part:
    """A unit per distinct key; right in a pass if every question of that key is right in that pass."""
    units = dict(zip(keys, groups, strict=True))
    keys = np.asarray(keys)
    values = np.stack([correct[:, keys == key].all(axis=1) for key in units], axis=1)
    return Part(name, tuple(units.values()), values.astype(float))


def hallusion(questions: Sequence[dict], correct: np.ndarray) -> list[Part]:
    """aAcc over questions, fAcc over figures, qAcc over questions asked of several figures (arXiv:2310.14566).

    Fields of a question: ``category``, ``set``, ``figure``, ``question``.
    """

    def keys(field):
        return [f"{each['category']}_{each['set']}_{each[field]}" for each in questions]

    groups = [question["group"] for question in questions]
    return [
        Part("aAcc", tuple(groups), correct.astype(float)),
        all_right("fAcc", keys("figure"), groups, correct),
        all_right("qAcc", keys("question"), groups, correct),
    ]


def wemath(questions: Sequence[dict], correct: np.ndarray) -> list[Part]:
    """Strict and loose score over problems of two or three steps (arXiv:2407.01284).

    With the whole problem right: strict counts 1 if every step is right too, loose if at least one is; else 0, rote
    memorisation. With it wrong: 1/2 if every step is right, inadequate generalisation; else 0.
    Fields of a question: ``group``, the problem's id, and ``key``, such as "2steps_1" or "2steps_multi".
    """
    problems = dict.fromkeys(question["group"] for question in questions)
    strict, loose = [], []
    for problem in problems:
        mine = [n for n, question in enumerate(questions) if question["group"] == problem]
        whole = [n for n in mine if questions[n]["key"].endswith("multi")]
        steps = [n for n in mine if n not in whole]
        if not whole or not steps:  # cut off by a limit
            continue
        right = correct[:, whole].all(axis=1)
        every, some = correct[:, steps].all(axis=1), correct[:, steps].any(axis=1)
        generalises_not = np.where(every & ~right, 0.5, 0.0)
        strict.append((problem, np.where(right & every, 1.0, generalises_not)))
        loose.append((problem, np.where(right & some, 1.0, generalises_not)))
    return [
        Part(name, tuple(problem for problem, _ in units), np.stack([value for _, value in units], axis=1))
        for name, units in (("strict", strict), ("loose", loose))
        if units
    ]


def mathverse(questions: Sequence[dict], correct: np.ndarray) -> list[Part]:
    """Accuracy over all questions and over each version of the problems. Field of a question: ``version``."""
    versions = np.asarray([question["version"] for question in questions])
    groups = np.asarray([question["group"] for question in questions])
    parts = [Part("all versions", tuple(groups), correct.astype(float))]
    for version in dict.fromkeys(versions):
        chosen = versions == version
        parts.append(Part(str(version), tuple(groups[chosen]), correct[:, chosen].astype(float)))
    return parts


Metric = Callable[[Sequence[dict], np.ndarray], list[Part]]
