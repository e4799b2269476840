"""What an answer can be, and which texts are names or words rather than formulas."""

import re
from dataclasses import dataclass

from verl_vaopd.formulas.units import Unit
from verl_vaopd.formulas.values import FUNCTIONS

_NAME = re.compile(
    rf"""
    (?:m\s*)? [∠△] \s* \w+                              # m∠ABC  △ABC
    | (?:m\s*)? \\(?:overline|widehat|overrightarrow|vec|bar) \s* \{{? [a-zA-Z]+ \}}? | \|[a-zA-Z]+\|
    | [A-Z]+ (?:\s* : \s* [A-Z]+)+                       # AB:CD
    | \\? (?:{FUNCTIONS}) \w* \s* ∠? \s* [a-zA-Z]+       # sin A
    | (?:\\[a-zA-Z]+\s*|[a-zA-Z]+) (?:_\{{?\w+\}}?)? '* (?:\^\{{?-1\}}?)? \s* (?:\([\w,\s∠△'\\+-]*\))?  # x_1  f(x)
    | [a-zA-Z△∠\s]+ | [一-鿿][\w∠△]*                      # the area of ABC
    """,
    re.VERBOSE,
)
_OF = re.compile(r"(?:the\s+)?(?:(?:measure|length|value|area|size)\s+of\s+)?", re.IGNORECASE)
_OVER = re.compile(r"(?:m\s*)?\\(?:overline|bar|widehat|overrightarrow|vec)\s*\{?([a-zA-Z]+)\}?|\|([a-zA-Z]+)\|")
_NO_LETTERS = re.compile(
    rf"\\(?:begin|end)\{{[a-z*]+\}}|\\[a-zA-Z]+|(?<![a-zA-Z])(?:{FUNCTIONS}|arcsin|arccos|arctan|pi)(?![a-zA-Z])"
)
_TWO_WORDS = re.compile(r"(?<![a-zA-Z])[a-zA-Z]{2,}\s+[a-zA-Z]{2,}(?![a-zA-Z])")


@dataclass(frozen=True)
class Expression:
    """One value: a number or a formula, and its unit."""

    text: str
    unit: Unit | None = None


@dataclass(frozen=True)
class Words:
    text: str


@dataclass(frozen=True)
class Several:
    """``brackets``: "" of a list with commas, "or" of one with words, "{}" of a set, "≈" of a value and its rounding,
    else "()", "[]", "[)", "(]" of a tuple or an interval."""

    items: tuple
    brackets: str = ""


@dataclass(frozen=True)
class Named:
    name: str
    of: "Shape"


@dataclass(frozen=True)
class Interval:
    """An end that is None is infinite."""

    low: Expression | None
    high: Expression | None
    closed_low: bool = False
    closed_high: bool = False


@dataclass(frozen=True)
class Region:
    """Some intervals; of ``variable`` if one is named, read from ``relation`` if from one."""

    intervals: tuple[Interval, ...]
    variable: str = ""
    relation: str = ""


@dataclass(frozen=True)
class Relation:
    """An equation or inequality that is none of the above."""

    text: str
    last: "Shape | None" = None  # the right side of an equation whose left side has no variable: AB + CD = 10


Shape = Expression | Words | Several | Named | Region | Relation


def is_name(text: str) -> bool:
    return bool(_NAME.fullmatch(text.strip()))


def name_of(text: str) -> str:
    """One spelling of a name: no ``m`` before an angle, no ``the length of``, nothing over it; ``y`` for ``f(x)``."""
    text = _OVER.sub(r"\1\2", text.strip())
    text = text[_OF.match(text).end() :]
    text = re.sub(r"^m\s*(?=∠)|[\s{}\\]", "", re.sub(r"^angle\b", "∠", text))
    return text.lower() if re.search("[a-z]{3}", text) else {"f(x)": "y"}.get(text, text)


def is_words(text: str) -> bool:
    """Is the text in letters no formula? ``SAS``, ``isosceles triangle``, ``no``; not ``xy``, ``2ab``, ``x sin x``."""
    bare = _NO_LETTERS.sub(" ", text)
    runs = re.findall(r"[^\W\d_πΩ]+", bare)
    if any(len(run) > 3 or not run.isascii() for run in runs) or _TWO_WORDS.search(bare):
        return True
    if re.search(r"[\d+*/^=<>\\]", text):
        return False
    return any(len(run) > 1 and (not run.islower() or re.search("[eiou]", run)) for run in runs)
