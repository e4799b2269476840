"""Do two answers say the same? In time, whatever they are."""

import math
import re

from verl_vaopd.grading import pool
from verl_vaopd.grading.rules import judge

MAX_CHARACTERS = 500  # of an answer or a truth that is read
MAX_POWER = 1000  # product of the numbers in all exponents
MAX_POWER_OF_A_SUM = 20
_POWER = re.compile(r"\^|\*\*")
_EXPONENT = re.compile(
    r"\s*(?:\{((?:[^{}^]|\{[^{}^]*\})*)\}|\(([^()^]*)\)|([+-]?\d+|[A-Za-z']|\\(?:circ|pi|prime)(?![a-zA-Z])))"
)


class _Undecided(Exception):
    pass


def same_answer(answer: str, truth: str) -> bool:
    """Is ``answer`` right? By the rules of docs/data.md, within about a second; callable from any thread.

    What the rules alone decide is decided here. Formulas are left to a process that has a second (``pool.py``): if it
    does not end, the answer is wrong. What is too long to be read is right if it is the same text.

    Raises:
        RuntimeError: the grading process does not start.
    """
    if not answer.strip() or not truth.strip():
        return False
    if max(len(answer), len(truth)) > MAX_CHARACTERS:
        return "".join(answer.split()) == "".join(truth.split())
    try:
        return judge(answer, truth, _undecided)
    except _Undecided:
        return bounded(answer) and bounded(truth) and pool.judge(answer, truth)


def _undecided(given: str, wanted: str) -> bool:
    raise _Undecided


def bounded(text: str) -> bool:
    """Is it worth asking sympy? Not of a power of a power, a large exponent, a large factorial: they never end."""
    if "!" in re.sub(r"(?<!\d)\d{1,2}!(?!!)|!=", "", text):
        return False
    power = 1
    for operator in _POWER.finditer(text):
        exponent = _EXPONENT.match(text, operator.end())
        if not exponent or "**" in exponent[0] or _POWER.match(text[exponent.end() :].lstrip(" })")):
            return False
        this = math.prod(max(1, int(number)) for number in re.findall(r"\d+", exponent[0]))
        if this > MAX_POWER_OF_A_SUM and text[: operator.start()].rstrip().endswith((")", "]", "}")):
            return False
        power *= this
    return power <= MAX_POWER
