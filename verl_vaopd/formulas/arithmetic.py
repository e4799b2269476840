"""Numbers that are exact where they are rational (Fraction), else have 60 digits (Decimal). No operation takes long."""

import math
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from fractions import Fraction

Number = Fraction | Decimal
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
_CONTEXT = Context(prec=60, Emax=10**6, Emin=-(10**6), traps=[InvalidOperation, DivisionByZero, Overflow])
_CLOSE = Decimal("1e-40")  # relative; above the error of some hundred operations on 60 digits
_BITS = 6_000  # of a numerator or a denominator: 1,800 digits


class TooLarge(ArithmeticError):
    """Not worked out: too many digits, or a root of a negative number."""


def same(a: Number, b: Number) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    a, b = decimal(a), decimal(b)
    return subtract(a, b).copy_abs() <= _CONTEXT.multiply(_CLOSE, max(a.copy_abs(), b.copy_abs(), Decimal(1)))


def is_zero(number: Number) -> bool:
    return same(number, Fraction(0))


def proportional(given: list[Number], wanted: list[Number]) -> bool:
    """Is ``given`` ``wanted`` times a number? Neither holds a 0."""
    try:
        return all(
            same(multiply(a, wanted[0]), multiply(b, given[0])) for a, b in zip(given, wanted, strict=True)
        )  # fmt: skip
    except ArithmeticError:
        return False


def decimal(number: Number) -> Decimal:
    if isinstance(number, Decimal):
        return number
    return _CONTEXT.divide(Decimal(number.numerator), Decimal(number.denominator))


def multiply(a: Number, b: Number) -> Number:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return _small(a * b)
    return _CONTEXT.multiply(decimal(a), decimal(b))


def add(a: Number, b: Number) -> Number:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return _small(a + b)
    return _CONTEXT.add(decimal(a), decimal(b))


def subtract(a: Number, b: Number) -> Number:
    return add(a, negative(b))


def negative(number: Number) -> Number:
    return -number if isinstance(number, Fraction) else number.copy_negate()  # minus alone rounds to 28 digits


def inverse(number: Number) -> Number:
    return 1 / number if isinstance(number, Fraction) else _CONTEXT.divide(Decimal(1), number)


def power(base: Number, exponent: Number) -> Number:
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        return _whole_power(base, int(exponent))
    if base < 0 or base == 0 and exponent <= 0:
        raise TooLarge
    if isinstance(exponent, Fraction) and exponent.denominator < 10:
        return _whole_power(root(base, exponent.denominator), exponent.numerator)
    return _CONTEXT.power(decimal(base), decimal(exponent))


def _whole_power(base: Number, times: int) -> Number:
    if isinstance(base, Decimal):
        return _CONTEXT.power(base, times)
    if base in (0, 1, -1):
        return base ** (times if base == 0 else times % 2)
    bits = max(abs(base.numerator), base.denominator).bit_length()
    if abs(times) * (bits - 1) > _BITS:
        raise TooLarge
    return base**times


def root(number: Number, degree: int) -> Number:
    """The real root: of a negative number only if ``degree`` is odd."""
    if number <= 0:
        if number == 0:
            return number
        if degree % 2 == 0:
            raise TooLarge
        return negative(root(negative(number), degree))
    if isinstance(number, Fraction):
        above, below = _whole_root(number.numerator, degree), _whole_root(number.denominator, degree)
        if above is not None and below is not None:
            return Fraction(above, below)
    return _CONTEXT.power(decimal(number), _CONTEXT.divide(Decimal(1), Decimal(degree)))


def _whole_root(number: int, degree: int) -> int | None:
    """The whole number whose power of ``degree`` is ``number``, if there is one; of large ones square roots only."""
    if degree > 2 and number.bit_length() > 1000:
        return None
    low, high = (math.isqrt(number),) * 2 if degree == 2 else (0, 1 << (number.bit_length() // degree + 1))
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**degree < number else (low, middle)
    return low if low**degree == number else None


def factorial(number: Number) -> Fraction:
    if not (isinstance(number, Fraction) and number.denominator == 1 and 0 <= number <= 1000):
        raise TooLarge
    return Fraction(math.factorial(int(number)))


def _small(number: Fraction) -> Fraction:
    if max(abs(number.numerator), number.denominator).bit_length() > _BITS:
        raise TooLarge
    return number
