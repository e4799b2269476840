"""Brackets in a text: what stands outside of them."""

import re


def split(text: str, separator: re.Pattern, keep: bool = False) -> list[str]:
    """The parts of ``text`` between separators outside all brackets; with ``keep`` the separators' groups too."""
    if not separator.search(text):
        return [text]
    depth, outside = 0, []
    for each in text:
        outside.append(depth == 0)
        depth += (each in "([{") - (each in ")]}")
    parts, start = [], 0
    for match in separator.finditer(text):
        if outside[match.start()]:
            parts += [text[start : match.start()], *(match.groups() if keep else ())]
            start = match.end()
    return [part.strip() for part in [*parts, text[start:]] if part.strip()] if parts else [text]


def balanced(text: str) -> bool:
    """Does every bracket that opens close, and none before? ``[`` and ``)`` are a pair, as of an interval."""
    depth = 0
    for each in text:
        depth += (each in "([{") - (each in ")]}")
        if depth < 0:
            return False
    return depth == 0
