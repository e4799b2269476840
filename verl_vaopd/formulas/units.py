"""Units behind (money: before) a number, taken off a plain text (``text.py``) and brought to a common measure."""

import re
from dataclasses import dataclass
from fractions import Fraction

from verl_vaopd.formulas.unit_names import MULTIPLIERS, NAMES, NO_UNIT, PREFIXED, PREFIXED_PATTERN, SPEEDS

_LOWER = {name.lower(): unit for name, unit in NAMES.items()}
_WORDS = sorted((name for name in [*_LOWER, *SPEEDS] if len(name) > 1 and name.isascii()), key=len, reverse=True)
_SIGNS = sorted((name for name in NAMES if len(name) == 1 or not name.isascii()), key=len, reverse=True)
_EITHER = [rf"(?i:{'|'.join(map(re.escape, _WORDS))})", rf"(?:{'|'.join(map(re.escape, _SIGNS))})"]
_EITHER.append(rf"(?!{_EITHER[0]}(?![a-zA-Z])){PREFIXED_PATTERN}")  # no name in two ways: many would take for ever
_TERM = (
    r"(?:(?P<square>(?i:square|sq\.?|平方)\s*)|(?P<cubic>(?i:cubic|cu\.?|立方)\s*))?"
    rf"(?P<name>(?:{'|'.join(_EITHER)})(?![a-zA-Z]))"
    r"(?:\s*\^\s*\{?\s*(?P<power>-?\d)\s*\}?|(?<=[mtndis])(?P<digit>[23])(?![\d.]))?"
)
_PLAIN_TERM = re.sub(r"\?P<\w+>", "?:", _TERM)
_TAIL = re.compile(rf"(?<![a-zA-Z\\]){_PLAIN_TERM}(?:\s*(?:/|\bper\b|每|\*|\s)\s*{_PLAIN_TERM})*\s*$")
_TERMS = re.compile(rf"(?P<over>/|\bper\b|每)?\s*\*?\s*{_TERM}")
_MONEY = re.compile(r"([+-]?)\s*(?:[A-Z]{1,2}\s*(?=\$))?([$€£¥₹₩]|Rs\.?|USD|RMB)\s*(?=[\d.\\(])")
_OTHER_WORDS = re.compile(
    r"(?:(?<=\s)((?:[a-zA-Z]{3,}\s){0,2}[a-zA-Z]{3,})|(?<=[\d})%π\s])([一-鿿]{1,4})|(?<=\d)(/[a-zA-Z]{4,}))$"
)
QUOTIENT = re.compile(
    r"(?<=[\d})π])(\s*)\\frac\{((?:[^{}]|\{[^{}]*\})+)\}\{((?:[^{}]|\{[^{}]*\})+)\}$"
)  # 12 \frac{m}{s}
_PER = re.compile(r"\s*(?:/|\bper|每)\s*$")
_PRIMES = ("'", '"', "''")
_IN_BRACKETS = re.compile(r"(?<=[\d}π])\s+[(\[]([^()\[\]]+)[)\]]$")  # 12 (cm)
_SEVERAL = re.compile(rf"(?<![\d.])(\d+(?:\.\d+)?)\s*({_PLAIN_TERM})\s*(?:,|and\b)?\s*")
_ARC = re.compile(r"(\d+)\s*°\s*(\d+(?:\.\d+)?)\s*'\s*(?:(\d+(?:\.\d+)?)\s*(?:''|\")?)?")  # 30°15'20"
_AMOUNT = re.compile(r"\d|π|∞|^[+-]?[a-zA-Z]$|^[a-zA-Z]{1,2}_|\\(?:frac|sqrt)")
_POWERS = {"L": (3, Fraction(1, 1000)), "ha": (2, Fraction(10000)), "acre": (2, Fraction("4046.8564224"))}  # of metres


@dataclass(frozen=True)
class Unit:
    """Powers of base units, and how many of them one is."""

    bases: tuple[tuple[str, int], ...]
    factor: Fraction = Fraction(1)


PERCENT, DEGREE, RADIAN, _MINUTE, _SECOND = (Unit(((base, 1),)) for base in ("%", "°", "rad", "'", "''"))
MEANINGS = {
    _MINUTE: (Unit(DEGREE.bases, Fraction(1, 60)), Unit((("m", 1),), NAMES["ft"][1])),
    _SECOND: (Unit(DEGREE.bases, Fraction(1, 3600)), Unit((("m", 1),), NAMES["in"][1])),
}
"""What ``5'`` and ``5"`` may be: parts of a degree, or feet and inches."""


def read_unit(text: str) -> Unit | None:
    """The unit that the whole of ``text`` is: ``cm``, ``square meters``, ``km/h``; None if it is none."""
    match = _TAIL.match(text)
    return _unit(text) if match and match.end() == len(text) else None


