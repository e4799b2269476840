"""Answers that are letters of choices."""

import re

_LEAD = (
    r"(?:(?:the\s+)?(?:correct\s+|right\s+)?(?:options?|choices?|answers?)(?:\s+(?:is|are))?|both|only|it\s+is|it's"
    "|选项|【?答案】?|选择|选|故选|应选)"
)
_LEADING = re.compile(rf"{_LEAD}\s*[:\s]?\s*(?=[(\[【]?[A-Z](?![a-zA-Z]))", re.IGNORECASE)
_ONE = r"(?:\(\s*([A-Z])\s*\)|\[\s*([A-Z])\s*\]|([A-Z])(?![a-zA-Z])|【\s*([A-Z])\s*】)"
_LETTER = re.compile(
    rf"{_ONE}\s*[.:)]?\s*(?:选?项)?(?:\s+is\s+(?:the\s+)?(?:correct|right)(?:\s+(?:answer|option|choice))?)?$"
)
_LETTER_AND_TEXT = re.compile(
    r"(?:([A-Z])\s*[.:)、]|\(([A-Z])\)\s*[.:、]?|([A-Z])\s+-(?=\s)|([A-Z])\s+(?=[\d\\-]|\([^(),;]*\)$))\s*(\S.*)$",
    re.DOTALL,
)
_ANOTHER = re.compile(r"(?<![a-zA-Z\\])\(?[A-Z]\s*[:.)]|(?<![\w\\])\([A-Z]$")
_NEXT = re.compile(r"[\d}/;,]\s+([A-Z])\s+(?:-\s|\d)")  # A 12 B 13; of D, 2R - 3 is a text
_SEPARATOR = re.compile(r"\s*(?:,\s*and\b|[,;、&]|\band\b|和|与|及)\s*")


def choice_letters(answer: str) -> frozenset[str] | None:
    """The letters of ``A``, ``(A)``, ``A. 12``, ``Option A``, ``(A) and (C)``, ``A, C`` (a plain text, ``text.py``).

    None for anything else, small letters and named values (``A: 30, B: 60``) included.
    """
    answer = _LEADING.sub("", answer, count=1) if _LEADING.match(answer) else answer
    answer = re.sub(r"\s+only$", "", answer)
    answer = re.sub(r"(?<=\([A-Z]\))\s*(?=\([A-Z]\))", ",", answer)  # (A)(C)
    letters = [_letter(part) for part in _SEPARATOR.split(answer)]
    if all(letters) and len(set(letters)) == len(letters):
        return frozenset(letters)
    if choice_text(answer):
        return frozenset(filter(None, _LETTER_AND_TEXT.match(answer).groups()[:4]))
    return None


def choice_text(answer: str) -> str | None:
    """What stands behind the letter of ``A. 12``; None if there is no such letter."""
    match = _LETTER_AND_TEXT.match(answer)
    if not match or _ANOTHER.search(match[5]):
        return None
    letter = next(filter(None, match.groups()))
    return None if chr(ord(letter) + 1) in _NEXT.findall(match[5]) else match[5]


def glued_letters(answer: str) -> frozenset[str] | None:
    """The letters of ``ACD``: two or more capitals in the order of the alphabet."""
    letters = sorted(set(answer))
    return frozenset(letters) if re.fullmatch("[A-Z]{2,}", answer) and list(answer) == letters else None


def _letter(part: str) -> str | None:
    match = _LETTER.match(part)
    return next(filter(None, match.groups())) if match else None
