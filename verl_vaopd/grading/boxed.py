r"""Answers in ``\boxed{}``: finding one in a text, taking one off."""

import re

BOX = "\\boxed{"
_BRACES = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)


def closing_brace(text: str, start: int) -> int:
    r"""Index of the brace that closes the group that begins at ``start``, or -1. ``\{`` and ``\}`` are text."""
    depth, i = 0, start
    while i < len(text):
        if text[i] == "\\":
            i += 1
        elif text[i] == "{":
            depth += 1
        elif text[i] == "}":
            depth -= 1
            if depth < 0:
                return i
        i += 1
    return -1


def boxes(text: str) -> list[tuple[int, int, int]]:
    r"""Of each balanced ``\boxed{...}``, in order: where it begins, where its content does, where that ends."""
    found: list[tuple[int, int, int]] = []
    opened: list[tuple[int, int] | None] = []
    for match in _BRACES.finditer(text):
        if match[0] == "{":
            opened.append(None)
        elif match[0].endswith("{") and match[0] != "\\{":
            opened.append((match.start(), match.end()))
        elif match[0] == "}" and opened and (box := opened.pop()):
            found.append((*box, match.start()))
    return sorted(found)


def last_boxed(text: str) -> str | None:
    r"""Content of the last ``\boxed{...}``; None if there is none or its braces are unbalanced."""
    start = text.rfind(BOX)
    if start < 0:
        return None
    start += len(BOX)
    end = closing_brace(text, start)
    return None if end < 0 else text[start:end].strip()


def unboxed(answer: str) -> str | None:
    r"""An answer without the one ``\boxed{}`` around all of it; None if there is no such box."""
    answer = answer.strip()
    if not answer.startswith(BOX):
        return None
    end = closing_brace(answer, len(BOX))
    return answer[len(BOX) : end].strip() if end == len(answer) - 1 else None