def split_unit(text: str) -> tuple[str, Unit | None]:
    """The text without its unit, and the unit. One or two capitals or a small letter are one only behind a space:
    ``12 m``, ``12 MB``, not ``12m``.

    Words that are no known unit count as one of their own (``12 apples``).
    """
    if (match := _IN_BRACKETS.search(text)) and read_unit(match[1]):
        return split_unit(f"{text[: match.start()]} {match[1]}")
    if (match := QUOTIENT.search(text)) and all(read_unit(part.strip()) for part in match.groups()[1:]):
        if match[1] or len(match[2] + match[3]) > 2:
            return split_unit(f"{text[: match.start()]} {match[2]}/{match[3]}")
    if match := _MONEY.match(text):
        rest, other = split_unit(match[1] + text[match.end() :])
        money = _unit(match[2].rstrip("."))
        if other and all(power < 0 for _, power in other.bases):  # $5/hour
            return rest, Unit(tuple(sorted(money.bases + other.bases)), money.factor * other.factor)
        return rest, other or money
    for match in _TAIL.finditer(text):
        amount, name = text[: match.start()], match[0].strip()
        if per := _PER.search(amount):
            amount, name = amount[: per.start()], "/" + name
        if _is_amount(amount) and (not _short(name) or amount[-1:] == " "):
            if name not in _PRIMES or re.fullmatch(r"[+-]?[\d./ ]+", amount):
                return amount.strip(), _unit(name)
    if match := _OTHER_WORDS.search(text):
        amount, words = text[: match.start()].strip(), match[0].lower().replace("/", "per ").split()
        if re.search(r"[\dπ]", amount) and _is_amount(amount) and not NO_UNIT.union(MULTIPLIERS).intersection(words):
            return amount, Unit(((" ".join(word.rstrip("s") for word in words), 1),))
    return text, None


def split_multiplier(text: str) -> tuple[str, int]:
    """``3 million``, ``3万``: the text without the word, and the word's number, else 1."""
    match = re.search(rf"(?<=[\d\s])({'|'.join(MULTIPLIERS)})$", text)
    return (text[: match.start()].strip(), MULTIPLIERS[match[1]]) if match else (text, 1)


def added_up(text: str) -> tuple[str, Unit] | None:
    """``2 h 30 min`` and ``30°15'`` as one amount; None for anything else."""
    if angle := _ARC.fullmatch(text):
        return f"{angle[1]}+{angle[2]}/60+{angle[3] or 0}/3600", DEGREE
    parts = [(match[1], _unit(match[2])) for match in _SEVERAL.finditer(text)]
    if len(parts) < 2 or _SEVERAL.sub("", text) or None in (units := [unit for _, unit in parts]):
        return None
    if units == [_MINUTE, _SECOND]:  # 5'3"
        units = [MEANINGS[unit][1] for unit in units]
        parts = [(number, unit) for (number, _), unit in zip(parts, units, strict=True)]
    if len({unit.bases for unit in units}) > 1 or units[0].factor <= units[1].factor:
        return None
    total = sum(Fraction(number) * unit.factor for number, unit in parts)
    return f"{total.numerator}/{total.denominator}", Unit(units[0].bases)


def _short(name: str) -> bool:
    """Would it be a letter of a formula, a product as nm, or the segment MB, without a space before it?"""
    letters = re.match("/?([a-zA-Z]*)", name)[1]
    if len(letters) == 2 and letters in PREFIXED and letters not in NAMES and letters.lower() not in _LOWER:
        return True
    return bool(re.fullmatch("/?[a-zA-Z]|[A-Z]{2}", name))


def _is_amount(text: str) -> bool:
    text = split_multiplier(text.strip())[0]
    return bool(_AMOUNT.search(text)) and not re.search(r"(?<![\\a-zA-Z])[a-zA-Z]{4,}", text)


def _unit(text: str) -> Unit | None:
    """The product of the units in ``text``; None if they say nothing."""
    powers: dict[str, int] = {}
    factor = Fraction(1)
    for match in _TERMS.finditer(text):
        power = 2 if match["square"] else 3 if match["cubic"] else int(match["power"] or match["digit"] or 1)
        power = -power if match["over"] else power
        if speed := SPEEDS.get(match["name"].lower()):
            bases, each = _unit(speed).bases, _unit(speed).factor
        else:
            name = re.sub(r"\\mu\s*", "u", match["name"])
            base, each = NAMES.get(name) or PREFIXED.get(name) or _LOWER[name.lower()]
            length, metres = _POWERS.get(base, (1, 1))
            bases, each = (("m" if base in _POWERS else base, length),), each * metres
        factor *= each**power
        for base, inner in bases:
            powers[base] = powers.get(base, 0) + inner * power
    bases = tuple(sorted((base, power) for base, power in powers.items() if base and power))
    return Unit(bases, factor) if bases else None
