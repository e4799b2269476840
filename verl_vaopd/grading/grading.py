"""Do two answers say the same? In time, whatever they are."""

import math
import re

from verl_vaopd.grading import pool
from verl_vaopd.grading.boxed import closing_brace
from verl_vaopd.grading.rules import judge
from verl_vaopd.grading.text import plain

MAX_CHARACTERS = 500  # of an answer or a truth that is read
MAX_POWER = 1000  # product of the numbers in all exponents
MAX_POWER_OF_A_SUM = 20
_TOKEN = re.compile(r"\s*[+-]?\w*(?:\s*\^\s*\{?[+-]?\w+)*")


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
        return bounded(plain(answer)) and bounded(plain(truth)) and pool.judge(answer, truth)


def _undecided(given: str, wanted: str) -> bool:
    raise _Undecided


def bounded(text: str) -> bool:
    """Is a plain text (``text.py``) worth asking sympy? Not a tower of numbers, a large exponent or factorial."""
    if "!" in re.sub(r"(?<!\d)\d{1,2}!(?!!)|!=", "", text):
        return False
    power = 1
    for operator in re.finditer(r"\^", text):
        exponent = _exponent(text, operator.end())
        if "^" in exponent and not re.search("[a-zA-Z]", exponent):
            return False
        this = math.prod(max(1, int(number)) for number in re.findall(r"\d+", exponent))
        if this > MAX_POWER_OF_A_SUM and text[: operator.start()].rstrip().endswith((")", "]", "}")):
            return False
        power *= this
    return power <= MAX_POWER


def _exponent(text: str, start: int) -> str:
    """What stands behind ``^``: a group, or a word, with the powers that follow."""
    if text[start:].lstrip()[:1] == "{":
        start = text.index("{", start)
        end = closing_brace(text, start + 1)
        return text[start:] if end < 0 else text[start : end + 1]
    return _TOKEN.match(text, start)[0]
