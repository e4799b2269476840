"""Checks on the values of a row: their types, its question, its answer."""

import re
import unicodedata

from verl_vaopd.data.bad_rows import RowError
from verl_vaopd.grading.grading import same_answer

PLACEHOLDER = "<image>"
MEND = "correct it in the source or take the row out (verl-vaopd data: --on-error skip)"
_WANTED = {str: "text", bytes: "bytes", list: "a list", dict: "a struct", int: "an integer"}
_FILLERS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and symbols that show nothing


def shown(value) -> str:
    """A value in a message: its type and how it begins."""
    text = repr(value)
    return f"{type(value).__name__} {text[:60]}{'...' if len(text) > 60 else ''}"


def cell(value, name: str, *kinds: type):
    """The value of a field, None as it is. Raises RowError: another type, or the RowError that stands in its place."""
    if isinstance(value, RowError):
        raise value
    if value is not None and not isinstance(value, kinds):
        wanted = " or ".join(_WANTED[kind] for kind in kinds)
        raise RowError(name, "wrong_type", f"is {shown(value)}, it must be {wanted}", MEND)
    return value


def _is_blank(text: str | None) -> bool:
    """Does it show no letter, number, punctuation or symbol?"""
    return not any(each not in _FILLERS and unicodedata.category(each)[0] in "LNPS" for each in text or "")


def bare_question(question: str) -> str:
    """The question without placeholders and white space: what decides whether two questions are the same."""
    return "".join(question.replace(PLACEHOLDER, " ").split())


def check_question(question: str | None, images: int, name: str) -> None:
    """Raises RowError: no text, or another number of ``<image>`` placeholders than images; verl fills in each one."""
    if not question or _is_blank(bare_question(question)):
        raise RowError(name, "empty_question", "has no text", MEND)
    if found := re.search("<video>|<audio>", question):
        raise RowError(name, "placeholder_mismatch", f"has a {found[0]} placeholder, the row has images only", MEND)
    count = question.count(PLACEHOLDER)
    if count != images:
        raise RowError(name, "placeholder_mismatch", f"has {count} <image> placeholders for {images} images", MEND)


def check_answer(answer: str | None, name: str) -> None:
    """Raises RowError: no text, or none that shows."""
    if _is_blank(answer):
        seen = f"is {answer[:60]!r}, in which nothing shows" if answer and answer.strip() else "is empty"
        raise RowError(name, "empty_answer", seen, MEND)


def check_truth(answer: str | None, name: str) -> None:
    """As ``check_answer``; also refuses an answer of which the rules of grading leave nothing."""
    check_answer(answer, name)
    if not same_answer(answer, answer):
        raise RowError(name, "empty_answer", f"is {answer!r}, which no answer is the same as", MEND)
