r"""The value of a text that is a number, or of a formula at a point.

Sums, products, quotients, powers, factorials, ``\frac``, ``\sqrt``, ``π``, mixed numbers, recurring decimals, letters.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

from verl_vaopd.formulas import arithmetic as a
from verl_vaopd.formulas.arithmetic import Number

_DEPTH = 40  # of brackets and powers
_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:\\overline\{(\d+)\})?(?:[eE]([+-]?\d{1,4})(?![\d.]))?(?!\\ldots)")
_PROPER = re.compile(r"\s*(?:\\frac\{\s*(\d+)\s*\}\{\s*(\d+)\s*\}|\s(\d+)\s*/\s*(\d+))(?![\d.!^])")
_DECIMAL = re.compile(r"[+-]?\s*(\d*)\.(\d+)")
_GREEK = "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|chi|psi|omega|Delta"
FUNCTIONS = "sin|cos|tan|cot|sec|csc|arc|log|ln|lg|exp|lim|max|min|det|gcd|lcm|mod"
_LETTER = rf"(?:(?!{FUNCTIONS})[a-zA-Z]|\\(?:{_GREEK})(?![a-zA-Z]))(?:_(?:\{{\s*\w+\s*\}}|\w))?(?!')"
_TOKENS = {
    name: re.compile(r"\s*(?:" + pattern + ")")
    for name, pattern in {
        "letter": _LETTER, "factor": rf"[(π{{]|\\frac|\\sqrt|{_LETTER}", "number": _NUMBER.pattern, "end": "$",
        "root": r"\\sqrt(?:\[\s*([2-9])\s*\])?(?=\{)", "frac": r"\\frac(?=\{)",
        **{each: re.escape(each) for each in "+-*/!^()π{}"},
    }.items()
}  # fmt: skip


def value(text: str, letter: Callable[[str], Number] | None = None) -> Number | None:
    """The number that ``text`` is, with ``letter(name)`` for a letter; None if it is none, or not worked out here."""
    try:
        number = _Reader(text, letter).all()
    except ArithmeticError:
        return None
    return number if isinstance(number, Fraction) or number.is_finite() else None


def rounds_to(number: Number, literal: str) -> bool:
    """Is ``literal`` a decimal of six significant digits or more, ``number`` to as many, the last rounded or cut?"""
    match = _DECIMAL.fullmatch(literal.strip())
    if not match or len((match[1] + match[2]).lstrip("0")) < 6:
        return False
    rounded, last = Decimal(literal.replace(" ", "")), Decimal(1).scaleb(-len(match[2]))
    more = a.subtract(a.decimal(number).copy_abs(), rounded.copy_abs())
    return (rounded < 0) == (number < 0) and -last / 2 <= more < last


class _Unreadable(ArithmeticError):
    pass


class _Reader:
    """One pass over the text, from left to right."""

    def __init__(self, text: str, letter: Callable[[str], Number] | None):
        self.text, self.at, self.depth, self.letter = text, 0, 0, letter

    def all(self) -> Number:
        number = self.sum()
        self.take("end", must=True)
        return number

    def take(self, token: str, must: bool = False) -> re.Match | None:
        """The token, if it is next, spaces left out; moves behind it."""
        if match := _TOKENS[token].match(self.text, self.at):
            self.at = match.end()
        elif must:
            raise _Unreadable
        return match

    def sum(self) -> Number:
        self.deeper()
        number = self.product()
        while True:
            if self.take("+"):
                number = a.add(number, self.product())
            elif self.take("-"):
                number = a.subtract(number, self.product())
            else:
                self.depth -= 1
                return number

    def product(self) -> Number:
        below = False
        while (minus := self.take("-")) or self.take("+"):
            below ^= bool(minus)
        number = self.power()
        while True:
            if self.take("*"):
                number = a.multiply(number, self.signed())
            elif self.take("/"):
                number = a.multiply(number, a.inverse(self.signed()))
            elif _TOKENS["factor"].match(self.text, self.at) and (self.letter or not self.next_is_letter()):
                number = a.multiply(number, self.power())
            else:
                return a.negative(number) if below else number

    def next_is_letter(self) -> bool:
        return bool(_TOKENS["letter"].match(self.text, self.at))

    def signed(self) -> Number:
        return a.negative(self.power()) if self.take("-") else self.power()

    def power(self) -> Number:
        number = self.atom()
        while self.take("!"):
            number = a.factorial(number)
        if self.take("^"):
            self.deeper()
            number = a.power(number, self.signed())
            self.depth -= 1
        return number

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEPTH:
            raise _Unreadable

    def atom(self) -> Number:
        if match := self.take("number"):
            return self.number(match)
        if self.take("π"):
            return a.PI
        if self.letter and (match := self.take("letter")):
            return self.letter(re.sub(r"[\s{}]", "", match[0]))
        if self.take("frac"):
            above = self.group()
            return a.multiply(above, a.inverse(self.group()))
        if match := self.take("root"):
            return a.root(self.group(), int(match[1] or 2))
        return self.group("(", ")") if _TOKENS["("].match(self.text, self.at) else self.group()

    def group(self, opening: str = "{", closing: str = "}") -> Number:
        self.take(opening, must=True)
        number = self.sum()
        self.take(closing, must=True)
        return number

    def number(self, match: re.Match) -> Number:
        digits, recurring, exponent = match.groups()
        number = Fraction(digits.rstrip("."))
        if recurring:
            places = len(digits.partition(".")[2])
            number += Fraction(int(recurring), (10 ** len(recurring) - 1) * 10**places)
        if exponent:
            return a.multiply(number, a.power(Fraction(10), Fraction(int(exponent))))
        return number + self.fraction_behind() if match[0].strip().isdigit() else number

    def fraction_behind(self) -> Fraction:
        r"""The second part of ``2\frac{1}{2}`` and ``2 1/2``, which are sums if it is below 1; else 0."""
        match = _PROPER.match(self.text, self.at)
        above, below = (int(each) for each in match.groups() if each) if match else (1, 0)
        if above >= below:
            return Fraction(0)
        self.at = match.end()
        return Fraction(above, below)
