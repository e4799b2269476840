"""From a plain text (``text.py``) to what it is (``shapes.py``)."""

import re
from collections.abc import Iterator
from fractions import Fraction

from verl_vaopd.formulas.arithmetic import decimal, same
from verl_vaopd.formulas.brackets import balanced, split
from verl_vaopd.formulas.number_words import leading_number
from verl_vaopd.formulas.points import SIGN
from verl_vaopd.formulas.units import QUOTIENT, added_up, read_unit, split_multiplier, split_unit
from verl_vaopd.formulas.values import value
from verl_vaopd.grading.shapes import (
    Expression,
    Interval,
    Named,
    Region,
    Relation,
    Several,
    Shape,
    Words,
    is_name,
    is_words,
    name_of,
)
from verl_vaopd.grading.text import key

_DEEP = 20  # brackets in all
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{2,3})*,\d{3}(?![\d]|,\d)")
_REAL = re.compile(r"\\(?:mathbb|mathbf)\s*\{?\s*R\s*\}?|all real numbers|all reals|(?:全体|任意)?实数")
_NOTHING = re.compile(r"∅|\\\{\s*\\\}|no (?:real )?solutions?|(?:the )?empty set|无解|空集", re.IGNORECASE)
_IS = re.compile(r"\s+(?:is|are|equals|is equal to)\s+(?=.*\d)(?!.*\bnot\b)")
_SEPARATOR = re.compile(r"\s*(?:,\s*(?:and|or)\b|[,;、]|\b(?:and|or)\b|和|或|与)\s*")
_COMMA, _COLON, _BAR = re.compile(r"\s*[,;]\s*"), re.compile(":"), re.compile(r"[|:]")
_WORDED, _UNION = re.compile(r"\b(?:and|or)\b|和|或|与"), re.compile(r"\bor\b|或")
_ASIDE = re.compile(r"(\S.*?)\s*\(\s*(?:(or\b|=|i\.e\.,?|that is,?|即)|≈|(?:about|approximately)\b|约)\s*(\S.*)\)")
_POINT = re.compile(r"([A-Z]'*)\s*(\(.*\d.*\))")
_TRIGONOMETRY = re.compile(r"(?<![a-zA-Z])(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")


def readings(text: str) -> Iterator[Shape]:
    r"""Every way to read it: ``1,000`` is one number, ``100,200`` one or two, ``3\frac{m}{s}`` a speed or a formula."""
    if max(sum(map(text.count, "([{")), text.count("≈")) > _DEEP:
        yield Expression(text)
        return
    joined = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    yield read(joined)
    if joined != text and not re.search(r",0\d", text):
        yield read(text)
    if QUOTIENT.search(text) and not re.search("[=<>,]", text):
        yield Expression(text)


def read(text: str) -> Shape:
    text = text.strip()
    if _REAL.fullmatch(text):
        return Region((Interval(None, None),))
    if _NOTHING.fullmatch(text):
        return Region(())
    if text.endswith(")") and (aside := _ASIDE.fullmatch(text)) and balanced(aside[3]):  # 5.5 (or 11/2)
        text = f"{aside[1]} {'or' if aside[2] else '≈'} {aside[3]}"
    if " and " in text and (number := leading_number(text)) and not number[1]:  # one hundred and five
        return Expression(str(number[0]))
    if shape := _membership(text):
        return shape
    if amount := added_up(text):
        return Expression(*amount)
    if len(parts := split(text, _IS)) == 2 and is_name(parts[0]):
        return Named(name_of(parts[0]), read(parts[1]))
    if len(parts := split(text, _SEPARATOR)) > 1:
        return _several(parts, text)
    if len(parts := split(text, SIGN, keep=True)) > 1:
        return _relation(text, parts)
    if len(parts := split(text, _COLON)) == 2 and is_name(parts[0]) and re.search(r"\d", parts[1]):
        return Named(name_of(parts[0]), read(parts[1]))
    if shape := _bracketed(text):
        return shape
    if (point := _POINT.fullmatch(text)) and isinstance(shape := _bracketed(point[2]), Several):
        return Named(point[1], shape)
    if text.count("±") == 1:
        return Several((_expression(text.replace("±", "+")), _expression(text.replace("±", "-"))), "or")
    return _expression(text)


def as_region(shape: Shape) -> Region | None:
    """A pair in brackets as the interval that it may be."""
    if isinstance(shape, Region):
        return shape
    if isinstance(shape, Several) and len(shape.items) == 2 and shape.brackets in ("()", "[]", "[)", "(]"):
        if all(isinstance(item, Expression) for item in shape.items):
            low, high = map(_end, shape.items)
            return Region((Interval(low, high, shape.brackets[0] == "[", shape.brackets[1] == "]"),))
    return None


def _expression(text: str) -> Expression | Words:
    if _TRIGONOMETRY.search(text):
        text = re.sub(r"(\d+(?:\.\d+)?)\s*°", r"(\1*π/180)", text)
    amount, unit = split_unit(text)
    amount, times = split_multiplier(amount)
    if is_words(amount):
        number, behind = leading_number(text) or (None, text)
        if number is None or behind and not read_unit(behind) and behind not in ("unit", "units") or read_unit(text):
            return Words(text)
        amount, unit, times = str(number), read_unit(behind), 1
    return Expression(amount if times == 1 else f"({amount})*{times}", unit)


def _several(parts: list[str], text: str) -> Shape:
    items = [read(part) for part in parts]
    if all(isinstance(item, Region) and item.intervals for item in items) and len({i.variable for i in items}) == 1:
        intervals = tuple(interval for item in items for interval in item.intervals)
        if not _UNION.search(text) and len(intervals) == 2 and (both := _intersection(*intervals)):
            intervals = (both,)
        return Region(intervals, items[0].variable)
    flat: list[Shape] = []
    for item in items:
        flat += item.items if isinstance(item, Several) and item.brackets == "" else [item]
    if len(flat) == 2 and _UNION.search(text) and _one_value(*flat):
        return Several(tuple(flat), "≈")
    return Several(tuple(flat), "or" if _WORDED.search(text) else "")


