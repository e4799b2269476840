"""What two answers may not differ in, however alike the rest: bases, figures, negation, digits with a space."""

import re

_MARKS = {"overline": "-", "bar": "-", "overrightarrow": "→", "vec": "→", "widehat": "⌢", "∠": "∠", "△": "△"}
_MARK = re.compile(r"(?<![\d.])\\(overline|bar|overrightarrow|vec|widehat)(?![a-zA-Z])|([∠△])")
_BASE = re.compile(
    r"\(?\s*(?<![a-zA-Z\d_^])(\d[\dA-F]*|[A-F]+\d[\dA-F]*)\s*\)?\s*_\s*\{?\s*\(?(\d{1,2})\)?\s*\}?(?!\d)"
)
_GLUED = re.compile(r"(?<![\d_^])\d+\s+\d(?!\d*\s*/)")
_OPPOSITES = {"yes": "no", "true": "false", "是": "否", "正确": "错误"}
_OPPOSITES |= {no: yes for yes, no in _OPPOSITES.items()}
_JOINED = ("and", "or", "nor", "和", "或")


def clash(given: str, wanted: str) -> bool:
    """Do two plain texts name other figures, or is one the negation of the other?"""
    if given.count("\\neg") != wanted.count("\\neg"):
        return True
    marks = [{_MARKS[one or other] for one, other in _MARK.findall(text)} for text in (given, wanted)]
    return all(marks) and marks[0].isdisjoint(marks[1])


def in_bases(text: str) -> str | None:
    """``101_{2}`` with one spelling of its bases, none for base 10; None if ``text`` has no base."""
    if "_" not in text or not _BASE.search(text):
        return None
    text = _BASE.sub(lambda match: match[1] + ("" if match[2] == "10" else f"_{match[2]}"), text)
    return re.sub(r"\s+", "", text)


def glued(text: str) -> bool:
    """Has ``text`` two numbers with but a space between them? ``1 2``; not ``2 1/2``."""
    return bool(_GLUED.search(text))


def says_both(words: list[str]) -> bool:
    """``yes and no``, ``Yes/No``."""
    opposite = _OPPOSITES.get(words[0]) if words else None
    return len(words) > 1 and (words[1:] == [opposite] or words[1] in _JOINED and words[2:] == [opposite])
