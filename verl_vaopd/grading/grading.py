"""Do two answers say the same? In time, whatever they are."""

from verl_vaopd.grading import pool
from verl_vaopd.grading.rules import judge

MAX_CHARACTERS = 500  # of an answer or a truth that is read


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
        return pool.judge(answer, truth)


def _undecided(given: str, wanted: str) -> bool:
    raise _Undecided