def _one_value(first: Shape, second: Shape) -> bool:
    """``5.5 or 11/2``, ``2√3 or 3.46``: two spellings of one number."""
    if not (isinstance(first, Expression) and isinstance(second, Expression) and first.unit == second.unit):
        return False
    numbers = [(value(each.text), each.text) for each in (first, second)]
    if any(number is None for number, _ in numbers):
        return False
    (one, text), (other, behind) = numbers
    rounded = ((one, behind), (other, text))
    return same(one, other) or any(re.search(r"\.\d\d+$", end) and _rounded(of, end) for of, end in rounded)


def _intersection(first: Interval, second: Interval) -> Interval | None:
    """``x > 0, x < 5`` is one interval, ``x < 0, x > 5`` are two."""
    for low, high in ((first, second), (second, first)):
        if low.low and not low.high and high.high and not high.low:
            ends = value(low.low.text), value(high.high.text)
            if None not in ends and decimal(ends[0]) < decimal(ends[1]):
                return Interval(low.low, high.high, low.closed_low, high.closed_high)
    return None


def _membership(text: str) -> Shape | None:
    """``x ∈ S`` and unions."""
    if len(parts := split(text, re.compile("∈"))) == 2 and is_name(parts[0]):
        inner = as_region(read(parts[1]))
        return Region(inner.intervals, key(parts[0])) if inner else read(parts[1])
    if len(parts := split(text, re.compile("∪"))) > 1:
        regions = [as_region(read(part)) for part in parts]
        if all(regions):
            return Region(tuple(interval for region in regions for interval in region.intervals))
    return None


def _end(expression: Expression) -> Expression | None:
    return None if re.fullmatch(r"[+-]?\s*(?:∞|inf|infinity)", expression.text) else expression


def _relation(text: str, parts: list[str]) -> Shape:
    sides, signs = parts[::2], parts[1::2]
    if len(sides) != len(signs) + 1 or not all(SIGN.fullmatch(sign) for sign in signs):
        return Relation(text)
    if set(signs) <= {"=", "≈"}:
        return _equation(text, sides, signs)
    kinds = {sign[0] for sign in signs}
    if len(kinds) == 1 and kinds <= set("<>"):
        if kinds == {">"}:
            sides, signs = sides[::-1], signs[::-1]
        closed = [sign.endswith("=") for sign in signs]
        if len(sides) == 3 and is_name(sides[1]):
            return _interval(sides[0], sides[2], closed, sides[1], text)
        for at, ends in ((0, (None, sides[1])), (1, (sides[0], None))):
            if len(sides) == 2 and is_name(sides[at]) and sides[at] not in sides[1 - at]:
                return _interval(*ends, closed * 2, sides[at], text)
    return Relation(text)


def _interval(low: str | None, high: str | None, closed: list[bool], name: str, text: str) -> Shape:
    ends = [None if end is None else _expression(end) for end in (low, high)]
    if any(isinstance(end, Words) for end in ends):
        return Relation(text)
    ends = [end and _end(end) for end in ends]
    shut = [side and end is not None for side, end in zip(closed, ends, strict=True)]
    return Region((Interval(*ends, *shut),), key(name), text)


def _equation(text: str, sides: list[str], signs: list[str]) -> Shape:
    first, last = sides[0], sides[-1]
    if signs[-1] == "≈" and not (len(sides) == 2 and is_name(first)):
        kept = read(first + "".join(sign + side for sign, side in zip(signs[:-1], sides[1:-1], strict=True)))
        exact, rounded = value(sides[-2]), value(last)
        close = None not in (exact, rounded) and (same(exact, rounded) or _rounded(exact, last))
        return Several((kept, read(last)), "≈") if close and not isinstance(kept, Named) else kept
    if is_name(first):
        return Named(name_of(first), read(last))
    names, values = _bracketed(first), _bracketed(last)
    if isinstance(names, Several) and isinstance(values, Several) and len(names.items) == len(values.items):
        if all(isinstance(item, Expression) and is_name(item.text) for item in names.items):  # (x, y) = (1, 2)
            pairs = zip(names.items, values.items, strict=True)
            return Several(tuple(Named(name_of(name.text), of) for name, of in pairs))
    if len(sides) == 2 and is_name(last) and not re.search("[a-zA-Z]", first):
        return Named(name_of(last), read(first))
    variables = re.search("(?<![a-zA-Z])[a-z](?![a-zA-Z])", re.sub(r"\\[a-zA-Z]+", "", first))
    return Relation(text, None if variables else read(last))


def _rounded(exact, text: str) -> bool:
    """Is ``text`` a decimal within one of its last digit of ``exact``?"""
    places = len(text.partition(".")[2])
    return abs(decimal(exact) - decimal(value(text))) < decimal(Fraction(1, 10**places))


def _bracketed(text: str) -> Shape | None:
    braces = re.fullmatch(r"\\\{(.*)\\\}", text)
    inside = braces[1] if braces else text[1:-1]
    if not (braces or len(text) > 2 and text[0] in "([" and text[-1] in ")]") or not balanced(inside):
        return None
    if braces and len(parts := split(inside, _BAR)) == 2:
        return read(parts[1])
    parts = split(inside, _COMMA)
    if braces or len(parts) > 1:
        return Several(tuple(map(read, parts)), "{}" if braces else text[0] + text[-1])
    return read(inside) if text[0] + text[-1] == "()" else None
