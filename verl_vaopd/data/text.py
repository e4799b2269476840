"""Checks on a row's question and answer."""

import re

from verl_vaopd.data.bad_rows import RowError

PLACEHOLDER = "<image>"
MEND = "correct it in the source or take the row out (verl-vaopd data: --on-error skip)"


def bare_question(question: str) -> str:
    """The question without placeholders and white space: what decides whether two questions are the same."""
    return "".join(question.replace(PLACEHOLDER, " ").split())


def check_question(question: str | None, images: int, name: str) -> None:
    """Raises RowError: no text, or another number of ``<image>`` placeholders than images; verl fills in each one."""
    if not question or not bare_question(question):
        raise RowError(name, "empty_question", "has no text", MEND)
    if found := re.search("<video>|<audio>", question):
        raise RowError(name, "placeholder_mismatch", f"has a {found[0]} placeholder, the row has images only", MEND)
    count = question.count(PLACEHOLDER)
    if count != images:
        raise RowError(name, "placeholder_mismatch", f"has {count} <image> placeholders for {images} images", MEND)


def check_answer(answer: str | None, name: str) -> None:
    """Raises RowError: no text."""
    if not answer or not answer.strip():
        raise RowError(name, "empty_answer", "is empty", MEND)
