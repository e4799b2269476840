"""Are two formulas, or two relations, the same? By their values at some points, without algebra."""

import re
import zlib
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

from verl_vaopd.formulas.arithmetic import Number, decimal, is_zero, proportional, same, subtract
from verl_vaopd.formulas.brackets import split
from verl_vaopd.formulas.values import value

SIGN = re.compile(r"\s*(<=|>=|!=|=|<|>|≈)\s*")
_POINTS = 8
_LARGE = 10**15  # a value beside which a small part of the formula would not be seen
_ENOUGH = 3  # of them with values: two formulas that differ may be the same at one by chance, hardly at three


def same_formula(given: str, wanted: str) -> bool | None:
    """Have they the same value wherever both have one? None if that cannot be said here."""
    seen = 0
    for point in range(_POINTS):
        one, other = value(given, _letters(point)), value(wanted, _letters(point))
        if one is None or other is None:
            continue
        if not same(one, other):
            return None if _imaginary(given + wanted) else False
        seen += decimal(one).copy_abs() < _LARGE
    return True if seen >= _ENOUGH else None


def same_relation(given: str, wanted: str) -> bool | None:
    """Is left less right of the one that of the other times a number, above 0 where they are inequalities?

    None if that cannot be said here.
    """
    sides = [split(text, SIGN, keep=True) for text in (given, wanted)]
    if len(sides[0]) != 3 or len(sides[1]) != 3 or _imaginary(given + wanted):
        return None
    differences = [[], []]
    for point in range(_POINTS):
        ends = [value(side, _letters(point)) for left, _, right in sides for side in (left, right)]
        if None not in ends:
            differences[0].append(subtract(*ends[:2]))
            differences[1].append(subtract(*ends[2:]))
    if len(differences[0]) < _ENOUGH or any(map(is_zero, [*differences[0], *differences[1]])):
        return None
    signs = [sign for _, sign, _ in sides]
    opposite = {sign[0] for sign in signs} == set("<>")
    if signs[0][1:] != signs[1][1:] or (signs[0][0] != signs[1][0] and not opposite):
        return False
    falls = (differences[0][0] < 0) != (differences[1][0] < 0)
    return proportional(*differences) and (signs[0][0] not in "<>" or falls == opposite)


def _letters(point: int) -> Callable[[str], Number]:
    """A number for each letter, always the same: below 1 at the first points, above at the next, then below 0."""

    def letter(name: str) -> Decimal:
        drawn = zlib.crc32(f"{name} {point}".encode())
        number = Fraction(drawn % 997 + 1, drawn // 997 % 997 + 1000)
        return decimal(number if point < 3 else 1 / number if point < 6 else -number)  # 60 digits: no power of it grows

    return letter


def _imaginary(text: str) -> bool:
    """``i * i`` is -1, which a point does not know."""
    return bool(re.search(r"(?<![a-zA-Z\\])i(?![a-zA-Z])", text))
