r"""Answers in ``\boxed{}``: finding the last one, taking one off."""

BOX = "\\boxed{"


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
