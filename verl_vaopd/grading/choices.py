"""Answers that are the letter of a choice."""

import re

_STYLE = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mathit)\{([^{}]*)\}")
_LETTER = re.compile(r"(?:([A-Z])[.:)]?|\(([A-Z])\)[.:]?)$")
_LETTER_AND_TEXT = re.compile(r"(?:([A-Z])[.:)]|\(([A-Z])\)[.:]?)\s+\S.*$", re.DOTALL)


def choice_letter(answer: str) -> str | None:
    """The letter of ``A``, ``(A)``, ``A.``, ``A. 12`` and the like; None for anything else, small letters included."""
    answer = _STYLE.sub(r"\1", answer).strip(" \t\n$")
    match = _LETTER.match(answer) or _LETTER_AND_TEXT.match(answer)
    return (match[1] or match[2]) if match else None
